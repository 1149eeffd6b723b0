"""The pictures of a BOP folder: colour, depth and masks, refused with a clear error when they are not what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from gnomon.formats.bop_fields import unreadable

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MAX_SIDE = 16384


def find_picture(stem: Path) -> Path | None:
    """The picture of this name with whichever ending it has."""
    return next((path for ending in ENDINGS if (path := stem.with_name(stem.name + ending)).is_file()), None)


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the file's header."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise unreadable(path, str(error)) from error


def read_rgb(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """8-bit sRGB; a grey picture has three equal channels."""
    array = _read(path)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise unreadable(path, f"its pixels are {array.dtype} in {array.ndim} dimensions, not 8-bit grey or colour")
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=-1)
    if array.shape[2] not in (3, 4):
        raise unreadable(path, f"it has {array.shape[2]} channels, not 1, 3 or 4")
    return np.ascontiguousarray(array[..., :3])


def read_depth(path: Path, mm_per_step: float) -> Float32[np.ndarray, "H W"]:
    """Depth in metres along the camera's z axis, 0 where there is no measurement; stored in whole steps."""
    array = _read(path)
    if array.ndim != 2 or array.dtype == bool or array.dtype.kind not in "uif":
        raise unreadable(path, f"its pixels are {array.dtype} in {array.ndim} dimensions, not one channel of depth")
    depth_m = (array * (mm_per_step * 0.001)).astype(np.float32)
    depth_m[~(np.isfinite(depth_m) & (depth_m > 0))] = 0
    return depth_m


def read_mask(path: Path) -> Bool[np.ndarray, "H W"]:
    """Where the picture is not black."""
    array = _read(path)
    return np.asarray((array.reshape(*array.shape[:2], -1) > 0).any(axis=-1))


def _read(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if max(picture.size) > MAX_SIDE:
                raise ValueError(f"{picture.size[0]} x {picture.size[1]} pixels, more than {MAX_SIDE} on a side")
            if picture.mode in ("P", "PA", "CMYK", "YCbCr", "LA"):
                return np.array(picture.convert("RGB"))
            return np.array(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(path, str(error)) from error
