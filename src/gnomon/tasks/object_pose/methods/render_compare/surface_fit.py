"""Points of a surface that tell whether a turned copy lies on it."""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

N_COARSE = 256
N_CHECK = 3000
MOST_SAMPLES = 12_000
MOST_POINTS = 150_000
CELLS = 40

PROMISING = 0.035
"""Mean distance from the surface, in diameters, up to which an axis of the coarse search is worth making exact."""

TOLERANCE = 0.012
"""Most that any of nearly all points may be off the surface after a symmetry, in diameters."""

NEARLY_ALL = 99.7
"""Percentile. A feature smaller than the rest of the surface is overlooked."""

NEAR_TOLERANCE = 0.008
"""Most that points may be off the surface on average after a near symmetry, none counting more than FAR."""

COLOUR_TOLERANCE = 0.06
"""Most that colours, 0 to 1, may differ after a symmetry, on average."""

BUCKETS = 40
"""Along each side of the grid that finds nearest points."""

FAR = 0.05
"""Stands for any distance beyond the buckets around, in diameters."""


class Surface:
    """Samples of the surface about their centre, in diameters, and a volume of distances to them."""

    def __init__(
        self,
        points: Float[np.ndarray, "N 3"],
        normals: Float[np.ndarray, "N 3"],
        rgb: Float[np.ndarray, "N 3"] | None,
        diameter_m: float,
        centre_m: Float[np.ndarray, " 3"],
    ) -> None:
        keep, self.spacing = _thinned(points / diameter_m)
        self.centre_m = np.asarray(centre_m, np.float64)
        self.diameter_m = diameter_m
        self.points = np.ascontiguousarray((points[keep] - self.centre_m) / diameter_m, np.float32)
        self.normals = np.ascontiguousarray(normals[keep], np.float32)
        self.rgb = None if rgb is None else np.ascontiguousarray(rgb[keep], np.float32)
        order = np.random.default_rng(0).permutation(len(keep))
        self.check = order[:N_CHECK]
        self.coarse = np.ascontiguousarray(self.points[order[:N_COARSE]])
        self.reach = float(np.linalg.norm(self.points, axis=1).max()) + 0.02
        self.volume = np.empty((CELLS, CELLS, CELLS), np.float32)
        _fill_distances(self.points[order[:1500]], self.reach, self.volume)
        self.bucket_start = np.zeros(BUCKETS**3 + 1, np.int64)
        self.bucket_order = np.empty(len(self.points), np.int64)
        _into_buckets(self.points, self.reach, self.bucket_start, self.bucket_order)

    def mean_distance(self, R: Float64[np.ndarray, "n 3 3"]) -> Float64[np.ndarray, " n"]:
        """Mean distance of the turned coarse samples from the surface."""
        out = np.empty(len(R))
        _mean_distances(np.ascontiguousarray(R), self.coarse, self.volume, self.reach, out)
        return out

    def distances(
        self, points: Float32[np.ndarray, "n 3"], R: Float64[np.ndarray, "3 3"], slack: float
    ) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """For turned points the nearest sample, and how far they are off the surface, at most FAR."""
        turned = np.ascontiguousarray(points @ R.T.astype(np.float32))
        nearest = np.empty(len(turned), np.int64)
        off = np.empty(len(turned), np.float32)
        _distances(
            turned, self.points, self.normals, self.bucket_start, self.bucket_order, self.reach, np.float32(slack),
            nearest, off,
        )  # fmt: skip
        return nearest, off

    def allows(self, R: Float64[np.ndarray, "3 3"]) -> bool:
        """Whether this turn is a symmetry."""
        if self.mean_distance(R[None])[0] > PROMISING:
            return False
        nearest, off = self.distances(self.points[self.check], R, 1.5 * self.spacing)
        if np.percentile(off, NEARLY_ALL) > TOLERANCE:
            return False
        if self.rgb is None:
            return True
        return bool(np.abs(self.rgb[self.check] - self.rgb[nearest]).mean() < COLOUR_TOLERANCE)

    def nearly_allows(self, R: Float64[np.ndarray, "3 3"]) -> bool:
        """Whether the form looks nearly the same after this turn."""
        if self.mean_distance(R[None])[0] > PROMISING:
            return False
        return bool(self.distances(self.points[self.check], R, 1.5 * self.spacing)[1].mean() < NEAR_TOLERANCE)


