"""Small RGB-D scenes with known poses for the tests of object-pose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gnomon.formats.mesh_file import load_mesh
from gnomon.geometry.view import prepare_view
from gnomon.tasks.object_pose import demo


def write_scene(folder: Path, frames: int = 3) -> dict[str, Any]:
    """The demo's mug on its table: fields for `ObjectPose`, and truth.json beside the files."""
    mesh = load_mesh(demo.mug_file()).scaled(0.001)
    view = prepare_view(mesh)
    for name in ("rgb", "depth", "mask"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    truth = []
    for index in range(frames):
        frame = demo.draw_frame(view, mesh, index)
        Image.fromarray(frame.rgb).save(folder / "rgb" / f"{index:06d}.png")
        save_depth(folder / "depth" / f"{index:06d}.png", frame.depth_m)
        Image.fromarray(frame.mask.astype(np.uint8) * 255).save(folder / "mask" / f"{index:06d}.png")
        truth.append(frame.T_cam_obj.tolist())
    camera = {name: getattr(demo.CAMERA, name) for name in ("fx", "fy", "cx", "cy")}
    (folder / "camera.json").write_text(json.dumps(camera))
    (folder / "truth.json").write_text(json.dumps(truth))
    return {
        "rgb": [str(path) for path in sorted((folder / "rgb").iterdir())],
        "depth": [str(path) for path in sorted((folder / "depth").iterdir())],
        "mask": [str(folder / "mask" / "000000.png")],
        "mesh": [str(demo.mug_file())],
        "camera": str(folder / "camera.json"),
    }


def save_depth(path: Path, depth_m: np.ndarray) -> Path:
    """16-bit PNG in millimetres."""
    Image.fromarray(np.round(depth_m * 1000).astype(np.uint16)).save(path)
    return path


def rotation_error_deg(T_a: np.ndarray, T_b: np.ndarray) -> float:
    cosine = (np.trace(T_a[:3, :3].T @ T_b[:3, :3]) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
