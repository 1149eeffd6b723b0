"""Vertices at exactly the same place count as one."""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float, Int32


def weld(vertices: Float[np.ndarray, "V 3"]) -> tuple[Int32[np.ndarray, " V"], Int32[np.ndarray, " U"]]:
    """For each vertex the number of its place, and for each place its first vertex.

    Places are numbered in the order of their first vertex. -0 and 0 are the same; nothing is rounded.
    """
    points = np.ascontiguousarray(vertices, dtype=np.float64) + 0.0
    size = 1 << max(int(len(points) * 2 - 1).bit_length(), 4)
    place = np.empty(len(points), np.int32)
    first = np.empty(len(points), np.int32)
    count = _weld(points.view(np.uint64), np.full(size, -1, np.int32), place, first)
    return place, first[:count].copy()


@numba.njit(cache=True, nogil=True)
def _weld(bits, table, place, first):
    """Open addressing; `table` is a power of two long and at least twice as long as `bits`."""
    mask = np.uint64(table.shape[0] - 1)
    count = 0
    for i in range(bits.shape[0]):
        code = bits[i, 0] * np.uint64(0x9E3779B97F4A7C15)
        code = (code ^ (code >> np.uint64(29)) ^ bits[i, 1]) * np.uint64(0xBF58476D1CE4E5B9)
        code = (code ^ (code >> np.uint64(32)) ^ bits[i, 2]) * np.uint64(0x94D049BB133111EB)
        slot = (code ^ (code >> np.uint64(31))) & mask
        while True:
            known = table[slot]
            if known < 0:
                table[slot] = count
                first[count] = i
                place[i] = count
                count += 1
                break
            j = first[known]
            if bits[i, 0] == bits[j, 0] and bits[i, 1] == bits[j, 1] and bits[i, 2] == bits[j, 2]:
                place[i] = known
                break
            slot = (slot + np.uint64(1)) & mask
    return count
