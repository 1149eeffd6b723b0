"""The demo of `object-pose`: the mug that ships with gnomon on a table, seen by a depth camera that moves around it."""

from __future__ import annotations

import json
import math
import shutil
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from gnomon import atomic
from gnomon.formats.mesh_file import load_mesh
from gnomon.formats.png import write_png
from gnomon.geometry.camera import Camera
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.view import ViewMesh, draw_view, prepare_view
from gnomon.tasks.object_pose.spec import ObjectPose

FRAMES = 20
CAMERA = Camera(fx=460.0, fy=460.0, cx=239.5, cy=179.5, width=480, height=360)
DISTANCE_M = 0.55
TURN_RAD = math.radians(70)
"""How far the camera goes around the mug."""
NOISE_M = 0.0012
LIGHT = np.array([0.4, -0.7, -0.6]) / np.linalg.norm([0.4, -0.7, -0.6])
"""Towards the light, in the camera's frame."""


class DemoFrame(NamedTuple):
    """One picture and where the mug is in it."""

    rgb: UInt8[np.ndarray, "H W 3"]
    depth_m: Float32[np.ndarray, "H W"]
    mask: Bool[np.ndarray, "H W"]
    T_cam_obj: Float64[np.ndarray, "4 4"]


def mug_file() -> Path:
    return Path(str(files("gnomon") / "data" / "mug.ply"))


def spec(inputs: Path) -> ObjectPose:
    """What to run; the sequence is drawn into the folder `inputs` first."""
    mesh = load_mesh(mug_file()).scaled(0.001)
    for name in ("rgb", "depth"):
        (inputs / name).mkdir(parents=True, exist_ok=True)
    view, truth = prepare_view(mesh), {}
    for index in range(FRAMES):
        frame = draw_frame(view, mesh, index)
        write_png(inputs / "rgb" / f"{index:06d}.png", frame.rgb)
        _write_depth(inputs / "depth" / f"{index:06d}.png", frame.depth_m)
        truth[f"{index:06d}"] = frame.T_cam_obj.tolist()
        if index == 0:
            write_png(inputs / "mask.png", frame.mask.astype(np.uint8) * 255)
    shutil.copyfile(mug_file(), inputs / "mug.ply")
    camera = {name: getattr(CAMERA, name) for name in ("fx", "fy", "cx", "cy", "width", "height")}
    atomic.write_json(inputs / "camera.json", camera)
    atomic.write_text(inputs / "truth.json", json.dumps(truth))
    return ObjectPose.parse(
        rgb=sorted(map(str, (inputs / "rgb").glob("*.png"))),
        depth=sorted(map(str, (inputs / "depth").glob("*.png"))),
        mask=str(inputs / "mask.png"),
        mesh=str(inputs / "mug.ply"),
        camera=str(inputs / "camera.json"),
        fps=10.0,
    )


def what_next(folder: Path) -> list[str]:
    """Lines for the user once the demo has run."""
    inputs = folder.parent / "inputs" / folder.name
    return [
        f"look at:   {folder / 'report.html'} and {folder / 'overlay.webm'}",
        f"the files: {folder / 'poses.json'}, poses.csv, ob_in_cam/000000.txt ...",
        f"the input: {inputs}; truth.json there has the true poses",
        "try next:  gnomon object-pose --rgb RGB... --depth DEPTH... --mask MASK --mesh MESH --camera JSON -o out",
    ]


def warm_up_scene() -> tuple[Mesh, np.ndarray, np.ndarray, np.ndarray, Camera]:
    """Mesh (metres), colour, depth (metres), mask and camera of one frame."""
    mesh = load_mesh(mug_file()).scaled(0.001)
    frame = draw_frame(prepare_view(mesh), mesh, 0)
    return mesh, frame.rgb, frame.depth_m, frame.mask, CAMERA


