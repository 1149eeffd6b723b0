"""Following an object: through motion and behind things, and no longer than it is there."""

from __future__ import annotations

import numpy as np
import pytest
from known_objects import CAMERA, look, off, pose, prepared

from gnomon.errors import InputError, MethodError
from gnomon.geometry import se3
from gnomon.geometry.view import draw_view, prepare_view
from gnomon.tasks.object_pose.tracker import Tracker
from gnomon.tasks.synthetic.parts import box
from gnomon.tasks.synthetic.sequences import make_sequence
from gnomon.tasks.synthetic.shapes import Shape, make_shape

WALL_M = 0.9


def frame(shape: Shape, T_cam_obj: np.ndarray, index: int, *, hidden: bool = False, gone: bool = False) -> tuple:
    """Colour, noisy depth and mask of the object before a wall; hidden: a board is held in front of it."""
    view = draw_view(prepare_view(shape.mesh), T_cam_obj, CAMERA)
    mask = (view.depth_m > 0) & (not gone)
    depth = np.where(mask, view.depth_m, WALL_M)
    rgb = np.where(mask[..., None], view.rgb, np.uint8(80)).astype(np.uint8)
    if hidden:
        v, u = np.nonzero(mask)
        board = np.s_[max(v.min() - 15, 0) : v.max() + 15, max(u.min() - 15, 0) : u.max() + 15]
        depth[board], mask[board], rgb[board] = 0.3, False, 40
    noise = np.random.default_rng(index).normal(0, 0.0008, depth.shape)
    return rgb, (depth + noise).astype(np.float32), mask


def path(index: int) -> np.ndarray:
    """A slow turn and a slow move."""
    return pose((2.2 + 0.01 * index, 0.5 - 0.015 * index, 0.3), (-0.03 + 0.002 * index, 0.02, 0.5 + 0.001 * index))


def test_a_step_before_the_start_is_refused() -> None:
    tracker = Tracker(prepared("bracket"), CAMERA)
    rgb, depth, _ = frame(make_shape("bracket"), path(0), 0)
    with pytest.raises(MethodError) as refusal:
        tracker.step(rgb, depth)
    assert refusal.value.code == "tracker_not_started"


def test_frames_of_another_size_are_refused() -> None:
    tracker = Tracker(prepared("bracket"), CAMERA)
    rgb, depth, mask = frame(make_shape("bracket"), path(0), 0)
    with pytest.raises(InputError) as refusal:
        tracker.start(rgb, depth, mask[:100])
    assert refusal.value.code == "sizes_differ"
    tracker.start(rgb, depth, mask)
    for bad in ((rgb[:100], depth), (rgb, depth[:, :100])):
        with pytest.raises(InputError) as refusal:
            tracker.step(*bad)
        assert refusal.value.code == "sizes_differ"


@pytest.mark.parametrize(("name", "seed"), [("bracket", 0), ("airplane", 1)])
def test_a_hand_held_object_is_followed(name: str, seed: int) -> None:
    shape = make_shape(name)
    sequence = make_sequence(shape, seed, n_frames=20, mover="object", occlusions=False)
    tracker = Tracker(prepared(name), sequence.camera)
    errors = []
    for index, one in enumerate(sequence):
        if index == 0:
            found = tracker.start(one.rgb, one.depth_m, sequence.mask)
            assert found.state == "estimated"
        else:
            found = tracker.step(one.rgb, one.depth_m)
            assert found.state == "tracked" and found.seconds > 0
        assert se3.is_rigid(found.T_cam_obj, atol=1e-9)
        errors.append(off(shape, found.T_cam_obj, one.T_cam_obj))
    assert max(errors) < 0.1 and np.median(errors) < 0.04


def test_a_quick_but_steady_motion_is_followed() -> None:
    shape = make_shape("bracket")
    tracker = Tracker(prepared("bracket"), CAMERA)

    def along(i: int) -> np.ndarray:
        # 0.45 m/s and 90 degrees a second at 30 frames a second, sped up from rest over the first ten frames.
        s = i - 10 * (1 - np.exp(-i / 10))
        return pose((2.2, 0.5 + 0.05 * s, 0.3), (-0.1 + 0.015 * s, 0.02, 0.55))

    tracker.start(*frame(shape, along(0), 0))
    for i in range(1, 20):
        found = tracker.step(*frame(shape, along(i), i)[:2])
        assert found.state == "tracked"
        assert off(shape, found.T_cam_obj, along(i)) < 0.05, i


def test_what_was_hidden_is_found_again() -> None:
    shape = make_shape("bracket")
    tracker = Tracker(prepared("bracket"), CAMERA)
    tracker.start(*frame(shape, path(0), 0))
    states = []
    for i in range(1, 16):
        found = tracker.step(*frame(shape, path(i), i, hidden=5 <= i < 9)[:2])
        states.append(found.state)
        if found.found:
            assert off(shape, found.T_cam_obj, path(i)) < 0.05
    assert states[:4] == ["tracked"] * 4
    assert states[4:8] == ["lost"] * 4
    assert states[-1] == "tracked" and "lost" not in states[9:]


