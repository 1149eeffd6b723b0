"""The scene that templates are pictures of: scale, camera, light, and what one view consists of.

One scene unit is one Blender unit of the reference renderer. Cameras stand 2 units from the object's origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float16, Float32, UInt8

from gnomon.errors import InputError
from gnomon.geometry.mesh import Mesh

CAMERA_RADIUS = 2.0
NEAR = 0.1
FAR = 1000.0

LIGHT_RADIUS = 5.0
"""The lamp stands behind the camera: 2.5 times its position."""
LIGHT_POWER_W = 1000.0
AMBIENT_LINEAR = 0.05
BACKGROUND_LINEAR = 0.05

XYZ_LIMIT = 65504.0
"""Largest float16."""


@dataclass(frozen=True)
class RenderOptions:
    """What to draw and how; the defaults are those of the SAM-6D templates."""

    size: int = 512
    normalize: bool = True
    """Scale the object into a ball of radius 0.5 about the file's origin."""
    colorize: bool = False
    """Paint the object in a grey of `base_color` (linear) instead of its own colours."""
    base_color: float = 0.05
    supersample: int = 2
    """Colour samples per pixel and axis, 1 to 4; the other maps are sampled in the pixel's centre."""
    transparent: bool = False
    """A fourth channel with the object's coverage instead of the grey world."""
    depth: bool = False
    normals: bool = False
    samples: int = 50
    """Rays per pixel of a path tracer; the rasteriser has no use for it."""


@dataclass(frozen=True)
class TemplateView:
    """One picture of the object and the maps that belong to it; row 0 is the top."""

    rgb: UInt8[np.ndarray, "H W C"]
    """sRGB, 3 channels or, with `transparent`, 4."""
    mask: UInt8[np.ndarray, "H W"]
    """255 on the object, else 0."""
    xyz: Float16[np.ndarray, "H W 3"]
    """Coordinates in the file's axes and unit; -1 off the object."""
    depth: Float32[np.ndarray, "H W"] | None = None
    """Depth along the optical axis in the file's unit; 0 off the object."""
    normal: Float16[np.ndarray, "H W 3"] | None = None
    """Unit normals in the file's axes, towards the camera; 0 off the object."""


def scene_scale(mesh: Mesh, normalize: bool) -> float:
    """Scene units per file unit: 1 / (2 r), r the largest absolute coordinate of the bounding box's corners.

    Seen from the file's origin, not from the box's centre: an object far from its origin comes out small.
    """
    if not normalize:
        return 1.0
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    r = float(max(_length(low), _length(high)))
    return 1.0 / (2.0 * r) if r > 0 else 1.0


def camera_matrix(size: int) -> Float[np.ndarray, "3 3"]:
    """K for a square picture of `size` pixels; pixel centres at integer coordinates."""
    f = 711.1113 * size / 512
    c = (size - 1) / 2
    return np.array([[f, 0, c], [0, f, c], [0, 0, 1]])


def check_xyz_range(mesh: Mesh) -> None:
    """Raise InputError xyz_overflow if a coordinate does not fit float16, the type of the xyz maps."""
    largest = float(np.abs(mesh.vertices).max())
    # Values up to half a step above the largest half would still round down to it; not worth the doubt.
    if largest > XYZ_LIMIT:
        raise InputError(
            f"a coordinate of {largest:g} does not fit the 16-bit xyz maps",
            code="xyz_overflow",
            field="mesh",
            value=largest,
            expected=f"coordinates between -{XYZ_LIMIT:g} and {XYZ_LIMIT:g} in the file's unit",
            fix="save the mesh in a larger unit (metres rather than millimetres) or move it to its origin",
        )


def light_strength() -> float:
    """Radiance of a white surface that faces the lamp at distance 1, in scene units."""
    return LIGHT_POWER_W / (4 * math.pi**2)


def _length(corner: Float[np.ndarray, " 3"]) -> float:
    x, y, z = (float(value) for value in corner)
    return math.sqrt(x * x + y * y + z * z)
