"""Depth pictures: 16-bit PNG and TIFF, 32-bit TIFF, and .npy, as metres along the optical axis.

Whole numbers are millimetres and floating point is metres unless the caller says otherwise. 0 means that nothing was
measured; in floating point NaN and +infinity mean the same.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from gnomon.errors import InputError
from gnomon.formats.picture import MAX_SIDE

MOST_PIXELS = 64_000_000
METRES_PER_WHOLE = 0.001
METRES_PER_FLOAT = 1.0

_WHOLE_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_FLOAT_MODES = ("F",)


class Depth(NamedTuple):
    """A depth picture and how its values were taken."""

    depth_m: Float32[np.ndarray, "H W"]
    """Metres along the optical axis, 0 where nothing was measured."""
    unit_m: float
    """Metres per value of the file."""


def read_depth(path: Path, *, unit_m: float | None = None, field: str = "depth") -> Depth:
    """Read a depth picture.

    Args:
        path: A .png, .tif, .tiff or .npy file with one channel.
        unit_m: Metres per value of the file; None for 0.001 with whole numbers and 1 with floating point.
        field: The request's field, for messages.

    Raises:
        InputError: `depth_unreadable`, `depth_type` (8 bit, several channels), `depth_negative`, `picture_too_large`.
    """
    stored = _read_array(path, field) if path.suffix.lower() == ".npy" else _read_picture(path, field)
    is_float = stored.dtype.kind == "f"
    if unit_m is None:
        unit_m = METRES_PER_FLOAT if is_float else METRES_PER_WHOLE
    depth_m = stored.astype(np.float32) * np.float32(unit_m)
    if is_float:
        depth_m[~np.isfinite(depth_m) & ~(depth_m < 0)] = 0
    if depth_m.min(initial=0) < 0:
        raise InputError(
            f"{path.name} has negative depth, down to {float(depth_m.min()):.4g} m",
            code="depth_negative",
            field=field,
            value=path.name,
            expected="distances along the optical axis, 0 or NaN where nothing was measured",
            fix="change the sign if the file follows OpenGL, where the camera looks along -z",
        )
    return Depth(depth_m, unit_m)


def check_pixels(width: int, height: int, name: str, field: str) -> None:
    """Refuse a picture by its announced size, before its pixels are decoded. Raises `picture_too_large`."""
    if width * height > MOST_PIXELS or max(width, height) > MAX_SIDE:
        raise _too_large(f"{name} has {width} x {height} pixels", f"{width} x {height}", field)


def _too_large(message: str, value: str, field: str) -> InputError:
    return InputError(
        message,
        code="picture_too_large",
        field=field,
        value=value,
        expected=f"at most {MOST_PIXELS:,} pixels, and {MAX_SIDE:,} along a side",
        fix="resize the pictures and the camera matrix with them",
    )


@contextlib.contextmanager
def opened_picture(path: Path, field: str, code: str) -> Iterator[Any]:
    """A Pillow picture whose size was checked; whatever its decoder stumbles over becomes an InputError."""
    from PIL import Image

    try:
        # We have a bound of our own for the number of pixels.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                check_pixels(*picture.size, path.name, field)
                yield picture
    except Image.DecompressionBombError as error:
        # Pillow looks at the size before we can.
        raise _too_large(f"{path.name} is too large: {error}", path.name, field) from error
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError) as error:
        raise InputError(
            f"{path.name} cannot be read: {error}",
            code=code,
            field=field,
            value=path.name,
            expected="a whole picture file",
            fix="write the file again; it may have been cut short",
        ) from error


def _read_picture(path: Path, field: str) -> np.ndarray:
    with opened_picture(path, field, code="depth_unreadable") as picture:
        if picture.mode not in (*_WHOLE_MODES, *_FLOAT_MODES):
            bands = len(picture.getbands())
            kind = f"{bands} channels" if bands > 1 else "8 bits or fewer per value"
            raise _wrong_type(path.name, kind, field)
        return np.array(picture)


def _read_array(path: Path, field: str) -> np.ndarray:
    try:
        # The header is looked at first (mmap), so that a small file cannot announce a huge array.
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path.name} cannot be read as .npy: {error}",
            code="depth_unreadable",
            field=field,
            value=path.name,
            expected="one array of numbers, saved with numpy.save",
        ) from error
    if isinstance(stored, np.lib.npyio.NpzFile):
        stored.close()
        raise _wrong_type(path.name, "several arrays", field)
    if stored.ndim == 3 and stored.shape[2] == 1:
        stored = stored[..., 0]
    if stored.ndim != 2 or stored.size == 0:
        raise _wrong_type(path.name, f"shape {stored.shape}", field)
    if stored.dtype.kind not in "fiu" or stored.dtype.itemsize < 2:
        raise _wrong_type(path.name, f"type {stored.dtype}", field)
    check_pixels(stored.shape[1], stored.shape[0], path.name, field)
    return np.array(stored)


def _wrong_type(name: str, found: str, field: str) -> InputError:
    return InputError(
        f"{name} is no depth picture: it has {found}",
        code="depth_type",
        field=field,
        value=name,
        expected="one channel of 16-bit whole numbers or of floating point",
        fix="save the sensor's own depth; a picture coloured for people has lost it",
    )
