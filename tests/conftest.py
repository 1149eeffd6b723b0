"""Fixtures of all tests: a home and a cache of the test's own, and the probe task in every process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROBE = Path(__file__).parent / "probe"
sys.path[:0] = [str(PROBE), str(Path(__file__).parent)]
from probe_task import register  # noqa: E402

# Debian's Python has a sitecustomize of its own, which is loaded by now; worker processes find ours by PYTHONPATH.
register()

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point gnomon's home, cache and sites into the test's folder; no test sees the user's."""
    monkeypatch.setenv("GNOMON_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GNOMON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GNOMON_SITES", str(tmp_path / "sites.toml"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROBE), *filter(None, [os.environ.get("PYTHONPATH")])]))
    return tmp_path / "home"


@pytest.fixture
def home(own_places: Path) -> Iterator[object]:
    """The API's view of the test's home."""
    from gnomon.api import Home

    opened = Home(own_places)
    yield opened
    opened.close()


@pytest.fixture
def shared_data() -> Path:
    """Real data that lies beside a full checkout; tests that want it skip elsewhere."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the shared test data, which is not beside this checkout")
    return SHARED_DATA
