"""Masks of an object as segmenters give them: never quite the visible pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Int16

from gnomon.tasks.synthetic.canvas import NOTHING, OBJECT

MaskMode = Literal["standard", "exact", "over_segmented", "under_segmented"]

_LEAST_PX = 80
"""A mask that an error would leave smaller than this is not eroded."""


def make_mask(
    label: Int16[np.ndarray, "H W"], rng: np.random.Generator, mode: MaskMode = "standard"
) -> Bool[np.ndarray, "H W"]:
    """A mask of the pixels with label OBJECT.

    - "exact": those pixels.
    - "standard": a wrong outline, see `imperfect`.
    - "over_segmented": the same and a part of what lies beside the object, see `leaked`.
    - "under_segmented": a wrong outline of a part of the object, see `partial`.
    """
    visible = label == OBJECT
    if mode == "exact":
        return visible
    if mode == "over_segmented":
        return imperfect(leaked(label, rng), rng, outliers=0)
    if mode == "under_segmented":
        return imperfect(partial(visible, rng), rng, outliers=0)
    return imperfect(visible, rng)


def imperfect(
    visible: Bool[np.ndarray, "H W"], rng: np.random.Generator, *, outliers: float = 0.3
) -> Bool[np.ndarray, "H W"]:
    """Eroded or dilated by 0 to 3 px, shifted by up to 2 px, and a share `outliers` with a bite or a blob."""
    import cv2

    mask = visible.astype(np.uint8)
    reach = int(rng.integers(0, 4))
    if reach > 0:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        changed = cv2.dilate(mask, disc) if rng.random() < 0.5 else cv2.erode(mask, disc)
        # Thin objects would vanish.
        if changed.sum() >= max(_LEAST_PX, 0.3 * mask.sum()):
            mask = changed
    mask = _shifted(mask, *(int(step) for step in rng.integers(-2, 3, 2)))
    if rng.random() < outliers and mask.any():
        rows, columns = np.nonzero(mask)
        at = rng.integers(len(rows))
        radius = int(rng.uniform(0.1, 0.25) * np.sqrt(len(rows))) + 1
        changed = mask.copy()
        cv2.circle(changed, (int(columns[at]), int(rows[at])), radius, int(rng.random() < 0.5), -1)
        if changed.sum() >= min(_LEAST_PX, mask.sum()):
            mask = changed
    return mask > 0


def leaked(
    label: Int16[np.ndarray, "H W"], rng: np.random.Generator, *, share: tuple[float, float] = (0.2, 0.8)
) -> Bool[np.ndarray, "H W"]:
    """The object and a piece of a neighbouring surface: its area a share of the object's, grown from the border.

    The neighbour is drawn among those that touch the object, by the length of the common border.
    """
    import cv2

    visible = label == OBJECT
    border = (cv2.dilate(visible.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~visible & (label != NOTHING)
    rows, columns = np.nonzero(border)
    if len(rows) == 0:
        return visible
    at = rng.integers(len(rows))
    neighbour = label == label[rows[at], columns[at]]
    v, u = np.nonzero(neighbour)
    count = min(int(rng.uniform(*share) * visible.sum()), len(v))
    # The nearest pixels to one place on the border, along an ellipse that leans any way.
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 2.0)
    along = np.cos(angle) * (u - columns[at]) + np.sin(angle) * (v - rows[at])
    across = -np.sin(angle) * (u - columns[at]) + np.cos(angle) * (v - rows[at])
    nearest = np.argsort(along**2 / stretch + across**2 * stretch, kind="stable")[:count]
    mask = visible.copy()
    mask[v[nearest], u[nearest]] = True
    return mask


def partial(
    visible: Bool[np.ndarray, "H W"], rng: np.random.Generator, *, share: tuple[float, float] = (0.3, 0.7)
) -> Bool[np.ndarray, "H W"]:
    """A share of the object on one side of a wavy line, as when a segmenter finds a part of it."""
    rows, columns = np.nonzero(visible)
    if len(rows) == 0:
        return visible
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    across = -np.sin(angle) * columns + np.cos(angle) * rows
    extent = max(float(np.ptp(across)), 1.0)
    wave = 0.06 * extent * np.sin(2 * np.pi * (rng.uniform(1, 2.5) * across / extent + rng.random()))
    level = along + wave
    kept = level <= np.quantile(level, rng.uniform(*share))
    mask = np.zeros_like(visible)
    mask[rows[kept], columns[kept]] = True
    return mask


def _shifted(mask: np.ndarray, down: int, right: int) -> np.ndarray:
    """The mask moved, with nothing coming in from the borders."""
    height, width = mask.shape
    moved = np.zeros_like(mask)
    moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = mask[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return moved
