"""A cache of finished folders by content: the same inputs and options again cost only the copy.

Entries are read-only files, shared with job results by hard links where the disk allows, so a set is on the disk
once however many jobs delivered it. The least recently used entries go when the cache outgrows its bound.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from gnomon import atomic
from gnomon.errors import InputError

MANIFEST = ".entry.json"
DEFAULT_LIMIT_GB = 10.0


class ResultCache:
    """Folders under `root`, named by the hash of what made them."""

    def __init__(self, root: Path, limit_gb: float | None = None) -> None:
        self.root = root
        self.limit_gb = limit_gb if limit_gb is not None else _configured_limit_gb()

    def restore(self, key: str, target: Path) -> bool:
        """Fill the existing folder `target` from the cache; False, and nothing done, when it is not there whole."""
        entry = self.root / key
        manifest = atomic.read_json(entry / MANIFEST)
        if manifest is None or not _is_whole(entry, manifest["files"]):
            return False
        try:
            for name in manifest["files"]:
                destination = target / name
                destination.parent.mkdir(parents=True, exist_ok=True)
                _link(entry / name, destination)
        except FileNotFoundError:
            # Another job trimmed or replaced the entry meanwhile.
            _empty(target)
            return False
        with contextlib.suppress(OSError):
            os.utime(entry)
        return True

    def store(self, key: str, folder: Path) -> None:
        """Remember a finished folder. A cache that cannot be written is no reason for a job to fail."""
        entry = self.root / key
        draft = self.root / f".{key}-{secrets.token_hex(4)}.part"
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        try:
            for name in names:
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).chmod(0o444)
                _link(folder / name, draft / name)
            atomic.write_json(draft / MANIFEST, {"files": {name: (draft / name).stat().st_size for name in names}})
            shutil.rmtree(entry, ignore_errors=True)
            draft.rename(entry)
            self._trim()
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)

    def _trim(self) -> None:
        entries = [path for path in self.root.iterdir() if (path / MANIFEST).exists()]
        sizes = {path: sum((atomic.read_json(path / MANIFEST) or {"files": {}})["files"].values()) for path in entries}
        total = sum(sizes.values())
        for path in sorted(entries, key=lambda entry: entry.stat().st_mtime):
            if total <= self.limit_gb * 1e9:
                return
            total -= sizes[path]
            shutil.rmtree(path, ignore_errors=True)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_whole(entry: Path, files: dict[str, int]) -> bool:
    try:
        return all((entry / name).stat().st_size == size for name, size in files.items())
    except OSError:
        return False


def _configured_limit_gb() -> float:
    configured = os.environ.get("GNOMON_CACHE_GB") or str(DEFAULT_LIMIT_GB)
    try:
        return float(configured)
    except ValueError:
        raise InputError(
            f"GNOMON_CACHE_GB is {configured!r}",
            code="setting_invalid",
            field="GNOMON_CACHE_GB",
            value=configured,
            expected="a number of gigabytes",
        ) from None


def _link(source: Path, destination: Path) -> None:
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
