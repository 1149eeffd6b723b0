"""Requests to the old pose API: a seeded synthetic scene as its clients would send it, and the true poses."""

from __future__ import annotations

import base64
import functools
import io
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from gnomon.geometry.camera import Camera
from gnomon.geometry.mesh import Mesh
from gnomon.tasks.synthetic.sequences import make_sequence
from gnomon.tasks.synthetic.shapes import make_shape

CAMERA = Camera(fx=286.2, fy=286.8, cx=162.6, cy=121.0, width=320, height=240)
SHAPE = "kettle"
SEED = 5


@dataclass(frozen=True)
class PoseScene:
    """A request's body and the answer that is right."""

    body: dict[str, Any]
    truth: list[np.ndarray]

    def with_names(self, *names: str) -> dict[str, Any]:
        """The body with other file names, of which there may be fewer."""
        images = [
            image | {"filename": name} for image, name in zip(self.body["images"][: len(names)], names, strict=True)
        ]
        return self.body | {"images": images}


@functools.cache
def pose_scene(frames: int = 3) -> PoseScene:
    sequence = make_sequence(
        make_shape(SHAPE), SEED, n_frames=frames, occlusions=False, clutter=2, mask_mode="exact", camera=CAMERA
    )
    images, truth = [], []
    for index in range(frames):
        frame = sequence.frame(index)
        depth_mm = np.round(frame.depth_m * 1000).astype(np.uint16)
        images.append({"filename": f"frame{index}", "rgb": png64(frame.rgb), "depth": png64(depth_mm)})
        truth.append(frame.T_cam_obj)
    body = {
        "camera_matrix": [[CAMERA.fx, 0, CAMERA.cx], [0, CAMERA.fy, CAMERA.cy], [0, 0, 1]],
        "images": images,
        "mask": png64(sequence.mask.astype(np.uint8) * 255),
        "mesh": to_base64(ply_of(make_shape(SHAPE).mesh, 1000.0)),
        "depthscale": 0.001,
    }
    return PoseScene(body, truth)


def small_body() -> dict[str, Any]:
    """Right in every field, with nothing to see: for requests that are refused, or whose job fails."""
    grey = np.full((12, 16), 90, np.uint8)
    depth = np.full((12, 16), 800, np.uint16)
    image = {"filename": "000001", "rgb": png64(np.dstack([grey] * 3)), "depth": png64(depth)}
    cube = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    cube += "element face 4\nproperty list uchar int vertex_indices\nend_header\n"
    cube += "0 0 0\n50 0 0\n0 50 0\n0 0 50\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
    return {
        "camera_matrix": [[20, 0, 8], [0, 20, 6], [0, 0, 1]],
        "images": [image],
        "mask": png64(np.eye(12, 16, dtype=np.uint8)),
        "mesh": to_base64(cube.encode()),
    }


def png64(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return to_base64(stream.getvalue())


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png_that_promises(width: int, height: int) -> bytes:
    """A PNG header with nothing behind it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def ply_of(mesh: Mesh, scale: float) -> bytes:
    """A binary PLY with vertex colours, its coordinates times `scale`."""
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(mesh.vertices)}\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz")
    header += "".join(f"property uchar {channel}\n" for channel in ("red", "green", "blue"))
    header += f"element face {len(mesh.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    vertices = np.empty(len(mesh.vertices), [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    vertices["xyz"] = mesh.vertices * scale
    vertices["rgb"] = 150 if mesh.vertex_rgb is None else mesh.vertex_rgb
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    return header.encode() + vertices.tobytes() + faces.tobytes()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()
