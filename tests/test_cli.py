"""The command line as a user meets it: real commands in real processes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

GNOMON = [sys.executable, "-m", "gnomon"]


def gnomon(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GNOMON, *arguments], capture_output=True, text=True, timeout=120, check=False, **options)


def probe(*script: str) -> list[str]:
    return ["probe", *(part for line in script for part in ("--script", line))]


def test_help_needs_no_heavy_import_and_little_time():
    code = (
        "import sys; from gnomon.cli import cli; cli.main(['--help'], standalone_mode=False);"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "templates" in done.stdout
    loaded = set(eval(done.stderr))  # a list of names that we printed ourselves
    assert not loaded & {"numpy", "numba", "pydantic", "sqlalchemy", "rich", "trimesh", "PIL", "scipy"}
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu_s < 0.3


def test_importing_gnomon_is_light():
    code = "import sys, gnomon; print(any(m in sys.modules for m in ('numba', 'sqlalchemy', 'trimesh', 'rich')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_a_task_runs_and_delivers(tmp_path: Path):
    done = gnomon(*probe("write a"), "-o", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["state"] == "succeeded"
    assert (tmp_path / "out" / "a" / "data.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (probe("write a"), 0),
        (probe("crash"), 1),
        (probe("input bad"), 2),
        (["templates"], 2),
        (["nonsense"], 2),
        (["show", "nothing"], 2),
        ([*probe("write a"), "--method", "absent"], 3),
        (probe("raise x"), 5),
        (probe("partial"), 6),
        ([*probe("wait never"), "--timeout-s", "0.5"], 7),
    ],
)
def test_exit_codes_are_as_documented(arguments, code):
    done = gnomon(*arguments)
    assert done.returncode == code, done.stderr
    if code:
        assert done.stderr.strip()


def test_errors_say_field_value_and_fix():
    done = gnomon(*probe("input wrong"))
    assert "[wrong]" in done.stderr
    assert "script = input wrong" in done.stderr
    assert "fix:      mend it" in done.stderr
    record = json.loads(gnomon(*probe("input wrong"), "--json").stdout)
    assert record["error"]["code"] == "wrong"


def test_a_mistyped_command_is_helped():
    assert "did you mean 'templates'" in gnomon("template").stderr


def test_detached_jobs_are_listed_waited_for_and_fetched(tmp_path: Path):
    job = gnomon("submit", *probe("say hello", "write a"), "--label", "night run").stdout.strip()
    assert gnomon("wait", job).returncode == 0
    rows = json.loads(gnomon("jobs", "--json").stdout)
    assert [(row["id"], row["state"], row["label"]) for row in rows] == [(job, "succeeded", "night run")]
    assert "night run" in gnomon("jobs").stdout
    assert "hello" in gnomon("logs", job).stdout
    assert '"event": "published"' in gnomon("logs", "--events", job).stdout
    shown = json.loads(gnomon("show", job[-5:], "--json").stdout)
    assert shown["status"]["state"] == "succeeded"
    assert gnomon("fetch", job, "-o", str(tmp_path / "got")).returncode == 0
    assert (tmp_path / "got" / "result.json").exists()
    assert gnomon("rm", job).returncode == 0
    assert json.loads(gnomon("jobs", "--json").stdout) == []


def test_logs_follow_until_the_end(own_places: Path):
    job = gnomon("submit", *probe("say first", "wait go", "say last")).stdout.strip()
    with subprocess.Popen([*GNOMON, "logs", "-f", job], stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "first\n"
        (own_places / "jobs" / job / "go").touch()
        assert follower.stdout.readline() == "last\n"
        assert follower.wait(timeout=60) == 0


def test_cancel_and_retry(own_places: Path):
    job = gnomon("submit", *probe("write a", "wait go")).stdout.strip()
    gnomon("cancel", job)
    assert gnomon("wait", job).returncode == 8
    (own_places / "jobs" / job / "go").touch()
    assert gnomon("retry", job).returncode == 0
    assert gnomon("wait", job).returncode == 0


def test_wait_gives_up_when_told():
    job = gnomon("submit", *probe("wait never")).stdout.strip()
    done = gnomon("wait", job, "--timeout-s", "0.3")
    assert done.returncode == 7
    assert "wait_timeout" in done.stderr
    gnomon("cancel", job)
    assert gnomon("wait", job).returncode == 8


def test_ctrl_c_cancels_a_foreground_job(own_places: Path):
    command = [*GNOMON, *probe("say started", "wait never")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        while "wait never" not in running.stderr.readline().replace("-", " "):
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 130
    rows = json.loads(gnomon("jobs", "--json").stdout)
    assert rows[0]["state"] == "cancelled"


def test_progress_is_live_on_a_terminal_and_plain_elsewhere():
    plain = gnomon(*probe("write a"))
    assert "[1/1] write-a" in plain.stderr
    assert "\x1b[" not in plain.stderr
    primary, secondary = pty.openpty()
    with subprocess.Popen([*GNOMON, *probe("write a")], stderr=secondary, stdout=subprocess.DEVNULL) as running:
        os.close(secondary)
        seen = b""
        while True:
            try:
                data = os.read(primary, 4096)
            except OSError:
                break
            if not data:
                break
            seen += data
        assert running.wait(timeout=60) == 0
    os.close(primary)
    assert b"write-a" in seen
    assert b"\x1b[" in seen


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str):
    assert "_GNOMON_COMPLETE" in gnomon("completion", shell).stdout


def test_completion_knows_commands_flags_and_jobs():
    def complete(words: str, position: int) -> str:
        environment = {
            **os.environ,
            "_GNOMON_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(position),
        }
        return gnomon(env=environment).stdout

    assert "plain,templates" in complete("gnomon tem", 1)
    assert "--mesh-unit" in complete("gnomon templates --mesh", 2)
    job = gnomon("submit", *probe("write a")).stdout.strip()
    gnomon("wait", job)
    assert job in complete("gnomon show 0", 2)


def test_doctor_and_methods_tell_what_is_missing():
    report = json.loads(gnomon("doctor", "--json").stdout)
    assert report["sites"]["local"]["ok"]
    methods = {method["name"]: method for method in report["methods"]}
    assert methods["raster"]["missing"] == []
    assert methods["absent"]["remedy"] == 'pip install "gnomon[probe]"'
    assert gnomon("methods", "check", "absent").returncode == 3
    assert "cite:" in gnomon("methods", "list").stdout
    assert "local" in gnomon("doctor").stdout


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[sites.local]\ncpus = 0\n", "sites.local.cpus = 0"),
        ("[sites.local]\ncpu = 4\n", "sites.local.cpu"),
        ("[site.local]\ncpus = 4\n", "there is no table [site]"),
        ("sites = 3\n", "sites is not a table"),
        ("[sites]\nlocal = 5\n", "local is not a table"),
        ("[sites.far]\nkind = 'moon'\n", "sites.far.kind = moon"),
        ("cpus = = 4", "not valid TOML"),
    ],
)
def test_a_broken_sites_file_is_named(own_places: Path, text: str, named: str):
    (own_places.parent / "sites.toml").write_text(text)
    done = gnomon("jobs")
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("GNOMON_HOME", "/dev/null/x", "home_unavailable"),
        ("GNOMON_INDEX_URL", "nonsense://", "index_unavailable"),
    ],
)
def test_unusable_settings_are_named(monkeypatch, variable: str, value: str, code: str):
    monkeypatch.setenv(variable, value)
    done = gnomon("jobs")
    assert done.returncode == 3
    assert f"[{code}]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_killed_command_line_loses_nothing(seed: int, own_places: Path, tmp_path: Path):
    """kill -9 of the CLI while it submits, waits or delivers: the job goes on and can be fetched."""
    dice = random.Random(seed)
    out = tmp_path / "out"
    command = [*GNOMON, *probe("write a", "write b"), "-o", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(timeout=dice.uniform(0.2, 1.4))
        running.kill()
    rows = json.loads(gnomon("jobs", "--json").stdout)
    assert len(rows) <= 1
    for row in rows:
        assert gnomon("wait", row["id"]).returncode == 0
        assert gnomon("fetch", row["id"], "-o", str(out)).returncode == 0
        assert sorted(path.name for path in out.iterdir()) == ["a", "b", "result.json"]
    assert not any(path.name.startswith(".gnomon-") for path in out.glob("*"))
