"""Is a surface closed, and which of its triangles must be turned so that all face outwards?"""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Bool, Float, Int

from gnomon.geometry.weld import weld


def outward_flips(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Bool[np.ndarray, " F"] | None:
    """Triangles to turn so that every body faces outwards, or None if the surface is not closed.

    Closed means: every edge belongs to exactly two triangles and no body is one-sided. A few triangles wound
    the wrong way, as scanned meshes have them, are no obstacle.
    """
    flips = _closed_flips(vertices, faces)
    if flips is None:
        # A seam in the texture, or a format without shared vertices, splits vertices without opening the surface.
        place, first = weld(vertices)
        flips = _closed_flips(np.asarray(vertices)[first], place[faces])
    return flips


def _closed_flips(vertices: np.ndarray, corners: np.ndarray) -> Bool[np.ndarray, " F"] | None:
    flips = np.zeros(len(corners), np.bool_)
    points = np.ascontiguousarray(vertices, dtype=np.float32)
    closed = _orient(points, np.ascontiguousarray(corners, dtype=np.int32), flips)
    return flips if closed else None


@numba.njit(cache=True, nogil=True)
def _orient(points, corners, flips):
    """Fill `flips`; False if an edge has not exactly two triangles or a body cannot be oriented."""
    n_faces = corners.shape[0]
    first = np.zeros(points.shape[0] + 1, np.int32)
    for f in range(n_faces):
        for k in range(3):
            first[min(corners[f, k], corners[f, (k + 1) % 3]) + 1] += 1
    for i in range(points.shape[0]):
        first[i + 1] += first[i]
    # Edges sorted by their lower vertex: the other vertex, and the triangle with its direction in the last bit.
    other = np.empty(3 * n_faces, np.int32)
    owner = np.empty(3 * n_faces, np.int32)
    used = np.zeros(points.shape[0], np.int32)
    parent = np.arange(n_faces).astype(np.int32)
    parity = np.zeros(n_faces, np.int8)
    for f in range(n_faces):
        for k in range(3):
            i = corners[f, k]
            j = corners[f, (k + 1) % 3]
            low = min(i, j)
            at = first[low] + used[low]
            used[low] += 1
            other[at] = max(i, j)
            owner[at] = f if i < j else ~f
    for i in range(points.shape[0]):
        for a in range(first[i], first[i + 1]):
            partners = 0
            for b in range(first[i], first[i + 1]):
                if b != a and other[b] == other[a]:
                    partners += 1
                    if b > a and not _join(parent, parity, owner[a], owner[b]):
                        return False
            if partners != 1:
                return False
    return _face_outwards(points, corners, parent, parity, flips)


@numba.njit(cache=True, nogil=True)
def _root(parent, parity, f):
    """Root of f's body, and whether f is wound against it; shortens the path on the way."""
    odd = 0
    while parent[f] != f:
        above = parent[f]
        parity[f] ^= parity[above]
        parent[f] = parent[above]
        odd ^= parity[f]
        f = parent[f]
    return f, odd


@numba.njit(cache=True, nogil=True)
def _join(parent, parity, a, b):
    """Unite the bodies of two triangles that share an edge; False if that contradicts what is known.

    `a` and `b` carry the direction of the edge: f as it is, ~f against it.
    """
    against = 1 if (a < 0) == (b < 0) else 0
    root_a, odd_a = _root(parent, parity, max(a, ~a))
    root_b, odd_b = _root(parent, parity, max(b, ~b))
    if root_a == root_b:
        return (odd_a ^ odd_b) == against
    parent[root_b] = root_a
    parity[root_b] = odd_a ^ odd_b ^ against
    return True


@numba.njit(cache=True, nogil=True)
def _face_outwards(points, corners, parent, parity, flips):
    """Turn each body so that the volume it encloses is positive."""
    volume = np.zeros(corners.shape[0])
    for f in range(corners.shape[0]):
        root, odd = _root(parent, parity, f)
        i = corners[f, 0]
        j = corners[f, 1]
        k = corners[f, 2]
        x = np.float64(points[i, 0])
        y = np.float64(points[i, 1])
        z = np.float64(points[i, 2])
        part = x * (np.float64(points[j, 1]) * points[k, 2] - np.float64(points[j, 2]) * points[k, 1])
        part += y * (np.float64(points[j, 2]) * points[k, 0] - np.float64(points[j, 0]) * points[k, 2])
        part += z * (np.float64(points[j, 0]) * points[k, 1] - np.float64(points[j, 1]) * points[k, 0])
        volume[root] += -part if odd else part
        flips[f] = odd == 1
    for f in range(corners.shape[0]):
        if volume[_root(parent, parity, f)[0]] < 0.0:
            flips[f] = not flips[f]
    return True
