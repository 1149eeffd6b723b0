"""Submit a mesh to a gnomon server, follow the job, and download its results. Needs Python alone, no packages.

    python http_client.py mug.ply --server http://127.0.0.1:8800 --out results

A server that wants a token gets the one in the environment variable GNOMON_TOKEN.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


class Server:
    """A gnomon server, as far as this example needs it."""

    def __init__(self, address: str, token: str | None) -> None:
        self._address = address.rstrip("/")
        self._token = token

    def upload(self, path: Path) -> str:
        """Send a file, unless the server has it, and return its hash."""
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            if not self._has(sha256):
                stream.seek(0)
                size = {"Content-Length": str(path.stat().st_size)}
                self._open("PUT", f"/v1/files/{sha256}", stream, size).close()
        return sha256

    def _has(self, sha256: str) -> bool:
        try:
            return json.load(self._open("GET", f"/v1/files/{sha256}"))["complete"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            error.close()
            return False

    def submit(self, order: dict[str, Any]) -> dict[str, Any]:
        """Submit a job. With this key it could be sent again after a cut, and would still be one job."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        return json.load(self._open("POST", "/v1/jobs", json.dumps(order).encode(), headers))

    def job(self, job_id: str) -> dict[str, Any]:
        return json.load(self._open("GET", f"/v1/jobs/{job_id}"))

    def events(self, job_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Kind and data of each event of a job, as they happen, until it ends."""
        kind = ""
        with self._open("GET", f"/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as stream:
            for line in stream:
                name, _, text = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = text
                elif name == "data":
                    yield kind, json.loads(text)

    def download(self, job_id: str, target: Path) -> None:
        """All results as a zip, in pieces, so that it need not fit into memory."""
        with self._open("GET", f"/v1/jobs/{job_id}/results.zip") as stream, target.open("wb") as file:
            while piece := stream.read(1 << 20):
                file.write(piece)

    def _open(
        self, method: str, path: str, body: bytes | BinaryIO | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        request = urllib.request.Request(self._address + path, body, headers or {}, method=method)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        return urllib.request.urlopen(request, timeout=60)


def main() -> int:
    parser = argparse.ArgumentParser(description="Render a mesh's templates on a gnomon server.")
    parser.add_argument("mesh", type=Path)
    parser.add_argument("--server", default="http://127.0.0.1:8800")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for the results")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels")
    parser.add_argument("--webhook-url", help="told when the job has ended; see webhook_receiver.py")
    options = parser.parse_args()
    server = Server(options.server, os.environ.get("GNOMON_TOKEN"))
    try:
        return render(server, options)
    except urllib.error.HTTPError as error:
        # Errors are JSON: what happened, a stable code, and often how to mend it.
        problem = json.load(error)
        print(f"{problem['detail']} [{problem['code']}]  {problem.get('fix', '')}", file=sys.stderr)
        return 1
    except urllib.error.URLError as error:
        print(f"no connection to {options.server}: {error.reason}", file=sys.stderr)
        return 1


def render(server: Server, options: argparse.Namespace) -> int:
    name = options.mesh.name
    sha256 = server.upload(options.mesh)
    print(f"sent {name}, sha256 {sha256[:12]}...")
    job = server.submit(
        {
            "task": "templates",
            "params": {"mesh": [name], "size": options.size},
            "files": {name: sha256},
            "webhook_url": options.webhook_url,
        }
    )
    print(f"job {job['id']} is {job['state']}")
    state = job["state"]
    for kind, data in server.events(job["id"]):
        if kind == "job" and data["state"] != state:
            state = data["state"]
            print(f"  {state}")
        elif kind == "progress" and data["total"]:
            print(f"  {data['step']}: {data['done']} of {data['total']} {data['unit']}s")
    job = server.job(job["id"])
    if job["state"] != "succeeded":
        print(f"it ended as {job['state']}: {job['error']}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    packed = options.out / f"{job['id']}.zip"
    server.download(job["id"], packed)
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(options.out)
    print(f"{job['outputs']} files in {options.out}, made in {job['run_s']} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
