"""One agent a home: the lock that says so, and starting the agent when nobody holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from gnomon.executors import detached


@contextlib.contextmanager
def held(home: Path) -> Iterator[bool]:
    """Hold the agent's lock for the block; gives False when someone else has it."""
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def spawn_if_free(home: Path) -> bool:
    """Start a detached agent unless one holds the lock. Two at once are harmless: the second one leaves."""
    with held(home) as mine:
        if not mine:
            return False
    detached.start([sys.executable, "-P", "-m", "gnomon.agent", str(home)], log=home / "agent.log", cwd=home)
    return True
