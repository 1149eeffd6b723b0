"""How much disk folders take, with files of several names counted once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the file system's own blocks are."""


@dataclass(frozen=True)
class FolderSize:
    """What a folder takes: `own_bytes` in files with one name, and the others as (device, inode, bytes)."""

    own_bytes: int = 0
    linked: tuple[tuple[int, int, int], ...] = ()


def measure(folder: Path) -> FolderSize:
    """Look at everything in a folder, without following links; what vanishes meanwhile counts nothing."""
    own_bytes = 0
    linked: dict[tuple[int, int], int] = {}
    waiting = [os.fspath(folder)]
    while waiting:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    size = about.st_blocks * BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        own_bytes += size
                    elif about.st_nlink > 1:
                        linked[about.st_dev, about.st_ino] = size
                    else:
                        own_bytes += size
    return FolderSize(own_bytes, tuple((*key, size) for key, size in linked.items()))


class Tally:
    """The sum of folders that may share files."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self._users: dict[tuple[int, int], int] = {}

    def add(self, size: FolderSize) -> None:
        self.total_bytes += size.own_bytes
        for device, inode, file_bytes in size.linked:
            users = self._users.get((device, inode), 0)
            self._users[device, inode] = users + 1
            if users == 0:
                self.total_bytes += file_bytes

    def remove(self, size: FolderSize) -> int:
        """Take a folder out, and return how many bytes that frees: a shared file goes with its last user."""
        freed = size.own_bytes
        for device, inode, file_bytes in size.linked:
            self._users[device, inode] -= 1
            if self._users[device, inode] == 0:
                del self._users[device, inode]
                freed += file_bytes
        self.total_bytes -= freed
        return freed


class SizeCache:
    """Sizes of folders that do not change any more, by the name and state they were measured in."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Hashable, FolderSize]] = {}

    def size(self, folder: Path, state: Hashable | None) -> FolderSize:
        """The folder's size; measured anew where `state` is None or is not the one of the last time."""
        known = self._known.get(folder.name)
        if known is not None and state is not None and known[0] == state:
            return known[1]
        size = measure(folder)
        if state is not None:
            self._known[folder.name] = (state, size)
        return size

    def forget_all_but(self, names: Iterable[str]) -> None:
        for name in self._known.keys() - set(names):
            del self._known[name]
