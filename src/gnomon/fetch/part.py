"""The file of a fetch as far as it has come, and whether the server can go on with it."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gnomon.fetch.connection import Answer, Interrupted


class Part:
    """What has arrived: bytes on disk, their number and hash, and which version of the file they belong to.

    `total` is the size that the server announced for the whole file, None where it did not.
    """

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path = path
        self._stream = stream
        self.forget()

    def forget(self) -> None:
        """Start over with an empty file."""
        self._stream.seek(0)
        self._stream.truncate()
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.total: int | None = None
        self._etag: str | None = None

    @property
    def is_resumable(self) -> bool:
        """Whether there is something to go on from, and a way to tell that the rest fits to it."""
        return self.size > 0 and self._etag is not None

    def resume_headers(self) -> dict[str, str]:
        """Headers that ask for the rest if the file is still the same one, and for the whole of it otherwise."""
        if not self.is_resumable or self._etag is None:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self._etag}

    def begin(self, answer: Answer) -> None:
        """Prepare for a body: the whole file (200) or the rest (206). Raises Interrupted if the rest does not fit."""
        if answer.status == 206:
            self._check_rest(answer)
            return
        self.forget()
        self._etag = _strong_etag(answer)
        length = answer.headers.get("content-length", "")
        self.total = int(length) if re.fullmatch("[0-9]{1,18}", length) else None

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises OSError if the disk does not take them."""
        self._stream.write(chunk)
        self.sha256.update(chunk)
        self.size += len(chunk)

    def publish(self, destination: Path) -> None:
        """Close the file and give it its name, replacing what had that name."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._path.replace(destination)

    def _check_rest(self, answer: Answer) -> None:
        total = "[0-9]+" if self.total is None else str(self.total)
        is_next = re.fullmatch(rf"bytes {self.size}-[0-9]+/({total}|\*)", answer.headers.get("content-range", ""))
        if is_next is None or _strong_etag(answer) != self._etag:
            self.forget()
            raise Interrupted("the file changed while it was fetched")


@contextmanager
def part_beside(destination: Path) -> Iterator[Part]:
    """An empty part next to `destination`, named `<destination>.part-<random>` and gone unless published."""
    path = destination.with_name(f"{destination.name}.part-{secrets.token_hex(4)}")
    try:
        with path.open("xb") as stream:
            yield Part(path, stream)
    finally:
        path.unlink(missing_ok=True)


def _strong_etag(answer: Answer) -> str | None:
    etag = answer.headers.get("etag")
    # A weak one promises the same meaning, not the same bytes.
    return etag if etag and etag.startswith('"') else None
