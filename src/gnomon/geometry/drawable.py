"""A mesh made ready for drawing: triangles in small clusters that lie close together in space and in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, UInt16

from gnomon.geometry.mesh import Mesh
from gnomon.geometry.orientation import outward_flips

CLUSTER_SIZE = 128
"""Triangles per cluster."""


@dataclass(frozen=True)
class Drawable:
    """Triangles sorted along a space-filling curve, cut into clusters with vertices of their own.

    Coordinates are in the file's unit, relative to `origin`, so that float32 keeps seven digits of the object's
    size even when the file places it far from zero. Vertices on the rim of a cluster are repeated in each
    cluster with the same bits, so projecting them gives the same bits too.
    """

    origin: Float64[np.ndarray, " 3"]
    half_extent: Float64[np.ndarray, " 3"]
    """Half the size of the bounding box, whose centre is `origin`."""
    face_order: Int64[np.ndarray, " F"]
    """Sorted position -> index in the mesh's `faces`."""
    faces: Int32[np.ndarray, "F 3"]
    """Sorted triangles, as indices into the mesh's vertices; turned outwards if `closed`."""
    vertices: Float32[np.ndarray, "V 3"]
    """The mesh's vertices, relative to `origin`."""
    cluster_xyz: Float32[np.ndarray, "3 W"]
    """Vertices of all clusters, one cluster after the other."""
    cluster_start: Int32[np.ndarray, " C+1"]
    """First column of each cluster in `cluster_xyz`."""
    corners: UInt16[np.ndarray, "3 F"]
    """The three corners of each sorted triangle, as places inside its cluster."""
    bounds: Float32[np.ndarray, "C 8"]
    """Per cluster: sphere centre (3), radius, axis of the normals (3), sine of their spread (2 = no limit)."""
    closed: bool
    """From outside, triangles that face away can never be seen."""


