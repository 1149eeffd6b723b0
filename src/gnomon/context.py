"""What a task sees while it runs: its inputs, its private output folder, and a voice."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnomon import __version__, atomic
from gnomon.errors import GnomonError
from gnomon.events import EventLog
from gnomon.inputs import input_path
from gnomon.job import Attempt
from gnomon.request import InputFile


@dataclass
class Outcome:
    """What a task's `run` returns: the typed result as JSON, and whether all items made it."""

    result: dict[str, Any]
    partial: bool = False
    warnings: list[str] = field(default_factory=list)


class Context:
    """Handed to `run(spec, context)`. Everything a task may touch outside its own memory goes through it."""

    def __init__(
        self,
        attempt: Attempt,
        events: EventLog,
        inputs: tuple[InputFile, ...],
        *,
        cpus: int,
        seed: int,
        cache: Path,
        check_cancelled: Callable[[], None],
    ) -> None:
        self.out = attempt.out
        self.cpus = cpus
        self.seed = seed
        self.cache = cache
        self.check_cancelled = check_cancelled
        self._attempt = attempt
        self._events = events
        self._hashes = {file.name: file.sha256 for file in inputs}
        self._step = ("", 0, 0)

    def input(self, name: str) -> Path:
        """The path of an input by the name the spec gives it."""
        return input_path(self._attempt.job.inputs, name)

    def input_key(self, name: str) -> dict[str, str | None]:
        """Hashes of the file and its companions, by their names beside it: the content, wherever it came from."""
        folder = name.rpartition("/")[0] + "/"
        return {key.removeprefix(folder): sha for key, sha in self._hashes.items() if key.startswith(folder)}

    def begin(self, step: str, index: int, count: int) -> None:
        """Say that step `index` of `count` (from 1) begins."""
        self.check_cancelled()
        self._step = (step, index, count)
        self._events.write("step", step=step, index=index, count=count)

    def progress(self, done: int, total: int, unit: str) -> None:
        """Say how far the current step is. Cheap enough to call for every unit of work."""
        self._events.progress(self._step[0], done, total, unit)

    def message(self, text: str) -> None:
        self._events.write("message", text=text)

    def item(self, name: str, error: GnomonError | None = None) -> None:
        """Say that one of many items ended, and how."""
        details = {} if error is None else {"error": error.to_dict()}
        self._events.write("item", name=name, ok=error is None, **details)

    def finished(self, step: str, key: Any) -> dict[str, Any] | None:
        """What `finish` recorded for this step and the same key, in this attempt or one before it."""
        record = atomic.read_json(self._attempt.steps / f"{step}.json")
        return record["result"] if record is not None and record["key"] == step_key(key) else None

    def finish(self, step: str, key: Any, result: dict[str, Any]) -> None:
        """Record that a step's files are complete, so that a later attempt skips it."""
        self._attempt.steps.mkdir(exist_ok=True)
        atomic.write_json(self._attempt.steps / f"{step}.json", {"key": step_key(key), "result": result})

    @contextlib.contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """A folder that appears as out/<name> only when the block ends well; remains of a killed attempt go first."""
        target = input_path(self.out, name)
        draft = target.with_name(f".{target.name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        # Folders are made below out/ and never out/ itself: when a successor has taken that over, this must fail.
        for parent in reversed([path for path in draft.parents if self.out in path.parents]):
            parent.mkdir(exist_ok=True)
        draft.mkdir()
        try:
            yield draft
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)


def step_key(parts: Any) -> str:
    """The identity of a piece of work: its inputs and parameters, and the version of the code that does it."""
    return hashlib.sha256(atomic.canonical_json([__version__, parts])).hexdigest()
