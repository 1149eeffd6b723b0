"""A lighter mesh that looks the same."""

from __future__ import annotations

import cv2
import fast_simplification
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int32

from gnomon.geometry.camera import Camera
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.view import ViewMesh, draw_view, prepare_view
from gnomon.geometry.weld import weld
from gnomon.tasks.object_pose.methods.render_compare.views import VIEW_DISTANCE, view_camera, view_poses

TRIANGLES = 2000
CLUSTER_CELLS = (0.0, 0.004, 0.008, 0.014, 0.02)
"""Cells, in diameters, whose vertices are made one before simplification: CAD exports are full of seams, double walls
and hidden layers that quadric simplification alone cannot get rid of."""
GENTLE = 3
"""The library's aggressiveness, 0 to 10. Its default tears thin walls."""
MANY_TRIANGLES = 8000
"""From here on twice as much is put up with: every hypothesis pays for each triangle."""
MOST_TRIANGLES = 40_000
SIMPLIFIED_OFF = 0.02
"""A simplified mesh is wrong at pixels whose depth is off by more than this share of the diameter."""
SIMPLIFIED_BAD = 0.03
"""Share of wrong pixels above which more triangles are kept."""


def simplify(
    mesh: Mesh, drawn: ViewMesh, diameter_m: float
) -> tuple[Float32[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"], tuple[str, ...]]:
    """Fewer triangles that look the same: quadric simplification, checked by drawing, retried with more.

    Simplifiers can drop a thin wall or the bottom of a mug without a word, hence the check.
    """
    vertices, faces = _clustered(mesh, 0.0)
    if len(faces) <= TRIANGLES:
        return vertices, faces, ()
    T_views = view_poses(14, VIEW_DISTANCE * diameter_m)
    camera = view_camera(64)
    reference = [draw_view(drawn, T, camera, colour=False).depth_m for T in T_views]
    best: tuple[float, Float32[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"]] | None = None
    target = TRIANGLES
    while target < min(2 * len(faces), MOST_TRIANGLES):
        for cell in CLUSTER_CELLS:
            fewer = _simplified(*_clustered(mesh, cell * diameter_m), target)
            if len(fewer[1]) == 0 or len(fewer[1]) > 1.1 * target:
                continue
            bad = _share_wrong(*fewer, T_views, camera, reference, diameter_m)
            if best is None or bad < best[0]:
                best = bad, *fewer
            if bad < (SIMPLIFIED_BAD if target < MANY_TRIANGLES else 2 * SIMPLIFIED_BAD):
                return *fewer, ()
        target *= 2
    if len(faces) <= MOST_TRIANGLES or best is None:
        return vertices, faces, ()
    return best[1], best[2], (f"simplified to {len(best[2]):,} triangles, which changes {best[0]:.1%} of its looks",)


def _clustered(mesh: Mesh, cell_m: float) -> tuple[Float32[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"]]:
    """Vertices of one cell of a grid made one (0: only those at the same place), and triangles that remain, once."""
    place, first = weld(np.round(mesh.vertices / cell_m) if cell_m > 0 else mesh.vertices)
    count = np.bincount(place, minlength=len(first))
    sums = [np.bincount(place, mesh.vertices[:, axis], len(first)) for axis in range(3)]
    vertices = np.stack(sums, axis=-1) / count[:, None]
    faces = place[mesh.faces].astype(np.int64)
    corners = np.sort(faces, axis=1)
    whole = np.flatnonzero((corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2]))
    if cell_m > 0:
        key = (corners[whole, 0] * len(first) + corners[whole, 1]) * len(first) + corners[whole, 2]
        whole = whole[np.sort(np.unique(key, return_index=True)[1])]
    return np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces[whole], np.int32)


def _simplified(
    vertices: Float32[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], target: int
) -> tuple[Float32[np.ndarray, "w 3"], Int32[np.ndarray, "g 3"]]:
    """About `target` triangles by quadric error; more where the mesh's many borders and seams do not allow it."""
    if len(faces) <= target:
        return vertices, faces
    fewer = fast_simplification.simplify(vertices.astype(np.float64), faces, target_count=target, agg=GENTLE)
    return np.ascontiguousarray(fewer[0], np.float32), np.ascontiguousarray(fewer[1], np.int32)


def _share_wrong(
    vertices: Float[np.ndarray, "v 3"],
    faces: Float[np.ndarray, "f 3"],
    T_views: Float64[np.ndarray, "n 4 4"],
    camera: Camera,
    reference: list[Float32[np.ndarray, "S S"]],
    diameter_m: float,
) -> float:
    drawn = prepare_view(Mesh(vertices=np.asarray(vertices, np.float64), faces=np.asarray(faces)))
    wrong = seen = 0
    tolerance_m, behind_m = SIMPLIFIED_OFF * diameter_m, 2 * VIEW_DISTANCE * diameter_m
    for T, depth in zip(T_views, reference, strict=True):
        other = draw_view(drawn, T, camera, colour=False).depth_m
        before = np.where(depth > 0, depth, np.float32(behind_m))
        after = np.where(other > 0, other, np.float32(behind_m))
        # Outlines may move by a pixel; a wall or a leg that is gone has no such depth anywhere near, one way round.
        wrong += int((_off_all_around(before, after, tolerance_m) | _off_all_around(after, before, tolerance_m)).sum())
        seen += int((depth > 0).sum())
    return wrong / max(seen, 1)


def _off_all_around(
    depth: Float32[np.ndarray, "S S"], other: Float32[np.ndarray, "S S"], tolerance_m: float
) -> Bool[np.ndarray, "S S"]:
    """Where `depth` lies outside what `other` has in the pixel and its eight neighbours."""
    window = np.ones((3, 3), np.uint8)
    return (depth < cv2.erode(other, window) - tolerance_m) | (depth > cv2.dilate(other, window) + tolerance_m)
