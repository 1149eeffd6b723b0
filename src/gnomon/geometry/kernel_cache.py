"""Numba's cached kernels, and when they are out of date.

Numba keeps compiled kernels beside their source and looks at the age of that one file only. Kernels here call
functions and use constants of other modules, so a change there would go on running with the old code, and kernels
of different ages could be mixed. Whatever is older than the newest source of its folder is therefore thrown away.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def is_cold(folder: Path) -> bool:
    """Whether the first call of a kernel of this folder is going to compile, as far as can be told.

    Where the folder cannot be written, Numba keeps kernels elsewhere, and the answer is no.
    """
    cache = folder / "__pycache__"
    return os.access(folder, os.W_OK) and not any(cache.glob("*.nbi"))


def forget_stale(folder: Path) -> int:
    """Remove the kernels of a source folder that are older than its newest module; returns how many."""
    newest = max(path.stat().st_mtime_ns for path in folder.glob("*.py"))
    forgotten = 0
    for index in (folder / "__pycache__").glob("*.nbi"):
        # Several processes may clean up at once, and an installation may be read-only.
        with contextlib.suppress(OSError):
            if index.stat().st_mtime_ns < newest:
                index.unlink()
                forgotten += 1
    return forgotten
