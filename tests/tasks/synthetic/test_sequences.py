"""Sequences: how fast things move, that they stay in sight, and that frames do not depend on who asked before."""

from __future__ import annotations

import numpy as np
import pytest

from gnomon.errors import InputError
from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.view import draw_view, prepare_view
from gnomon.tasks.synthetic.motion import smooth_path
from gnomon.tasks.synthetic.sensor import PERFECT
from gnomon.tasks.synthetic.sequences import PEAK_SPEED_M_S, PEAK_TURN_DEG_S, Mover, make_sequence
from gnomon.tasks.synthetic.shapes import make_shape


@pytest.mark.parametrize("mover", ["object", "camera"])
@pytest.mark.parametrize("speed", ["hand_held", 2.0])
def test_speeds_are_those_asked_for(mover: Mover, speed: float) -> None:
    factor = 2.0 if speed == 2.0 else 1.0
    shape = make_shape("mug")
    middle = (shape.mesh.vertices.min(axis=0) + shape.mesh.vertices.max(axis=0)) / 2
    for seed in range(3):
        T = make_sequence(shape, seed, n_frames=120, speed=speed, mover=mover, clutter=0).T_cam_obj
        assert se3.is_rigid(T).all()
        places = se3.apply(T, middle[None])[:, 0]
        fastest = 30 * np.linalg.norm(np.diff(places, axis=0), axis=-1).max() / factor
        turning = 30 * np.degrees(se3.geodesic_angle(T[1:, :3, :3], T[:-1, :3, :3])).max() / factor
        assert 0.95 * PEAK_SPEED_M_S[0] <= fastest <= PEAK_SPEED_M_S[1]
        assert 0.95 * PEAK_TURN_DEG_S[0] <= turning <= PEAK_TURN_DEG_S[1]


def test_motion_is_smooth() -> None:
    times_s = np.arange(300) / 30
    path = smooth_path(np.random.default_rng(0), times_s, np.array([0.1, 0.1, 0.1]), 0.3)
    speed = np.linalg.norm(np.diff(path, axis=0), axis=-1) * 30
    assert speed.max() == pytest.approx(0.3, rel=0.03)
    assert np.linalg.norm(np.diff(path, n=2, axis=0), axis=-1).max() * 30**2 < 3.0
    assert np.abs(path).max() <= 0.2 and not path[0].any()


@pytest.mark.parametrize("mover", ["object", "camera"])
def test_frames_agree_with_the_truth_and_the_object_stays_in_the_picture(mover: Mover) -> None:
    shape = make_shape("bracket")
    sequence = make_sequence(shape, 4, n_frames=60, mover=mover)
    prepared = prepare_view(shape.mesh)
    for index in range(0, 60, 12):
        frame = sequence.frame(index)
        view = draw_view(prepared, sequence.T_cam_obj[index], sequence.camera)
        seen = frame.true_visible_mask
        np.testing.assert_allclose(frame.true_depth_m[seen], view.depth_m[seen], atol=1e-5)
        assert frame.visible_fraction == pytest.approx(seen.sum() / (view.depth_m > 0).sum())
        border = np.ones(seen.shape, bool)
        border[10:-10, 10:-10] = False
        assert not (border & (view.depth_m > 0)).any()
    first = sequence.frame(0)
    assert first.visible_fraction > 0.5
    assert (sequence.mask & first.true_visible_mask).sum() > 0.5 * (sequence.mask | first.true_visible_mask).sum()


def test_things_pass_in_front_now_and_then() -> None:
    sequence = make_sequence(make_shape("textured_box"), 1, n_frames=120, mover="object", noise=PERFECT)
    visible = np.array([sequence.frame(index).visible_fraction for index in range(0, 120, 6)])
    assert (visible[:3] > 0.95).all()
    assert visible.min() < 0.8 and (visible > 0.95).mean() > 0.4
    free = make_sequence(make_shape("textured_box"), 1, n_frames=120, mover="object", occlusions=False)
    assert all(free.frame(index).visible_fraction > 0.95 for index in range(0, 120, 30))


def test_a_frame_is_the_same_whenever_it_is_asked_for() -> None:
    first, again = (make_sequence(make_shape("cube"), 2, n_frames=8) for _ in range(2))
    assert np.array_equal(first.mask, again.mask)
    late = first.frame(6)
    frames = list(again)
    assert len(frames) == len(again) == 8
    assert np.array_equal(late.rgb, frames[6].rgb) and np.array_equal(late.depth_m, frames[6].depth_m)
    assert not np.array_equal(frames[6].depth_m, frames[7].depth_m)
    with pytest.raises(IndexError):
        first.frame(8)


def test_wishes_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(InputError, match="n_frames"):
        make_sequence(make_shape("cube"), 0, n_frames=0)
    narrow = Camera(fx=900.0, fy=900.0, cx=19.5, cy=19.5, width=40, height=40)
    with pytest.raises(InputError, match="too large"):
        make_sequence(make_shape("tray"), 0, n_frames=3, camera=narrow)
