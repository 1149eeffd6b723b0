"""Render templates of CAD files through the Render Server's API, with nothing but the standard library.

gnomon serve --facade render --render-root /data/objects     # in another terminal
python examples/render_client.py /data/objects/mug.ply /data/objects/templates/mug
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.request
from typing import Any

POLL_S = 0.5


def call(url: str, body: dict[str, Any] | None = None) -> Any:
    """GET, or POST of a JSON body; the answer's JSON."""
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("GNOMON_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
        return json.load(answer)


def main() -> int:
    parser = argparse.ArgumentParser(description="Render templates of a CAD file.")
    parser.add_argument("cad_path", help="the CAD file, an absolute path on the server")
    parser.add_argument("output_dir", help="the folder for the templates, an absolute path on the server")
    parser.add_argument("--server", default="http://127.0.0.1:8004")
    options = parser.parse_args()
    order = {"cad_path": options.cad_path, "output_dir": options.output_dir}
    job_id = call(f"{options.server}/render/templates", order)["job_id"]
    print(f"job {job_id}")
    while (record := call(f"{options.server}/jobs/{job_id}"))["status"] in ("queued", "running"):
        time.sleep(POLL_S)
    if record["status"] != "succeeded":
        print(f"failed: {record['error']}\nthe log is {record['log_path']}", file=sys.stderr)
        return 1
    print(f"templates in {record['templates_dir']} after {record['elapsed_sec']} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
