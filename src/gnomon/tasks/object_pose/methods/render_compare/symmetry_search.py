"""Symmetries of an object, found from points of its surface.

A turn about an axis through the centre of the surface is a symmetry when it takes every point to a place on the
surface with about the same colour. Axes are first tried coarsely over the half sphere against a volume of distances,
the promising ones made exact by small steps, and then checked point by point.

Similar searches: N. Mitra, L. Guibas, M. Pauly, "Partial and approximate symmetry detection for 3D geometry", 2006.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from gnomon.geometry import se3
from gnomon.geometry.symmetry import Axis, Symmetries
from gnomon.tasks.object_pose.methods.render_compare.views import fibonacci_sphere

FOLDS = (2, 3, 4, 5, 6, 8)
IRREGULAR_DEG = (37.0, 83.0, 101.0, 149.0, 163.0)
"""Turns that no polygon repeats: an axis that allows them all allows any."""

N_AXES = 600
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

NEAR_STEP_DEG = 10

COLOUR_TOLERANCE = 0.06
"""Most that colours, 0 to 1, may differ after a symmetry, on average."""

LARGEST_GROUP = 80

BUCKETS = 40
"""Along each side of the grid that finds nearest points."""

FAR = 0.05
"""Stands for any distance beyond the buckets around, in diameters."""


class Found(NamedTuple):
    """What a search ends with."""

    symmetries: Symmetries
    near_R: Float64[np.ndarray, "K 3 3"]
    near_t: Float64[np.ndarray, "K 3"]
    """Motions that nearly leave the form as it is, exact symmetries among them."""


def find_symmetries(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    rgb: Float[np.ndarray, "N 3"] | None,
    diameter_m: float,
    centre_m: Float[np.ndarray, " 3"],
) -> Found:
    """The rotations that leave an object as it is, and those that nearly do.

    A handle, a switch or a missing tooth may be all that forbids the latter, and colour is not asked for them. They
    tell which other poses have to be ruled out when one is found. Free axes are sampled in steps of NEAR_STEP_DEG.

    Args:
        points, normals: Of its visible surface, in metres.
        rgb: Colours 0 to 1 where they count, else None.
        diameter_m: Of the object.
        centre_m: Of the surface, by area: the one point that every symmetry leaves where it is.
    """
    step = max(len(points) // MOST_POINTS, 1)
    surface = _Surface(points[::step], normals[::step], None if rgb is None else rgb[::step], diameter_m, centre_m)
    axes = _axes(surface)
    near = np.array(_closure(_near_turns(surface, axes), surface.nearly_allows), np.float64).reshape(-1, 3, 3)
    return Found(_exact(surface, axes), near, surface.centre_m - near @ surface.centre_m)


def _exact(surface: _Surface, axes: list[Float64[np.ndarray, " 3"]]) -> Symmetries:
    continuous = [direction for direction in axes if _is_continuous(direction, surface.allows)]
    if len(continuous) > 1:
        # More than one free axis: a ball. Three of them stand for all.
        is_ball = all(_is_continuous(direction, surface.allows) for direction in np.eye(3))
        return _as_symmetries(surface, [], list(np.eye(3)) if is_ball else continuous[:1])
    rotations: list[Float64[np.ndarray, "3 3"]] = []
    for direction in axes:
        if continuous and abs(direction @ continuous[0]) > 0.99:
            continue
        rotations += [R for R in _turns(direction, FOLDS) if surface.allows(R)]
    if continuous:
        # With a free axis, one turn that swaps its ends stands for all of them.
        return _as_symmetries(surface, rotations[:1], continuous)
    return _as_symmetries(surface, _closure(rotations, surface.allows), [])


def _near_turns(surface: _Surface, axes: list[Float64[np.ndarray, " 3"]]) -> list[Float64[np.ndarray, "3 3"]]:
    """Turns about each axis, free ones in steps. None for a ball, of whose turns there is no end."""
    free = [direction for direction in axes if _is_continuous(direction, surface.nearly_allows)]
    if len(free) > 1:
        return []
    rotations: list[Float64[np.ndarray, "3 3"]] = []
    for direction in axes:
        if any(direction is other for other in free):
            angles = np.radians(np.arange(NEAR_STEP_DEG, 360, NEAR_STEP_DEG))
            candidates = list(se3.so3_exp(direction * angles[:, None]))
        else:
            candidates = _turns(direction, FOLDS)
        rotations += [R for R in candidates if surface.nearly_allows(R)]
    return rotations


def _turns(direction: Float64[np.ndarray, " 3"], folds: tuple[int, ...]) -> list[Float64[np.ndarray, "3 3"]]:
    return [se3.so3_exp(direction * (2 * np.pi / fold)) for fold in folds]


class _Surface:
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


def _axes(surface: _Surface) -> list[Float64[np.ndarray, " 3"]]:
    """Directions about which some turn nearly fits, made exact; no two within eight degrees."""
    directions = fibonacci_sphere(2 * N_AXES)[:N_AXES]
    angles = np.array([2 * np.pi / fold for fold in FOLDS])
    fit = np.stack([surface.mean_distance(se3.so3_exp(directions * angle)) for angle in angles])
    found: list[Float64[np.ndarray, " 3"]] = []
    for fold in range(len(FOLDS)):
        order = np.argsort(fit[fold])
        seeds: list[Float64[np.ndarray, " 3"]] = []
        for at in order[fit[fold][order] < PROMISING]:
            if all(abs(directions[at] @ other) < np.cos(np.radians(12)) for other in seeds):
                seeds.append(directions[at])
            if len(seeds) == 24:
                break
        for seed in seeds:
            exact = _made_exact(surface, seed, angles[fold])
            if all(abs(exact @ other) < np.cos(np.radians(8)) for other in found) and surface.nearly_allows(
                se3.so3_exp(exact * angles[fold])
            ):
                found.append(exact)
    return found


def _made_exact(surface: _Surface, direction: Float64[np.ndarray, " 3"], angle: float) -> Float64[np.ndarray, " 3"]:
    """Tilt an axis in ever smaller steps to where the turn fits best, point by point at the end."""
    step = np.radians(4.0)
    sample = surface.points[surface.check[:400]]
    for _ in range(9):
        side = np.cross(direction, np.eye(3)[np.abs(direction).argmin()])
        side /= np.linalg.norm(side)
        other = np.cross(direction, side)
        tilts = [(0.0, 0.0), (1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7)]
        tried = np.array([direction + step * (a * side + b * other) for a, b in tilts])
        tried /= np.linalg.norm(tried, axis=1, keepdims=True)
        turns = se3.so3_exp(tried * angle)
        if step > np.radians(1.0):
            fit = surface.mean_distance(turns)
        else:
            fit = np.empty(len(turns))
            for i, R in enumerate(turns):
                fit[i] = surface.distances(sample, R, surface.spacing)[1].mean()
        best = int(np.argmin(fit))
        direction = tried[best]
        if best == 0:
            step /= 2
    return direction


def _is_continuous(direction: Float64[np.ndarray, " 3"], allows: Callable[[np.ndarray], bool]) -> bool:
    return all(allows(se3.so3_exp(direction * np.radians(angle))) for angle in IRREGULAR_DEG)


def _closure(
    rotations: list[Float64[np.ndarray, "3 3"]], allows: Callable[[np.ndarray], bool]
) -> list[Float64[np.ndarray, "3 3"]]:
    """All products of the rotations that are allowed too, without the identity."""
    group = [np.eye(3)]
    waiting = [np.eye(3)]
    while waiting and len(group) < LARGEST_GROUP:
        R = waiting.pop()
        for other in rotations[: LARGEST_GROUP - len(group)]:
            product = se3.nearest_rotation(other @ R)
            if np.trace(np.array(group) @ product.T, axis1=1, axis2=2).max() < 1 + 2 * np.cos(np.radians(8)) and allows(
                product
            ):
                group.append(product)
                waiting.append(product)
    return group[1:]


def _as_symmetries(
    surface: _Surface, rotations: list[Float64[np.ndarray, "3 3"]], axes: list[Float64[np.ndarray, " 3"]]
) -> Symmetries:
    """About the surface's centre, in the frame of the points."""
    centre = surface.centre_m
    motions = [se3.se3(R, centre - R @ centre) for R in rotations]
    return Symmetries(
        np.array(motions, np.float64).reshape(-1, 4, 4), tuple(Axis(np.asarray(axis), centre) for axis in axes)
    )
