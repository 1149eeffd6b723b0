"""Estimates to be evaluated, from a CSV file of the BOP format or from gnomon's poses.json."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gnomon.formats import bop_fields as fields
from gnomon.formats.bop_results import BopEstimate, read_results
from gnomon.geometry import se3

SCHEMA_VERSION = 1

_WITHOUT_POSE = ("lost", "failed")
"""States of entries whose pose is only a guess or not there; they count as no estimate."""


@dataclass(frozen=True, eq=False)
class Estimates:
    """What a results file says."""

    estimates: list[BopEstimate]
    without_pose: int = 0
    """Entries of poses.json that say themselves that they have no pose."""
    has_scene_ids: bool = True
    """Whether `scene_id` means anything; poses.json may be about one nameless scene."""


def read_estimates(path: str | Path) -> Estimates:
    """Read results by the file's ending: .csv is BOP's format, .json is poses.json.

    Raises:
        InputError: Another ending, a damaged file, or a pose that is not finite or not rigid (`bop_...`).
    """
    path = Path(path)
    if not path.is_file():
        raise fields.not_found(path)
    if path.suffix.lower() == ".csv":
        return Estimates(read_results(path))
    if path.suffix.lower() == ".json":
        return _read_poses(path)
    raise fields.invalid(path, "the ending", path.suffix, ".csv (BOP results) or .json (poses.json)")


def _read_poses(path: Path) -> Estimates:
    content = fields.read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise fields.invalid(path, "frames", content, "a list of frames, as in gnomon's poses.json")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise fields.invalid(path, "schema_version", content.get("schema_version"), f"{SCHEMA_VERSION}")
    estimates: list[BopEstimate] = []
    without_pose = 0
    scene_ids = set()
    for i, frame in enumerate(content["frames"]):
        field = f"frames[{i}]"
        if not isinstance(frame, dict) or not isinstance(frame.get("objects"), list):
            raise fields.invalid(path, f"{field}.objects", frame, "a list of objects")
        scene_id, im_id = _frame_ids(frame, path, field)
        scene_ids.add(scene_id)
        seconds = _seconds(frame["objects"], path, field)
        for j, entry in enumerate(frame["objects"]):
            estimate = _estimate(entry, scene_id or 0, im_id, seconds, path, f"{field}.objects[{j}]")
            without_pose += estimate is None
            estimates += [estimate] if estimate is not None else []
    if None in scene_ids and len(scene_ids) > 1:
        raise fields.invalid(path, "scene_id", None, "given for all frames or for none")
    return Estimates(estimates, without_pose, has_scene_ids=None not in scene_ids)


def _frame_ids(frame: dict[str, Any], path: Path, field: str) -> tuple[int | None, int]:
    """Scene and image; an image without an id is named by its number."""
    scene_id, im_id = frame.get("scene_id"), frame.get("im_id")
    if scene_id is not None:
        scene_id = fields.whole_number(scene_id, path, f"{field}.scene_id")
    if im_id is not None:
        return scene_id, fields.whole_number(im_id, path, f"{field}.im_id")
    return scene_id, fields.whole_number(frame.get("name"), path, f"{field}.name (without im_id)", from_text=True)


def _seconds(entries: list[Any], path: Path, field: str) -> float | None:
    """The time of the frame, the sum over its objects; None if one of them does not say."""
    for j, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise fields.invalid(path, f"{field}.objects[{j}]", entry, "an object with T_cam_obj and score")
    if any(entry.get("seconds") is None for entry in entries):
        return None
    return sum(
        fields.number(entry["seconds"], path, f"{field}.objects[{j}].seconds") for j, entry in enumerate(entries)
    )


def _estimate(
    entry: dict[str, Any], scene_id: int, im_id: int, seconds: float | None, path: Path, field: str
) -> BopEstimate | None:
    obj_id = entry.get("obj_id")
    if obj_id is None and (match := re.fullmatch(r"obj_(\d{1,9})", str(entry.get("object")))):
        obj_id = int(match[1])
    obj_id = fields.whole_number(obj_id, path, f"{field}.obj_id")
    if entry.get("T_cam_obj") is None or entry.get("state") in _WITHOUT_POSE:
        return None
    T_cam_obj = fields.numbers(entry["T_cam_obj"], 16, path, f"{field}.T_cam_obj").reshape(4, 4)
    if not se3.is_rigid(T_cam_obj, atol=fields.ROUNDING):
        raise fields.invalid(path, f"{field}.T_cam_obj", np.array2string(T_cam_obj), "a rotation and a translation")
    score = fields.number(entry.get("score"), path, f"{field}.score")
    return BopEstimate(scene_id, im_id, obj_id, score, T_cam_obj, seconds)
