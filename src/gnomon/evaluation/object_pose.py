"""Evaluate object poses against a BOP data set: errors of every estimate, then scores of each object and of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64

from gnomon.errors import InputError
from gnomon.evaluation import pose_errors, recall
from gnomon.evaluation.targets import Selection, Target
from gnomon.evaluation.visible_surface import DELTA_M, TAUS, vsd
from gnomon.formats import bop_fields as fields
from gnomon.formats.bop import BopImage
from gnomon.formats.bop_models import BopModel
from gnomon.geometry.camera import Camera
from gnomon.geometry.view import ViewMesh, draw_view, prepare_view

Metric = Literal["add", "mssd", "mspd", "vsd", "rotation"]
METRICS: tuple[Metric, ...] = get_args(Metric)

SYMMETRY_STEP = 0.01
"""Sampling of axes of symmetry in MSSD and MSPD, as in the BOP challenge; see `Symmetries.transforms`."""

CORRECT_FRACTION = 0.1
"""An estimate counts as correct at a tenth of the diameter, in ADD(-S) and in MSSD."""


@dataclass(frozen=True)
class Scores:
    """Scores of one object or of all; None where a metric was not asked for or could not be computed.

    Recalls and areas are from 0 to 1, a missing estimate counts as a miss.
    """

    targets: int
    """True poses to be found."""
    estimates: int
    """Estimates that took part."""
    recall_add_s: float | None = None
    """ADD, or ADD-S for objects with symmetries, below a tenth of the diameter."""
    recall_mssd: float | None = None
    """MSSD below a tenth of the diameter."""
    auc_add: float | None = None
    auc_adds: float | None = None
    ar_vsd: float | None = None
    ar_mssd: float | None = None
    ar_mspd: float | None = None
    ar: float | None = None
    """Mean of the three above."""
    median_rotation_deg: float | None = None
    """Of those true poses that an estimate was found for, matched by MSSD without a threshold."""
    median_translation_m: float | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that `gnomon eval object-pose` says."""

    per_object: dict[int, Scores]
    total: Scores
    images: int
    """With at least one target."""
    seconds_per_image: float | None
    selection: Selection
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "schema_version": 1,
            "total": asdict(self.total),
            "objects": [{"obj_id": obj_id, **asdict(scores)} for obj_id, scores in self.per_object.items()],
            "images": self.images,
            "seconds_per_image": self.seconds_per_image,
            "left_out": asdict(self.selection.left_out),
            "targets_of_unknown_visibility": self.selection.truths_of_unknown_visibility,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class TargetErrors:
    """The errors of one target's estimates, each (estimates, truths); a metric that was not computed is missing."""

    target: Target
    is_symmetric: bool
    errors: dict[str, Float64[np.ndarray, "E G ..."]]
    """add, adds, mssd: as fractions of the diameter. add_m, adds_m: metres. mspd: pixels in an image 640 wide.
    vsd: (estimates, truths, taus). rotation: radians. translation: metres."""


class _Drawn:
    """Depth pictures of one image, drawn as they are needed, and what the sensor measured."""

    def __init__(self, image: BopImage, camera: Camera) -> None:
        self.camera = camera
        self.measured_m = image.read_depth()

    def depth(self, prepared: ViewMesh, T_cam_obj: np.ndarray) -> np.ndarray:
        return draw_view(prepared, T_cam_obj, self.camera, colour=False).depth_m


class _Object:
    """What of a model every estimate of it needs."""

    def __init__(self, model: BopModel, *, needs_view: bool) -> None:
        mesh = model.mesh()
        self.points = np.ascontiguousarray(mesh.vertices, np.float64)
        self.diameter_m = model.diameter_m
        self.symmetries = model.symmetries
        self.transforms = model.symmetries.transforms(SYMMETRY_STEP)
        self.view = prepare_view(mesh) if needs_view else None


