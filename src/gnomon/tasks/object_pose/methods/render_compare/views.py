"""Cameras all around an object."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from gnomon.geometry import se3
from gnomon.geometry.camera import Camera

VIEW_DISTANCE = 6.0
"""Diameters between object and camera: far enough for one set of visible points to serve all distances."""


def fibonacci_sphere(count: int) -> Float64[np.ndarray, "count 3"]:
    """Unit directions spread evenly over the sphere."""
    i = np.arange(count) + 0.5
    z = 1 - 2 * i / count
    angle = np.pi * (1 + np.sqrt(5)) * i
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=-1)


def view_poses(count: int, distance_m: float) -> Float64[np.ndarray, "count 4 4"]:
    """T_cam_obj of cameras on a sphere that look at the object's centre."""
    from_object = fibonacci_sphere(count)
    z = -from_object
    up = np.where(np.abs(z[:, 2:]) < 0.95, np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]))
    x = np.cross(up, z)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    R = np.stack([x, np.cross(z, x), z], axis=-2)
    return se3.se3(R, np.array([0.0, 0.0, distance_m]))


def view_camera(size: int) -> Camera:
    """A camera in which the object at VIEW_DISTANCE diameters fills nine tenths of the picture."""
    focal = 0.9 * size * VIEW_DISTANCE
    return Camera(focal, focal, size / 2 - 0.5, size / 2 - 0.5, size, size)
