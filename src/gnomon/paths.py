"""Where gnomon keeps things on this machine. Every place can be moved by one environment variable."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home_dir() -> Path:
    """Jobs and their index: $GNOMON_HOME, else the user's data folder."""
    return _from_environment("GNOMON_HOME", platformdirs.user_data_path("gnomon"))


def cache_dir() -> Path:
    """Rendered results by content, method environments, weights: $GNOMON_CACHE, else the user's cache folder."""
    return _from_environment("GNOMON_CACHE", platformdirs.user_cache_path("gnomon"))


def sites_file() -> Path:
    """The sites of this user: $GNOMON_SITES, else sites.toml in the user's configuration folder."""
    return _from_environment("GNOMON_SITES", platformdirs.user_config_path("gnomon") / "sites.toml")


def _from_environment(variable: str, default: Path) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser().absolute() if value else default
