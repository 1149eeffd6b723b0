"""What an environment is, where it lives, and whether it can be used."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """The packages that one method needs, apart from gnomon's own."""

    name: str
    """As in `gnomon methods install NAME`; part of a folder's name."""
    requirements: tuple[str, ...]
    """Pinned requirements as pip reads them, such as `bpy==5.0.1`."""
    python: str
    """The minor version that the packages are built for, such as `3.11`."""
    disk_mb: int = 300
    """Free space that building takes, downloads included."""

    @property
    def key(self) -> str:
        """Hash of everything that decides what gets installed."""
        content = json.dumps([sorted(self.requirements), self.python])
        return hashlib.sha256(content.encode()).hexdigest()[:10]


def path(env: Environment, root: Path) -> Path:
    """The folder of `env` below the cache folder `root`, whether it is there or not."""
    return root / "envs" / f"{env.name}-{env.key}"


def python_path(env: Environment, root: Path) -> Path:
    """The environment's own interpreter."""
    folder = path(env, root) / "venv"
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def marker_path(env: Environment, root: Path) -> Path:
    """The file whose presence says that the installation was finished."""
    return path(env, root) / "ready.json"


def is_ready(env: Environment, root: Path) -> bool:
    """True when `env` was installed to the end and its interpreter is still there.

    The interpreter is a link to the Python it was built with, which an upgrade of the system can take away.
    """
    return marker_path(env, root).is_file() and python_path(env, root).exists()
