"""Nearest neighbours in a cloud of points, exactly, by a grid of cells."""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float, Float64

POINTS_PER_CELL = 4
MOST_CELLS_PER_AXIS = 64


def nearest_distances(queries: Float[np.ndarray, "Q 3"], points: Float[np.ndarray, "P 3"]) -> Float64[np.ndarray, " Q"]:
    """The distance of each query to the nearest of the points, in their unit.

    Raises:
        ValueError: There are no points, or a coordinate is not finite.
    """
    queries = np.ascontiguousarray(queries, np.float64)
    points = np.ascontiguousarray(points, np.float64)
    if len(points) == 0 or not (np.isfinite(points).all() and np.isfinite(queries).all()):
        raise ValueError("nearest neighbours need at least one point, and finite coordinates")
    low, high = points.min(axis=0), points.max(axis=0)
    per_axis = np.ceil((len(points) / POINTS_PER_CELL) ** (1 / 3))
    # Surfaces leave most of a box empty, which a cube of cells along the longest side makes up for.
    side = float((high - low).max()) / min(max(1.5 * per_axis, 1), MOST_CELLS_PER_AXIS)
    side = side if side > 0 else 1.0
    size = np.minimum((high - low) / side, MOST_CELLS_PER_AXIS).astype(np.int64) + 1
    cells = np.minimum(((points - low) / side).astype(np.int64), size - 1)
    number = (cells[:, 0] * size[1] + cells[:, 1]) * size[2] + cells[:, 2]
    order = np.argsort(number, kind="stable")
    start = np.searchsorted(number[order], np.arange(size.prod() + 1))
    out = np.empty(len(queries))
    _search(queries, points[order], start, low, side, size, out)
    return out


@numba.njit(cache=True, nogil=True)
def _search(queries, points, start, low, side, size, out):
    """Cells are looked at in growing cubes around the query until no nearer point can lie outside the cube."""
    at = np.empty(3, np.int64)
    for q in range(len(queries)):
        query = queries[q]
        first, last = np.int64(0), np.int64(0)
        for k in range(3):
            at[k] = np.int64(np.floor(min(max((query[k] - low[k]) / side, -1e9), 1e9)))
            first = max(first, -at[k], at[k] - (size[k] - 1))
            last = max(last, at[k], size[k] - 1 - at[k])
        best = np.inf
        for ring in range(first, last + 1):
            best = _search_ring(query, points, start, at, ring, size, best)
            # A point outside the cube is at least so many whole cells away.
            if best <= (ring * side) ** 2:
                break
        out[q] = np.sqrt(best)


@numba.njit(cache=True, nogil=True)
def _search_ring(query, points, start, at, ring, size, best):
    """The squared distance to the nearest point of the cells `ring` cells away in one axis and no more in others."""
    for x in range(max(at[0] - ring, 0), min(at[0] + ring, size[0] - 1) + 1):
        for y in range(max(at[1] - ring, 0), min(at[1] + ring, size[1] - 1) + 1):
            whole = abs(x - at[0]) == ring or abs(y - at[1]) == ring
            row = (x * size[1] + y) * size[2]
            if whole:
                z0, z1 = max(at[2] - ring, 0), min(at[2] + ring, size[2] - 1)
                best = _nearest_of(query, points, start[row + z0], start[row + z1 + 1], best) if z0 <= z1 else best
                continue
            for z in (at[2] - ring, at[2] + ring):
                if 0 <= z < size[2]:
                    best = _nearest_of(query, points, start[row + z], start[row + z + 1], best)
    return best


@numba.njit(cache=True, nogil=True)
def _nearest_of(query, points, begin, end, best):
    for i in range(begin, end):
        dx, dy, dz = points[i, 0] - query[0], points[i, 1] - query[1], points[i, 2] - query[2]
        squared = dx * dx + dy * dy + dz * dz
        if squared < best:
            best = squared
    return best
