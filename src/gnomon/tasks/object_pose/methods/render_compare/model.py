"""What is prepared once a mesh: a light mesh to draw, point sets seen from all sides, colours by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int32, UInt8

from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.orientation import outward_flips
from gnomon.geometry.symmetry import Axis, Symmetries
from gnomon.geometry.view import View, ViewMesh, draw_view, prepare_view
from gnomon.tasks.object_pose.methods.render_compare.observation import LUMA
from gnomon.tasks.object_pose.methods.render_compare.simplify import simplify
from gnomon.tasks.object_pose.methods.render_compare.symmetry_search import find_symmetries
from gnomon.tasks.object_pose.methods.render_compare.views import (
    VIEW_DISTANCE,
    fibonacci_sphere,
    view_camera,
    view_poses,
)

N_VIEWS = 162
N_POINTS = 256
VIEW_SIZE = 96
FEWEST_PIXELS = 24
"""A direction from which less is seen, such as a sheet from its edge, makes no template."""

GRAZING = 0.2
"""Points on surfaces seen more obliquely than this cosine are not used where there are others."""

COLOUR_CELLS = 96
TEXTURED = 0.06
"""Spread (standard deviation) of brightness or chromaticity above which an object counts as textured."""


class PointModel(NamedTuple):
    """Visible points from V directions, object frame about the centre, metres."""

    points: Float32[np.ndarray, "V 3 n"]
    normals: Float32[np.ndarray, "V 3 n"]
    luma: Float32[np.ndarray, "V n"]
    R_cam_obj: Float64[np.ndarray, "V 3 3"]
    centres: Float64[np.ndarray, "2 V 3"]
    """Of the visible points in the view's axes: x, y mean; z median, and z 15th percentile."""


class Shape(NamedTuple):
    """The light mesh, object frame about the centre, metres."""

    vertices: Float32[np.ndarray, "3 v"]
    faces: Int32[np.ndarray, "f 3"]
    normals: Float32[np.ndarray, "3 f"]
    closed: bool
    """No triangle that faces away can be seen."""
    mean_square_radius: float
    colours: UInt8[np.ndarray, "c c c 3"]
    """The surface's colour by place, sRGB; of one cell for an object without texture."""
    low: Float64[np.ndarray, " 3"]
    cells_per_m: float


@dataclass(frozen=True, eq=False)
class PoseModel:
    """A mesh made ready for `estimate` and `Tracker`; may be shared by threads."""

    centre: Float64[np.ndarray, " 3"]
    """Centre of the bounding box, mesh frame, metres; the arrays below are relative to it."""
    diameter_m: float
    """Largest distance between two points of the surface."""
    symmetries: Symmetries
    textured: bool
    points: PointModel
    shape: Shape
    symmetry_R: Float64[np.ndarray, "M 3 3"]
    symmetry_t: Float64[np.ndarray, "M 3"]
    """The symmetries about the centre, identity first, axes in steps of 10 degrees."""
    near_symmetry_R: Float64[np.ndarray, "K 3 3"]
    near_symmetry_t: Float64[np.ndarray, "K 3"]
    """Motions about the centre after which the object looks nearly, but not quite, the same."""
    marks: Float64[np.ndarray, "k 3"]
    """A few far-out points of the surface that stand for it when poses are compared."""
    warnings: tuple[str, ...] = ()


def build(mesh: Mesh, symmetries: Symmetries | None) -> PoseModel:
    """Prepare a mesh in metres. With None its symmetries are looked for."""
    used = mesh.vertices[np.unique(mesh.faces)]
    centre = (used.min(axis=0) + used.max(axis=0)) / 2
    mesh = _moved(mesh, -centre)
    diameter_m = surface_diameter(used)
    drawn = prepare_view(mesh)
    T_views = view_poses(N_VIEWS, VIEW_DISTANCE * diameter_m)
    camera = view_camera(VIEW_SIZE)
    views = [draw_view(drawn, T, camera) for T in T_views]
    textured = _is_textured(views)
    points = _points(views, T_views, camera)
    vertices, faces, warnings = simplify(mesh, drawn, diameter_m)
    colours, low, cells = _colours(drawn, diameter_m, mesh) if textured else (_NO_COLOURS, np.zeros(3), 0.0)
    found = find_symmetries(*_surface_samples(views, T_views, camera, textured), diameter_m, _area_centroid(mesh))
    if symmetries is None:
        symmetries = _shifted(found.symmetries, centre)
    transforms = symmetries.transforms(max_step=2 * np.pi * 0.5 / 36)
    to_centre = se3.se3(np.eye(3), -centre)
    about = to_centre @ transforms @ se3.inverse(to_centre)
    return PoseModel(
        centre=centre,
        diameter_m=diameter_m,
        symmetries=symmetries,
        textured=textured,
        points=points,
        shape=_shape(vertices, faces, colours, low, cells),
        symmetry_R=np.ascontiguousarray(about[:, :3, :3]),
        symmetry_t=np.ascontiguousarray(about[:, :3, 3]),
        near_symmetry_R=found.near_R,
        near_symmetry_t=found.near_t,
        marks=_marks(vertices.astype(np.float64)),
        warnings=(*mesh.warnings, *warnings),
    )


