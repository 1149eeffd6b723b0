"""events.jsonl: the one stream that progress bars, logs, servers and the job's state are made of.

The worker appends a line per event; a line is one write, so that readers never see two halves mixed. Events:

    state      state                         the attempt entered staging, running or publishing
    step       step, index, count            a named step began
    progress   step, done, total, unit       often at first, then ever more seldom: a step writes a few hundred
    item       name, ok, error?              one of many items (meshes, videos) ended
    message    text                          a sentence for the user
    heartbeat  rss_mb                        the worker is alive
    failed     reason, error                 the attempt ended without a result
    published                                results/ is in place
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MIN_INTERVAL_S = 0.1
INTERVAL_SHARE = 1 / 300
"""Progress is written at intervals of this share of the step's age, so that long jobs keep short files."""


class EventLog:
    """The worker's end: appends events. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = threading.Lock()
        self._progress_times: dict[str, tuple[float, float]] = {}

    def write(self, event: str, **details: Any) -> None:
        record = {"t": round(time.time(), 3), "event": event, **details}
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        with self._lock:
            os.write(self._descriptor, line)

    def progress(self, step: str, done: int, total: int, unit: str) -> None:
        now = time.monotonic()
        began, last = self._progress_times.get(step, (now, now - MIN_INTERVAL_S))
        if done < total and now - last < max(MIN_INTERVAL_S, (now - began) * INTERVAL_SHARE):
            return
        self._progress_times[step] = (began, now)
        self.write("progress", step=step, done=done, total=total, unit=unit)

    def close(self) -> None:
        os.close(self._descriptor)


class EventReader:
    """A reader's end: `new()` gives the complete events since the last call."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset

    def new(self) -> Iterator[dict[str, Any]]:
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read()
        except FileNotFoundError:
            return
        end = data.rfind(b"\n") + 1
        self.offset += end
        for line in data[:end].splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                # A machine that lost power can leave a torn line; the events around it still count.
                continue


def read_all(path: Path) -> list[dict[str, Any]]:
    return list(EventReader(path).new())
