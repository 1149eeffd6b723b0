"""A zip of files that is made while it is sent: neither memory nor disk holds it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 18


class _Pipe:
    """What a ZipFile writes to: bytes are handed on, positions are only counted."""

    def __init__(self) -> None:
        self.position = 0
        self._chunks: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._chunks.append(bytes(data))
        self.position += len(data)
        return len(data)

    def tell(self) -> int:
        return self.position

    def flush(self) -> None:
        """Nothing is kept back."""

    def take(self) -> bytes:
        data = b"".join(self._chunks)
        self._chunks.clear()
        return data


def stream(folder: Path, names: Sequence[str]) -> Iterator[bytes]:
    """The bytes of a zip with these files of a folder, stored as they are: pictures and arrays hardly shrink."""
    pipe = _Pipe()
    sink: Any = pipe  # A ZipFile needs no more of a file than _Pipe has.
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in names:
            info = zipfile.ZipInfo.from_file(folder / name, name, strict_timestamps=False)
            with (folder / name).open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
                    yield pipe.take()
            yield pipe.take()
    yield pipe.take()
