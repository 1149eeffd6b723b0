"""Textures: read a picture as RGB, or say that it cannot be read."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

_log = logging.getLogger(__name__)

MAX_SIDE = 16384


def read_picture(path: Path) -> UInt8[np.ndarray, "H W 3"] | None:
    """The picture as 8-bit sRGB, or None with a warning in the log."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if max(picture.size) > MAX_SIDE:
                raise ValueError(f"{picture.size[0]} x {picture.size[1]} pixels, more than {MAX_SIDE} on a side")
            return np.array(picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        _log.warning("texture %s cannot be read: %s", path.name, error)
        return None
