"""What the old pose API costs over the bare function, on a warm worker.

    python bench/pose_api.py [--requests 40] [--frames 1]

A server of its own, one client. Between two requests the same files go through the same function in this process, so
that both meet the same load: reading them, preparing the mesh (cached on disk, as in the job), estimating the pose.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import psutil

from gnomon.formats.depth import read_depth
from gnomon.formats.mesh_file import load_mesh
from gnomon.tasks.object_pose import demo
from gnomon.tasks.object_pose.estimate import estimate
from gnomon.tasks.object_pose.prepare import prepare
from gnomon.tasks.object_pose.read import read_mask, read_rgb


def request_body(inputs: Path, frames: int) -> bytes:
    """The demo's mug as a client sends it."""

    def text(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    camera = demo.CAMERA
    images = [
        {"filename": name, "rgb": text(inputs / "rgb" / f"{name}.png"), "depth": text(inputs / "depth" / f"{name}.png")}
        for name in (f"{index:06d}" for index in range(frames))
    ]
    return json.dumps(
        {
            "camera_matrix": [[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]],
            "images": images,
            "mask": text(inputs / "mask.png"),
            "mesh": text(inputs / "mug.ply"),
        }
    ).encode()


def bare(inputs: Path, cache: Path, threads: int) -> tuple[float, float]:
    """Seconds, and processor seconds, of the function on one frame, from files to pose."""
    began, cpu_began = time.perf_counter(), time.process_time()
    rgb = read_rgb(inputs / "rgb" / "000000.png")
    depth_m = read_depth(inputs / "depth" / "000000.png").depth_m
    mask = read_mask(inputs / "mask.png")
    model = prepare(load_mesh(inputs / "mug.ply").scaled(0.001), cache=cache, threads=threads)
    estimate(model, rgb, depth_m, mask, demo.CAMERA, threads=threads)
    return time.perf_counter() - began, time.process_time() - cpu_began


def measure(folder: Path, requests: int, frames: int) -> dict[str, list[float]]:
    """Milliseconds of each part of each request."""
    demo.spec(folder / "inputs")
    body = request_body(folder / "inputs", frames)
    print(f"{len(body) / 1e6:.2f} MB a request, {frames} frames", flush=True)
    environment = os.environ | {"GNOMON_HOME": str(folder / "home"), "GNOMON_CACHE": str(folder / "cache")}
    flags = ["--port", "0", "--facade", "pose-api:0", "--workers", "1", "--warm", "object-pose"]
    command = [sys.executable, "-m", "gnomon", "serve", *flags]
    with (folder / "serve.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    assert server.stdout is not None
    v1, pose_api = json.loads(server.stdout.readline())["addresses"]
    names = ("request", "job", "bare function", "overhead", "CPU of server", "CPU of job", "CPU of function")
    times: dict[str, list[float]] = {name: [] for name in names}
    process = psutil.Process(server.pid)
    threads = min(os.cpu_count() or 1, 4)
    try:
        with httpx2.Client(timeout=300.0, trust_env=False) as http:
            for number in range(requests + 2):
                cpu_began, began = sum(process.cpu_times()[:2]), time.perf_counter()
                answer = http.post(f"{pose_api}/foundationpose", content=body)
                seconds, server_cpu_s = time.perf_counter() - began, sum(process.cpu_times()[:2]) - cpu_began
                job = http.get(f"{v1}/v1/jobs/{answer.json()['job_id']}").json()
                function_s, function_cpu_s = bare(folder / "inputs", folder / "cache" / "object-pose", threads)
                costs = (server_cpu_s, job["cpu_s"], function_cpu_s)
                # The first ones load what stays.
                if number >= 2:
                    for name, value in zip(
                        names, (seconds, job["run_s"], function_s, seconds - function_s, *costs), strict=True
                    ):
                        times[name].append(value * 1000)
    finally:
        server.terminate()
        server.wait()
    return times


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--frames", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        times = measure(Path(folder), options.requests, options.frames)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'ms':16}{'p50':>8}{'p90':>8}{'least':>8}")
    for name, values in times.items():
        p90 = statistics.quantiles(values, n=10)[-1] if len(values) > 1 else values[0]
        print(f"{name:16}{statistics.median(values):8.0f}{p90:8.0f}{min(values):8.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
