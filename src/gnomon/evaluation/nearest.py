"""Nearest neighbours in a cloud of points, exactly, by a tree of boxes."""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float, Float64

POINTS_PER_LEAF = 12

_DEEPEST = 40
"""A tree of twice as many levels as points can fill."""


def nearest_distances(queries: Float[np.ndarray, "Q 3"], points: Float[np.ndarray, "P 3"]) -> Float64[np.ndarray, " Q"]:
    """The distance of each query to the nearest of the points, in their unit.

    Raises:
        ValueError: There are no points, or a coordinate is not finite.
    """
    queries = np.ascontiguousarray(queries, np.float64)
    points = np.ascontiguousarray(points, np.float64)
    if len(points) == 0 or not (np.isfinite(points).all() and np.isfinite(queries).all()):
        raise ValueError("nearest neighbours need at least one point, and finite coordinates")
    levels = max(0, int(np.ceil(np.log2(len(points) / POINTS_PER_LEAF))))
    order = np.arange(len(points))
    # Node i has the children 2 i + 1 and 2 i + 2, and each level halves the points of the one above.
    count = 2 ** (levels + 1) - 1
    span, box = np.empty((count, 2), np.int64), np.empty((count, 2, 3))
    _build(points, order, span, box)
    out = np.empty(len(queries))
    _search(queries, points[order], span, box, out)
    return out


@numba.njit(cache=True, nogil=True)
def _build(points, order, span, box):
    """Sort the points so that each node's are together, halved along the longest side of its box."""
    count = len(span)
    span[0, 0], span[0, 1] = 0, len(points)
    for node in range(count):
        begin, end = span[node]
        for k in range(3):
            low, high = np.inf, -np.inf
            for i in range(begin, end):
                value = points[order[i], k]
                low, high = min(low, value), max(high, value)
            box[node, 0, k], box[node, 1, k] = low, high
        if 2 * node + 2 >= count:
            continue
        axis = np.argmax(box[node, 1] - box[node, 0]) if end > begin else 0
        part = order[begin:end].copy()
        values = np.empty(len(part))
        for i in range(len(part)):
            values[i] = points[part[i], axis]
        order[begin:end] = part[np.argsort(values)]
        middle = (begin + end) // 2
        span[2 * node + 1, 0], span[2 * node + 1, 1] = begin, middle
        span[2 * node + 2, 0], span[2 * node + 2, 1] = middle, end


@numba.njit(cache=True, nogil=True)
def _search(queries, points, span, box, out):
    stack = np.empty(2 * _DEEPEST, np.int64)
    bound = np.empty(2 * _DEEPEST)
    for q in range(len(queries)):
        query = queries[q]
        best = np.inf
        stack[0], bound[0], size = 0, 0.0, 1
        while size > 0:
            size -= 1
            node = stack[size]
            if bound[size] >= best:
                continue
            left = 2 * node + 1
            if left >= len(span):
                best = _nearest_of(query, points, span[node, 0], span[node, 1], best)
                continue
            to_left, to_right = _squared_to_box(query, box[left]), _squared_to_box(query, box[left + 1])
            # The nearer child goes on top, so that the farther one can often be passed over.
            nearer_first = to_left < to_right
            stack[size], bound[size] = (left + 1, to_right) if nearer_first else (left, to_left)
            stack[size + 1], bound[size + 1] = (left, to_left) if nearer_first else (left + 1, to_right)
            size += 2
        out[q] = np.sqrt(best)


@numba.njit(cache=True, nogil=True)
def _squared_to_box(query, box):
    """0 inside; infinite for the box of no points."""
    total = 0.0
    for k in range(3):
        outside = max(box[0, k] - query[k], query[k] - box[1, k], 0.0)
        total += outside * outside
    return total


@numba.njit(cache=True, nogil=True)
def _nearest_of(query, points, begin, end, best):
    for i in range(begin, end):
        dx, dy, dz = points[i, 0] - query[0], points[i, 1] - query[1], points[i, 2] - query[2]
        squared = dx * dx + dy * dy + dz * dz
        if squared < best:
            best = squared
    return best
