"""A real server: `gnomon serve` in a process of its own, on a free port, over a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx2
from waiting import until

PROBE = Path(__file__).parent / "probe"


@dataclass
class RunningServer:
    """A server process, how to talk to it, and its home."""

    process: subprocess.Popen[str]
    home: Path
    addresses: list[str]
    log: Path

    @property
    def url(self) -> str:
        return self.addresses[0]

    def client(self, **options) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60.0, trust_env=False, **options)

    def kill(self) -> None:
        """kill -9, and nothing else."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def start_server(home: Path, *flags: str, environment: dict[str, str] | None = None) -> RunningServer:
    """Start `gnomon serve` and return when it listens."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "serve.log"
    env = {
        **os.environ,
        "GNOMON_HOME": str(home),
        "GNOMON_CACHE": str(home.parent / "cache"),
        "GNOMON_SITES": str(home.parent / "sites.toml"),
        "PYTHONPATH": str(PROBE),
        **(environment or {}),
    }
    with log.open("a") as stream:
        command = [sys.executable, "-m", "gnomon", "serve", "--port", "0", *flags]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=stream, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    process.stdout.close()
    if not line:
        process.wait()
        raise AssertionError(f"the server did not start:\n{log.read_text()}")
    return RunningServer(process, home, json.loads(line)["addresses"], log)


def ended(client: httpx2.Client, job_id: str) -> dict:
    """The job when it has ended."""

    def final() -> dict | None:
        job = client.get(f"/v1/jobs/{job_id}", params={"wait_s": 10}).json()
        return job if job["state"] in ("succeeded", "failed", "cancelled") else None

    return until(final, f"the end of job {job_id}")
