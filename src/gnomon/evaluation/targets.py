"""Which true poses are to be found, and which estimates may try: the targets of the BOP challenge.

A target is one object in one image with the number of its instances that count. Either a file such as
test_targets_bop19.json lists targets, and then the most visible instances count; or every instance counts that is
visible enough. For each target so many estimates are looked at as instances count, those of the highest score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from gnomon.evaluation.estimates import Estimates
from gnomon.formats import bop_fields as fields
from gnomon.formats.bop import BopImage, BopScene, TruePose
from gnomon.formats.bop_results import BopEstimate

VISIB_MIN = 0.1
"""The BOP challenge counts what is visible by a tenth or more."""

MAX_TARGETS = 5_000_000

Key = tuple[int | None, int, int]
"""Scene, image, object."""


@dataclass(frozen=True, eq=False)
class Target:
    """One object in one image."""

    image: BopImage
    obj_id: int
    truths: tuple[TruePose, ...]
    """All true poses of the object in the image."""
    valid: Bool[np.ndarray, " truths"]
    """Which of them count."""
    estimates: tuple[BopEstimate, ...] = ()
    """By decreasing score, at most as many as true poses count."""


@dataclass(frozen=True)
class LeftOut:
    """How many true poses and estimates take no part, and why."""

    truths_not_visible: int = 0
    truths_not_listed: int = 0
    """Of objects or instances that the list of targets does not name."""
    estimates_without_pose: int = 0
    estimates_of_other_images: int = 0
    estimates_of_other_objects: int = 0
    estimates_beyond_count: int = 0


@dataclass(frozen=True, eq=False)
class Selection:
    """The targets with their estimates."""

    targets: tuple[Target, ...]
    left_out: LeftOut
    truths_of_unknown_visibility: int
    """True poses that count although nothing says how far they can be seen."""
    notes: list[str] = field(default_factory=list)


def read_target_list(path: str | Path) -> dict[Key, int]:
    """How many instances count for each scene, image and object, from a file such as test_targets_bop19.json."""
    path = Path(path)
    content = fields.read_json(path)
    if not isinstance(content, list) or not 0 < len(content) <= MAX_TARGETS:
        raise fields.invalid(path, "the file", content, f"a list of 1 to {MAX_TARGETS} targets")
    found: dict[Key, int] = {}
    for i, entry in enumerate(content):
        if not isinstance(entry, dict):
            raise fields.invalid(path, f"[{i}]", entry, "an object with scene_id, im_id, obj_id and inst_count")
        names = ("scene_id", "im_id", "obj_id", "inst_count")
        scene_id, im_id, obj_id, count = (fields.whole_number(entry.get(n), path, f"[{i}].{n}") for n in names)
        found[scene_id, im_id, obj_id] = count
    return found


def select(
    scenes: Sequence[BopScene],
    estimates: Estimates,
    *,
    visib_min: float = VISIB_MIN,
    target_list: dict[Key, int] | None = None,
) -> Selection:
    """Make targets of the true poses and give each its estimates.

    Args:
        visib_min: Least visible share of a true pose that counts; not used with a list of targets. Where a data set
            does not state the share, the pose counts.
        target_list: Of `read_target_list`.
    """
    by_key, other_images, notes = _sort_estimates(scenes, estimates)
    if target_list is not None:
        notes += _unknown_targets(scenes, target_list)
    targets, counts = [], {"not_visible": 0, "not_listed": 0}
    used = beyond = unknown = 0
    for scene in scenes:
        for image in scene.images:
            for obj_id in sorted({truth.obj_id for truth in image.truths}):
                truths = tuple(truth for truth in image.truths if truth.obj_id == obj_id)
                if target_list is None:
                    valid, reason = _visible(truths, visib_min), "not_visible"
                else:
                    count = target_list.get((scene.scene_id, image.im_id, obj_id), 0)
                    valid, reason = _most_visible(truths, count), "not_listed"
                counts[reason] += int((~valid).sum())
                if not valid.any():
                    continue
                unknown += sum(truth.visib_fract is None for truth, ok in zip(truths, valid, strict=True) if ok)
                given = by_key.get((scene.scene_id, image.im_id, obj_id), [])
                chosen = tuple(given[: int(valid.sum())])
                used, beyond = used + len(chosen), beyond + len(given) - len(chosen)
                targets.append(Target(image, obj_id, truths, valid, chosen))
    left_out = LeftOut(
        truths_not_visible=counts["not_visible"],
        truths_not_listed=counts["not_listed"],
        estimates_without_pose=estimates.without_pose,
        estimates_of_other_images=other_images,
        estimates_of_other_objects=len(estimates.estimates) - other_images - used - beyond,
        estimates_beyond_count=beyond,
    )
    return Selection(tuple(targets), left_out, unknown, notes)


def _unknown_targets(scenes: Sequence[BopScene], target_list: dict[Key, int]) -> list[str]:
    """What the list wants of these scenes and they do not have: the scores would be of fewer targets than it says."""
    nameless = [scene.folder for scene in scenes if scene.scene_id is None]
    if nameless:
        raise fields.invalid(
            nameless[0], "the folder's name", nameless[0].name, "the scene's number, as --targets needs"
        )
    here = {(s.scene_id, i.im_id, t.obj_id) for s in scenes for i in s.images for t in i.truths}
    scene_ids = {scene.scene_id for scene in scenes}
    missing = sum(key[0] in scene_ids and key not in here for key in target_list)
    return [f"{missing} listed targets of these scenes have no true pose and are left out"] if missing else []


def _visible(truths: tuple[TruePose, ...], visib_min: float) -> Bool[np.ndarray, " truths"]:
    return np.array([truth.visib_fract is None or truth.visib_fract >= visib_min for truth in truths], bool)


def _most_visible(truths: tuple[TruePose, ...], count: int) -> Bool[np.ndarray, " truths"]:
    order = sorted(range(len(truths)), key=lambda i: -(1.0 if (v := truths[i].visib_fract) is None else v))
    valid = np.zeros(len(truths), bool)
    valid[order[:count]] = True
    return valid


def _sort_estimates(
    scenes: Sequence[BopScene], estimates: Estimates
) -> tuple[dict[Key, list[BopEstimate]], int, list[str]]:
    """Estimates by scene, image and object, the best score first; and how many are of images that are not here.

    A single scene whose folder is not named by a number is taken to be the scene that all estimates are about.
    """
    named = {estimate.scene_id for estimate in estimates.estimates} if estimates.has_scene_ids else set()
    alone = len(scenes) == 1
    take_all = alone and (not named or (scenes[0].scene_id is None and len(named) == 1))
    notes = []
    if take_all and named:
        notes.append(f"{scenes[0].folder.name} is not named by a number: taken to be scene {named.pop()}")
    images = {(scene.scene_id, image.im_id) for scene in scenes for image in scene.images}
    found: dict[Key, list[BopEstimate]] = {}
    other_images = 0
    for estimate in estimates.estimates:
        scene_id = scenes[0].scene_id if take_all else estimate.scene_id
        if (scene_id, estimate.im_id) not in images:
            other_images += 1
            continue
        found.setdefault((scene_id, estimate.im_id, estimate.obj_id), []).append(estimate)
    if estimates.estimates and not found:
        theirs, ours = sorted(named), [scene.scene_id for scene in scenes]
        notes.append(f"no estimate is of an image in GT: they are of scenes {theirs[:5]}, GT has {ours[:5]}")
    for group in found.values():
        group.sort(key=lambda estimate: -estimate.score)
    return found, other_images, notes
