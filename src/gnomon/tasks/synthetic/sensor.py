"""The faults of a depth camera that projects a pattern, and the look of a colour picture.

The depth model: noise of the disparity, partly correlated between neighbours, and its steps; pixels that report a
neighbour's depth; losses at edges, at grazing angles and in blobs; a wrong scale. Its figures are those of cameras
of the Kinect and RealSense kind (Khoshelham and Elberink, "Accuracy and resolution of Kinect depth data", 2012;
Handa et al., "A benchmark for RGB-D visual odometry, 3D reconstruction and SLAM", 2014).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8

from gnomon.geometry.camera import Camera


@dataclass(frozen=True)
class DepthNoise:
    """How far a depth camera is from a perfect one."""

    focal_baseline_px_m: float = 43.5
    """Focal length times baseline: disparity = this / depth."""
    smooth_px: float = 0.10
    """Disparity noise that neighbours share, over about `smooth_reach_px`."""
    smooth_reach_px: float = 2.0
    white_px: float = 0.06
    """Disparity noise of each pixel alone."""
    step_px: float = 1 / 8
    """Disparity comes in multiples of this; 0 for any value."""
    jitter_px: float = 0.5
    """How far off, along either axis, the place is whose depth a pixel reports: up to about 1 px."""
    edge_jump_m: float = 0.03
    """Neighbouring depths further apart than this are an edge."""
    edge_loss: float = 0.5
    """Share of pixels within 2 px of an edge without measurement."""
    grazing_cosine: float = 0.2
    grazing_loss: float = 0.8
    """Share of pixels without measurement where the surface is seen at less than `grazing_cosine`."""
    blob_loss: float = 0.023
    """Share of the picture in holes of about 1 cm at 0.8 m."""
    blob_reach_px: float = 4.0
    scale_bias: float = 0.002
    """Standard deviation of a factor on all depths of a picture."""
    bias_m: float = 0.0
    """Added to all depths: a camera out of calibration."""


PERFECT = DepthNoise(
    smooth_px=0, white_px=0, step_px=0, jitter_px=0, edge_loss=0, grazing_loss=0, blob_loss=0, scale_bias=0
)


def measured_depth(
    depth_m: Float32[np.ndarray, "H W"],
    normal_cam: Float32[np.ndarray, "H W 3"],
    camera: Camera,
    rng: np.random.Generator,
    noise: DepthNoise,
) -> Float32[np.ndarray, "H W"]:
    """What a depth camera reports of true depths (0 for nothing); 0 where it measures nothing."""
    shape = depth_m.shape
    seen = _jittered(depth_m, rng, noise.jitter_px) if noise.jitter_px > 0 else depth_m
    disparity = np.float32(noise.focal_baseline_px_m) / np.maximum(seen, np.float32(1e-3))
    if noise.smooth_px > 0:
        disparity += np.float32(noise.smooth_px) * smooth_field(rng, shape, noise.smooth_reach_px)
    if noise.white_px > 0:
        disparity += np.float32(noise.white_px) * rng.standard_normal(shape, np.float32)
    if noise.step_px > 0:
        disparity = np.round(disparity / np.float32(noise.step_px)) * np.float32(noise.step_px)
    # A disparity of 0 has no depth: too far.
    measured = np.float32(noise.focal_baseline_px_m) / np.maximum(disparity, np.float32(1e-3))
    lost = (seen <= 0) | (disparity <= 0)
    if noise.edge_loss > 0:
        lost |= _edges(depth_m, noise.edge_jump_m) & (rng.random(shape, np.float32) < noise.edge_loss)
    if noise.grazing_loss > 0:
        lost |= _grazing(normal_cam, camera, noise) & (rng.random(shape, np.float32) < noise.grazing_loss)
    if noise.blob_loss > 0:
        field = smooth_field(rng, shape, noise.blob_reach_px)
        lost |= field > np.quantile(field[::4, ::4], 1 - noise.blob_loss)
    measured = measured * np.float32(1 + rng.normal(0, 1) * noise.scale_bias) + np.float32(noise.bias_m)
    measured[lost | (measured <= 0)] = 0
    return measured


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], reach_px: float) -> Float32[np.ndarray, "H W"]:
    """Gaussian noise of standard deviation 1 that neighbours over `reach_px` share."""
    import cv2

    field = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), reach_px)
    return np.asarray(field / field.std(), np.float32)


def _jittered(
    depth_m: Float32[np.ndarray, "H W"], rng: np.random.Generator, jitter_px: float
) -> Float32[np.ndarray, "H W"]:
    import cv2

    height, width = depth_m.shape
    u, v = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    du, dv = (np.float32(jitter_px) * smooth_field(rng, depth_m.shape, 0.8) for _ in range(2))
    return cv2.remap(depth_m, u + du, v + dv, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def _edges(depth_m: Float32[np.ndarray, "H W"], jump_m: float) -> np.ndarray:
    import cv2

    around = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(depth_m, around) - cv2.erode(depth_m, around) > jump_m
    return cv2.dilate(jump.astype(np.uint8), around) > 0


def _grazing(normal_cam: Float32[np.ndarray, "H W 3"], camera: Camera, noise: DepthNoise) -> np.ndarray:
    rays, length = _rays(camera)
    along = np.abs(np.einsum("hwk,hwk->hw", normal_cam, rays))
    return along < np.float32(noise.grazing_cosine) * length


@functools.lru_cache(maxsize=4)
def _rays(camera: Camera) -> tuple[Float32[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """The camera's rays and their lengths, the same for each of its pictures."""
    rays = camera.rays().astype(np.float32)
    return rays, np.linalg.norm(rays, axis=-1)


@dataclass(frozen=True)
class Light:
    """A lamp far away and light from all sides."""

    direction_cam: Float[np.ndarray, " 3"]
    """Unit vector towards the lamp."""
    ambient: float
    directed: float
    tint: Float[np.ndarray, " 3"]
    """Of both, about 1 in each channel."""


def random_light(rng: np.random.Generator) -> Light:
    """A lamp somewhere behind the camera or beside it."""
    direction = rng.normal(size=3)
    direction[2] = -abs(direction[2]) - 0.5
    exposure = rng.uniform(0.75, 1.1)
    return Light(
        direction_cam=direction / np.linalg.norm(direction),
        ambient=exposure * rng.uniform(0.25, 0.5),
        directed=exposure * rng.uniform(0.5, 0.8),
        tint=rng.uniform(0.92, 1.08, 3),
    )


def photograph(
    albedo: UInt8[np.ndarray, "H W 3"],
    normal_cam: Float32[np.ndarray, "H W 3"],
    light: Light,
    rng: np.random.Generator,
    *,
    noise: float = 0.02,
    blur_px: float = 0.7,
) -> UInt8[np.ndarray, "H W 3"]:
    """The lit picture with noise (standard deviation, 1 = white) and a lens' blur."""
    import cv2

    height = np.maximum(normal_cam @ light.direction_cam.astype(np.float32), 0)
    shade = np.float32(light.ambient) + np.float32(light.directed) * height
    picture = albedo * (shade[..., None] * light.tint.astype(np.float32))
    picture += np.float32(255 * noise) * rng.standard_normal(picture.shape, np.float32)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), blur_px) + 0.5, 0, 255).astype(np.uint8)