def _surface_samples(
    views: list[View], T_views: Float64[np.ndarray, "V 4 4"], camera: Camera, textured: bool
) -> tuple[Float64[np.ndarray, "N 3"], Float64[np.ndarray, "N 3"], Float64[np.ndarray, "N 3"] | None]:
    """Points, normals and, if they count, colours of all that is seen in the views not too obliquely."""
    points, normals, colours = [], [], []
    for view, T in zip(views, T_views, strict=True):
        seen, xyz = _visible(view, T, camera)
        normal_cam = view.normal_cam[seen]
        frontal = np.abs(normal_cam[:, 2]) > 0.4
        points.append(xyz[frontal])
        normals.append(normal_cam[frontal].astype(np.float64) @ T[:3, :3])
        if textured and view.rgb is not None:
            colours.append(view.rgb[seen][frontal] / 255)
    rgb = np.concatenate(colours) if textured else None
    return np.concatenate(points), np.concatenate(normals), rgb


def _area_centroid(mesh: Mesh) -> Float64[np.ndarray, " 3"]:
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1, keepdims=True)
    return (area * (a + b + c)).sum(axis=0) / (3 * max(float(area.sum()), 1e-30))


def _shifted(symmetries: Symmetries, shift_m: Float64[np.ndarray, " 3"]) -> Symmetries:
    """The same symmetries in a frame in which the object lies `shift_m` farther from the origin."""
    away = se3.se3(np.eye(3), shift_m)
    discrete = away @ symmetries.discrete @ se3.inverse(away)
    axes = tuple(Axis(axis.direction, axis.offset_m + shift_m) for axis in symmetries.continuous)
    return Symmetries(discrete, axes)


_NO_COLOURS = np.zeros((1, 1, 1, 3), np.uint8)


def _moved(mesh: Mesh, shift: Float[np.ndarray, " 3"]) -> Mesh:
    from dataclasses import replace

    return replace(mesh, vertices=mesh.vertices + shift)


def surface_diameter(points: Float[np.ndarray, "N 3"]) -> float:
    """The largest distance between two of the points.

    Only points that are extreme in one of many directions can be ends of it, to within a hundredth of a percent.
    """
    directions = fibonacci_sphere(1500)[:750]
    extreme = set()
    for start in range(0, len(directions), 50):
        along = points @ directions[start : start + 50].T
        extreme.update(along.argmax(axis=0).tolist())
        extreme.update(along.argmin(axis=0).tolist())
    ends = points[sorted(extreme)]
    square = ((ends[:, None] - ends[None]) ** 2).sum(axis=-1)
    return float(np.sqrt(square.max()))


def _visible(
    view: View, T_cam_obj: Float64[np.ndarray, "4 4"], camera: Camera
) -> tuple[Bool[np.ndarray, "S S"], Float64[np.ndarray, "n 3"]]:
    seen = view.depth_m > 0
    points_cam = (camera.rays() * view.depth_m[..., None])[seen]
    return seen, (points_cam - T_cam_obj[:3, 3]) @ T_cam_obj[:3, :3]


def _points(views: list[View], T_views: Float64[np.ndarray, "V 4 4"], camera: Camera) -> PointModel:
    rng = np.random.default_rng(0)
    points, normals, luma, rotations, centres = [], [], [], [], []
    for view, T in zip(views, T_views, strict=True):
        seen, xyz = _visible(view, T, camera)
        if len(xyz) < FEWEST_PIXELS:
            continue
        R = T[:3, :3]
        normal_cam = view.normal_cam[seen]
        usable = np.flatnonzero(np.abs(normal_cam[:, 2]) > GRAZING)
        if len(usable) < FEWEST_PIXELS:
            usable = np.arange(len(xyz))
        chosen = rng.choice(usable, N_POINTS, replace=len(usable) < N_POINTS)
        in_view = xyz @ R.T
        middle = in_view.mean(axis=0)
        centres.append([[*middle[:2], np.median(in_view[:, 2])], [*middle[:2], np.percentile(in_view[:, 2], 15)]])
        points.append(xyz[chosen].T)
        normals.append((normal_cam[chosen] @ R).T)
        assert view.rgb is not None
        luma.append((view.rgb[seen][chosen] / np.float32(255)) @ LUMA)
        rotations.append(R)
    return PointModel(
        np.ascontiguousarray(points, np.float32),
        np.ascontiguousarray(normals, np.float32),
        np.ascontiguousarray(luma, np.float32),
        np.ascontiguousarray(rotations),
        np.ascontiguousarray(np.swapaxes(centres, 0, 1)),
    )


