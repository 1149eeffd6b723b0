"""`logs/<job id>.log` of the Render Server's API: what the worker said and printed, line by line as it comes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from gnomon.events import EventReader
from gnomon.job import JobDir
from gnomon.server.facades.render_orders import Ending, RenderOrder


class JobLog:
    """One order's log file. After a restart of the server it is written anew from the job's folder."""

    def __init__(self, folder: Path, order: RenderOrder) -> None:
        self.path = folder / f"{order.id}.log"
        self._events: dict[int, EventReader] = {}
        self._offsets: dict[int, int] = {}
        with self.path.open("w", encoding="utf-8") as log:
            self._line(log, order.created_at, f"job {order.id}: {order.cad_path} -> {order.templates_dir}")

    def follow(self, job: JobDir) -> None:
        """Add what is new in the job's attempts."""
        with self.path.open("a", encoding="utf-8") as log:
            for attempt in job.attempts():
                reader = self._events.setdefault(attempt.number, EventReader(attempt.events))
                for event in reader.new():
                    text = _sentence(event)
                    if text:
                        self._line(log, event.get("t", 0.0), f"attempt {attempt.number}: {text}")
                log.write(self._printed(attempt.number, attempt.log))

    def end(self, ending: Ending) -> None:
        with self.path.open("a", encoding="utf-8") as log:
            for warning in ending.warnings:
                self._line(log, ending.ended_at, f"warning: {warning}")
            if ending.error is not None:
                self._line(log, ending.ended_at, f"error: {ending.error}")
            self._line(log, ending.ended_at, f"{ending.status}, {ending.rendered_count} views delivered")

    def _printed(self, number: int, path: Path) -> str:
        try:
            with path.open("rb") as stream:
                stream.seek(self._offsets.get(number, 0))
                data = stream.read()
        except FileNotFoundError:
            return ""
        # A line that is still being written waits for its end, so that no character is torn.
        complete = data[: data.rfind(b"\n") + 1]
        self._offsets[number] = self._offsets.get(number, 0) + len(complete)
        return complete.decode("utf-8", "replace")

    def _line(self, log: TextIO, time_s: float, text: str) -> None:
        shown = datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")
        log.write(f"{shown} {text}\n")


def _sentence(event: dict[str, Any]) -> str:
    """An event in words; empty for those that nobody wants to read."""
    kind = event.get("event")
    if kind == "heartbeat":
        return ""
    if kind == "progress":
        return f"{event['step']}: {event['done']} of {event['total']} {event['unit']}s"
    if kind == "failed":
        error = event.get("error", {})
        return f"failed ({event.get('reason')}): {error.get('message')} [{error.get('code')}]"
    details = {key: value for key, value in event.items() if key not in ("t", "event")}
    return " ".join([str(kind), *(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in details.items())])
