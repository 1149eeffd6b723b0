"""What stands around and in front of the object: a support, a wall, clutter and occluders.

Bodies come from small pools that are made once; size is varied by the pool, colour by a tint.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float64, UInt8

from gnomon.geometry import se3
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.view import ViewMesh, prepare_view
from gnomon.tasks.synthetic.labels import label
from gnomon.tasks.synthetic.parts import arc, box, cylinder, ellipsoid, joined, moved, revolve, tube

_BACKDROPS = 12
_BACKDROP_HALF_M = 6.0
_TILES = 24
"""Repetitions of a backdrop's picture along a side: one each half metre."""
_OCCLUDER_SIZES_M = (0.04, 0.06, 0.09, 0.13, 0.19, 0.28)


@dataclass(frozen=True, eq=False)
class Body:
    """Something that can stand on the support: z is up in its frame."""

    prepared: ViewMesh
    vertices_m: Float64[np.ndarray, "V 3"]
    radius_m: float
    """Of the sphere about the frame's origin that holds it."""


def random_rotation(rng: np.random.Generator) -> Float64[np.ndarray, "3 3"]:
    """Uniformly distributed over all rotations."""
    quat = rng.normal(size=4)
    return se3.rotation_from_quat(quat / np.linalg.norm(quat))


def random_tint(rng: np.random.Generator) -> Float64[np.ndarray, " 3"]:
    """A colour to multiply with, neither black nor too dark."""
    return rng.uniform(0.25, 1.0, 3) * rng.uniform(0.7, 1.0)


def frame_on_plane(
    up_cam: Float[np.ndarray, " 3"], point_cam: Float[np.ndarray, " 3"], turn_rad: float
) -> Float64[np.ndarray, "4 4"]:
    """T_cam_plane of a frame whose z axis is `up_cam`, turned about it."""
    across = np.cross(up_cam, (1.0, 0, 0) if abs(up_cam[0]) < 0.8 else (0, 1.0, 0))
    across /= np.linalg.norm(across)
    level = np.stack((across, np.cross(up_cam, across), up_cam), axis=-1)
    return se3.se3(level @ se3.so3_exp(np.array([0, 0, turn_rad])), point_cam)


def backdrop(rng: np.random.Generator) -> ViewMesh:
    """A large square in the plane z = 0 with a printed, grained or speckled surface."""
    return _backdrop(int(rng.integers(_BACKDROPS)))


def clutter_body(rng: np.random.Generator) -> Body:
    """One of the pool's things of 4 to 18 cm."""
    pool = _clutter_pool()
    return pool[rng.integers(len(pool))]


def standing(
    body: Body, T_cam_support: Float[np.ndarray, "4 4"], free_m: float, rng: np.random.Generator
) -> Float64[np.ndarray, "4 4"]:
    """T_cam_body of a thing that stands or lies on the support near its origin, outside a circle of `free_m`."""
    R = se3.so3_exp(np.array([0, 0, rng.uniform(0, 2 * np.pi)]))
    if rng.random() < 0.4:
        # Lying: half a right angle more or less would stand on an edge, which things in a heap do.
        R = R @ se3.so3_exp(np.array([rng.choice((np.pi / 2, rng.uniform(0.2, 1.3))), 0, 0]))
    turned = body.vertices_m @ R.T
    width_m = float(np.hypot(turned[:, 0], turned[:, 1]).max())
    direction, reach_m = rng.uniform(0, 2 * np.pi), (free_m + width_m) * rng.uniform(0.8, 1.3)
    place = np.array([reach_m * np.cos(direction), reach_m * np.sin(direction), -turned[:, 2].min()])
    return T_cam_support @ se3.se3(R, place)


def occluder_body(rng: np.random.Generator, size_m: float) -> Body:
    """A bar, slab or ball about as long as `size_m`."""
    nearest = min(_OCCLUDER_SIZES_M, key=lambda size: abs(size - size_m))
    pool = _occluder_pool(nearest)
    return pool[rng.integers(len(pool))]


