"""What a frame does not tell: a hidden handle, a can that might have spun, a tool that might have been flipped."""

from __future__ import annotations

import numpy as np
import pytest
from known_objects import CAMERA, look, off, pose, prepared

from gnomon.geometry import se3
from gnomon.tasks.object_pose.methods.render_compare import continuity, follow
from gnomon.tasks.object_pose.methods.render_compare.follow import Spread
from gnomon.tasks.object_pose.methods.render_compare.rivals import Rivals
from gnomon.tasks.object_pose.methods.render_compare.search import Candidates
from gnomon.tasks.object_pose.pose import PoseEstimate
from gnomon.tasks.object_pose.tracker import Tracker
from gnomon.tasks.synthetic.shapes import make_shape

T_STANDING = pose((np.radians(-60), 0, 0), (0, 0.03, 0.5))


def estimated(T_cam_obj: np.ndarray) -> PoseEstimate:
    return PoseEstimate(T_cam_obj, score=0.9, state="estimated", ambiguous=False, runner_up=None, seconds=0.0)


def about_centre(name: str, T_cam_obj: np.ndarray) -> continuity.Pose:
    R = T_cam_obj[:3, :3]
    return R, R @ prepared(name).centre + T_cam_obj[:3, 3]


def observed(name: str, T_cam_obj: np.ndarray) -> follow.Observation:
    """The window in which a pose was last compared with a picture of itself."""
    rgb, depth, _ = look(make_shape(name).mesh, T_cam_obj)
    start = [about_centre(name, T_cam_obj)]
    rng = np.random.default_rng(0)
    found = follow.follow(prepared(name), rgb, depth, CAMERA, start, Spread(0.05, 0.004, 8), rng, 1)
    assert found is not None
    return found.seen


def test_a_mug_does_not_turn_while_its_handle_is_hidden() -> None:
    shape = make_shape("mug")
    clear = look(shape.mesh, T_STANDING)
    edge = int(CAMERA.project(se3.apply(T_STANDING, np.array([[0.038, 0, 0.05]])))[0, 0])
    rgb, depth = clear.rgb.copy(), clear.depth_m.copy()
    depth[:, edge:], rgb[:, edge:] = 0.35, 30
    tracker = Tracker(prepared("mug"), CAMERA)
    tracker.start(*clear)
    noise = np.random.default_rng(0)
    for _ in range(12):
        noisy = (depth + noise.normal(0, 0.0015, depth.shape)).astype(np.float32)
        found = tracker.step(rgb, noisy)
        assert found.state == "tracked"
        assert np.degrees(se3.geodesic_angle(found.T_cam_obj[:3, :3], T_STANDING[:3, :3])) < 5


def steadied_by(name: str, T_found: np.ndarray, T_expected: np.ndarray) -> float:
    """The share of the way to the expected turn that a pose is moved."""
    found, expected = about_centre(name, T_found), about_centre(name, T_expected)
    R, _ = continuity.steadied(prepared(name), observed(name, T_found), found, expected, np.radians(3), 0.004, 0.003)
    return se3.geodesic_angle(found[0], R) / se3.geodesic_angle(found[0], expected[0])


def test_a_turn_that_the_frame_says_nothing_about_ends_where_it_was_expected() -> None:
    switch_away = pose((np.radians(-90), 0, 0), (0, 0, 0.5)) @ pose((0, 0, np.radians(90)), (0, 0, 0))
    assert steadied_by("torch", switch_away, switch_away @ pose((0, 0, np.radians(4)), (0, 0, 0))) > 0.8


def test_a_turn_that_the_frame_shows_stays_as_found() -> None:
    T = pose((2.2, 0.5, 0.3), (-0.03, 0.02, 0.5))
    assert steadied_by("bracket", T, T @ pose((0, 0, np.radians(4)), (0, 0, 0))) < 0.1


def test_what_is_nearly_round_is_spun_about_its_axis_and_nothing_else_is() -> None:
    R, t = continuity.spun(prepared("torch"), about_centre("torch", T_STANDING))
    assert len(R) == 1 + len(continuity.SPINS_RAD)
    on_axis = np.array([[0, 0, -0.08], [0, 0, 0.07]]) - prepared("torch").centre
    placed = on_axis @ R.swapaxes(1, 2) + t[:, None]
    assert np.abs(placed - placed[0]).max() < 0.002
    for name in ("bracket", "bottle"):
        assert len(continuity.spun(prepared(name), about_centre(name, T_STANDING))[0]) == 1


def test_a_can_that_is_followed_the_wrong_way_round_is_turned_right() -> None:
    shape = make_shape("textured_can")
    tracker = Tracker(prepared("textured_can"), CAMERA)
    clear = look(shape.mesh, T_STANDING)
    tracker.start(*clear)
    tracker._begin(estimated(T_STANDING @ pose((0, 0, 2.0), (0, 0, 0))))
    states = []
    for _ in range(40):
        found = tracker.step(clear.rgb, clear.depth_m)
        states.append(found.state)
    assert "reacquired" in states and states[-1] == "tracked"
    assert off(shape, found.T_cam_obj, T_STANDING) < 0.05


def test_no_rival_is_believed_against_the_right_pose() -> None:
    model, seen = prepared("textured_can"), observed("textured_can", T_STANDING)
    rivals = Rivals(model, [])
    right = about_centre("textured_can", T_STANDING)
    assert all(rivals.watch(seen, right, 1) is None for _ in range(40))


@pytest.mark.parametrize(("lead", "first"), [(0.01, 1), (0.1, 0)])
def test_of_poses_about_as_good_the_one_as_before_the_loss_is_taken(lead: float, first: int) -> None:
    tracker = Tracker(prepared("bracket"), CAMERA)
    tracker._begin(estimated(T_STANDING))
    before, t = about_centre("bracket", T_STANDING)
    R = np.stack([before @ se3.so3_exp(np.array([np.pi, 0, 0])), before])
    evidence = np.array([0.8 + lead, 0.8])
    ordered = tracker._as_before(Candidates(R, np.stack([t, t]), evidence, evidence, np.zeros((2, 16))))
    assert np.array_equal(ordered.R[0], R[first])
