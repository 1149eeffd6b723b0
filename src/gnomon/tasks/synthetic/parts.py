"""Closed bodies from which shapes are put together, in metres. They may overlap: no cutting is needed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from gnomon.geometry.mesh import Mesh

Rgb = tuple[int, int, int]
_GREY: Rgb = (231, 231, 231)
"""As the rasteriser paints a mesh without colours."""


def box(size_m: Sequence[float], centre_m: Sequence[float] = (0, 0, 0)) -> Mesh:
    """An axis-parallel box."""
    corners = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))])
    return Mesh(vertices=corners * np.asarray(size_m, float) + np.asarray(centre_m, float), faces=faces)


def revolve(profile_m: Sequence[tuple[float, float]], sections: int = 64) -> Mesh:
    """A body of revolution about z.

    Args:
        profile_m: (radius, z) from one point on the axis to another, counter-clockwise in the (radius, z) plane.
        sections: around the axis.
    """
    angle = 2 * np.pi * np.arange(sections) / sections
    ring = np.stack((np.cos(angle), np.sin(angle), np.zeros(sections)), axis=-1)
    vertices, rings = [], []
    for radius, z in profile_m:
        count = sections if radius > 0 else 1
        rings.append((np.arange(count) + sum(len(part) for part in vertices))[np.arange(sections) % count])
        vertices.append(ring[:count] * radius + (0, 0, z))
    faces = []
    for low, high in itertools.pairwise(rings):
        faces.append(np.stack((low, np.roll(low, -1), np.roll(high, -1)), axis=-1))
        faces.append(np.stack((low, np.roll(high, -1), high), axis=-1))
    return Mesh(vertices=np.concatenate(vertices), faces=_with_area(np.concatenate(faces)))


def cylinder(radius_m: float, height_m: float, sections: int = 64) -> Mesh:
    """A cylinder along z, its centre at the origin."""
    half = height_m / 2
    return revolve([(0, -half), (radius_m, -half), (radius_m, half), (0, half)], sections)


def ellipsoid(radii_m: Sequence[float], sections: int = 32) -> Mesh:
    """An axis-parallel ellipsoid about the origin."""
    latitude = np.linspace(-np.pi / 2, np.pi / 2, sections // 2 + 1)
    radius = np.cos(latitude)
    radius[[0, -1]] = 0
    ball = revolve(list(zip(radius.tolist(), np.sin(latitude).tolist(), strict=True)), sections)
    return replace(ball, vertices=ball.vertices * np.asarray(radii_m, float))


def tube(
    path_m: Float[np.ndarray, "N 3"], radius_m: float | Sequence[float], sections: int = 24, *, ring: bool = False
) -> Mesh:
    """A round bar along a path, with flat ends, or closed to a ring (the last point then leads back to the first)."""
    path = np.asarray(path_m, float)
    radii = np.broadcast_to(np.asarray(radius_m, float), len(path))
    along = np.roll(path, -1, 0) - np.roll(path, 1, 0) if ring else np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=-1, keepdims=True)
    side = np.cross(along[0], np.eye(3)[np.abs(along[0]).argmin()])
    angle = 2 * np.pi * np.arange(sections) / sections
    rings = []
    for point, direction, radius in zip(path, along, radii, strict=True):
        # Carrying the side vector along keeps the bar from twisting.
        side = side - direction * (side @ direction)
        side /= np.linalg.norm(side)
        around = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.cross(direction, side)
        rings.append(point + radius * around)
    count = len(path)
    at = np.arange(count * sections).reshape(count, sections)
    pairs = zip(at, np.roll(at, -1, axis=0), strict=True) if ring else itertools.pairwise(at)
    faces = [
        np.stack((low, np.roll(low, -1), np.roll(high, -1), low, np.roll(high, -1), high), axis=-1).reshape(-1, 3)
        for low, high in pairs
    ]
    vertices = np.concatenate(rings)
    if not ring:
        for end, order in ((0, -1), (-1, 1)):
            centre = np.full(sections, len(vertices))
            fan = np.stack((at[end], np.roll(at[end], -1), centre), axis=-1)
            faces.append(fan[:, ::order])
            vertices = np.concatenate((vertices, path[[end]]))
    return Mesh(vertices=vertices, faces=np.concatenate(faces))


def arc(
    radius_m: float, start_deg: float = 0, end_deg: float = 360, count: int = 48, *, axes: str = "xy"
) -> Float[np.ndarray, "count 3"]:
    """Points on a circle about the origin in a plane of two axes; a whole circle does not repeat its first point."""
    whole = abs(end_deg - start_deg) >= 360
    angle = np.radians(np.linspace(start_deg, end_deg, count, endpoint=not whole))
    points = np.zeros((count, 3))
    points[:, "xyz".index(axes[0])] = radius_m * np.cos(angle)
    points[:, "xyz".index(axes[1])] = radius_m * np.sin(angle)
    return points


def prism(
    outline_m: Float[np.ndarray, "N 2"], height_m: float, holes_m: Sequence[Float[np.ndarray, "M 2"]] = ()
) -> Mesh:
    """A plate of any outline in x and y with holes; z from -height/2 to height/2. Loops may run either way."""
    loops = [_turned(np.asarray(outline_m, float), 1.0)] + [_turned(np.asarray(hole, float), -1.0) for hole in holes_m]
    flat = np.concatenate(loops)
    count, half = len(flat), height_m / 2
    vertices = np.concatenate([np.column_stack((flat, np.full(count, side * half))) for side in (-1, 1)])
    starts = np.cumsum([0, *(len(loop) for loop in loops)])
    indices = [np.arange(first, end) for first, end in itertools.pairwise(starts)]
    caps = np.array(_ears(flat, _bridged(flat, indices)))
    faces = [caps[:, ::-1], caps + count]
    for loop in indices:
        follow = np.roll(loop, -1)
        faces.append(np.stack((loop, follow, follow + count), axis=-1))
        faces.append(np.stack((loop, follow + count, loop + count), axis=-1))
    return Mesh(vertices=vertices, faces=np.concatenate(faces))


def _turned(loop: Float[np.ndarray, "N 2"], sign: float) -> Float[np.ndarray, "N 2"]:
    """The loop with an area of the given sign."""
    x, y = loop.T
    area = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum()
    return loop if area * sign > 0 else loop[::-1]


def _bridged(points: Float[np.ndarray, "P 2"], loops: list[Int[np.ndarray, " n"]]) -> list[int]:
    """One polygon out of an outline and its holes, each joined where it comes nearest."""
    polygon = loops[0].tolist()
    for hole in sorted(loops[1:], key=lambda loop: -points[loop, 0].max()):
        distance = np.linalg.norm(points[polygon][:, None] - points[hole], axis=-1)
        at, first = np.unravel_index(distance.argmin(), distance.shape)
        around = np.roll(hole, -first).tolist()
        polygon = [*polygon[: at + 1], *around, around[0], *polygon[at:]]
    return polygon


def _ears(points: Float[np.ndarray, "P 2"], polygon: list[int]) -> list[tuple[int, int, int]]:
    """Triangles of a simple polygon by cutting off ears."""
    left, triangles = list(polygon), []
    while len(left) > 3:
        for i in range(len(left)):
            a, b, c = left[i - 1], left[i], left[(i + 1) % len(left)]
            if _is_ear(points, a, b, c, left):
                triangles.append((a, b, c))
                del left[i]
                break
        else:
            raise ValueError("the outline crosses itself")
    return [*triangles, (left[0], left[1], left[2])]


def _is_ear(points: Float[np.ndarray, "P 2"], a: int, b: int, c: int, left: list[int]) -> bool:
    pa, pb, pc = points[a], points[b], points[c]
    if _cross(pb - pa, pc - pa) <= 1e-16:
        return False
    others = points[[i for i in left if i not in (a, b, c)]]
    inside = _side(pa, pb, others) & _side(pb, pc, others) & _side(pc, pa, others)
    return not inside.any()


def _cross(a: Float[np.ndarray, " 2"], b: Float[np.ndarray, " 2"]) -> float:
    return float(a[0] * b[1] - a[1] * b[0])


def _side(
    a: Float[np.ndarray, " 2"], b: Float[np.ndarray, " 2"], p: Float[np.ndarray, "n 2"]
) -> Bool[np.ndarray, " n"]:
    edge, to = b - a, p - a
    return edge[0] * to[:, 1] - edge[1] * to[:, 0] >= -1e-16


def _with_area(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "G 3"]:
    a, b, c = faces.T
    return faces[(a != b) & (b != c) & (c != a)]


def moved(mesh: Mesh, shift_m: Sequence[float] = (0, 0, 0), *, turn_deg: float = 0.0, axis: str = "z") -> Mesh:
    """The mesh turned about an axis through the origin, then shifted."""
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    i = "xyz".index(axis)
    R = np.zeros((3, 3))
    j, k = (i + 1) % 3, (i + 2) % 3
    R[i, i], R[j, j], R[k, k], R[j, k], R[k, j] = 1, c, c, -s, s
    return replace(mesh, vertices=mesh.vertices @ R.T + np.asarray(shift_m, float))


def painted(mesh: Mesh, rgb: Rgb) -> Mesh:
    """The mesh in one colour."""
    return replace(mesh, face_rgb=np.tile(np.array(rgb, np.uint8), (len(mesh.faces), 1)))


def joined(*meshes: Mesh) -> Mesh:
    """Several bodies as one mesh; with colours if any of them has some."""
    first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, first[:-1], strict=True)]
    colours = [painted(mesh, _GREY).face_rgb if mesh.face_rgb is None else mesh.face_rgb for mesh in meshes]
    coloured = any(mesh.face_rgb is not None for mesh in meshes)
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate(faces),
        face_rgb=np.concatenate([rgb for rgb in colours if rgb is not None]) if coloured else None,
    )