@functools.cache
def _backdrop(index: int) -> ViewMesh:
    half = _BACKDROP_HALF_M
    corners = np.array([(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)])
    uv = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * float(_TILES)
    square = Mesh(
        vertices=corners,
        faces=np.array([(0, 1, 2), (0, 2, 3)]),
        uv=uv,
        face_texture=np.zeros(2, int),
        textures=(_surface_picture(index),),
    )
    return prepare_view(square)


def _surface_picture(index: int) -> UInt8[np.ndarray, "256 256 3"]:
    """A picture that continues across its borders: clouds, with a grain in one direction or print on top."""
    import cv2

    rng = np.random.default_rng([7, index])
    size = 256
    clouds = np.zeros((size, size, 3), np.float32)
    for spread in rng.uniform(2, 16, 2):
        along = spread * (8 if index % 3 == 1 else 1)
        noise = np.tile(rng.standard_normal((size, size, 3), np.float32), (3, 3, 1))
        smooth = cv2.GaussianBlur(noise, (0, 0), sigmaX=along, sigmaY=spread)[size : 2 * size, size : 2 * size]
        clouds += smooth / smooth.std()
    # Mostly one hue, as of wood or cloth, with some of each channel's own.
    clouds = 0.8 * clouds.mean(axis=-1, keepdims=True) + 0.3 * clouds
    colour = rng.uniform(90, 220) + rng.uniform(-35, 35, 3)
    picture = np.clip(colour + rng.uniform(8, 30) * clouds, 0, 255).astype(np.uint8)
    if index % 3 == 2:
        printed = label(100 + index, size, size, patches=18)
        picture = np.where((printed != printed[0, 0]).any(axis=-1, keepdims=True), printed, picture)
    return picture


@functools.cache
def _clutter_pool() -> tuple[Body, ...]:
    rng = np.random.default_rng(11)
    meshes = [box(rng.uniform(0.03, 0.13, 3).tolist()) for _ in range(8)]
    meshes += [cylinder(rng.uniform(0.02, 0.05), rng.uniform(0.04, 0.16), 32) for _ in range(6)]
    meshes += [ellipsoid(rng.uniform(0.02, 0.05, 3).tolist(), 24) for _ in range(2)]
    meshes.append(revolve([(0, 0), (0.045, 0), (0.005, 0.1), (0, 0.1)], 32))
    meshes.append(tube(arc(0.045), 0.014, 16, ring=True))
    meshes.append(revolve([(0, 0), (0.04, 0), (0.055, 0.07), (0.05, 0.07), (0.036, 0.004), (0, 0.004)], 32))
    meshes.append(joined(box((0.12, 0.03, 0.015)), box((0.03, 0.03, 0.08), (0.045, 0, 0.03))))
    meshes.append(joined(cylinder(0.012, 0.14, 24), moved(cylinder(0.03, 0.03, 24), (0, 0, 0.07))))
    bottle = [(0, 0), (0.03, 0), (0.03, 0.1), (0.012, 0.13), (0.012, 0.16), (0, 0.16)]
    meshes += [revolve(bottle, 32), tube(np.array([(-0.07, 0, 0), (0, 0.01, 0.0), (0.07, -0.02, 0)]), 0.008, 12)]
    return tuple(_body(mesh) for mesh in meshes)


@functools.cache
def _occluder_pool(size_m: float) -> tuple[Body, ...]:
    slabs = [box((1, width, 0.08)) for width in (0.2, 0.35, 0.5, 0.8)]
    bars = [cylinder(radius, 1.6, 32) for radius in (0.08, 0.16)]
    balls = [ellipsoid((0.5, 0.5, 0.5)), ellipsoid((0.5, 0.3, 0.25))]
    return tuple(_body(mesh.scaled(size_m)) for mesh in (*slabs, *bars, *balls))


def _body(mesh: Mesh) -> Body:
    mesh = replace(mesh, vertices=np.asarray(mesh.vertices, np.float64))
    return Body(prepare_view(mesh), mesh.vertices, float(np.linalg.norm(mesh.vertices, axis=-1).max()))
