"""Masks from a file of detections, in place of mask pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from gnomon.errors import InputError
from gnomon.formats.bop_detections import BopDetection, read_detections

DetectedMasks = dict[tuple[int, int, int], Callable[[], Bool[np.ndarray, "H W"]]]
"""Masks by image, object and rank; the detection of the highest score has rank 0."""


def best_detections(
    path: Path, scene_id: int, im_ids: Sequence[int], obj_ids: Sequence[int], count: int
) -> DetectedMasks:
    """The best `count` detections of every object in every image.

    Raises:
        InputError: the file is damaged (`bop_unreadable`, `bop_invalid`) or has none of these (`detections_none`).
    """
    wanted_images, wanted_objects = set(im_ids), set(obj_ids)
    groups: dict[tuple[int, int], list[BopDetection]] = {}
    every = read_detections(path)
    for entry in every:
        if entry.scene_id == scene_id and entry.im_id in wanted_images and entry.obj_id in wanted_objects:
            groups.setdefault((entry.im_id, entry.obj_id), []).append(entry)
    if not groups:
        raise InputError(
            f"none of the {len(every)} detections of {path.name} is of these objects in these images",
            code="detections_none",
            field="detections",
            value=path.name,
            expected=f"scene_id {scene_id}, image_id {_some(im_ids)}, category_id {_some(obj_ids)}",
            fix="set --scene-id, --im-id and --obj-id to the numbers of the file",
        )
    return {
        (im_id, obj_id, rank): entry.mask
        for (im_id, obj_id), entries in groups.items()
        # Sorting keeps the order of the file among equal scores.
        for rank, entry in enumerate(sorted(entries, key=lambda entry: -entry.score)[:count])
    }


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
