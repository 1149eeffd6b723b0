"""Runs a script in an environment and hands on its output line by line."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gnomon.environments.environment import Environment, is_ready, python_path
from gnomon.errors import MethodError, MissingError

TAIL_LINES = 40
RECORD_PREFIX = "@gnomon "
"""Begins a line that carries a JSON object for us; every other line is for people."""
LIFELINE = Path(__file__).with_name("lifeline.py")
HIDDEN_PREFIXES = ("PYTHON", "PIP_", "VIRTUAL_ENV", "CONDA_", "GNOMON_")
"""Variables about our own interpreter, or private to us; nothing a method should see."""


def run(
    env: Environment,
    root: Path,
    script: Path,
    arguments: Sequence[str],
    *,
    on_line: Callable[[str], None],
    cwd: Path,
) -> None:
    """Run `script` to its end, calling `on_line` with every line as it comes. Raises as `lines` does."""
    for line in lines(env, root, script, arguments, cwd=cwd):
        on_line(line)


def lines(
    env: Environment, root: Path, script: Path, arguments: Sequence[str], *, cwd: Path
) -> Generator[str, None, None]:
    """Run `script` with the environment's Python in folder `cwd` and yield what it prints, line by line.

    Standard output and standard error come together, in the order of writing, without blank lines. The child
    sees neither Python settings of ours nor a standard input, and it ends with us: closing the iterator, an
    exception or an interrupt kills it and everything it started, and so does our own death.

    Raises MissingError `method_not_installed` at once, and MethodError `method_failed` with the last lines
    when the script ends with anything but 0.
    """
    if not is_ready(env, root):
        raise MissingError(
            f"The method {env.name} is not installed",
            code="method_not_installed",
            fix=f"gnomon methods install {env.name}",
        )
    command = [script.resolve(), *arguments]
    return _method_lines(env.name, python_path(env, root), command, cwd)


def record(line: str) -> dict[str, Any] | None:
    """The JSON object that a script sent in this line, or None for a line of plain text."""
    if not line.startswith(RECORD_PREFIX):
        return None
    try:
        sent = json.loads(line.removeprefix(RECORD_PREFIX))
    except ValueError:
        return None
    return sent if isinstance(sent, dict) else None


def _method_lines(name: str, python: Path, command: Sequence[str | Path], cwd: Path) -> Generator[str, None, None]:
    tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
    variables = {key: text for key, text in os.environ.items() if not key.startswith(HIDDEN_PREFIXES)}
    with guarded(python, command, cwd=cwd, variables=variables) as process:
        for line in output_lines(process):
            tail.append(line)
            yield line
        status = process.wait()
    if status != 0:
        raise MethodError(f"{name} {ending(status)}. Its last lines:\n" + "\n".join(tail))


@contextlib.contextmanager
def guarded(
    python: Path, command: Sequence[str | Path], *, cwd: Path, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a script, or `-m module`, that is killed with its group when the block ends before it does."""
    process = subprocess.Popen(
        [python, "-I", "-u", LIFELINE, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=dict(variables),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_group(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a child and all that it started, and wait until it is gone."""
    if os.name == "nt":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def output_lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """The lines a child prints, without blank ones; bytes that are not UTF-8 are replaced."""
    assert process.stdout is not None
    for raw in process.stdout:
        line = raw.decode("utf-8", errors="replace").rstrip()
        if line:
            yield line


def ending(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
