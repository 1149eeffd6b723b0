"""The depth camera's faults, one at a time, and the colour picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gnomon.geometry.camera import Camera
from gnomon.tasks.synthetic.sensor import PERFECT, DepthNoise, Light, measured_depth, photograph

CAMERA = Camera(fx=300.0, fy=300.0, cx=159.5, cy=119.5, width=320, height=240)


def wall(z_m: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    normal = np.zeros((240, 320, 3), np.float32)
    normal[..., 2] = -1
    return np.full((240, 320), z_m, np.float32), normal


def measure(noise: DepthNoise, *, z_m: float = 0.8, seed: int = 0) -> np.ndarray:
    return measured_depth(*wall(z_m), CAMERA, np.random.default_rng(seed), noise)


def test_a_perfect_camera() -> None:
    np.testing.assert_allclose(measure(PERFECT), 0.8, rtol=1e-6)


@pytest.mark.parametrize("z_m", [0.5, 1.2])
def test_noise_grows_with_the_square_of_the_depth(z_m: float) -> None:
    per_px = z_m**2 / PERFECT.focal_baseline_px_m
    white = measure(replace(PERFECT, white_px=0.06), z_m=z_m)
    assert white.std() == pytest.approx(0.06 * per_px, rel=0.03)
    assert abs(np.corrcoef(white[:, 1:].ravel(), white[:, :-1].ravel())[0, 1]) < 0.05
    smooth = measure(replace(PERFECT, smooth_px=0.1), z_m=z_m)
    assert smooth.std() == pytest.approx(0.1 * per_px, rel=0.1)
    assert np.corrcoef(smooth[:, 1:].ravel(), smooth[:, :-1].ravel())[0, 1] > 0.85


def test_depth_comes_in_steps() -> None:
    measured = measure(replace(PERFECT, white_px=0.2, step_px=0.125))
    steps = PERFECT.focal_baseline_px_m / np.unique(measured) / 0.125
    np.testing.assert_allclose(steps, np.round(steps), atol=2e-3)


def test_scale_and_bias() -> None:
    factors = [measure(replace(PERFECT, scale_bias=0.002), seed=seed).mean() / 0.8 for seed in range(80)]
    assert np.std(factors) == pytest.approx(0.002, rel=0.3)
    np.testing.assert_allclose(measure(replace(PERFECT, bias_m=-0.01)), 0.79, rtol=1e-6)


def test_losses_where_they_belong() -> None:
    depth, normal = wall()
    depth[:, 160:] = 1.2
    depth[:20] = 0
    rng = np.random.default_rng
    edges = measured_depth(depth, normal, CAMERA, rng(0), replace(PERFECT, edge_loss=0.5))
    lost = edges[30:] == 0
    assert 0.4 < lost[:, 158:162].mean() < 0.6 and not lost[:, :157].any() and not lost[:, 163:].any()
    assert not edges[:18].any()
    normal[120:] = np.array([0, -1, -0.05]) / np.hypot(1, 0.05)
    grazing = measured_depth(depth, normal, CAMERA, rng(0), replace(PERFECT, grazing_loss=0.8)) == 0
    assert grazing[121:140].mean() == pytest.approx(0.8, abs=0.03) and not grazing[20:120].any()
    assert (measure(replace(PERFECT, blob_loss=0.1)) == 0).mean() == pytest.approx(0.1, abs=0.01)


def test_jitter_moves_edges_by_about_a_pixel() -> None:
    depth, normal = wall()
    depth[:, 160:] = 1.2
    measured = measured_depth(depth, normal, CAMERA, np.random.default_rng(0), replace(PERFECT, jitter_px=0.5))
    columns = np.flatnonzero((np.abs(measured - depth) > 0.1).any(axis=0))
    assert 157 <= columns.min() <= columns.max() <= 162


def test_light_falls_from_one_side() -> None:
    albedo = np.full((40, 60, 3), 200, np.uint8)
    normal = np.zeros((40, 60, 3), np.float32)
    normal[:, :30, 0], normal[:, 30:, 0] = -1, 1
    light = Light(np.array([-1.0, 0, 0]), ambient=0.3, directed=0.6, tint=np.ones(3))
    picture = photograph(albedo, normal, light, np.random.default_rng(0), noise=0.0, blur_px=0.7)
    assert (picture[:, :25] == 180).all() and (picture[:, 35:] == 60).all()