def after_a_turn_out_of_sight(turn: tuple[float, float, float]) -> tuple[list[str], float]:
    """States of five frames after two in which the object was hidden and turned, and the error in the last."""
    shape = make_shape("bracket")
    tracker = Tracker(prepared("bracket"), CAMERA)
    tracker.start(*frame(shape, path(0), 0))
    for i in range(1, 3):
        assert tracker.step(*frame(shape, path(0), i, hidden=True)[:2]).state == "lost"
    elsewhere = pose((0, 0, 0), (0.03, 0, 0)) @ path(0) @ pose(turn, (0, 0, 0))
    states = []
    for i in range(3, 8):
        found = tracker.step(*frame(shape, elsewhere, i)[:2])
        states.append(found.state)
    return states, off(shape, found.T_cam_obj, elsewhere)


@pytest.mark.parametrize("turn", [(0, 0, 3.1), (0, 2.0, 0), (1.0, 1.0, 0)])
def test_an_object_turned_out_of_sight_is_reacquired(turn: tuple[float, float, float]) -> None:
    states, error = after_a_turn_out_of_sight(turn)
    assert "reacquired" in states and states[-1] == "tracked" and error < 0.05


def test_a_lost_object_is_not_tracked_by_a_poor_fit() -> None:
    states, error = after_a_turn_out_of_sight((3.1, 0, 0))
    assert states[-1] == "lost" or error < 0.1


@pytest.mark.parametrize("name", ["bracket", "airplane", "bottle", "mug"])
def test_what_was_taken_away_stays_lost(name: str) -> None:
    shape = make_shape(name)
    tracker = Tracker(prepared(name), CAMERA)
    assert tracker.start(*frame(shape, path(0), 0)).found
    for i in range(1, 7):
        found = tracker.step(*frame(shape, path(0), i, gone=True)[:2])
        assert found.state == "lost" and not found.found


def test_what_was_taken_off_a_table_is_lost() -> None:
    shape = make_shape("bracket")
    T_cam_table = pose((np.pi + 0.8, 0, 0), (0, 0.02, 0.5))
    table = draw_view(prepare_view(box((1.5, 1.5, 0.02), (0, 0, -0.016))), T_cam_table, CAMERA).depth_m
    view = draw_view(prepare_view(shape.mesh), T_cam_table, CAMERA)
    mask = view.depth_m > 0
    noise = np.random.default_rng(0).normal(0, 0.0008, table.shape)
    empty = (table + noise * (table > 0)).astype(np.float32)
    rgb = np.full((*table.shape, 3), 120, np.uint8)
    tracker = Tracker(prepared("bracket"), CAMERA)
    assert tracker.start(rgb, np.where(mask, view.depth_m, empty), mask).found
    for _ in range(5):
        assert tracker.step(rgb, empty).state == "lost"


def test_nothing_measured_is_lost_not_an_error() -> None:
    shape = make_shape("bracket")
    rgb, depth, mask = frame(shape, path(0), 0)
    tracker = Tracker(prepared("bracket"), CAMERA)
    tracker.start(rgb, depth, mask)
    for nothing in (np.zeros_like(depth), np.full_like(depth, np.nan)):
        assert tracker.step(rgb, nothing).state == "lost"
    assert tracker.step(rgb, depth).found


def test_an_ambiguous_start_stays_so_until_the_handle_comes_into_sight() -> None:
    shape, model = make_shape("mug"), prepared("mug")
    T = pose((np.radians(-60), 0, 0), (0, 0.03, 0.5))
    clear = look(shape.mesh, T)
    edge = int(CAMERA.project(se3.apply(T, np.array([[0.038, 0, 0.05]])))[0, 0])
    rgb, depth, mask = (np.array(part) for part in clear)
    depth[:, edge:], mask[:, edge:], rgb[:, edge:] = 0.35, False, 30
    tracker = Tracker(model, CAMERA)
    assert tracker.start(rgb, depth, mask).ambiguous
    behind_the_board = tracker.step(rgb, depth)
    assert behind_the_board.ambiguous and behind_the_board.runner_up is not None
    last = [tracker.step(clear.rgb, clear.depth_m) for _ in range(4)][-1]
    assert last.found and not last.ambiguous
    assert off(shape, last.T_cam_obj, T) < 0.05


def test_a_new_start_forgets_the_old_place() -> None:
    shape = make_shape("bracket")
    tracker = Tracker(prepared("bracket"), CAMERA)
    tracker.start(*frame(shape, path(0), 0))
    far = pose((2.2, 0.5, 0.3), (0.12, -0.05, 0.7))
    tracker.start(*frame(shape, far, 1))
    found = tracker.step(*frame(shape, far, 2)[:2])
    assert found.state == "tracked" and off(shape, found.T_cam_obj, far) < 0.05


def test_the_same_frames_give_the_same_poses_on_any_number_of_threads() -> None:
    shape = make_shape("bracket")
    results = []
    for threads in (1, 2):
        tracker = Tracker(prepared("bracket"), CAMERA, threads=threads)
        tracker.start(*frame(shape, path(0), 0))
        results.append([tracker.step(*frame(shape, path(i), i)[:2]).T_cam_obj for i in range(1, 4)])
    assert np.array_equal(*results)
