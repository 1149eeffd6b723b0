"""One agent and one server a home: the locks that say so, and starting the agent when nobody is there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from gnomon.executors import detached

AGENT = "agent.lock"
SERVER = "server.lock"


def held(home: Path) -> contextlib.AbstractContextManager[bool]:
    """Hold the agent's lock for the block; gives False when someone else has it."""
    return _held(home, AGENT)


def serving(home: Path) -> contextlib.AbstractContextManager[bool]:
    """Hold the lock of the one server that a home may have; gives False when another server has it."""
    return _held(home, SERVER)


def is_served(home: Path) -> bool:
    """Whether a server looks after this home, so that no agent is needed."""
    if not (home / SERVER).exists():
        return False
    with serving(home) as free:
        return not free


@contextlib.contextmanager
def _held(home: Path, name: str) -> Iterator[bool]:
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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
    """Start a detached agent unless one holds the lock, or a server runs.

    Two at once are harmless: the second one leaves.
    """
    if is_served(home):
        return False
    with held(home) as mine:
        if not mine:
            return False
    detached.start([sys.executable, "-P", "-m", "gnomon.agent", str(home)], log=home / "agent.log", cwd=home)
    return True
