"""Progress from a job's events: live bars on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import sys
from typing import Any, Protocol

import click

from gnomon.cli.output import duration

LINE_INTERVAL_S = 5.0


class Display(Protocol):
    """Shows the events of one job."""

    def show(self, event: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def make_display(*, quiet: bool) -> Display:
    """Bars where a person looks on, lines where a file is written, nothing when asked for quiet."""
    if quiet:
        return Silent()
    return Bars() if sys.stderr.isatty() else Lines()


class Silent:
    def show(self, event: dict[str, Any]) -> None:
        del event

    def close(self) -> None:
        pass


class Lines:
    """One line for each step, for progress every few seconds, for each failed item."""

    def __init__(self) -> None:
        self._last = 0.0
        self._began = 0.0

    def show(self, event: dict[str, Any]) -> None:
        text = self._text(event)
        if text is not None:
            click.echo(text, err=True)

    def close(self) -> None:
        pass

    def _text(self, event: dict[str, Any]) -> str | None:
        if event["event"] == "step":
            self._began = self._last = event["t"]
            return f"[{event['index']}/{event['count']}] {event['step']}"
        if event["event"] == "progress":
            done, total = event["done"], event["total"]
            if not self._began or (done < total and event["t"] - self._last < LINE_INTERVAL_S):
                # Files that are staged before the first step are not worth a line.
                return None
            self._last = event["t"]
            elapsed = max(event["t"] - self._began, 1e-3)
            rate = done / elapsed
            left = f", {duration((total - done) / rate)} left" if 0 < done < total else ""
            return f"  {event['step']}: {done}/{total} {event['unit']}s, {rate:.3g} {event['unit']}s/s{left}"
        return note_of(event)


class Bars:
    """A bar for each step with rate and estimated time left, finished ones above."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
        )
        self._progress.start()
        self._bars: dict[str, Any] = {}
        self._began: dict[str, float] = {}

    def show(self, event: dict[str, Any]) -> None:
        if event["event"] == "step":
            title = f"[{event['index']}/{event['count']}] {event['step']}"
            self._began[event["step"]] = event["t"]
            self._bars[event["step"]] = self._progress.add_task(title.replace("[", r"\["), total=None, rate="", left="")
        elif event["event"] == "progress" and event["step"] in self._bars:
            self._update(event)
        elif (note := note_of(event)) is not None:
            self._progress.console.print(note, markup=False, highlight=False)

    def close(self) -> None:
        for bar in self._bars.values():
            task = self._progress.tasks[bar]
            if task.total is None:
                self._progress.update(bar, total=1, completed=1)
        self._progress.stop()

    def _update(self, event: dict[str, Any]) -> None:
        done, total = event["done"], event["total"]
        rate = done / max(event["t"] - self._began[event["step"]], 1e-3)
        left = f"{duration((total - done) / rate)} left" if 0 < done < total else ""
        speed = f"{rate:.3g} {event['unit']}s/s"
        self._progress.update(self._bars[event["step"]], completed=done, total=total, rate=speed, left=left)


def note_of(event: dict[str, Any]) -> str | None:
    """The sentence an event deserves by itself, if any."""
    if event["event"] == "item" and not event["ok"]:
        return f"  {event['name']}: {event['error']['message']} [{event['error']['code']}]"
    if event["event"] == "message":
        return f"  {event['text']}"
    if event["event"] == "failed" and event["reason"] not in ("cancelled_by_user",):
        return f"  attempt failed: {event['reason']}"
    return None