def evaluate(
    selection: Selection,
    models: dict[int, BopModel],
    *,
    metrics: Sequence[Metric] | None = None,
    vsd_delta_m: float = DELTA_M,
    on_target: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Compute errors and scores.

    Args:
        selection: Of `targets.select`.
        metrics: Which to compute; None for all, without VSD where an image has no depth.
        on_target: Called with the number of targets done.

    Raises:
        InputError: There is no target (`bop_not_found`), an object has no model, or VSD was asked for and an image has
            no depth picture (`bop_not_found`).
    """
    if not selection.targets:
        raise InputError(
            "there is no true pose to compare with: no scene_gt.json, or nothing in it is visible enough or listed",
            code="bop_not_found",
            fix="check the folder, --visib-min and --targets",
        )
    _check_models(selection, models)
    chosen, notes = _choose(selection, metrics)
    notes += [
        f"object {obj_id}: no entry in models_info.json, taken as without symmetries; diameter computed"
        for obj_id in sorted({t.obj_id for t in selection.targets})
        if not models[obj_id].has_info
    ]
    results = target_errors(selection.targets, models, chosen, vsd_delta_m=vsd_delta_m, on_target=on_target)
    obj_ids = sorted({target.obj_id for target in selection.targets})
    per_object = {obj_id: score([r for r in results if r.target.obj_id == obj_id]) for obj_id in obj_ids}
    images = {(target.image.scene_id, target.image.im_id) for target in selection.targets}
    seconds = _seconds_per_image(selection.targets)
    return Evaluation(per_object, score(results), len(images), seconds, selection, (*selection.notes, *notes))


def score(results: Sequence[TargetErrors]) -> Scores:
    """Scores of some targets together."""
    groups = {
        name: [(r.errors[name], r.target.valid) for r in results] for name in (results[0].errors if results else {})
    }
    ar_vsd = ar_mssd = ar_mspd = None
    if "vsd" in groups:
        per_tau = [[(errors[..., k], valid) for errors, valid in groups["vsd"]] for k in range(len(TAUS))]
        ar_vsd = float(np.mean([recall.average_recall(group, recall.FRACTIONS) for group in per_tau]))
    if "mssd" in groups:
        ar_mssd = recall.average_recall(groups["mssd"], recall.FRACTIONS)
    if "mspd" in groups:
        ar_mspd = recall.average_recall(groups["mspd"], recall.PIXELS)
    averages = (ar_vsd, ar_mssd, ar_mspd)
    add_s = [(r.errors["adds" if r.is_symmetric else "add"], r.target.valid) for r in results if "add" in groups]
    rotation_rad, translation_m = _median_errors(results) if "rotation" in groups else (None, None)
    return Scores(
        targets=sum(int(r.target.valid.sum()) for r in results),
        estimates=sum(len(r.target.estimates) for r in results),
        recall_add_s=recall.recall(add_s, CORRECT_FRACTION) if "add" in groups else None,
        recall_mssd=recall.recall(groups["mssd"], CORRECT_FRACTION) if "mssd" in groups else None,
        auc_add=_auc(groups["add_m"]) if "add" in groups else None,
        auc_adds=_auc(groups["adds_m"]) if "add" in groups else None,
        ar_vsd=ar_vsd,
        ar_mssd=ar_mssd,
        ar_mspd=ar_mspd,
        ar=float(np.mean([ar for ar in averages if ar is not None])) if None not in averages else None,
        median_rotation_deg=None if rotation_rad is None else float(np.degrees(rotation_rad)),
        median_translation_m=translation_m,
    )


def _auc(groups: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return recall.area_under_curve(np.concatenate([recall.found_errors(*group) for group in groups]))


def _median_errors(results: Sequence[TargetErrors]) -> tuple[float | None, float | None]:
    found = []
    for r in results:
        matched = recall.match(r.errors["mssd"], np.inf, r.target.valid)
        found += [
            (r.errors["rotation"][matched[g], g], r.errors["translation"][matched[g], g])
            for g in np.flatnonzero(matched >= 0)
        ]
    if not found:
        return None, None
    rotation_rad, translation_m = np.median(np.array(found), axis=0)
    return float(rotation_rad), float(translation_m)


def target_errors(
    targets: Sequence[Target],
    models: dict[int, BopModel],
    metrics: frozenset[str],
    *,
    vsd_delta_m: float = DELTA_M,
    on_target: Callable[[int], None] = lambda done: None,
) -> list[TargetErrors]:
    """The errors of every estimate of every target; targets of one image are to follow each other."""
    objects: dict[int, _Object] = {}
    results = []
    camera: Camera | None = None
    drawn: _Drawn | None = None
    previous: BopImage | None = None
    for done, target in enumerate(targets, 1):
        if target.obj_id not in objects:
            objects[target.obj_id] = _Object(models[target.obj_id], needs_view="vsd" in metrics)
        if target.image is not previous:
            # Targets come image by image; pictures are kept for one image only.
            camera = target.image.camera() if metrics & {"mspd", "vsd"} else None
            drawn = _Drawn(target.image, camera) if camera is not None and "vsd" in metrics else None
            previous = target.image
        results.append(_target_errors(target, objects[target.obj_id], metrics, camera, drawn, vsd_delta_m))
        on_target(done)
    return results


def _target_errors(
    target: Target,
    thing: _Object,
    metrics: frozenset[str],
    camera: Camera | None,
    drawn: _Drawn | None,
    vsd_delta_m: float,
) -> TargetErrors:
    poses = [(e.T_cam_obj, t.T_cam_obj) for e in target.estimates for t in target.truths]
    shape = len(target.estimates), len(target.truths)

    def table(error: Callable[[np.ndarray, np.ndarray], Any]) -> np.ndarray:
        return np.array([error(*pair) for pair in poses], np.float64).reshape(*shape)

    errors: dict[str, np.ndarray] = {}
    points, symmetric = thing.points, thing.transforms
    if "add" in metrics:
        errors["add_m"] = table(lambda est, gt: pose_errors.add(est, gt, points))
        errors["adds_m"] = table(lambda est, gt: pose_errors.adds(est, gt, points))
        errors["add"], errors["adds"] = errors["add_m"] / thing.diameter_m, errors["adds_m"] / thing.diameter_m
    if "mssd" in metrics:
        errors["mssd"] = table(lambda est, gt: pose_errors.mssd(est, gt, points, symmetric)) / thing.diameter_m
    if "mspd" in metrics and camera is not None:
        scale = recall.REFERENCE_WIDTH_PX / camera.width
        errors["mspd"] = table(lambda est, gt: pose_errors.mspd(est, gt, points, symmetric, camera)) * scale
    if "rotation" in metrics:
        both = [pose_errors.rotation_and_translation(est, gt, thing.symmetries) for est, gt in poses]
        errors["rotation"], errors["translation"] = np.array(both, np.float64).reshape(*shape, 2).transpose(2, 0, 1)
    if "vsd" in metrics and drawn is not None and thing.view is not None:
        seen = [drawn.depth(thing.view, e.T_cam_obj) for e in target.estimates]
        true = [drawn.depth(thing.view, t.T_cam_obj) for t in target.truths] if seen else []
        all_taus = [
            vsd(est, gt, drawn.measured_m, drawn.camera, thing.diameter_m, delta_m=vsd_delta_m)
            for est in seen
            for gt in true
        ]
        errors["vsd"] = np.array(all_taus, np.float64).reshape(*shape, len(TAUS))
    return TargetErrors(target, not thing.symmetries.is_trivial, errors)


def _choose(selection: Selection, metrics: Sequence[Metric] | None) -> tuple[frozenset[str], list[str]]:
    """The metrics to compute, with those that others need, and a note on what was left out."""
    without_depth = next((t.image for t in selection.targets if t.image.depth_path is None), None)
    if metrics is None:
        if without_depth is None:
            return frozenset(METRICS), []
        name = without_depth.folder / f"image {without_depth.im_id}"
        return frozenset(METRICS) - {"vsd"}, [f"VSD and AR are left out: {name} has no depth picture"]
    if "vsd" in metrics and without_depth is not None:
        raise fields.not_found(without_depth.folder, f"depth picture of image {without_depth.im_id}, for VSD, in")
    # Rotations are those of the estimates that MSSD matches.
    return frozenset(metrics) | ({"mssd"} if "rotation" in metrics else set()), []


def _check_models(selection: Selection, models: dict[int, BopModel]) -> None:
    missing = sorted({target.obj_id for target in selection.targets} - set(models))
    if missing:
        folder = next(iter(models.values())).path.parent if models else Path("models")
        raise fields.not_found(folder / f"obj_{missing[0]:06d}.ply", "model")


def _seconds_per_image(targets: Sequence[Target]) -> float | None:
    """As BOP: the mean over images of the time that their estimates state; None if one does not."""
    times = {(t.image.scene_id, t.image.im_id): e.seconds for t in targets for e in t.estimates}
    known = [seconds for seconds in times.values() if seconds is not None]
    return float(np.mean(known)) if known and len(known) == len(times) else None
