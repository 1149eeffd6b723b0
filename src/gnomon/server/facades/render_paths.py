"""Paths that clients of the Render Server name: they lie under the configured roots, whatever links are on the way.

A path is resolved once, compared with the roots, and then walked from the root's own descriptor without following any
link. So a link that somebody puts in the way after the comparison is an error and not a way out.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gnomon.errors import InputError
from gnomon.server import problem

MOST_PATH_CHARACTERS = 4096

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a pipe with a mesh's name would hold the server up.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

problem.add_statuses({"path_outside_roots": 403})


@dataclass(frozen=True)
class Place:
    """A path inside a root: the root, and the names from there on, none of them a link when it was resolved."""

    root: Path
    parts: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.root.joinpath(*self.parts)

    @contextlib.contextmanager
    def folder(self, *, create: bool = False) -> Iterator[int]:
        """A descriptor of this folder; with `create`, missing folders are made. Raises OSError."""
        descriptor = os.open(self.root, FOLDER)
        try:
            for part in self.parts:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=descriptor)
                below = os.open(part, FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def open_file(self) -> int:
        """A descriptor of this regular file, for reading. Raises OSError."""
        if not self.parts:
            raise IsADirectoryError(f"{self.path} is a folder")
        with Place(self.root, self.parts[:-1]).folder() as folder:
            descriptor = os.open(self.parts[-1], FILE, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise IsADirectoryError(f"{self.path} is not a file")
        return descriptor


class Roots:
    """The folders that a Render Server's paths may lie in.

    Raises:
        InputError: code `setting_invalid`, when there is none or one is no folder.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        if not folders:
            raise _bad_roots(None, "the Render Server's API reads and writes files of this machine, and no folder is "
                             "set that they may lie in")  # fmt: skip
        missing = next((folder for folder in folders if not folder.is_dir()), None)
        if missing is not None:
            raise _bad_roots(missing, f"the root {missing} is not a folder")
        self.folders = tuple(folder.resolve() for folder in folders)

    def locate(self, text: str, field: str) -> Place:
        """Where a path leads, links followed; nothing need exist there.

        Raises:
            InputError: code `field_invalid` if it is no absolute path, `path_outside_roots` if it leads out.
        """
        if not text.startswith("/") or "\0" in text or len(text) > MOST_PATH_CHARACTERS:
            raise InputError(
                f"{field} is not an absolute path of the server",
                code="field_invalid",
                field=field,
                value=text,
                expected=f"a path that begins with /, of at most {MOST_PATH_CHARACTERS} characters",
            )
        resolved = Path(os.path.realpath(text))
        for root in self.folders:
            if resolved.is_relative_to(root):
                return Place(root, resolved.relative_to(root).parts)
        raise InputError(
            f"{field} does not lie in a folder that this server may use",
            code="path_outside_roots",
            field=field,
            value=text,
            expected="a path in one of: " + ", ".join(str(root) for root in self.folders),
            fix="start the server with another --render-root, if the path is to be used",
        )


def _bad_roots(value: Path | None, message: str) -> InputError:
    return InputError(
        message,
        code="setting_invalid",
        field="--render-root or GNOMON_SERVER_RENDER_ROOT",
        value=value,
        expected="at least one folder that exists",
        fix="gnomon serve --facade render --render-root /data/objects",
    )
