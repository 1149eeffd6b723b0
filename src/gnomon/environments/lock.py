"""One process at a time, by a lock that the operating system drops when its holder dies.

The holder writes who it is into the file, for those who wait. What is left in the file by a dead holder means
nothing: only the lock itself counts, so there is no stale owner to outwit.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from gnomon.errors import MissingError

POLL_S = 0.2
BUSY = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}
"""What the system answers when another process holds the lock."""


@contextlib.contextmanager
def exclusive(lock_path: Path, *, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold `lock_path` for the length of a `with` block, waiting for as long as another process holds it.

    `waiting` is called once, with the owner in words, if there is somebody to wait for. Raises MissingError
    `no_file_locks` where the file system has no locks.
    """
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("a+") as file:
        told = False
        while not _try_lock(file):
            if not told:
                waiting(_owner(lock_path))
                told = True
            time.sleep(POLL_S)
        try:
            _sign(file)
            yield
        finally:
            file.truncate(0)
            _unlock(file)


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}")
    file.flush()


def _owner(lock_path: Path) -> str:
    try:
        return lock_path.read_text().strip() or "another process"
    except OSError:
        return "another process"


def _try_lock(file: IO[str]) -> bool:
    try:
        _lock_now(file)
    except OSError as error:
        if error.errno in BUSY:
            return False
        raise MissingError(
            f"The file system of {file.name} has no file locks: {error}",
            code="no_file_locks",
            fix="Set GNOMON_CACHE to a folder on a local disk.",
        ) from error
    return True


if os.name == "nt":
    import msvcrt

    OFFSET = 1 << 30
    """Windows keeps a locked byte from being read, so the lock sits far behind the owner's name."""

    def _lock_now(file: IO[str]) -> None:
        os.lseek(file.fileno(), OFFSET, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _unlock(file: IO[str]) -> None:
        os.lseek(file.fileno(), OFFSET, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock_now(file: IO[str]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: IO[str]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)
