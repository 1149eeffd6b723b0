"""The result files of a pose job: poses.json, BOP's CSV, and 4 x 4 matrices as text.

    poses.json                    everything, one frame a line
    poses.csv                     BOP's results: scene_id,im_id,obj_id,score,R,t,time; lengths in millimetres
    poses/<object>/<frame>.txt    4 lines of 4 numbers: T_cam_obj, metres
    ob_in_cam/<frame>.txt         the same, when there is one object

An object that is lost in a frame, or failed, has no text file and no line in the CSV there. poses.json says why.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from gnomon import atomic
from gnomon.errors import InputError
from gnomon.formats.bop_results import BopEstimate, write_results
from gnomon.tasks.object_pose.spec import ObjectPoseResult

POSES = "poses.json"
SINGLE_FOLDER = "ob_in_cam"


def write(out: Path, result: ObjectPoseResult) -> None:
    """Write all files into `out`."""
    for folder in ("poses", SINGLE_FOLDER):
        shutil.rmtree(out / folder, ignore_errors=True)
    _write_texts(out, result)
    write_results(out / "poses.csv", _bop_estimates(result))
    atomic.write_text(out / POSES, to_json(result))


def read_poses(path: Path) -> ObjectPoseResult:
    """The typed result in a poses.json. Raises InputError `result_unreadable`."""
    try:
        record = json.loads(path.read_bytes())
        return ObjectPoseResult.model_validate(record).model_copy(update={"root": path.parent})
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}", code="result_unreadable", value=path, expected="a poses.json of gnomon"
        ) from error


def to_json(result: ObjectPoseResult) -> str:
    """JSON with each frame on a line of its own: sequences are long."""
    record = result.model_dump(mode="json")
    frames = ",\n".join("  " + _line(frame) for frame in record.pop("frames"))
    head = ",\n".join(f" {json.dumps(key)}: {_line(value)}" for key, value in record.items())
    return f'{{\n{head},\n "frames": [\n{frames}\n ]\n}}\n'


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _write_texts(out: Path, result: ObjectPoseResult) -> None:
    single = len(result.objects) == 1
    for frame in result.frames:
        for entry in frame.objects:
            if not entry.found or entry.pose is None:
                continue
            path = out / "poses" / entry.object / f"{frame.name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(path, entry.pose)
            if single:
                (out / SINGLE_FOLDER).mkdir(exist_ok=True)
                _link(path, out / SINGLE_FOLDER / path.name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _bop_estimates(result: ObjectPoseResult) -> list[BopEstimate]:
    estimates = []
    for frame in result.frames:
        # BOP wants the time of the whole image in each of its lines.
        seconds = sum(entry.seconds for entry in frame.objects)
        estimates += [
            BopEstimate(frame.scene_id, frame.im_id, entry.obj_id, entry.score, entry.pose, seconds)
            for entry in frame.objects
            if entry.found and entry.pose is not None
        ]
    return estimates
