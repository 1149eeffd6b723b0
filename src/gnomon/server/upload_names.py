"""Names that clients give to their files: relative, confined, and different from each other on every system."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePosixPath

from gnomon.errors import InputError
from gnomon.inputs import input_path

MOST_FILES = 50_000
MOST_NAME_BYTES = 1024
MOST_PART_BYTES = 200
"""Of one folder or file name; file systems take 255, and gnomon puts endings behind some."""
MOST_PARTS = 16


def checked_names(names: list[str], folder: Path) -> dict[str, Path]:
    """The path under `folder` of each name.

    Raises:
        InputError: code `input_name_unsafe` or `too_many_files`, with field `files`.
    """
    if len(names) > MOST_FILES:
        raise InputError(
            f"{len(names)} files are too many",
            code="too_many_files",
            field="files",
            value=len(names),
            expected=f"at most {MOST_FILES}",
        )
    targets = {name: _checked_path(name, folder) for name in names}
    taken: dict[str, str] = {}
    for name, path in targets.items():
        key = _folded(path.relative_to(folder))
        if key in taken:
            raise _unsafe(name, f"is, on some systems, the same name as {taken[key]!r}")
        taken[key] = name
    for name, path in targets.items():
        for parent in path.relative_to(folder).parents:
            if (key := _folded(parent)) in taken:
                raise _unsafe(name, f"needs a folder where {taken[key]!r} is a file")
    return targets


def _checked_path(name: str, folder: Path) -> Path:
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise _unsafe(name, "is no text") from None
    if len(encoded) > MOST_NAME_BYTES:
        raise _unsafe(name, f"is longer than {MOST_NAME_BYTES} bytes")
    if "\\" in name or any(unicodedata.category(character) == "Cc" for character in name):
        raise _unsafe(name, "has a backslash or a control character")
    parts = PurePosixPath(name).parts
    if len(parts) > MOST_PARTS or any(len(part.encode()) > MOST_PART_BYTES for part in parts):
        raise _unsafe(name, f"has more than {MOST_PARTS} parts, or one with more than {MOST_PART_BYTES} bytes")
    try:
        return input_path(folder, name)
    except InputError:
        raise _unsafe(name, "leads out of the job's folder") from None


def _folded(path: Path) -> str:
    """The same for names that a file system may take for one: without case, composed and decomposed accents."""
    return unicodedata.normalize("NFC", path.as_posix()).casefold()


def _unsafe(name: str, why: str) -> InputError:
    shown = name.encode("utf-8", "backslashreplace").decode()
    return InputError(
        f"the name {shown!r} {why}",
        code="input_name_unsafe",
        field="files",
        value=shown,
        expected="a relative name such as frames/0001.png",
    )
