"""The z-buffer of `rasterize.draw` by rays: Embree, through the optional package embreex.

One ray runs through each lattice sample inside the projected box of the object, and its nearest triangle is written
as `draw` would write it, so all that follows is the same for both engines. Rays differ from scan conversion by
rounding alone: at single samples on a silhouette, and in which of two equally near triangles is seen.

embreex holds Python's global lock while it traces, so rays save CPU time but gain little from more threads.
"""

from __future__ import annotations

import importlib.util
import itertools
from typing import Any

import numba
import numpy as np
from jaxtyping import Float, Int64

from gnomon.errors import MissingError
from gnomon.geometry.drawable import Drawable
from gnomon.geometry.rasterize import FACE_MASK

RAYS_PER_BATCH = 1 << 16
"""About 6 MB with origins, directions and all that Embree returns."""

# CPU time on one Xeon core, for a closed bumpy sphere of 2.1 million triangles, Numba's scan conversion against
# Embree 4 through embreex. With 512 / 128 / 64 pixels a side and 2 x 2 samples a view took the scan 24 / 18 / 18 ms,
# which is 11 / 8.4 / 8.4 ns a triangle, and the rays 80 / 11 / 3.6 ms. Building the tree took 5.4 s. A ray took
# 0.27 / 0.55 / 0.71 us: the sparser the rays, the less of the tree is still in the processor's cache for the next.
# By these figures and the margin the tree alone costs too much below some 390 views, whatever the mesh.
SCAN_S_PER_TRIANGLE = 8.4e-9
BUILD_S_PER_TRIANGLE = 2.6e-6
S_PER_RAY = 0.7e-6
MARGIN = 0.8
"""Rays must be cheaper by this factor, since the figures differ between machines and meshes."""


def is_installed() -> bool:
    """Whether embreex can be imported; it is not imported here."""
    return importlib.util.find_spec("embreex") is not None


def check_installed() -> None:
    """Raise MissingError not_installed if embreex is absent."""
    if not is_installed():
        raise MissingError(
            "the engine `rays` needs embreex, which is not installed",
            field="engine",
            value="rays",
            fix='pip install "gnomon[embree]"',
        )


def ray_engine_pays(triangles: int, views: int, samples: float) -> bool:
    """Whether rays need clearly less CPU time than scan conversion for a whole set of views.

    Args:
        triangles: of the mesh.
        views: to be drawn from one tree.
        samples: lattice samples inside the object's box, mean over the views.
    """
    scan_s = views * triangles * SCAN_S_PER_TRIANGLE
    rays_s = triangles * BUILD_S_PER_TRIANGLE + views * samples * S_PER_RAY
    return rays_s < MARGIN * scan_s


def sample_box(
    half_extent: Float[np.ndarray, " 3"], to_lattice: Float[np.ndarray, "3 4"], near: float, samples: int
) -> Int64[np.ndarray, " 4"]:
    """Lattice samples [x0, y0, x1, y1], both ends inclusive, that the object's bounding box may cover.

    The whole lattice where the box reaches in front of the near plane, as the camera may then stand inside it;
    x1 and y1 are -1 where it lies beside the picture. `near` is in the object's unit.
    """
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    corners = (signs * half_extent) @ to_lattice[:, :3].T + to_lattice[:, 3]
    if corners[:, 2].min() < near:
        return np.array([0, 0, samples - 1, samples - 1])
    at = corners[:, :2] / corners[:, 2:]
    # A sample more on each side: vertices are rounded to float32, and the box is not.
    low = np.clip(np.floor(at.min(axis=0)) - 1, 0, samples).astype(np.int64)
    high = np.clip(np.ceil(at.max(axis=0)) + 1, -1, samples - 1).astype(np.int64)
    if (high < low).any():
        return np.array([samples, samples, -1, -1])
    return np.concatenate((low, high))


class RayTree:
    """The search tree of one mesh; several threads may draw from it."""

    def __init__(self, drawable: Drawable) -> None:
        """Build the tree. Raises MissingError not_installed."""
        check_installed()
        # By name: the package declares no types for its compiled modules.
        construction = importlib.import_module("embreex.mesh_construction")
        rtcore_scene = importlib.import_module("embreex.rtcore_scene")
        self._half_extent = drawable.half_extent
        self._scene: Any = rtcore_scene.EmbreeScene()
        construction.TriangleMesh(self._scene, drawable.vertices[drawable.faces])
        # The tree is built at the first ray: here, before several threads can ask for it at once.
        one = np.ones((1, 3), np.float32)
        self._scene.run(one, one)

    def draw(
        self,
        to_lattice: Float[np.ndarray, "3 4"],
        to_object: Float[np.ndarray, "3 3"],
        camera: Float[np.ndarray, " 3"],
        near: float,
        far: float,
        samples: int,
        buffer: Int64[np.ndarray, "R C"],
        box: Int64[np.ndarray, " 4"],
    ) -> None:
        """Fill the empty `buffer` and set `box`, both as `rasterize.draw` leaves them.

        Args:
            to_lattice: object point (relative to the drawable's origin) -> homogeneous lattice sample.
            to_object: (x, y, 1) in lattice samples -> direction in the object's axes with depth 1.
            camera: the camera's centre, relative to the drawable's origin.
            near, far: limits of depth, in the object's unit.
            samples: width and height of the lattice.
        """
        box[:] = sample_box(self._half_extent, to_lattice, near, samples)
        x0, y0, x1, y1 = (int(side) for side in box)
        if x1 < x0:
            return
        width = x1 + 1 - x0
        rows = max(RAYS_PER_BATCH // width, 1)
        for top in range(y0, y1 + 1, rows):
            part = buffer[top : min(top + rows, y1 + 1), x0 : x1 + 1]
            origins = np.empty((part.size, 3), np.float32)
            directions = np.empty((part.size, 3), np.float32)
            _aim(to_object, camera, near, x0, top, width, origins, directions)
            hit = self._scene.run(origins, directions, output=1)
            _pack(hit["primID"], hit["tfar"], near, far, part)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _aim(to_object, camera, near, x0, y0, width, origins, directions):
    """Rays row by row from the near plane, so that nothing in front of it hides what lies behind."""
    for ray in range(origins.shape[0]):
        x = x0 + ray % width
        y = y0 + ray // width
        for k in range(3):
            along = to_object[k, 0] * x + to_object[k, 1] * y + to_object[k, 2]
            directions[ray, k] = np.float32(along)
            origins[ray, k] = np.float32(camera[k] + near * along)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _pack(faces, beyond_near, near, far, out):
    """Samples as in `rasterize` from the triangles hit (-1: none) and their depth beyond the near plane."""
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            ray = row * out.shape[1] + column
            depth = near + np.float64(beyond_near[ray])
            if faces[ray] >= 0 and depth <= far:
                bits = np.int64(np.float32(1.0 / depth).view(np.int32))
                out[row, column] = (bits << 32) | (FACE_MASK - np.int64(faces[ray]))
