"""Pose results in the BOP format: a CSV file with one estimate per line.

    scene_id,im_id,obj_id,score,R,t,time
    2,3,5,0.93,0.94 0.30 ... ,134.3 45.7 964.7,1.25

R is the rotation row by row, t in millimetres, time in seconds for the whole image or -1. Specification:
docs/bop_challenge_2019.md of github.com/thodan/bop_toolkit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from gnomon.atomic import write_text
from gnomon.errors import InputError
from gnomon.formats import bop_fields as fields

HEADER = "scene_id,im_id,obj_id,score,R,t,time"
MAX_BYTES = 1_000_000_000


@dataclass(frozen=True, eq=False)
class BopEstimate:
    """One line of a results file."""

    scene_id: int
    im_id: int
    obj_id: int
    score: float
    T_cam_obj: Float64[np.ndarray, "4 4"]
    """In metres."""
    seconds: float | None
    """For all estimates of the image together; None if unknown."""


def read_results(path: str | Path) -> list[BopEstimate]:
    """The estimates in the order of the file; the header line may be missing.

    Raises:
        InputError: The file is not there (`bop_not_found`), no text or too large (`bop_unreadable`), or a line is
            wrong (`bop_invalid`); the message names the line and the column.
    """
    path = Path(path)
    if not path.is_file():
        raise fields.not_found(path)
    if (size := path.stat().st_size) > MAX_BYTES:
        raise fields.unreadable(path, f"it has {size:,} bytes; the limit is {MAX_BYTES:,}")
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise fields.unreadable(path, str(error)) from error
    start = 1 if lines and HEADER in lines[0].replace(" ", "") else 0
    return [_estimate(line, i + 1, path) for i, line in enumerate(lines) if i >= start and line.strip()]


def write_results(path: str | Path, estimates: Iterable[BopEstimate]) -> None:
    """Write estimates, lengths in millimetres, with every digit.

    The format wants one time per image: estimates of one image are to carry the same `seconds`.
    """
    lines = [HEADER]
    for estimate in estimates:
        if not (np.isfinite(estimate.T_cam_obj).all() and math.isfinite(estimate.score)):
            raise InputError(
                f"the estimate of object {estimate.obj_id} in image {estimate.im_id} is not finite", code="bop_invalid"
            )
        R = " ".join(map(repr, estimate.T_cam_obj[:3, :3].reshape(-1).tolist()))
        t_mm = " ".join(map(repr, (estimate.T_cam_obj[:3, 3] * 1000).tolist()))
        seconds = -1 if estimate.seconds is None else float(estimate.seconds)
        ids = f"{estimate.scene_id},{estimate.im_id},{estimate.obj_id}"
        lines.append(f"{ids},{float(estimate.score)!r},{R},{t_mm},{seconds}")
    write_text(Path(path), "\n".join(lines) + "\n")


def _estimate(line: str, number: int, path: Path) -> BopEstimate:
    cells = line.split(",")
    names = HEADER.split(",")
    if len(cells) != len(names):
        expected = f"{len(names)} cells: {HEADER}"
        raise fields.invalid(path, f"line {number}", f"{len(cells)} cells", expected)
    cell = {name: text.strip() for name, text in zip(names, cells, strict=True)}
    field = {name: f"line {number}, {name}" for name in names}
    scene_id, im_id, obj_id = (fields.whole_number(cell[name], path, field[name], from_text=True) for name in names[:3])
    (score,) = fields.numbers([cell["score"]], 1, path, field["score"])
    (seconds,) = fields.numbers([cell["time"]], 1, path, field["time"])
    T_cam_obj = fields.pose(cell["R"].split(), cell["t"].split(), path, field["R"], field["t"])
    return BopEstimate(scene_id, im_id, obj_id, float(score), T_cam_obj, None if seconds < 0 else float(seconds))