def _thinned(points: Float[np.ndarray, "N 3"]) -> tuple[np.ndarray, float]:
    """One point in each cell of a grid just coarse enough for MOST_SAMPLES; the indices and the cell's side."""
    side = 0.008
    while True:
        cells = np.floor((points - points.min(axis=0)) / side).astype(np.int64)
        row = int(cells.max()) + 1
        _, keep = np.unique((cells[:, 0] * row + cells[:, 1]) * row + cells[:, 2], return_index=True)
        if len(keep) <= MOST_SAMPLES:
            return keep, side
        side *= 1.2


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _fill_distances(points, reach, volume):
    """Distance of each cell's middle to the nearest of the points."""
    n = volume.shape[0]
    step = 2.0 * reach / n
    for i in range(n):
        x = np.float32((i + 0.5) * step - reach)
        for j in range(n):
            y = np.float32((j + 0.5) * step - reach)
            for k in range(n):
                z = np.float32((k + 0.5) * step - reach)
                best = np.float32(1e9)
                for p in range(points.shape[0]):
                    dx = points[p, 0] - x
                    dy = points[p, 1] - y
                    dz = points[p, 2] - z
                    best = min(best, dx * dx + dy * dy + dz * dz)
                volume[i, j, k] = np.sqrt(best)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _mean_distances(R, points, volume, reach, out):
    n = volume.shape[0]
    to_cell = n / (2.0 * reach)
    for r in range(R.shape[0]):
        total = 0.0
        for p in range(points.shape[0]):
            x = R[r, 0, 0] * points[p, 0] + R[r, 0, 1] * points[p, 1] + R[r, 0, 2] * points[p, 2]
            y = R[r, 1, 0] * points[p, 0] + R[r, 1, 1] * points[p, 1] + R[r, 1, 2] * points[p, 2]
            z = R[r, 2, 0] * points[p, 0] + R[r, 2, 1] * points[p, 1] + R[r, 2, 2] * points[p, 2]
            i = min(max(int((x + reach) * to_cell), 0), n - 1)
            j = min(max(int((y + reach) * to_cell), 0), n - 1)
            k = min(max(int((z + reach) * to_cell), 0), n - 1)
            total += volume[i, j, k]
        out[r] = total / points.shape[0]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _into_buckets(points, reach, start, order):
    """Sort the points by cell: those of cell c are order[start[c]:start[c + 1]]."""
    n = BUCKETS
    to_cell = n / (2.0 * reach)
    cells = np.empty(points.shape[0], np.int64)
    for p in range(points.shape[0]):
        c = 0
        for axis in range(3):
            c = c * n + min(max(int((points[p, axis] + reach) * to_cell), 0), n - 1)
        cells[p] = c
        start[c + 1] += 1
    for c in range(n * n * n):
        start[c + 1] += start[c]
    used = start.copy()
    for p in range(points.shape[0]):
        order[used[cells[p]]] = p
        used[cells[p]] += 1


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _distances(queries, points, normals, start, order, reach, slack, nearest, off):
    """For each query its nearest point, and its distance from the plane there plus what it lies aside of it.

    Only the query's bucket and those around it are searched; a query with no point there is FAR off.
    """
    n = BUCKETS
    to_cell = n / (2.0 * reach)
    for q in range(queries.shape[0]):
        x = queries[q, 0]
        y = queries[q, 1]
        z = queries[q, 2]
        i = int((x + reach) * to_cell)
        j = int((y + reach) * to_cell)
        k = int((z + reach) * to_cell)
        best = np.float32(1e9)
        at = -1
        for ci in range(max(i - 1, 0), min(i + 1, n - 1) + 1):
            for cj in range(max(j - 1, 0), min(j + 1, n - 1) + 1):
                row = (ci * n + cj) * n
                first = start[row + max(k - 1, 0)]
                last = start[row + min(k + 1, n - 1) + 1]
                for o in range(first, last):
                    p = order[o]
                    dx = points[p, 0] - x
                    dy = points[p, 1] - y
                    dz = points[p, 2] - z
                    d = dx * dx + dy * dy + dz * dz
                    if d < best:
                        best = d
                        at = p
        nearest[q] = max(at, 0)
        if at < 0:
            off[q] = FAR
            continue
        plane = (
            normals[at, 0] * (x - points[at, 0])
            + normals[at, 1] * (y - points[at, 1])
            + normals[at, 2] * (z - points[at, 2])
        )
        aside = np.sqrt(max(best - plane * plane, np.float32(0.0)))
        off[q] = np.sqrt(plane * plane + max(aside - slack, np.float32(0.0)) ** 2)