def _is_textured(views: list[View]) -> bool:
    """Whether colour varies enough over the surface to tell its sides apart."""
    colours = np.concatenate([view.rgb[view.depth_m > 0][::7] for view in views if view.rgb is not None])
    rgb = colours.astype(np.float64) / 255
    chromaticity = (rgb + 0.03) / (rgb + 0.03).sum(axis=-1, keepdims=True)
    return bool(max((rgb @ LUMA).std(), 2 * chromaticity.std(axis=0).max()) > TEXTURED)


def _colours(
    drawn: ViewMesh, diameter_m: float, mesh: Mesh
) -> tuple[UInt8[np.ndarray, "c c c 3"], Float64[np.ndarray, " 3"], float]:
    """The surface's colour in cells of a cube, from drawings of all sides; empty cells take their neighbours'."""
    low = mesh.vertices.min(axis=0).astype(np.float64) - 1e-4
    extent = float((mesh.vertices.max(axis=0) - low).max()) + 1e-4
    cells_per_m = COLOUR_CELLS / extent
    sums = np.zeros((COLOUR_CELLS**3, 4), np.float32)
    camera = view_camera(2 * COLOUR_CELLS)
    for T in view_poses(60, VIEW_DISTANCE * diameter_m):
        view = draw_view(drawn, T, camera)
        seen, xyz = _visible(view, T, camera)
        cell = np.clip(((xyz - low) * cells_per_m).astype(np.int64), 0, COLOUR_CELLS - 1)
        flat = (cell[:, 0] * COLOUR_CELLS + cell[:, 1]) * COLOUR_CELLS + cell[:, 2]
        assert view.rgb is not None
        # What is seen at a slant is drawn with few pixels and mixes cells.
        weight = np.abs(view.normal_cam[seen][:, 2]).astype(np.float64) ** 2 + 1e-3
        for channel in range(3):
            sums[:, channel] += np.bincount(flat, weight * view.rgb[seen][:, channel], len(sums))
        sums[:, 3] += np.bincount(flat, weight, len(sums))
    volume = sums.reshape(COLOUR_CELLS, COLOUR_CELLS, COLOUR_CELLS, 4)
    for _ in range(3):
        volume = np.where(volume[..., 3:] > 0, volume, _spread(volume))
    mean = volume[..., :3] / np.maximum(volume[..., 3:], 1e-9)
    return np.clip(mean, 0, 255).astype(np.uint8), low, cells_per_m


def _spread(volume: Float32[np.ndarray, "c c c 4"]) -> Float32[np.ndarray, "c c c 4"]:
    """The sum of each cell's six neighbours and itself."""
    total = volume.copy()
    for axis in range(3):
        for way in (1, -1):
            total += np.roll(volume, way, axis=axis)
    return total


def _shape(
    vertices: Float32[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    colours: UInt8[np.ndarray, "c c c 3"],
    low: Float64[np.ndarray, " 3"],
    cells_per_m: float,
) -> Shape:
    flips = outward_flips(vertices, faces)
    if flips is not None:
        faces = np.where(flips[:, None], faces[:, [0, 2, 1]], faces)
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    normals = np.cross(b - a, c - a)
    area = np.linalg.norm(normals, axis=-1, keepdims=True)
    square = (vertices.astype(np.float64) ** 2).sum(axis=-1).mean()
    return Shape(
        np.ascontiguousarray(vertices.T, np.float32),
        np.ascontiguousarray(faces, np.int32),
        np.ascontiguousarray((normals / np.maximum(area, 1e-30)).T, np.float32),
        flips is not None,
        float(square),
        np.ascontiguousarray(colours),
        np.ascontiguousarray(low, np.float64),
        float(cells_per_m),
    )


def _marks(vertices: Float64[np.ndarray, "v 3"], count: int = 24) -> Float64[np.ndarray, "count 3"]:
    """Farthest-point samples of the surface, beginning with the one farthest from the centre."""
    chosen = [int((vertices**2).sum(axis=1).argmax())]
    nearest = np.full(len(vertices), np.inf)
    for _ in range(count - 1):
        nearest = np.minimum(nearest, ((vertices - vertices[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return vertices[chosen]
