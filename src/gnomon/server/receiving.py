"""One file while one request sends it: appended to a partial file, hashed on the way, made whole at the end."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gnomon.errors import GnomonError, InputError, LimitError
from gnomon.inputs import CHUNK_BYTES, disk_error

if TYPE_CHECKING:
    from hashlib import _Hash

    from gnomon.server.uploads import UploadStore


class _WithHeaders(GnomonError):
    """`headers` and `retry_after_s` belong into the answer."""

    def __init__(
        self, message: str, *, headers: dict[str, str] | None = None, retry_after_s: float | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.headers = headers or {}
        self.retry_after_s = retry_after_s


class UploadConflict(_WithHeaders, InputError):
    """Another request is ahead of this one."""


class UploadLimit(_WithHeaders, LimitError):
    """Too slow, or too many at once."""


@dataclass(frozen=True)
class FileState:
    """What is there of a file. `size` is known once it is complete; `offset` bytes have arrived."""

    sha256: str
    offset: int
    complete: bool

    @property
    def size(self) -> int | None:
        return self.offset if self.complete else None


class Upload:
    """One file while one request sends it. `offset` bytes of it are on the disk."""

    def __init__(self, store: UploadStore, name: str, sha256: str | None) -> None:
        self._store = store
        self._name = name
        self._sha256 = sha256
        self._descriptor: int | None = None
        self._digest = hashlib.sha256()
        self._reserved_bytes = 0
        self._has_ended = False
        self.path = store.partial / name
        self.offset = 0

    def open(self, start: int | None) -> FileState | None:
        """Go on at byte `start`, or begin anew where it is None; the state when the file turns out to be whole."""
        with contextlib.suppress(FileNotFoundError):
            # A server that was killed just before the rename leaves it read-only.
            self.path.chmod(0o600)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        size = os.fstat(self._descriptor).st_size
        if start is None:
            os.ftruncate(self._descriptor, 0)
            self._store.known_hash(self._name, -1)
            self._store.take_bytes(-size)
            return None
        self.offset = size
        self._digest = self._store.known_hash(self._name, size) or self._hash_what_is_there()
        if self._digest.hexdigest() == self._sha256:
            # The server was killed between the last byte and the rename.
            return self.finish()[0]
        if start != size:
            raise UploadConflict(
                f"{size} bytes of the file are there, so byte {start} is not the next one",
                code="upload_offset",
                field="Content-Range",
                value=start,
                expected=f"bytes {size}-LAST/TOTAL",
                fix=f"go on from byte {size}",
                headers={"Upload-Offset": str(size)},
            )
        return None

    def reserve(self, count: int) -> None:
        """Take care that there is room for `count` more bytes."""
        wanted = count - self._reserved_bytes
        if wanted > 0:
            self._store.take_bytes(wanted)
            self._reserved_bytes = count

    def write(self, data: bytes) -> None:
        """Append to the file.

        Raises:
            InputError: code `upload_too_large`.
            MissingError: code `uploads_full` or `disk_full`. What arrived before is kept.
        """
        self._store.check_size(self.offset + len(data))
        self._store.check_disk(len(data))
        self.reserve(len(data))
        rest = memoryview(data)
        try:
            while rest:
                count = os.write(self._open_descriptor(), rest)
                self._digest.update(rest[:count])
                self.offset += count
                self._reserved_bytes -= count
                rest = rest[count:]
        except OSError as error:
            raise disk_error(error, self.path) from error

    def finish(self) -> tuple[FileState, bool]:
        """Check the hash and make the file whole; also whether it is new.

        Raises:
            InputError: code `upload_hash_mismatch`; what was sent is removed.
        """
        actual = self._digest.hexdigest()
        if self._sha256 not in (None, actual):
            self.discard()
            raise InputError(
                f"what was sent has another hash: {actual}",
                code="upload_hash_mismatch",
                field="sha256",
                value=self._sha256,
                expected="the sha256 of the whole file",
                fix="send the file again from its first byte",
            )
        try:
            os.fsync(self._open_descriptor())
            is_new = self._store.keep(self.path, actual)
        except OSError as error:
            raise disk_error(error, self.path) from error
        if not is_new:
            self._store.take_bytes(-self.offset)
        self._release()
        return FileState(actual, self.offset, True), is_new

    def discard(self) -> None:
        """Remove what was sent."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            self._store.take_bytes(-self.offset)
            self._release()

    def close(self) -> None:
        """End the request, without blocking. What arrived stays for the next one, if the file's hash was said."""
        if self._descriptor is not None:
            if self._sha256 is None or self.offset == 0:
                self.discard()
                return
            self._store.remember_hash(self._name, self.offset, self._digest)
        self._release()

    def _release(self) -> None:
        if self._has_ended:
            # The next request of this file may have begun, and its mark is not ours to take away.
            return
        self._has_ended = True
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._store.take_bytes(-self._reserved_bytes)
        self._reserved_bytes = 0
        self._store.leave(self._name)

    def _open_descriptor(self) -> int:
        assert self._descriptor is not None, "the upload has ended"
        return self._descriptor

    def _hash_what_is_there(self) -> _Hash:
        digest = hashlib.sha256()
        while chunk := os.read(self._open_descriptor(), CHUNK_BYTES):
            digest.update(chunk)
        return digest
