"""Camera files: JSON in the forms that people have, BOP's files, or a 3 x 3 matrix as text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from gnomon.errors import InputError
from gnomon.geometry.camera import Camera

MOST_BYTES = 100_000_000
EXPECTED = (
    '{"fx": .., "fy": .., "cx": .., "cy": ..}, {"K": 3 x 3 numbers}, {"cam_K": 9 numbers, "depth_scale": ..}, '
    "scene_camera.json of BOP, or 3 lines of 3 numbers as .txt"
)
MATRIX_KEYS = ("K", "cam_K", "camera_matrix")


@dataclass(frozen=True)
class Intrinsics:
    """What a camera file says about one frame."""

    K: Float64[np.ndarray, "3 3"]
    depth_scale: float | None = None
    """Millimetres per value of a 16-bit depth picture, where the file says so."""
    size: tuple[int, int] | None = None
    """Width and height, where the file says so."""

    def camera(self, width: int, height: int, name: str) -> Camera:
        """The camera of pictures of this size.

        Raises InputError `camera_invalid` (singular, skewed, not finite), `sizes_differ` (the file names another
        size), `camera_implausible` (the principal point lies more than a picture's size outside of it).
        """
        camera = Camera.from_K(self.K, width, height)
        if self.size is not None and self.size != (width, height):
            raise InputError(
                f"{name} is for pictures of {self.size[0]} x {self.size[1]}; these have {width} x {height}",
                code="sizes_differ",
                field="camera",
                value=f"{self.size[0]} x {self.size[1]}",
                expected=f"{width} x {height}",
                fix="scale the matrix to the size of the pictures",
            )
        inside = -width <= camera.cx <= 2 * width and -height <= camera.cy <= 2 * height
        focal_fits = width / 20 < camera.fx < 200 * width and height / 20 < camera.fy < 200 * height
        if not (inside and focal_fits):
            what = "focal length" if inside else "principal point"
            raise InputError(
                f"{name} does not fit pictures of {width} x {height}: its {what} is far off",
                code="camera_implausible",
                field="camera",
                value=f"fx {camera.fx:g}, fy {camera.fy:g}, cx {camera.cx:g}, cy {camera.cy:g}",
                expected="a principal point near the middle and a focal length near the width, in pixels",
                fix="check that the matrix is in pixels, row by row, and for this size of picture",
            )
        return camera


class CameraFile:
    """The intrinsics of all frames: one for all, or BOP's one for each image."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        if path.stat().st_size > MOST_BYTES:
            raise _unreadable(path.name, f"{path.stat().st_size:,} bytes")
        if path.suffix.lower() == ".json":
            self._one, self._by_image = _from_json(path)
        else:
            self._one, self._by_image = Intrinsics(_matrix(_text(path), path.name)), {}

    def of(self, im_id: int) -> Intrinsics:
        """The intrinsics of an image. Raises InputError `camera_missing`, where the file has none for it."""
        if self._one is not None:
            return self._one
        if im_id not in self._by_image:
            raise InputError(
                f"{self.name} has no camera for image {im_id}",
                code="camera_missing",
                field="camera",
                value=im_id,
                expected=f"one of the {len(self._by_image)} images of the file",
                fix="give --im-id for each frame, or a camera file for all frames",
            )
        return self._by_image[im_id]


def _from_json(path: Path) -> tuple[Intrinsics | None, dict[int, Intrinsics]]:
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path.name, str(error)) from error
    if isinstance(record, list):
        return Intrinsics(_matrix(record, path.name)), {}
    if not isinstance(record, dict):
        raise _unreadable(path.name, "neither an object nor a list")
    if record and all(key.isdecimal() and isinstance(entry, dict) for key, entry in record.items()):
        return None, {int(key): _entry(entry, path.name) for key, entry in record.items()}
    return _entry(record, path.name), {}


def _entry(record: dict[str, Any], name: str) -> Intrinsics:
    matrix = next((record[key] for key in MATRIX_KEYS if key in record), None)
    if matrix is None:
        absent = [key for key in ("fx", "fy", "cx", "cy") if key not in record]
        if absent:
            raise _unreadable(name, f"no {' and no '.join(absent)}, and none of {', '.join(MATRIX_KEYS)}")
        matrix = [[record["fx"], 0, record["cx"]], [0, record["fy"], record["cy"]], [0, 0, 1]]
    scale = record.get("depth_scale")
    if scale is not None and not (_is_number(scale) and 0 < scale < 1e6):
        raise _unreadable(name, f"depth_scale is {scale}")
    size = (record.get("width"), record.get("height"))
    known = all(isinstance(side, int) and side > 0 for side in size)
    return Intrinsics(_matrix(matrix, name), None if scale is None else float(scale), size if known else None)  # pyright: ignore[reportArgumentType]


def _text(path: Path) -> list[float]:
    try:
        words = path.read_text("utf-8")[:10_000].replace(",", " ").split()
        return [float(word) for word in words]
    except (OSError, ValueError) as error:
        raise _unreadable(path.name, str(error)) from error


def _matrix(numbers: Any, name: str) -> Float64[np.ndarray, "3 3"]:
    try:
        K = np.array(numbers, np.float64)
    except (ValueError, TypeError) as error:
        raise _unreadable(name, str(error)) from error
    if K.size != 9:
        raise _unreadable(name, f"{K.size} numbers where 9 are due")
    return K.reshape(3, 3)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unreadable(name: str, reason: str) -> InputError:
    return InputError(
        f"{name} is no camera file: {reason}",
        code="camera_unreadable",
        field="camera",
        value=name,
        expected=EXPECTED,
    )
