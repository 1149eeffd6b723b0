"""Detections as JSON, as CNOS and SAM-6D write them and the BOP challenge takes them: boxes and masks of objects.

    [{"scene_id": 2, "image_id": 3, "category_id": 5, "score": 0.8, "bbox": [x, y, width, height],
      "segmentation": {"size": [height, width], "counts": [...] or "..."}, "time": 0.4}, ...]

Masks are run lengths in the way of COCO: runs of background and foreground in turn, the first of background, down the
columns. `counts` lists the runs or packs them into a text (rleToString in common/maskApi.c of
github.com/cocodataset/cocoapi).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from gnomon.formats import bop_fields as fields

MAX_DETECTIONS = 5_000_000
MAX_PIXELS = 100_000_000


@dataclass(frozen=True, eq=False)
class BopDetection:
    """An object found in an image; the mask is unpacked when it is asked for."""

    scene_id: int
    im_id: int
    obj_id: int
    score: float
    bbox_px: Float64[np.ndarray, "4"] | None
    """Left, top, width and height."""
    seconds: float | None
    """For the whole image; None if unknown."""
    rle: dict[str, Any] | None
    source: str
    """File and entry, for messages."""

    def mask(self) -> Bool[np.ndarray, "H W"]:
        """Raises InputError (`bop_invalid`) if the mask is missing or damaged."""
        if self.rle is None:
            raise fields.invalid(Path(self.source), "segmentation", None, "there")
        return decode_rle(self.rle, Path(self.source))


def read_detections(path: str | Path) -> list[BopDetection]:
    """The detections in the order of the file.

    Raises:
        InputError: `bop_not_found`, `bop_unreadable`, or `bop_invalid` with entry and field.
    """
    path = Path(path)
    content = fields.read_json(path)
    if not isinstance(content, list) or len(content) > MAX_DETECTIONS:
        raise fields.invalid(path, "the file", type(content).__name__, f"a list of at most {MAX_DETECTIONS} detections")
    return [_detection(entry, path, i) for i, entry in enumerate(content)]


def decode_rle(rle: dict[str, Any], path: Path = Path("mask")) -> Bool[np.ndarray, "H W"]:
    """The mask of {"size": [height, width], "counts": list of runs or packed text}."""
    size = rle.get("size")
    if not isinstance(size, list) or len(size) != 2:
        raise fields.invalid(path, "segmentation.size", size, "[height, width]")
    height, width = (fields.whole_number(side, path, "segmentation.size") for side in size)
    if height * width > MAX_PIXELS:
        raise fields.invalid(path, "segmentation.size", size, f"at most {MAX_PIXELS:,} pixels")
    counts = rle.get("counts")
    runs = _unpack(counts, path) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and 0 <= run <= height * width for run in runs):
        raise fields.invalid(path, "segmentation.counts", counts, "run lengths, as a list or packed as in COCO")
    if sum(runs) != height * width:
        raise fields.invalid(path, "segmentation.counts", sum(runs), f"runs that add up to {height} x {width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def encode_rle(mask: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    """The mask as a list of runs, which every reader of COCO masks takes."""
    flat = np.concatenate([[False], mask.T.reshape(-1), [not mask[-1, -1]]]) if mask.size else np.zeros(1, bool)
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(edges, prepend=0)
    return {"size": list(mask.shape), "counts": runs.tolist()}


def _unpack(text: str, path: Path) -> list[int]:
    """Five bits to a character, the sixth says that more follow; from the fourth run on, differences to two before."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise fields.invalid(path, "segmentation.counts", text, "packed as in COCO")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise fields.invalid(path, "segmentation.counts", text, "whole: it ends within a number")
    return runs


def _detection(entry: Any, path: Path, i: int) -> BopDetection:
    if not isinstance(entry, dict):
        raise fields.invalid(path, f"[{i}]", entry, "an object")
    scene_id, im_id, obj_id = (
        fields.whole_number(entry.get(name), path, f"[{i}].{name}") for name in ("scene_id", "image_id", "category_id")
    )
    score = fields.number(entry.get("score"), path, f"[{i}].score")
    bbox = entry.get("bbox")
    bbox_px = None if bbox is None else fields.numbers(bbox, 4, path, f"[{i}].bbox")
    seconds = fields.number(entry.get("time", -1), path, f"[{i}].time")
    rle = entry.get("segmentation")
    if rle is not None and not isinstance(rle, dict):
        raise fields.invalid(
            path, f"[{i}].segmentation", rle, "run lengths with size and counts; polygons are not read"
        )
    return BopDetection(scene_id, im_id, obj_id, score, bbox_px, None if seconds < 0 else seconds, rle, f"{path}[{i}]")
