"""Names for processes that survive the re-use of process ids and a reboot."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from pathlib import Path
from typing import Any

import psutil


def describe_self() -> dict[str, Any]:
    """This process: host, boot, pid and start time."""
    return {
        "host": socket.gethostname(),
        "boot": boot_id(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
    }


def is_alive(process: dict[str, Any]) -> bool:
    """Whether the very process that `describe_self` described still runs. Of other hosts, yes is assumed."""
    if not process:
        # A power cut tore the file, and ended what it spoke of.
        return False
    if process["host"] != socket.gethostname():
        return True
    if process["boot"] != boot_id():
        return False
    with contextlib.suppress(psutil.Error):
        found = psutil.Process(process["pid"])
        with found.oneshot():
            same = abs(found.create_time() - process["started"]) < 1.0
            return same and found.status() != psutil.STATUS_ZOMBIE
    return False


@functools.cache
def boot_id() -> str:
    """Changes with every boot; empty where the system does not tell."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
