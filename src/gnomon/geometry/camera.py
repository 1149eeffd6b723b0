"""A pinhole camera without distortion, in the OpenCV convention.

Camera frame: +x right, +y down, +z forward, metres. Pixels are (u, v) with u to the right, v down and the
centre of the top-left pixel at (0, 0), so the image covers [-0.5, width - 0.5] x [-0.5, height - 0.5].
Libraries that put the top-left *corner* at (0, 0), such as COLMAP, have principal points larger by half a
pixel; `from_corner_K` and `corner_K` convert.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gnomon.errors import InputError


@dataclass(frozen=True)
class Camera:
    """Focal lengths and principal point in pixels, image size in whole pixels.

    Raises InputError (code `camera_invalid`) for a size below one pixel, a focal length that is not positive,
    or anything that is not finite.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        for field, focal_px in (("fx", self.fx), ("fy", self.fy)):
            is_positive = math.isfinite(focal_px) and focal_px > 0
            _require(is_positive, field, focal_px, "a focal length above 0 pixels")
        for field, centre_px in (("cx", self.cx), ("cy", self.cy)):
            _require(math.isfinite(centre_px), field, centre_px, "a finite number of pixels")
        for field, size_px in (("width", self.width), ("height", self.height)):
            _require(size_px >= 1, field, size_px, "1 pixel or more")

    @classmethod
    def from_K(cls, K: Float[np.ndarray, "3 3"], width: int, height: int) -> Camera:
        """The camera of a 3x3 matrix. Raises InputError if it has skew or its last row is not (0, 0, 1)."""
        _require(np.array_equal(K[2], [0, 0, 1]), "K", K[2], "(0, 0, 1) in the last row")
        _require(K[0, 1] == 0 and K[1, 0] == 0, "K", (K[0, 1], K[1, 0]), "no skew: K[0, 1] = K[1, 0] = 0")
        fx, fy, cx, cy = (float(K[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
        return cls(fx, fy, cx, cy, width, height)

    @classmethod
    def from_corner_K(cls, K: Float[np.ndarray, "3 3"], width: int, height: int) -> Camera:
        """The camera of a matrix in the corner convention: the top-left pixel's centre is (0.5, 0.5)."""
        return cls.from_K(K - _HALF_PIXEL, width, height)

    @property
    def K(self) -> Float[np.ndarray, "3 3"]:
        """The matrix that maps camera points to homogeneous pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    @property
    def corner_K(self) -> Float[np.ndarray, "3 3"]:
        """`K` in the corner convention, where the top-left pixel's centre is (0.5, 0.5)."""
        return self.K + _HALF_PIXEL

    def project(self, points_cam: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 2"]:
        """Pixels of points in metres, also outside the image; NaN where a point is not in front (z <= 0)."""
        x, y, z = np.moveaxis(np.asarray(points_cam, np.float64), -1, 0)
        depth_m = np.where(z > 0, z, np.nan)
        return np.stack([self.fx * x / depth_m + self.cx, self.fy * y / depth_m + self.cy], axis=-1)

    def unproject(
        self, pixels: Float[np.ndarray, "*#batch 2"], depth_m: Float[np.ndarray, "*#batch"]
    ) -> Float[np.ndarray, "*batch 3"]:
        """Points in metres seen at `pixels`, at a depth measured along +z (not along the ray)."""
        u, v = np.moveaxis(np.asarray(pixels, np.float64), -1, 0)
        depth_m = np.asarray(depth_m, np.float64)
        x, y = (u - self.cx) / self.fx * depth_m, (v - self.cy) / self.fy * depth_m
        return np.stack([x, y, np.broadcast_to(depth_m, x.shape)], axis=-1)

    def rays(self) -> Float[np.ndarray, "height width 3"]:
        """The direction through each pixel's centre, with z = 1: `rays * depth_m` are camera points."""
        u, v = np.meshgrid(np.arange(self.width), np.arange(self.height))
        return self.unproject(np.stack([u, v], axis=-1).astype(np.float64), np.ones(u.shape))

    def scaled(self, factor: float) -> Camera:
        """The camera of the image resized by `factor`, its size rounded to whole pixels."""
        _require(math.isfinite(factor) and factor > 0, "factor", factor, "a factor above 0")
        return self.resized(max(1, round(self.width * factor)), max(1, round(self.height * factor)))

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the same image resampled to another size.

        The image's corners stay its corners, as OpenCV and Pillow resize: pixel u becomes
        (u + 0.5) * width / self.width - 0.5.
        """
        along_x, along_y = width / self.width, height / self.height
        return Camera(
            fx=self.fx * along_x,
            fy=self.fy * along_y,
            cx=(self.cx + 0.5) * along_x - 0.5,
            cy=(self.cy + 0.5) * along_y - 0.5,
            width=width,
            height=height,
        )

    def cropped(self, left: int, top: int, width: int, height: int) -> Camera:
        """The camera of the window whose top-left pixel is (left, top); it may reach beyond the image."""
        return Camera(self.fx, self.fy, self.cx - left, self.cy - top, width, height)


_HALF_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def _require(is_met: bool | np.bool_, field: str, value: object, expected: str) -> None:
    if not is_met:
        raise InputError(
            f"the camera's {field} is {value}, not {expected}",
            code="camera_invalid",
            field=field,
            value=value,
            expected=expected,
        )
