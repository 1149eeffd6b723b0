"""A mask looked at again as depth sees it: leaks go, missing parts come back, good masks are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from known_objects import CAMERA, pose

from gnomon.geometry.view import draw_view, prepare_view
from gnomon.tasks.object_pose.methods.render_compare.revision import revised_mask
from gnomon.tasks.synthetic.parts import box, moved

D = float(np.linalg.norm((0.12, 0.08, 0.08)))
# Seen from above at a slant: the table's z axis points up and towards the camera.
T_CAM_TABLE = pose((np.pi + 0.7, 0, 0), (0, 0.02, 0.6))


def table_with_box() -> tuple[np.ndarray, np.ndarray]:
    """Depth of a box on a table, and the box's pixels."""
    table = draw_view(prepare_view(box((2, 2, 0.02), (0, 0, -0.01))), T_CAM_TABLE, CAMERA).depth_m
    thing = draw_view(prepare_view(moved(box((0.12, 0.08, 0.08)), (0, 0, 0.04), turn_deg=25)), T_CAM_TABLE, CAMERA)
    depth = np.where(thing.depth_m > 0, thing.depth_m, table)
    noise = np.random.default_rng(0).normal(0, 0.0008, depth.shape)
    return np.where(depth > 0, depth + noise, 0).astype(np.float32), thing.depth_m > 0


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


DEPTH, TRUE = table_with_box()


def test_a_leak_onto_the_table_is_removed() -> None:
    mask = TRUE.copy()
    v, u = np.nonzero(TRUE)
    mask[v.max() - 30 : v.max() + 15, u.min() - 40 : u.min() + 20] = True
    assert overlap(mask, TRUE) < 0.75
    revised = revised_mask(mask, DEPTH, CAMERA, D)
    assert revised is not None and overlap(revised, TRUE) > 0.9


@pytest.mark.parametrize("side", ["left", "right", "top"])
def test_a_part_grows_to_the_whole(side: str) -> None:
    v, u = np.nonzero(TRUE)
    mask = TRUE.copy()
    middle_u, middle_v = int(np.median(u)), int(np.median(v))
    if side == "left":
        mask[:, middle_u:] = False
    elif side == "right":
        mask[:, :middle_u] = False
    else:
        mask[middle_v:] = False
    revised = revised_mask(mask, DEPTH, CAMERA, D)
    assert revised is not None and overlap(revised, TRUE) > 0.85


def test_a_good_mask_needs_no_revision() -> None:
    assert revised_mask(TRUE, DEPTH, CAMERA, D) is None


def test_a_neighbour_behind_a_step_stays_out() -> None:
    other = draw_view(prepare_view(box((0.06, 0.06, 0.06))), pose((0.3, 0, 0), (0.045, 0.03, 0.44)), CAMERA).depth_m
    front = other > 0
    depth = np.where(front, other, DEPTH)
    visible = TRUE & ~front
    half = visible.copy()
    half[:, int(np.median(np.nonzero(visible)[1])) :] = False
    revised = revised_mask(half, depth, CAMERA, D)
    assert revised is not None and (revised & front).sum() < 0.05 * front.sum()
    assert overlap(revised, visible) > 0.85


def test_nothing_usable_gives_no_revision() -> None:
    nothing = np.zeros_like(TRUE)
    assert revised_mask(nothing, DEPTH, CAMERA, D) is None
    assert revised_mask(TRUE, np.zeros_like(DEPTH), CAMERA, D) is None
    few = nothing.copy()
    v, u = np.nonzero(TRUE)
    few[v[200], u[200] : u[200] + 3] = True
    assert revised_mask(few, DEPTH, CAMERA, D) is None


def test_the_same_mask_gives_the_same_revision() -> None:
    mask = TRUE.copy()
    mask[:, int(np.median(np.nonzero(TRUE)[1])) :] = False
    first, again = (revised_mask(mask, DEPTH, CAMERA, D) for _ in range(2))
    assert np.array_equal(first, again)