def draw_frame(view: ViewMesh, mesh: Mesh, index: int) -> DemoFrame:
    """The mug on a table at one step of the camera's way, with the noise of a depth camera."""
    T_cam_obj = _pose(mesh, index)
    seen = draw_view(view, T_cam_obj, CAMERA)
    assert seen.rgb is not None
    table_m, table_rgb = _table(mesh, T_cam_obj)
    mask = (seen.depth_m > 0) & ((table_m <= 0) | (seen.depth_m < table_m))
    depth_m = np.where(mask, seen.depth_m, table_m)
    shade = 0.45 + 0.55 * np.clip(seen.normal_cam @ LIGHT, 0, 1)
    rgb = np.where(mask[..., None], seen.rgb * shade[..., None], table_rgb)
    rng = np.random.default_rng(index)
    rgb = np.clip(rgb + rng.normal(0, 3, rgb.shape), 0, 255).astype(np.uint8)
    return DemoFrame(rgb, _measured(depth_m, rng), mask, T_cam_obj)


def _pose(mesh: Mesh, index: int) -> Float64[np.ndarray, "4 4"]:
    """The camera looks down at the mug's middle from a way around it that rises a little; z of the mug is up."""
    along = index / (FRAMES - 1)
    azimuth, height = 0.5 + along * TURN_RAD, math.radians(28 + 14 * along)
    backwards = np.array([math.cos(azimuth) * math.cos(height), math.sin(azimuth) * math.cos(height), math.sin(height)])
    z = -backwards
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    R_cam_obj = np.stack([x, np.cross(z, x), z])
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    T = np.eye(4)
    T[:3, :3] = R_cam_obj
    T[:3, 3] = -R_cam_obj @ middle + [0.02 - 0.04 * along, 0.01, DISTANCE_M + 0.1 * along]
    return T


def _table(mesh: Mesh, T_cam_obj: Float64[np.ndarray, "4 4"]) -> tuple[np.ndarray, np.ndarray]:
    """Depth and colour of a chequered table under the mug; 0 beyond its edge."""
    rays = CAMERA.rays()
    up_cam = T_cam_obj[:3, 2]
    below = T_cam_obj[:3, :3] @ np.array([0, 0, mesh.vertices[:, 2].min()]) + T_cam_obj[:3, 3]
    slope = rays @ up_cam
    with np.errstate(divide="ignore", invalid="ignore"):
        depth_m = np.where(slope < -1e-6, (up_cam @ below) / slope, 0.0)
    at = (rays * depth_m[..., None] - T_cam_obj[:3, 3]) @ T_cam_obj[:3, :3]
    depth_m[(depth_m <= 0) | (np.abs(at[..., :2]).max(axis=-1) > 0.5)] = 0
    chequer = (np.floor(at[..., 0] / 0.06) + np.floor(at[..., 1] / 0.06)) % 2
    grey = np.where(depth_m > 0, 120 + 50 * chequer, 45)
    return depth_m, grey[..., None] * np.array([1.0, 0.93, 0.82])


def _measured(depth_m: np.ndarray, rng: np.random.Generator) -> Float32[np.ndarray, "H W"]:
    """What a depth camera makes of it: noise that grows with the square of the distance, holes at edges."""
    noisy = depth_m + rng.normal(0, NOISE_M, depth_m.shape) * depth_m**2 / DISTANCE_M**2
    jump = np.zeros(depth_m.shape, bool)
    for axis in (0, 1):
        jump |= np.abs(depth_m - np.roll(depth_m, 1, axis=axis)) > 0.02
    noisy[(depth_m <= 0) | (jump & (rng.random(depth_m.shape) < 0.5))] = 0
    return noisy.astype(np.float32)


def _write_depth(path: Path, depth_m: Float32[np.ndarray, "H W"]) -> None:
    """16-bit PNG in millimetres."""
    from PIL import Image

    Image.fromarray(np.round(depth_m * 1000).astype(np.uint16)).save(path)
