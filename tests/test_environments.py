"""Environments are built for real, from a package made by hand, so that no test needs a network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import psutil
import pytest

from gnomon import environments
from gnomon.environments import Environment, build
from gnomon.environments.lock import exclusive
from gnomon.errors import MethodError, MissingError

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def make_wheel(folder: Path, name: str, source: str) -> Path:
    """A pure Python wheel with one module, zipped by hand."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        file: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        for file, text in files.items()
    }
    rows = [f"{file},sha256={digests[file]},{len(text.encode())}" for file, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return wheel


def make_environment(folder: Path, name: str = "probe") -> Environment:
    wheel = make_wheel(folder, "gnomon_probe", "ANSWER = 42\n")
    return Environment(name, (f"gnomon_probe @ {wheel.as_uri()}",), PYTHON, disk_mb=50)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Environment, Path]:
    root = tmp_path_factory.mktemp("cache")
    env = make_environment(tmp_path_factory.mktemp("wheels"))
    environments.install(env, root, report=lambda line: None)
    return env, root


@pytest.fixture
def outer_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build as on a Debian without python3-venv, which saves the seconds that ensurepip takes."""
    monkeypatch.setattr(build, "_answers", lambda python, statement: False)


def write_script(folder: Path, source: str) -> Path:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(source))
    return script


def run_lines(installed: tuple[Environment, Path], script: Path, *arguments: str) -> list[str]:
    env, root = installed
    return list(environments.lines(env, root, script, arguments, cwd=script.parent))


# Building


def test_install_is_ready_and_records_what_it_holds(installed: tuple[Environment, Path]) -> None:
    env, root = installed
    assert environments.is_ready(env, root)
    record = json.loads((environments.path(env, root) / "ready.json").read_text())
    assert "gnomon_probe @" in "\n".join(record["packages"]) or "gnomon_probe==1.0" in record["packages"]
    assert "gnomon" not in [line.split("==")[0] for line in record["packages"]]


def test_second_install_does_nothing(installed: tuple[Environment, Path]) -> None:
    env, root = installed
    marker = environments.path(env, root) / "ready.json"
    before = marker.stat().st_mtime_ns
    reported: list[str] = []
    environments.install(env, root, report=reported.append)
    assert marker.stat().st_mtime_ns == before
    assert reported == []


def test_key_depends_on_requirements_and_python() -> None:
    base = Environment("m", ("a==1", "b==2"), "3.11")
    assert base.key == Environment("m", ("b==2", "a==1"), "3.11", disk_mb=9).key
    assert base.key != Environment("m", ("a==1", "b==3"), "3.11").key
    assert base.key != Environment("m", ("a==1", "b==2"), "3.12").key


@pytest.mark.usefixtures("outer_pip")
def test_failing_install_says_why_and_leaves_only_the_log(tmp_path: Path) -> None:
    env = Environment("broken", ((tmp_path / "absent-1.0-py3-none-any.whl").as_uri(),), PYTHON, disk_mb=50)
    with pytest.raises(MissingError) as caught:
        environments.install(env, tmp_path, report=lambda line: None)
    folder = environments.path(env, tmp_path)
    assert caught.value.code == "install_failed"
    assert "absent" in caught.value.message
    assert str(folder / "install.log") in str(caught.value.fix)
    assert [entry.name for entry in folder.iterdir()] == ["install.log"]
    assert not environments.is_ready(env, tmp_path)


@pytest.mark.usefixtures("outer_pip")
def test_left_overs_of_an_interrupted_install_are_replaced(tmp_path: Path) -> None:
    env = make_environment(tmp_path)
    folder = environments.path(env, tmp_path)
    half = folder / "venv" / "lib" / "half"
    half.mkdir(parents=True)
    assert not environments.is_ready(env, tmp_path)
    environments.install(env, tmp_path, report=lambda line: None)
    assert environments.is_ready(env, tmp_path)
    assert not half.exists()


@pytest.mark.usefixtures("outer_pip")
def test_build_without_ensurepip(tmp_path: Path) -> None:
    env = make_environment(tmp_path)
    folder = environments.install(env, tmp_path, report=lambda line: None)
    record = json.loads((folder / "ready.json").read_text())
    assert [line.split("=")[0].split(" ")[0] for line in record["packages"]] == ["gnomon_probe"]


@pytest.mark.usefixtures("outer_pip")
def test_interrupt_while_building_leaves_nothing_ready(tmp_path: Path) -> None:
    env = make_environment(tmp_path)

    def interrupt(line: str) -> None:
        if "gnomon-probe" in line.replace("_", "-") and not line.startswith("Building"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        environments.install(env, tmp_path, report=interrupt)
    assert not environments.is_ready(env, tmp_path)
    assert not (environments.path(env, tmp_path) / "venv").exists()


def test_too_little_disk(tmp_path: Path) -> None:
    env = Environment("huge", ("numpy",), PYTHON, disk_mb=10**12)
    with pytest.raises(MissingError) as caught:
        environments.install(env, tmp_path, report=lambda line: None)
    assert caught.value.code == "disk_full"


def test_wrong_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError) as caught:
        environments.install(Environment("old", (), "3.1"), tmp_path, report=lambda line: None)
    assert caught.value.code == "wrong_python"
    assert "3.1" in str(caught.value.fix)


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for an interpreter")
def test_command_without_an_interpreter_behind_it_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "python3.1"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError) as caught:
        environments.install(Environment("old", (), "3.1"), tmp_path, report=lambda line: None)
    assert caught.value.code == "wrong_python"


def test_lost_interpreter_is_not_ready_and_remove_clears_the_folder(tmp_path: Path) -> None:
    env = Environment("probe", (), PYTHON)
    folder = environments.path(env, tmp_path)
    folder.mkdir(parents=True)
    (folder / "ready.json").write_text("{}")
    assert not environments.is_ready(env, tmp_path)
    environments.remove(env, tmp_path)
    assert not folder.exists()
    environments.remove(env, tmp_path)


# Locking

HOLDER = """
import sys, time
from pathlib import Path
from gnomon.environments.lock import exclusive
with exclusive(Path(sys.argv[1]), waiting=print):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(lock: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(lock)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def end(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.communicate()


def test_lock_is_waited_for_and_its_owner_named(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    holder = hold(lock)
    owners: list[str] = []

    def release(owner: str) -> None:
        owners.append(owner)
        holder.communicate("")

    with exclusive(lock, waiting=release):
        assert str(holder.pid) in owners[0]
    assert holder.returncode == 0


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    end(hold(lock))
    assert lock.read_text() != ""
    with exclusive(lock, waiting=lambda owner: pytest.fail(f"waited for {owner}")):
        pass


# Running


def test_script_sees_its_own_packages_and_not_ours(
    installed: tuple[Environment, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GNOMON_TOKEN", "secret")
    script = write_script(
        tmp_path,
        """
        import importlib.util, os, sys
        import gnomon_probe
        print("answer", gnomon_probe.ANSWER, *sys.argv[1:])
        print("ours", importlib.util.find_spec("numpy"), importlib.util.find_spec("gnomon"))
        print("path", any("elsewhere" in entry for entry in sys.path), os.environ.get("GNOMON_TOKEN"))
        print("cwd", os.getcwd(), __name__, repr(sys.stdin.read()))
        """,
    )
    printed = run_lines(installed, script, "a b", "--flag")
    assert printed == [
        "answer 42 a b --flag",
        "ours None None",
        "path False None",
        f"cwd {tmp_path} __main__ ''",
    ]


def test_lines_come_while_the_script_runs(installed: tuple[Environment, Path], tmp_path: Path) -> None:
    script = write_script(
        tmp_path,
        """
        import os, sys, time
        print("first")
        while not os.path.exists("seen"):
            time.sleep(0.01)
        print("second", file=sys.stderr)
        """,
    )
    env, root = installed
    got: list[str] = []

    def on_line(line: str) -> None:
        got.append(line)
        (tmp_path / "seen").touch()

    environments.run(env, root, script, [], on_line=on_line, cwd=tmp_path)
    assert got == ["first", "second"]


def test_failure_carries_the_last_lines(installed: tuple[Environment, Path], tmp_path: Path) -> None:
    script = write_script(tmp_path, "for i in range(100): print('line', i)\nraise SystemExit('gave up')\n")
    with pytest.raises(MethodError) as caught:
        run_lines(installed, script)
    assert caught.value.code == "method_failed"
    assert "exit code 1" in caught.value.message
    assert "gave up" in caught.value.message and "line 62" in caught.value.message
    assert "line 59\n" not in caught.value.message


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_crash_names_the_signal(installed: tuple[Environment, Path], tmp_path: Path) -> None:
    script = write_script(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    with pytest.raises(MethodError, match="SIGSEGV"):
        run_lines(installed, script)


def test_records_are_told_from_text() -> None:
    assert environments.record('@gnomon {"frame": 3}') == {"frame": 3}
    assert environments.record("frame 3") is None
    assert environments.record("@gnomon {torn") is None
    assert environments.record("@gnomon 3") is None


def test_absent_method_says_how_to_install_it(tmp_path: Path) -> None:
    env = Environment("nowhere", (), PYTHON)
    with pytest.raises(MissingError) as caught:
        environments.lines(env, tmp_path, tmp_path / "script.py", [], cwd=tmp_path)
    assert caught.value.code == "method_not_installed"
    assert caught.value.fix == "gnomon methods install nowhere"


FAMILY = """
import os, subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), grandchild.pid, flush=True)
time.sleep(600)
"""


def all_gone(pids: list[int]) -> bool:
    """Wait until none of the processes runs; a zombie nobody has waited for counts as gone."""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    running = [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    _, alive = psutil.wait_procs(running, timeout=10)
    return all(p.status() == psutil.STATUS_ZOMBIE for p in alive)


@pytest.mark.parametrize("how", ["exception", "close"])
def test_stopping_early_kills_the_whole_family(installed: tuple[Environment, Path], tmp_path: Path, how: str) -> None:
    env, root = installed
    script = write_script(tmp_path, FAMILY)
    pids: list[int] = []

    def stop(line: str) -> None:
        pids.extend(map(int, line.split()))
        raise KeyboardInterrupt

    if how == "exception":
        with pytest.raises(KeyboardInterrupt):
            environments.run(env, root, script, [], on_line=stop, cwd=tmp_path)
    else:
        lines = environments.lines(env, root, script, [], cwd=tmp_path)
        pids.extend(map(int, next(lines).split()))
        del lines
    assert len(pids) == 2
    assert all_gone(pids)


PARENT = """
import sys
from pathlib import Path
from gnomon import environments
env = environments.Environment({name!r}, {requirements!r}, {python!r})
script = Path({script!r})
for line in environments.lines(env, Path({root!r}), script, [], cwd=script.parent):
    print(line, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="a process group is a POSIX notion")
def test_child_dies_with_a_killed_parent(installed: tuple[Environment, Path], tmp_path: Path) -> None:
    env, root = installed
    script = write_script(tmp_path, FAMILY)
    source = PARENT.format(
        name=env.name,
        requirements=env.requirements,
        python=env.python,
        script=str(script),
        root=str(root),
    )
    parent = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = list(map(int, parent.stdout.readline().split()))
    end(parent)
    assert len(pids) == 2
    assert all_gone(pids)
