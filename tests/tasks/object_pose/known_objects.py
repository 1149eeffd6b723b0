"""Shapes whose poses and symmetries are known, prepared once, and bare pictures of them before a wall."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gnomon.evaluation import pose_errors
from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.view import draw_view, prepare_view
from gnomon.tasks.object_pose.prepare import PoseModel, prepare
from gnomon.tasks.synthetic.shapes import Shape, make_shape
from gnomon.tasks.synthetic.trials import Trial, make_trial

CAMERA = Camera(fx=290.0, fy=291.0, cx=160.3, cy=119.1, width=320, height=240)


class Picture(NamedTuple):
    rgb: np.ndarray
    depth_m: np.ndarray
    mask: np.ndarray


@functools.cache
def prepared(name: str) -> PoseModel:
    """With the true symmetries, because to find them takes most of the time."""
    shape = make_shape(name)
    return prepare(shape.mesh, symmetries=shape.symmetries)


@functools.cache
def trial_of(name: str, seed: int, mask_mode: str = "standard", bias_m: float = 0.0) -> Trial:
    return make_trial(make_shape(name), seed, mask_mode=mask_mode, depth_bias_m=bias_m)


def look(mesh: Mesh, T_cam_obj: np.ndarray, *, camera: Camera = CAMERA, wall_m: float = 1.2) -> Picture:
    """The mesh without any fault before a wall that faces the camera."""
    view = draw_view(prepare_view(mesh), T_cam_obj, camera)
    mask = view.depth_m > 0
    rgb = np.where(mask[..., None], view.rgb, np.uint8(90)).astype(np.uint8)
    return Picture(rgb, np.where(mask, view.depth_m, np.float32(wall_m)), mask)


def pose(turn: tuple[float, float, float], shift_m: tuple[float, float, float]) -> np.ndarray:
    """T_cam_obj of a rotation vector in radians and a translation."""
    return se3.se3(se3.so3_exp(np.array(turn)), np.array(shift_m))


def off(shape: Shape, T_cam_obj: np.ndarray, T_true: np.ndarray) -> float:
    """MSSD in diameters."""
    used = shape.mesh.vertices[np.unique(shape.mesh.faces)]
    d = float(np.linalg.norm(np.ptp(used, axis=0)))
    return pose_errors.mssd(T_cam_obj, T_true, used, shape.symmetries.transforms(0.02)) / d


def moved(mesh: Mesh, T: np.ndarray) -> Mesh:
    return replace(mesh, vertices=se3.apply(T, mesh.vertices))
