"""Builds an environment so that an unfinished one is never taken for a finished one."""

from __future__ import annotations

import collections
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gnomon.environments.child import ending, guarded, output_lines
from gnomon.environments.environment import Environment, is_ready, marker_path, path, python_path
from gnomon.environments.lock import exclusive
from gnomon.errors import MissingError

TAIL_LINES = 15
PIP_OPTIONS = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
REPORTED = ("Collecting ", "Downloading ", "Building ", "Installing collected", "ERROR:")
"""The beginnings of pip's lines that tell a waiting user something."""


def install(env: Environment, root: Path, *, report: Callable[[str], None]) -> Path:
    """Build `env` below the cache folder `root`, unless it is ready, and return its folder.

    `report` gets lines for a person who waits. If another process builds the same environment, it is waited
    for, and what it built is used. What an interrupted attempt left is thrown away first.

    Raises MissingError: `wrong_python`, `disk_full`, `install_failed` (pip's last lines are in the message,
    all of them in the log it names) or `no_file_locks`.
    """
    folder = path(env, root)
    with exclusive(_lock_path(env, root), waiting=lambda owner: report(f"Waiting for {owner}")):
        if is_ready(env, root):
            return folder
        python = find_python(env)
        _delete(folder)
        folder.mkdir(parents=True)
        _check_disk(env, folder)
        try:
            _build(env, root, python, report)
        except BaseException:
            shutil.rmtree(folder / "venv", ignore_errors=True)
            raise
    return folder


def remove(env: Environment, root: Path) -> None:
    """Delete `env` from the disk; nothing happens when it is not there."""
    if path(env, root).exists():
        with exclusive(_lock_path(env, root), waiting=lambda owner: None):
            _delete(path(env, root))


def find_python(env: Environment) -> Path:
    """An interpreter of the version that `env` needs: ours, else one on the search path."""
    if env.python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.executable)
    found = shutil.which(f"python{env.python}")
    # Version managers put commands on the search path for interpreters that are not there.
    if found is not None and _answers(Path(found), ""):
        return Path(found)
    raise MissingError(
        f"{env.name} needs Python {env.python}, and this is Python {sys.version.split()[0]}",
        code="wrong_python",
        fix=f"Install Python {env.python} so that `python{env.python}` is found, or install gnomon under it.",
    )


def _answers(python: Path, statement: str) -> bool:
    return subprocess.run([python, "-I", "-c", statement], capture_output=True, check=False).returncode == 0


def _lock_path(env: Environment, root: Path) -> Path:
    folder = path(env, root)
    return folder.with_name(folder.name + ".lock")


def _delete(folder: Path) -> None:
    # The marker goes first: a deletion that is cut short must not leave a ready environment with holes.
    (folder / "ready.json").unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def _check_disk(env: Environment, folder: Path) -> None:
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    if free_mb < env.disk_mb:
        raise MissingError(
            f"{env.name} needs {env.disk_mb} MB of disk, and {free_mb} MB are free in {folder.parent}",
            code="disk_full",
            fix="Free some space, or set GNOMON_CACHE to a folder on a larger disk.",
        )


def _build(env: Environment, root: Path, python: Path, report: Callable[[str], None]) -> None:
    log_path = path(env, root) / "install.log"
    started = time.monotonic()
    report(f"Building {env.name} with Python {env.python}: {', '.join(env.requirements)}")
    venv, inside = str(path(env, root) / "venv"), python_path(env, root)
    if _answers(python, "import ensurepip"):
        _step(env, python, ["-m", "venv", venv], log_path, report)
        pip = (inside, ["-m", "pip"])
    else:
        # Debian keeps ensurepip in a package of its own; the pip beside this interpreter does as well.
        _step(env, python, ["-m", "venv", "--without-pip", venv], log_path, report)
        pip = (python, ["-m", "pip", "--python", str(inside)])
    _step(env, pip[0], [*pip[1], "install", *PIP_OPTIONS, *env.requirements], log_path, report)
    frozen = _step(env, pip[0], [*pip[1], "list", "--format=freeze"], log_path, report)
    seconds = round(time.monotonic() - started, 1)
    _mark_ready(marker_path(env, root), {"python": env.python, "seconds": seconds, "packages": frozen})
    report(f"Installed {env.name} in {seconds:.0f} s")


def _step(
    env: Environment, python: Path, command: Sequence[str], log_path: Path, report: Callable[[str], None]
) -> list[str]:
    """Run one command to its end, logging its lines, and return them."""
    printed: list[str] = []
    tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
    variables = {key: text for key, text in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_"))}
    with (
        log_path.open("a", encoding="utf-8") as log,
        guarded(python, command, cwd=log_path.parent, variables=variables) as process,
    ):
        for line in output_lines(process):
            log.write(line + "\n")
            printed.append(line)
            tail.append(line)
            if line.lstrip().startswith(REPORTED):
                report(line.strip())
        status = process.wait()
    if status != 0:
        raise MissingError(
            f"Installing {env.name} {ending(status)}. The last lines:\n" + "\n".join(tail),
            code="install_failed",
            fix=f"Read {log_path}, then try `gnomon methods install {env.name}` again.",
        )
    return printed


def _mark_ready(marker: Path, record: dict[str, object]) -> None:
    part = marker.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    part.replace(marker)
