"""The server under load: no-op jobs a second, latencies with many jobs and clients, memory.

    python bench/server.py [--jobs 10000] [--clients 100]

Everything runs on this machine, the load generator too, which is why it is a bare HTTP client on asyncio: what it
costs is printed beside the server's own CPU seconds. The job does nothing (the probe task of the tests). What the pose
facade costs is measured by bench/pose_api.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).parents[1]
ORDER = json.dumps({"task": "probe", "params": {"script": []}, "resources": {"cpus": 1, "mem_gb": 0.5}}).encode()


@dataclass
class Server:
    """A server process over a home of its own, and its family's memory and CPU time."""

    home: Path
    process: subprocess.Popen[str]
    addresses: list[str]

    @classmethod
    def start(cls, folder: Path, *flags: str) -> Server:
        home = folder / "home"
        home.mkdir()
        environment = {
            **os.environ,
            "GNOMON_HOME": str(home),
            "GNOMON_CACHE": str(folder / "cache"),
            "PYTHONPATH": str(ROOT / "tests" / "probe"),
        }
        command = [sys.executable, "-m", "gnomon", "serve", "--port", "0", *flags]
        log = (folder / "serve.log").open("w")
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        return cls(home, process, json.loads(process.stdout.readline())["addresses"])

    def workers(self) -> list[psutil.Process]:
        """Warm slots and their workers: detached, so they are found by their command line."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if any("gnomon.executors.warm" in part for part in process.info["cmdline"] or ()):
                found.append(process)
        return found

    def cpu_s(self) -> tuple[float, float]:
        """CPU seconds of the server, and of its workers."""
        own = sum(psutil.Process(self.process.pid).cpu_times()[:2])
        others = 0.0
        for process in self.workers():
            try:
                others += sum(process.cpu_times()[:2])
            except psutil.Error:
                continue
        return own, others

    def memory_mb(self) -> tuple[float, float]:
        """Proportional memory (PSS) of the server, and of its workers."""
        own = psutil.Process(self.process.pid).memory_full_info().pss / 1e6
        return own, sum(process.memory_full_info().pss for process in self.workers()) / 1e6

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


class Connection:
    """One kept-alive connection that speaks just enough HTTP/1.1."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port

    async def open(self) -> Connection:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        return self

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes, float]:
        """Status, body, and seconds it took."""
        began = time.perf_counter()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Length: {len(body)}\r\n"
        self.writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        text = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(lines[0].split()[1]), text, time.perf_counter() - began

    async def submit(self) -> tuple[str, float]:
        status, text, seconds = await self.ask("POST", "/v1/jobs", ORDER)
        if status != 201:
            raise RuntimeError(f"{status}: {text[:500]!r}")
        return json.loads(text)["id"], seconds

    def close(self) -> None:
        self.writer.close()


@dataclass
class Latencies:
    """Seconds of many requests of one kind."""

    name: str
    seconds: list[float] = field(default_factory=list)

    def row(self) -> str:
        cuts = statistics.quantiles(self.seconds, n=100)
        middle, worst = cuts[49] * 1e3, cuts[98] * 1e3
        return f"| {self.name} | {len(self.seconds)} | {middle:.1f} | {worst:.1f} | {max(self.seconds) * 1e3:.1f} |"


async def flood(server: Server, jobs: int, clients: int) -> tuple[float, float]:
    """Submit as fast as may be; seconds until all are accepted, and until all have ended."""
    connections = [await Connection(server.addresses[0]).open() for _ in range(clients)]
    left = jobs

    async def work(connection: Connection) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await connection.submit()

    began = time.perf_counter()
    await asyncio.gather(*(work(connection) for connection in connections))
    accepted_s = time.perf_counter() - began
    while await _unfinished(connections[0]):
        await asyncio.sleep(0.05)
    ended_s = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return accepted_s, ended_s


async def _unfinished(connection: Connection) -> bool:
    states = "&".join(f"state={state}" for state in ("queued", "launching", "staging", "running", "publishing"))
    _, text, _ = await connection.ask("GET", f"/v1/jobs?limit=1&{states}")
    return bool(json.loads(text)["jobs"])


async def steady(server: Server, clients: int, seconds: float, interval_s: float) -> list[Latencies]:
    """Every client submits a job, then looks at it, once in `interval_s`; latencies of both."""
    submit, status = Latencies("submit"), Latencies("status")
    end = time.perf_counter() + seconds

    async def work(number: int) -> None:
        connection = await Connection(server.addresses[0]).open()
        await asyncio.sleep(interval_s * number / clients)
        while time.perf_counter() < end:
            began = time.perf_counter()
            job, took = await connection.submit()
            submit.seconds.append(took)
            await asyncio.sleep(interval_s / 2)
            _, _, took = await connection.ask("GET", f"/v1/jobs/{job}")
            status.seconds.append(took)
            await asyncio.sleep(max(0.0, interval_s - (time.perf_counter() - began)))
        connection.close()

    await asyncio.gather(*(work(number) for number in range(clients)))
    return [submit, status]


async def measure(server: Server, jobs: int, clients: int) -> None:
    connection = await Connection(server.addresses[0]).open()
    await asyncio.sleep(3.0)
    own, workers = server.memory_mb()
    print(f"\nidle, before the first job: server {own:.0f} MB, warm workers {workers:.0f} MB (PSS)")
    await flood(server, 20, 4)
    before = (*server.cpu_s(), time.process_time())
    accepted_s, ended_s = await flood(server, jobs, clients)
    after = (*server.cpu_s(), time.process_time())
    spent = [1e3 * (b - a) / jobs for a, b in zip(before, after, strict=True)]
    print(f"\n{jobs} no-op jobs from {clients} clients as fast as they can:")
    print(f"accepted in {accepted_s:.1f} s ({jobs / accepted_s:.0f}/s), all ended after {ended_s:.1f} s ", end="")
    print(f"(**{jobs / ended_s:.0f} jobs/s**)")
    server_ms, worker_ms, load_ms = spent
    print(f"CPU ms a job: server {server_ms:.2f}, workers {worker_ms:.2f}, load generator {load_ms:.2f}")
    own, workers = server.memory_mb()
    print(f"after that: server {own:.0f} MB, warm workers {workers:.0f} MB (PSS)")
    for interval_s in (4.0, 2.0):
        print(f"\n{clients} clients, each submits and looks once in {interval_s:g} s; {jobs} jobs in the index\n")
        print("| request | n | p50 ms | p99 ms | worst ms |\n|---|---|---|---|---|")
        for latencies in await steady(server, clients, 20.0, interval_s):
            print(latencies.row())
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000, help="no-op jobs, which then fill the index")
    parser.add_argument("--clients", type=int, default=100)
    options = parser.parse_args()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{psutil.cpu_count()} cores, load before: {load}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = Server.start(Path(folder))
        try:
            asyncio.run(measure(server, options.jobs, options.clients))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
