"""The examples, run as users run them, against a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from waiting import until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MUG = ROOT / "src" / "gnomon" / "data" / "mug.ply"
VIEWS = 42


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_every_example_is_in_the_table_and_run_by_a_test():
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    assert files == set(re.findall(r"^\| \[(.+?)\]", (EXAMPLES / "README.md").read_text("utf-8"), re.MULTILINE))
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in files if f'"{name}"' not in tests] == []


def test_the_python_client_with_a_token(serve, tmp_path):
    made = run(sys.executable, "-m", "gnomon", "tokens", "create", "me", "--scope", "submit")
    server = serve("--require-token")
    client = (sys.executable, EXAMPLES / "http_client.py", MUG, "--server", server.url, "--size", "64")
    done = run(*client, "--out", tmp_path / "out", GNOMON_TOKEN=made.stdout.strip())
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "templates").glob("rgb_*.png"))) == VIEWS
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "succeeded" in lines
    assert f" of {VIEWS} views" in done.stdout
    again = run(*client, "--out", tmp_path / "again", GNOMON_TOKEN=made.stdout.strip())
    assert again.returncode == 0, "a file that the server has is not sent again"
    refused = run(*client, GNOMON_TOKEN="")
    assert refused.returncode == 1 and "[token_missing]" in refused.stderr
    assert server.stop() == 0
    nobody = run(*client)
    assert nobody.returncode == 1 and "no connection" in nobody.stderr


def test_the_shell_client(server, tmp_path):
    done = run("bash", EXAMPLES / "http_client.sh", MUG, server.url, tmp_path / "mug.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"state": "succeeded"' in done.stdout
    with zipfile.ZipFile(tmp_path / "mug.zip") as archive:
        assert sum("/rgb_" in name for name in archive.namelist()) == VIEWS


@pytest.fixture
def receiver(own_places):
    """The example's process; its address is the first line that it prints."""
    secret = run(sys.executable, "-m", "gnomon", "webhooks", "secret").stdout.strip()
    log = own_places.parent / "receiver.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "webhook_receiver.py"), "--port", "0"],
            env=os.environ | {"GNOMON_WEBHOOK_SECRET": secret},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        yield until(lambda: log.read_text().splitlines(), "the receiver")[0], log
    finally:
        process.kill()
        process.wait()


def test_the_receiver_takes_what_is_signed_and_nothing_else(serve, receiver):
    address, log = receiver
    server = serve("--allow-private-webhooks")
    with server.client() as client:
        order = {"task": "probe", "params": {"script": ["write a"]}, "webhook_url": address}
        job = client.post("/v1/jobs", json=order).json()["id"]
    assert until(lambda: f"job.succeeded: job {job} (probe), error None" in log.read_text(), "the message")
    forged = urllib.request.Request(
        address,
        b'{"type": "job.succeeded", "data": {"id": "forged", "task": "probe"}}',
        {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(forged, timeout=60)
    refused.value.close()
    assert refused.value.code == 401
    assert until(lambda: "refused: " in log.read_text(), "the refusal")
    assert "forged" not in log.read_text()
