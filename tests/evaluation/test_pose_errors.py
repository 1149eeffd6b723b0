"""Metrics on cases with answers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gnomon.evaluation import pose_errors, visible_surface
from gnomon.evaluation.nearest import nearest_distances
from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.symmetry import Axis, Symmetries

CAMERA = Camera(100, 100, 31.5, 23.5, 64, 48)
POINTS = np.array([[0.1, 0, 0], [-0.1, 0, 0], [0, 0.1, 0], [0, -0.1, 0]])
TRUE = se3.se3(np.eye(3), np.array([0, 0, 1.0]))
ROUND = Symmetries(np.empty((0, 4, 4)), (Axis(np.array([0, 0, 1.0]), np.zeros(3)),))
HALF_TURN = Symmetries(np.diag([-1.0, -1, 1, 1])[None])


def turned(angle: float) -> np.ndarray:
    return TRUE @ se3.se3(se3.so3_exp(np.array([0, 0, angle])), np.zeros(3))


def test_a_shift_is_its_length_in_every_metric():
    shifted = TRUE.copy()
    shifted[0, 3] += 0.02
    identity = Symmetries.none().transforms()
    assert pose_errors.add(shifted, TRUE, POINTS) == pytest.approx(0.02)
    assert pose_errors.adds(shifted, TRUE, POINTS) == pytest.approx(0.02)
    assert pose_errors.mssd(shifted, TRUE, POINTS, identity) == pytest.approx(0.02)
    assert pose_errors.mspd(shifted, TRUE, POINTS, identity, CAMERA) == pytest.approx(2.0)
    assert pose_errors.rotation_and_translation(shifted, TRUE, Symmetries.none()) == pytest.approx((0, 0.02))


def test_half_a_turn_is_wrong_without_and_right_with_symmetry():
    estimate = turned(np.pi)
    assert pose_errors.add(estimate, TRUE, POINTS) == pytest.approx(0.2)
    assert pose_errors.adds(estimate, TRUE, POINTS) == pytest.approx(0, abs=1e-12)
    assert pose_errors.mssd(estimate, TRUE, POINTS, Symmetries.none().transforms()) == pytest.approx(0.2)
    assert pose_errors.mssd(estimate, TRUE, POINTS, HALF_TURN.transforms()) == pytest.approx(0, abs=1e-12)
    assert pose_errors.mspd(estimate, TRUE, POINTS, HALF_TURN.transforms(), CAMERA) == pytest.approx(0, abs=1e-9)
    assert pose_errors.rotation_and_translation(estimate, TRUE, HALF_TURN) == pytest.approx((0, 0), abs=1e-7)


def test_turns_about_an_axis_of_symmetry_are_no_error_at_all_angles():
    rng = np.random.default_rng(3)
    axis = Axis(np.array([0, 0.6, 0.8]), np.array([0.03, -0.01, 0.02]))
    symmetries = Symmetries(HALF_TURN.discrete, (axis,))
    for _ in range(20):
        true = se3.se3_exp(rng.normal(size=6))
        tilt = se3.se3(se3.so3_exp(np.array([0.1, 0, 0])), np.zeros(3))
        for motion in (np.eye(4), symmetries.discrete[0]):
            estimate = true @ axis.rotation(rng.uniform(-np.pi, np.pi)) @ motion
            assert pose_errors.rotation_and_translation(estimate, true, symmetries) == pytest.approx((0, 0), abs=1e-7)
        found, _ = pose_errors.rotation_and_translation(true @ tilt, true, symmetries)
        # Exact: no sampled turn comes nearer than the one that was chosen.
        candidates = true @ symmetries.transforms(0.002)
        sampled = se3.geodesic_angle(candidates[:, :3, :3], (true @ tilt)[:3, :3]).min()
        assert found <= sampled + 1e-9
        assert found == pytest.approx(sampled, abs=1e-3)


def test_an_estimate_behind_the_camera_has_no_finite_projection_error():
    behind = TRUE.copy()
    behind[2, 3] = -1
    assert pose_errors.mspd(behind, TRUE, POINTS, ROUND.transforms(), CAMERA) == np.inf


@pytest.mark.parametrize("count", [1, 2, 7, 500])
@pytest.mark.parametrize("extent", [1e-9, 1, 100])
def test_nearest_distances_are_exact(count: int, extent: float):
    rng = np.random.default_rng(count)
    points = rng.normal(size=(count, 3)) * extent
    points[:, 2] *= rng.integers(0, 2)  # flat clouds too
    queries = rng.normal(size=(60, 3)) * rng.choice([0.1, 1, 10, 1e4], size=(60, 1))
    expected = np.linalg.norm(queries[:, None] - points[None], axis=-1).min(axis=1)
    np.testing.assert_allclose(nearest_distances(queries, points), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("points", [np.empty((0, 3)), np.array([[np.nan, 0, 0]])])
def test_nearest_distances_need_points(points: np.ndarray):
    with pytest.raises(ValueError, match="at least one point"):
        nearest_distances(POINTS, points)


def square(depth_m: float, left: int) -> np.ndarray:
    depth = np.zeros((48, 64))
    depth[10:20, left : left + 10] = depth_m
    return depth


def test_vsd_counts_pixels_that_do_not_agree():
    wall = np.full((48, 64), 2.0)
    seen = np.where(square(1.0, 20) > 0, 1.0, wall)
    perfect = visible_surface.vsd(square(1.0, 20), square(1.0, 20), seen, CAMERA, 0.2)
    np.testing.assert_array_equal(perfect, np.zeros(10))
    # Half a width aside: 5 columns in common of 15.
    beside = visible_surface.vsd(square(1.0, 25), square(1.0, 20), seen, CAMERA, 0.2)
    np.testing.assert_allclose(beside, np.full(10, 10 / 15))
    # 45 mm nearer along z is a little more along the rays: wrong up to tau = 0.2 (40 mm), right from 0.25 on.
    nearer = visible_surface.vsd(square(0.955, 20), square(1.0, 20), seen, CAMERA, 0.2)
    np.testing.assert_allclose(nearer, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    assert visible_surface.vsd(square(0, 20), square(0, 20), wall, CAMERA, 0.2).tolist() == [1.0] * 10


def test_vsd_hidden_parts_do_not_count_and_missing_measurements_hide_nothing():
    board = np.where(square(1.0, 20) > 0, 1.0, 2.0)
    board[:, 25:] = 0.5
    half = visible_surface.vsd(square(1.0, 20), square(1.0, 20), board, CAMERA, 0.2)
    np.testing.assert_array_equal(half, np.zeros(10))
    # The estimate lies wholly behind the board, the true object half.
    behind = visible_surface.vsd(square(1.0, 30), square(1.0, 20), board, CAMERA, 0.2)
    np.testing.assert_array_equal(behind, np.ones(10))
    nothing = visible_surface.vsd(square(1.0, 25), square(1.0, 20), np.zeros((48, 64)), CAMERA, 0.2)
    np.testing.assert_allclose(nothing, np.full(10, 10 / 15))


def test_ray_lengths_have_pixel_centres_at_whole_numbers():
    camera = Camera(1, 1, 0, 0, 4, 5)
    lengths = visible_surface.ray_lengths(np.ones((5, 4)), camera)
    assert lengths[0, 0] == 1
    assert lengths[4, 3] == pytest.approx(np.sqrt(26))
