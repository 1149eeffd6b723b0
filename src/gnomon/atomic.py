"""Files that appear whole or not at all: written under a temporary name, synced, then renamed or linked."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")
"""How `_write_beside` calls its files."""


def write_text(path: Path, text: str, *, private: bool = False, synced: bool = True) -> None:
    """Replace `path` by `text` in one step; readers see the old file or the new one, never a part.

    A `private` file can be read by its owner alone, from its first byte on. One that is not `synced` may be found
    empty after a power cut.
    """
    temporary = _write_beside(path, text, private, synced)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any, *, private: bool = False, synced: bool = True) -> None:
    """`write_text` of readable JSON; NaN and infinities are refused because JSON has none."""
    write_text(path, to_json(value), private=private, synced=synced)


def create_json(path: Path, value: Any, *, private: bool = False, synced: bool = True) -> bool:
    """Create `path` only if it does not exist; return whether this call was the one that created it.

    A hard link either makes the complete file appear or fails, also between machines on NFS. A file that is not
    `synced` is complete for every process, but a power cut may leave it empty.
    """
    temporary = _write_beside(path, to_json(value), private, synced)
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left under temporary names, in a folder where nobody writes now."""
    for path in folder.rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def read_json(path: Path) -> Any | None:
    """The JSON in `path`, or None where there is no such file."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def to_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def canonical_json(value: Any) -> bytes:
    """One byte string per value: sorted keys, no spaces. Hashes of requests and step keys are made of it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable where the platform can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_beside(path: Path, text: str, private: bool, synced: bool) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            if synced:
                stream.flush()
                os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
