"""Masks: what each mode does to the visible pixels."""

from __future__ import annotations

import numpy as np
import pytest

from gnomon.tasks.synthetic.canvas import CLUTTER, OBJECT, SUPPORT
from gnomon.tasks.synthetic.masks import imperfect, leaked, make_mask, partial


@pytest.fixture
def label() -> np.ndarray:
    """A disc of 40 px across on a support, with a thing that touches it at the right."""
    y, x = np.mgrid[:120, :160]
    picture = np.full((120, 160), SUPPORT, np.int16)
    picture[40:90, 95:140] = CLUTTER
    picture[(x - 80) ** 2 + (y - 60) ** 2 < 20**2] = OBJECT
    return picture


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_exact_masks_are_the_visible_pixels(label: np.ndarray) -> None:
    assert np.array_equal(make_mask(label, np.random.default_rng(0), "exact"), label == OBJECT)


def test_standard_masks_are_nearly_right(label: np.ndarray) -> None:
    visible = label == OBJECT
    masks = [make_mask(label, np.random.default_rng(seed)) for seed in range(60)]
    scores = np.array([overlap(mask, visible) for mask in masks])
    assert scores.min() > 0.5 and 0.75 < np.median(scores) < 0.99
    areas = np.array([mask.sum() / visible.sum() for mask in masks])
    assert (areas > 1.05).any() and (areas < 0.95).any()


def test_thin_objects_do_not_vanish() -> None:
    line = np.zeros((100, 300), bool)
    line[50:53, 20:280] = True
    assert all(imperfect(line, np.random.default_rng(seed)).sum() > 200 for seed in range(40))


def test_over_segmented_masks_leak_into_one_neighbour(label: np.ndarray) -> None:
    visible = label == OBJECT
    neighbours = set()
    for seed in range(30):
        mask = leaked(label, np.random.default_rng(seed))
        assert mask[visible].all()
        extra = mask & ~visible
        assert 0.15 < extra.sum() / visible.sum() < 0.85
        (neighbour,) = np.unique(label[extra])
        neighbours.add(int(neighbour))
    assert neighbours == {SUPPORT, CLUTTER}
    whole = make_mask(label, np.random.default_rng(0), "over_segmented")
    assert (whole & ~visible).sum() > 0.1 * visible.sum()


def test_under_segmented_masks_are_a_part(label: np.ndarray) -> None:
    visible = label == OBJECT
    for seed in range(30):
        mask = partial(visible, np.random.default_rng(seed))
        assert not mask[~visible].any()
        assert 0.28 < mask.sum() / visible.sum() < 0.72
    assert 0.15 < make_mask(label, np.random.default_rng(0), "under_segmented").sum() / visible.sum() < 0.9


def test_nothing_stays_nothing() -> None:
    nothing = np.full((20, 30), SUPPORT, np.int16)
    for mode in ("standard", "exact", "over_segmented", "under_segmented"):
        assert not make_mask(nothing, np.random.default_rng(0), mode).any()
