"""Send pictures, a mask and a mesh to the pose API, and print the pose.

    python examples/pose_api_client.py --rgb rgb/*.png --depth depth/*.png --mask mask.png --mesh mug.ply \
        --camera 460 460 239.5 179.5 [--url http://127.0.0.1:5000] [--frames all] [--save request.json]

It needs nothing but Python. Set GNOMON_TOKEN where the server wants a token.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path


def request_body(options: argparse.Namespace) -> dict:
    """What POST /foundationpose takes: depth 16-bit PNG in millimetres, mesh PLY in millimetres."""
    fx, fy, cx, cy = options.camera
    pairs = zip(sorted(options.rgb), sorted(options.depth), strict=True)
    return {
        "camera_matrix": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]],
        "images": [{"filename": rgb.stem, "rgb": text(rgb), "depth": text(depth)} for rgb, depth in pairs],
        "mask": text(options.mask),
        "mesh": text(options.mesh),
    }


def text(path: Path) -> str:
    """A file as base64 in one line."""
    return base64.b64encode(path.read_bytes()).decode()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rgb", type=Path, nargs="+", required=True)
    parser.add_argument("--depth", type=Path, nargs="+", required=True)
    parser.add_argument("--mask", type=Path, required=True, help="of the first frame")
    parser.add_argument("--mesh", type=Path, required=True)
    parser.add_argument("--camera", type=float, nargs=4, required=True, metavar=("FX", "FY", "CX", "CY"))
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--frames", choices=("first", "all"), default="first")
    parser.add_argument("--save", type=Path, help="write the request here, for curl, instead of sending it")
    options = parser.parse_args()

    body = json.dumps(request_body(options)).encode()
    if options.save:
        options.save.write_bytes(body)
        return 0
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("GNOMON_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(f"{options.url}/foundationpose?frames={options.frames}", body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        refusal = json.load(error)
        print(f"{error.code} {refusal['error']}: {refusal['details']}", file=sys.stderr)
        return 1
    for name, matrix, state, score in zip(
        found["filenames"], found["transformation_matrices"], found["states"], found["scores"], strict=True
    ):
        print(f"{name}: {state}, score {score:.2f}")
        for row in matrix or []:
            print("  " + " ".join(f"{value:10.6f}" for value in row))
    print(f"saved as {found['request_id']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
