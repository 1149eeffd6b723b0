"""The small window that hypotheses are compared with: where it lies, and what its depth, normals and mask say."""

from __future__ import annotations

import numpy as np
import pytest
from known_objects import CAMERA

from gnomon.geometry.camera import Camera
from gnomon.tasks.object_pose.methods.render_compare.observation import (
    LARGEST_SIDE,
    MARGIN,
    SMALLEST_SIDE,
    Crop,
    Observation,
    crop_around,
    observe,
    resample_depth,
)
from gnomon.tasks.object_pose.methods.render_compare.points import GRID

SHAPE = (CAMERA.height, CAMERA.width)


def block(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def flat(depth_m: float) -> np.ndarray:
    return np.full(SHAPE, depth_m, np.float32)


def seen_plane(normal: tuple[float, float, float], distance_m: float) -> np.ndarray:
    """Depth of the plane normal . p = distance."""
    return (distance_m / (CAMERA.rays() @ np.array(normal))).astype(np.float32)


def observed(depth_m: np.ndarray, mask: np.ndarray, size: int = 96, *, use_colour: bool = False) -> Observation:
    rgb = np.zeros((*SHAPE, 3), np.uint8)
    rgb[..., 0] = np.arange(CAMERA.width) % 256
    crop = crop_around(mask, depth_m, CAMERA, 0.15, size)
    return observe(rgb, depth_m, mask, CAMERA, crop, use_colour=use_colour)


def test_the_window_is_centred_on_the_mask_with_a_margin() -> None:
    crop = crop_around(block(100, 50, 161, 91), flat(0.5), CAMERA, 0.15, 96)
    assert (crop.centre_u, crop.centre_v) == pytest.approx((130, 70), abs=0.5)
    assert crop.side_px == pytest.approx(60 * MARGIN, rel=0.02)
    assert crop.size == 96 and crop.scale == pytest.approx(96 / crop.side_px)


@pytest.mark.parametrize(("pixels", "bound"), [(3, SMALLEST_SIDE), (230, LARGEST_SIDE)])
def test_the_window_is_about_as_large_as_the_object_can_be(pixels: int, bound: float) -> None:
    mask = block(5, 5, 5 + pixels, 5 + pixels)
    crop = crop_around(mask, flat(1.0), CAMERA, 0.15, 96)
    assert crop.side_px == pytest.approx(bound * 0.15 * CAMERA.fx, rel=1e-6)


def test_a_few_stray_mask_pixels_do_not_move_the_window() -> None:
    mask = block(100, 50, 160, 110)
    stray = mask.copy()
    stray[5, 5] = stray[200, 300] = True
    plain, other = (crop_around(one, flat(0.5), CAMERA, 0.15, 96) for one in (mask, stray))
    assert np.allclose(plain[:3], other[:3], atol=1.5)


@pytest.mark.parametrize("side_px", [40.0, 96.0, 230.5])
def test_picture_and_window_pixels_belong_together(side_px: float) -> None:
    crop = Crop(150.25, 110.75, side_px, 96)
    fx, fy, cx, cy = crop.camera(CAMERA)
    corners = np.array([(0, 0, 1), (95, 0, 1), (40, 71, 1)], float)
    there = corners @ crop.to_picture.T
    rays = (corners[:, :2] - (cx, cy)) / (fx, fy)
    np.testing.assert_allclose(rays, (there - (CAMERA.cx, CAMERA.cy)) / (CAMERA.fx, CAMERA.fy), atol=1e-12)
    np.testing.assert_allclose(there.mean(axis=0)[0] > 0, True)
    # The window's middle is the crop's centre.
    np.testing.assert_allclose(crop.to_picture @ (47.5, 47.5, 1), (150.25, 110.75))


@pytest.mark.parametrize("side", [(30, 60), (100, 190)])
def test_normals_of_a_plane(side: tuple[int, int]) -> None:
    normal = np.array((0.3, -0.4, -0.866))
    normal /= np.linalg.norm(normal)
    depth = seen_plane(tuple(normal), -0.5)
    seen = observed(depth, block(100, 40, 100 + side[0], 40 + side[1]))
    inner = seen.surface[4:-4, 4:-4]
    assert (inner[..., 3] != 0).all()
    assert (inner[..., 1:] @ normal > np.cos(np.radians(3))).all()
    rays = Camera(seen.fx, seen.fy, seen.cx, seen.cy, 96, 96).rays()[4:-4, 4:-4]
    points = rays * inner[..., :1]
    np.testing.assert_allclose(points @ normal, -0.5, atol=0.004)


def test_depth_does_not_mix_across_a_step() -> None:
    depth = flat(0.5)
    depth[:, 160:] = 0.7
    seen = observed(depth, block(100, 40, 220, 160))
    values = seen.surface[..., 0]
    assert (np.isclose(values, 0.5, atol=1e-3) | np.isclose(values, 0.7, atol=1e-3)).all()
    # One-sided differences keep the normals straight up to the edge.
    known = seen.surface[..., 3] != 0
    assert known.mean() > 0.95 and (seen.surface[known][:, 3] < -0.99).all()


def test_noise_is_averaged_where_the_picture_is_finer_than_the_window() -> None:
    noise = np.random.default_rng(0).normal(0, 0.002, SHAPE).astype(np.float32)
    seen = observed(flat(0.25) + noise, block(60, 20, 220, 180), 48)
    assert 0.0001 < np.std(seen.surface[8:-8, 8:-8, 0]) < 0.0008


def test_unmeasured_depth_stays_unmeasured() -> None:
    depth = flat(0.5)
    depth[60:100, 110:150] = 0
    seen = observed(depth, block(100, 40, 180, 120))
    hole = seen.surface[..., 0] == 0
    assert 0.1 < hole.mean() < 0.25
    assert (seen.surface[hole] == 0).all()
    nothing = observed(flat(0.0), block(100, 40, 180, 120))
    assert not nothing.surface.any()


def test_beyond_the_picture_nothing_is_known() -> None:
    depth, mask = flat(0.5), block(0, 60, 50, 120)
    crop = crop_around(mask, depth, CAMERA, 0.15, 96)
    small, inside = resample_depth(depth, crop)
    u = np.round(crop.to_picture[0, 0] * np.arange(96) + crop.to_picture[0, 2])
    assert (inside == (u >= 0)).all() and not inside.all()
    assert not small[:, u < -1].any() and (small[:, u >= 0] > 0).all()


def test_the_masks_border_and_distance() -> None:
    seen = observed(flat(0.5), block(100, 40, 160, 100))
    mask = seen.mask > 0
    expected = (60 * 96 / (59 * 0.99 * MARGIN)) ** 2
    assert mask.sum() == pytest.approx(expected, rel=0.06)
    assert (seen.mask_distance[mask] < 0).all() and (seen.mask_distance[~mask] > 0).all()
    assert (seen.mask_distance[seen.mask == 2] <= -2).all()
    assert (seen.mask_distance[seen.mask == 1] > -4).all()
    assert (seen.near_mask[seen.mask_distance < 1.5] == 1).all()
    assert (seen.near_mask[seen.mask_distance > 3] == 0).all()
    v, u = np.nonzero(mask)
    counted = np.zeros((GRID, GRID))
    np.add.at(counted, (v * GRID // 96, u * GRID // 96), 1)
    assert seen.cell_share.sum() == pytest.approx(1, abs=1e-5)
    assert (seen.cell_share.reshape(GRID, GRID)[counted == 0] == 0).all()


def test_colour_is_sampled_where_it_was_seen() -> None:
    mask = block(100, 40, 160, 100)
    seen = observed(flat(0.5), mask, use_colour=True)
    crop = crop_around(mask, flat(0.5), CAMERA, 0.15, 96)
    u = crop.to_picture[0, 0] * np.arange(96) + crop.to_picture[0, 2]
    inner = slice(5, -5)
    np.testing.assert_allclose(seen.rgb[48, inner, 0], u[inner] / 255, atol=0.004)
    np.testing.assert_allclose(seen.luma[48, inner], 0.299 * u[inner] / 255, atol=0.004)
    # In brightness per pixel of the window.
    np.testing.assert_allclose(seen.luma_gradient[48, inner, 0], 0.299 / 255 / crop.scale, rtol=0.8)
    assert np.abs(seen.luma_gradient[48, inner, 1]).max() < 1e-4
