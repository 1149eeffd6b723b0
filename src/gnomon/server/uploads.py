"""Uploads: files that clients send before they submit, kept under the sha256 of what is in them.

    uploads/<first two digits>/<sha256>     whole, checked, read-only
    uploads/.partial/<sha256>               what has arrived of a file so far; the next request goes on from its end
    uploads/.partial/new-<random>           a file whose hash its sender did not say

A file becomes whole by one rename after its hash was checked. Everything here blocks and belongs into a thread, apart
from `Upload.close`; the state that threads share is a few numbers under one lock, which is never held over a transfer.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from gnomon import atomic
from gnomon.errors import InputError, MissingError, NotFound
from gnomon.inputs import disk_error
from gnomon.server.receiving import FileState, Upload, UploadConflict, UploadLimit
from gnomon.server.upload_names import checked_names

if TYPE_CHECKING:
    from hashlib import _Hash

STATUSES = {
    "upload_not_found": 404,
    "upload_stalled": 408,
    "upload_offset": 409,
    "upload_busy": 409,
    "upload_too_large": 413,
    "media_type": 415,
    "upload_hash_mismatch": 422,
    "upload_hash_invalid": 422,
    "upload_range": 400,
    "too_many_uploads": 429,
    "uploads_full": 507,
    "disk_full": 507,
}
"""The HTTP status of each error code of this module and of routes/files.py."""

IDLE_BEFORE_TRIM_S = 3600.0
"""A file that was sent or used this recently is not trimmed to make room: its sender is about to submit."""
MOST_REMEMBERED_HASHES = 256
DISK_THREADS = 8
RETRY_AFTER_S = 5

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SweptUploads:
    """What a sweep removed. Files that jobs use too free nothing yet."""

    files: int
    freed_bytes: int


class UploadStore:
    """All uploads of one home. One process, the server, writes them; its budget is counted in memory."""

    def __init__(
        self,
        home: Path,
        *,
        max_bytes: int,
        max_total_bytes: int,
        min_free_bytes: int = 1 << 30,
        most_at_once: int = 64,
        read_timeout_s: float = 60.0,
    ) -> None:
        self.folder = home / "uploads"
        self.partial = self.folder / ".partial"
        self.partial.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.max_bytes = max_bytes
        self.max_total_bytes = max_total_bytes
        self.min_free_bytes = min_free_bytes
        self.most_at_once = most_at_once
        self.read_timeout_s = read_timeout_s
        self.disk_threads = anyio.CapacityLimiter(DISK_THREADS)
        """For the routes: hashing and syncing must not use up the threads of all other requests."""
        self._lock = threading.Lock()
        self._active: set[str] = set()
        self._hashes: OrderedDict[str, tuple[int, _Hash]] = OrderedDict()
        self._used_bytes = sum(entry.stat().st_size for entry in [*self._whole_files(), *self.partial.iterdir()])

    @property
    def used_bytes(self) -> int:
        """Bytes of whole and partial files, with those promised to requests that are being received."""
        return self._used_bytes

    def path(self, sha256: str) -> Path:
        """The whole file with this hash.

        Raises:
            NotFound: code `upload_not_found`; also while it is not complete.
        """
        path = self._place(sha256)
        if not path.is_file():
            raise _not_found(sha256, "sha256")
        return path

    def touch(self, sha256: str) -> None:
        """Note that the file is in use, which keeps it for another while."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path(sha256))

    def state(self, sha256: str) -> FileState:
        """How much of the file is there.

        Raises:
            NotFound: code `upload_not_found`, when nothing is.
        """
        whole = self._place(sha256)
        # Asked twice, because it may become whole between the two looks.
        for path, complete in ((whole, True), (self.partial / sha256, False), (whole, True)):
            with contextlib.suppress(FileNotFoundError):
                return FileState(sha256, path.stat().st_size, complete)
        raise _not_found(sha256, "sha256")

    def lay_out(self, files: dict[str, str], folder: Path) -> None:
        """Put uploads under the given relative names (name -> sha256) into `folder`, as read-only files.

        Nothing is made unless all names are sound and all uploads are there.

        Raises:
            InputError: code `input_name_unsafe` for names, all with field `files`.
            NotFound: code `upload_not_found`.
        """
        targets = checked_names(list(files), folder)
        for sha256 in set(files.values()):
            if not self._place(sha256, "files").is_file():
                raise _not_found(sha256, "files")
            self.touch(sha256)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, target in targets.items():
                target.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(self._place(files[name]), target)
        except FileNotFoundError:
            # Removed in this very moment, to make room: the same to the client as a moment before.
            missing = next((sha256 for sha256 in files.values() if not self._place(sha256).exists()), None)
            if missing is None:
                raise
            raise _not_found(missing, "files") from None
        except OSError as error:
            raise disk_error(error, folder / "x") from error

    def begin(self, sha256: str | None, *, start: int | None = None, length: int | None = None) -> Upload | None:
        """Open a file to be written from byte `start`, or anew without; None when it is whole already.

        `length` is how many bytes are to come, where known. Whatever comes of it, `Upload.close` must follow.

        Raises:
            UploadConflict: code `upload_offset`, when another byte is the next one; `upload_busy`.
            UploadLimit: code `too_many_uploads`.
            MissingError: code `uploads_full` or `disk_full`.
        """
        self.check_size((start or 0) + (length or 0))
        name = sha256 or f"new-{secrets.token_hex(16)}"
        if sha256 is not None and self._place(sha256).exists():
            self.touch(sha256)
            return None
        self._enter(name)
        upload = Upload(self, name, sha256)
        try:
            if upload.open(start) is not None:
                upload.close()
                return None
            upload.reserve(length or 0)
        except OSError as error:
            upload.close()
            raise disk_error(error, upload.path) from error
        except BaseException:
            upload.close()
            raise
        return upload

    def check_size(self, size_bytes: int) -> None:
        """Refuse a file that is larger than any may be.

        Raises:
            InputError: code `upload_too_large`.
        """
        if size_bytes > self.max_bytes:
            raise InputError(
                f"the file has {size_bytes / 1e6:.1f} MB or more; at most {self.max_bytes / 1e6:.1f} MB are taken",
                code="upload_too_large",
                field="body",
                value=size_bytes,
                expected=f"at most {self.max_bytes} bytes",
            )

    def sweep(self, *, unused_before: float, partial_before: float) -> SweptUploads:
        """Remove whole files not used and partial ones not written to since these times, in Unix seconds."""
        partial = [(path, partial_before) for path in self.partial.iterdir()]
        whole = [(Path(entry.path), unused_before) for entry in self._whole_files()]
        files = freed_bytes = 0
        for path, limit in [*partial, *whole]:
            with contextlib.suppress(FileNotFoundError):
                about = path.stat()
                if about.st_mtime < limit and self._remove(path, about.st_size):
                    files += 1
                    freed_bytes += about.st_size if about.st_nlink == 1 else 0
        return SweptUploads(files, freed_bytes)

    # For Upload

    def take_bytes(self, count: int) -> None:
        """Promise disk space to a request; give it back by a negative count."""
        if count <= 0:
            with self._lock:
                self._used_bytes += count
            return
        self.check_disk(count)
        if not self._try_take(count):
            self._trim(count)
            if not self._try_take(count):
                raise MissingError(
                    f"the uploads of this server are full ({self.max_total_bytes / 1e6:.0f} MB)",
                    code="uploads_full",
                    fix="try again later: files that no one uses are removed after a while",
                )

    def check_disk(self, count: int) -> None:
        """Refuse to fill the disk: a server that cannot write is of no use to the jobs that run.

        Raises:
            MissingError: code `disk_full`.
        """
        free = shutil.disk_usage(self.folder).free
        if free - count < self.min_free_bytes:
            raise MissingError(
                f"the server's disk has {free / 1e6:.0f} MB left, which is too little to take this file",
                code="disk_full",
                fix="free some space, or move gnomon's data with GNOMON_HOME",
            )

    def leave(self, name: str) -> None:
        """The request that wrote this file has ended."""
        with self._lock:
            self._active.discard(name)

    def remember_hash(self, name: str, offset: int, digest: _Hash) -> None:
        """Spare the next request of this file the reading of everything that has arrived."""
        with self._lock:
            self._hashes[name] = (offset, digest)
            self._hashes.move_to_end(name)
            while len(self._hashes) > MOST_REMEMBERED_HASHES:
                self._hashes.popitem(last=False)

    def known_hash(self, name: str, offset: int) -> _Hash | None:
        with self._lock:
            known = self._hashes.pop(name, None)
        return known[1] if known is not None and known[0] == offset else None

    def keep(self, path: Path, sha256: str) -> bool:
        """Make a checked file whole; False, with the file gone, when it was there already."""
        target = self._place(sha256)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o444)
        with self._lock:
            is_new = not target.exists()
            if is_new:
                path.rename(target)
        if is_new:
            atomic.sync_folder(target.parent)
        else:
            path.unlink()
            self.touch(sha256)
        return is_new

    def _place(self, sha256: str, field: str = "sha256") -> Path:
        if not _SHA256.fullmatch(sha256):
            raise InputError(
                "this is no sha256",
                code="upload_hash_invalid",
                field=field,
                value=sha256,
                expected="64 lower-case hexadecimal digits",
            )
        return self.folder / sha256[:2] / sha256

    def _enter(self, name: str) -> None:
        with self._lock:
            if name in self._active:
                raise UploadConflict(
                    "another request is sending this file",
                    code="upload_busy",
                    field="sha256",
                    value=name,
                    fix=f"ask again in {RETRY_AFTER_S} s how much of it is there",
                    retry_after_s=RETRY_AFTER_S,
                )
            if len(self._active) >= self.most_at_once:
                raise UploadLimit(
                    f"{self.most_at_once} files are being sent already",
                    code="too_many_uploads",
                    fix=f"try again in {RETRY_AFTER_S} s",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._active.add(name)

    def _try_take(self, count: int) -> bool:
        with self._lock:
            if self._used_bytes + count > self.max_total_bytes:
                return False
            self._used_bytes += count
            return True

    def _trim(self, count: int) -> None:
        """Remove files that no one has used for a while, those first that were used longest ago."""
        old = time.time() - IDLE_BEFORE_TRIM_S
        found = []
        for entry in self._whole_files():
            with contextlib.suppress(FileNotFoundError):
                found.append((entry.stat().st_mtime, entry.stat().st_size, Path(entry.path)))
        for used_at, size, path in sorted(found):
            if used_at > old or self._used_bytes + count <= self.max_total_bytes:
                return
            self._remove(path, size)

    def _remove(self, path: Path, size: int) -> bool:
        with self._lock:
            if path.name in self._active:
                return False
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            self._used_bytes -= size
            return True

    def _whole_files(self) -> Iterator[os.DirEntry[str]]:
        for folder in self.folder.iterdir():
            if len(folder.name) == 2:
                with os.scandir(folder) as entries:
                    yield from entries


def _not_found(sha256: str, field: str) -> NotFound:
    return NotFound(
        f"there is no upload {sha256}",
        code="upload_not_found",
        field=field,
        value=sha256,
        fix=f"send it: curl -T FILE URL/v1/files/{sha256}",
    )


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:
        # Another file system, one without hard links, or too many links of one file.
        shutil.copyfile(source, target)
        target.chmod(0o444)
