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
    planes: Float32[np.ndarray, "F 12"]
    """Per sorted triangle three linear functions of position p, each (gradient, constant).

    Unit normal and minus the plane's offset (the height of p over the triangle), then the barycentric weights of
    corners 1 and 2. All zero for a triangle without area."""
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
    planes = np.zeros((len(faces), 12), np.float32)
    _fill_planes(vertices, faces, planes)
    bounds = np.empty((n_clusters, 8), np.float32)
    _fill_bounds(cluster_xyz, start, planes, bounds)
    return Drawable(
        origin=origin,
        half_extent=(high - low) / 2,
        face_order=face_order,
        faces=faces,
        planes=planes,
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
def _fill_planes(vertices, faces, planes):
    for f in range(faces.shape[0]):
        ax, ay, az = vertices[faces[f, 0]].astype(np.float64)
        bx = vertices[faces[f, 1], 0] - ax
        by = vertices[faces[f, 1], 1] - ay
        bz = vertices[faces[f, 1], 2] - az
        cx = vertices[faces[f, 2], 0] - ax
        cy = vertices[faces[f, 2], 1] - ay
        cz = vertices[faces[f, 2], 2] - az
        nx = by * cz - bz * cy
        ny = bz * cx - bx * cz
        nz = bx * cy - by * cx
        square = nx * nx + ny * ny + nz * nz
        if square <= 0.0:
            continue
        out = planes[f]
        scale = 1.0 / np.sqrt(square)
        out[0] = nx * scale
        out[1] = ny * scale
        out[2] = nz * scale
        out[3] = -(out[0] * ax + out[1] * ay + out[2] * az)
        # c x n and n x b: in the plane, at right angles to the side across from corner 1 and from corner 2.
        scale = 1.0 / square
        out[4] = (cy * nz - cz * ny) * scale
        out[5] = (cz * nx - cx * nz) * scale
        out[6] = (cx * ny - cy * nx) * scale
        out[7] = -(out[4] * ax + out[5] * ay + out[6] * az)
        out[8] = (ny * bz - nz * by) * scale
        out[9] = (nz * bx - nx * bz) * scale
        out[10] = (nx * by - ny * bx) * scale
        out[11] = -(out[8] * ax + out[9] * ay + out[10] * az)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fill_bounds(xyz, start, planes, bounds):
    for c in range(bounds.shape[0]):
        out = bounds[c]
        axis = np.zeros(3)
        square = 0.0
        for k in range(3):
            low = high = np.float64(xyz[k, start[c]])
            for i in range(start[c], start[c + 1]):
                low = min(low, xyz[k, i])
                high = max(high, xyz[k, i])
            out[k] = (low + high) / 2.0
        for i in range(start[c], start[c + 1]):
            dx = xyz[0, i] - out[0]
            dy = xyz[1, i] - out[1]
            dz = xyz[2, i] - out[2]
            square = max(square, dx * dx + dy * dy + dz * dz)
        f0 = c * CLUSTER_SIZE
        f1 = min(f0 + CLUSTER_SIZE, planes.shape[0])
        for f in range(f0, f1):
            for k in range(3):
                axis[k] += planes[f, k]
        length = np.sqrt(axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2])
        least = 1.0
        for k in range(3):
            axis[k] = axis[k] / length if length > 0.0 else 0.0
        for f in range(f0, f1):
            # A triangle without area has no normal and is never drawn.
            if planes[f, 0] != 0.0 or planes[f, 1] != 0.0 or planes[f, 2] != 0.0:
                least = min(least, planes[f, 0] * axis[0] + planes[f, 1] * axis[1] + planes[f, 2] * axis[2])
        # Slightly wide bounds absorb the rounding to float32, here and in the drawing loop.
        out[3] = np.sqrt(square) * 1.001
        for k in range(3):
            out[4 + k] = axis[k]
        # A cone close to a half space hides nothing worth testing; 2 cannot be reached by a cosine.
        out[7] = np.sqrt(max(1.0 - least * least, 0.0)) + 1e-3 if least > 0.1 else 2.0