def make_drawable(mesh: Mesh) -> Drawable:
    """Sort, cluster and bound the triangles of `mesh`, once per mesh."""
    low, high = mesh.vertices.min(axis=0).astype(np.float64), mesh.vertices.max(axis=0)
    origin = (low + high) / 2
    vertices = (mesh.vertices - origin).astype(np.float32)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int32)
    flips = outward_flips(vertices, faces)
    if flips is not None and flips.any():
        faces = np.where(flips[:, None], faces[:, [0, 2, 1]], faces)
    face_order = _curve_order(vertices, faces)
    faces = np.ascontiguousarray(faces[face_order])
    n_clusters = -(-len(faces) // CLUSTER_SIZE)
    used = np.empty(3 * len(faces), np.int32)
    start = np.empty(n_clusters + 1, np.int32)
    corners = np.empty((3, len(faces)), np.uint16)
    _cluster_vertices(faces, len(vertices), used, start, corners)
    cluster_xyz = np.ascontiguousarray(vertices[used[: start[-1]]].T)
    bounds = np.empty((n_clusters, 8), np.float32)
    _fill_bounds(cluster_xyz, start, corners, bounds)
    return Drawable(
        origin=origin,
        half_extent=(high - low) / 2,
        face_order=face_order,
        faces=faces,
        vertices=vertices,
        cluster_xyz=cluster_xyz,
        cluster_start=start,
        corners=corners,
        bounds=bounds,
        closed=flips is not None,
    )


def _curve_order(vertices: Float32[np.ndarray, "V 3"], faces: Int32[np.ndarray, "F 3"]) -> Int64[np.ndarray, " F"]:
    """Triangles by the Morton code of their first corner, 10 bits per axis."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    cell = ((vertices - low) * np.float32(1023 / max(float((high - low).max()), 1e-30))).astype(np.uint32)
    code = np.zeros(len(vertices), np.uint32)
    for axis in range(3):
        bits = cell[:, axis]
        # Spread the ten bits so that two zero bits lie between neighbours.
        for shift, keep in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
            bits = (bits | (bits << np.uint32(shift))) & np.uint32(keep)
        code |= bits << np.uint32(axis)
    # The index in the low half makes keys distinct: every sorting algorithm then gives the same order.
    key = (code[faces[:, 0]].astype(np.uint64) << np.uint64(32)) | np.arange(len(faces), dtype=np.uint64)
    key.sort()
    return (key & np.uint64(0xFFFFFFFF)).astype(np.int64)


@numba.njit(cache=True, nogil=True)
def _cluster_vertices(faces, n_vertices, used, start, corners):
    """The distinct vertices of every cluster, where each cluster's begin, and the corners as local indices."""
    seen_by = np.full(n_vertices, -1, np.int32)
    place = np.empty(n_vertices, np.int32)
    n_used = 0
    for f in range(faces.shape[0]):
        cluster = f // CLUSTER_SIZE
        if f % CLUSTER_SIZE == 0:
            start[cluster] = n_used
        for k in range(3):
            vertex = faces[f, k]
            if seen_by[vertex] != cluster:
                seen_by[vertex] = cluster
                place[vertex] = n_used - start[cluster]
                used[n_used] = vertex
                n_used += 1
            corners[k, f] = place[vertex]
    start[start.shape[0] - 1] = n_used


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fill_bounds(xyz, start, corners, bounds):
    normals = np.empty((CLUSTER_SIZE, 3))
    for c in range(bounds.shape[0]):
        first = start[c]
        out = bounds[c]
        square = 0.0
        for k in range(3):
            low = high = np.float64(xyz[k, first])
            for i in range(first, start[c + 1]):
                low = min(low, xyz[k, i])
                high = max(high, xyz[k, i])
            out[k] = (low + high) / 2.0
        for i in range(first, start[c + 1]):
            dx = np.float64(xyz[0, i] - out[0])
            dy = np.float64(xyz[1, i] - out[1])
            dz = np.float64(xyz[2, i] - out[2])
            square = max(square, dx * dx + dy * dy + dz * dz)
        # Slightly wide bounds absorb the rounding to float32, here and in the drawing loop.
        out[3] = np.sqrt(square) * 1.001
        f0 = c * CLUSTER_SIZE
        count = min(CLUSTER_SIZE, corners.shape[1] - f0)
        for t in range(count):
            i = first + corners[0, f0 + t]
            j = first + corners[1, f0 + t]
            k = first + corners[2, f0 + t]
            _unit_normal(xyz, i, j, k, normals[t])
        out[7] = _cone(normals[:count], out[4:7])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _unit_normal(xyz, i, j, k, out):
    """Normal of the triangle with corners i, j, k; zero if it has no area."""
    bx = np.float64(xyz[0, j]) - xyz[0, i]
    by = np.float64(xyz[1, j]) - xyz[1, i]
    bz = np.float64(xyz[2, j]) - xyz[2, i]
    cx = np.float64(xyz[0, k]) - xyz[0, i]
    cy = np.float64(xyz[1, k]) - xyz[1, i]
    cz = np.float64(xyz[2, k]) - xyz[2, i]
    out[0] = by * cz - bz * cy
    out[1] = bz * cx - bx * cz
    out[2] = bx * cy - by * cx
    length = np.sqrt(out[0] * out[0] + out[1] * out[1] + out[2] * out[2])
    if length > 0.0:
        out[0] /= length
        out[1] /= length
        out[2] /= length


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _cone(normals, axis):
    """Mean direction of the normals into `axis`; returns the sine of the widest angle to it, 2 if over 84 degrees."""
    x = y = z = 0.0
    for t in range(normals.shape[0]):
        x += normals[t, 0]
        y += normals[t, 1]
        z += normals[t, 2]
    length = np.sqrt(x * x + y * y + z * z)
    if length <= 0.0:
        axis[:] = np.float32(0.0)
        return 2.0
    x /= length
    y /= length
    z /= length
    axis[0] = x
    axis[1] = y
    axis[2] = z
    least = 1.0
    for t in range(normals.shape[0]):
        along = normals[t, 0] * x + normals[t, 1] * y + normals[t, 2] * z
        # A triangle without area has no normal and is never drawn.
        if along != 0.0:
            least = min(least, along)
    # A cone close to a half space hides nothing worth testing; no cosine reaches 2.
    return np.sqrt(max(1.0 - least * least, 0.0)) + 1e-3 if least > 0.1 else 2.0
