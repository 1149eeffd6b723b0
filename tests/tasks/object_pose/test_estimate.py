"""One picture, one pose: right where the picture tells, honest where it does not, and steady under bad input."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from known_objects import CAMERA, look, moved, off, pose, prepared, trial_of

from gnomon.errors import InputError
from gnomon.evaluation import pose_errors
from gnomon.geometry import se3
from gnomon.geometry.mesh import Mesh
from gnomon.tasks.object_pose.estimate import estimate
from gnomon.tasks.object_pose.pose import PoseEstimate
from gnomon.tasks.object_pose.prepare import PoseModel, prepare
from gnomon.tasks.synthetic.sensor import PERFECT
from gnomon.tasks.synthetic.shapes import make_shape
from gnomon.tasks.synthetic.trials import Trial, make_trial


def found_in(trial: Trial, model: PoseModel, **options: int) -> PoseEstimate:
    return estimate(model, trial.rgb, trial.depth_m, trial.mask, trial.camera, **options)


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("bracket", 0), ("bracket", 1), ("bracket", 2), ("airplane", 0), ("airplane", 1), ("bottle", 0), ("bottle", 1),
        ("box", 0), ("box", 1), ("box", 3), ("textured_can", 1), ("textured_can", 3), ("mug", 2), ("teapot", 0),
    ],
)  # fmt: skip
def test_objects_are_found_in_cluttered_noisy_pictures(name: str, seed: int) -> None:
    trial = trial_of(name, seed)
    found = found_in(trial, prepared(name))
    assert found.state == "estimated" and found.found
    assert off(make_shape(name), found.T_cam_obj, trial.T_cam_obj) < 0.1
    assert se3.is_rigid(found.T_cam_obj, atol=1e-9)
    assert 0.45 <= found.score <= 1 and found.seconds > 0


@pytest.mark.parametrize("name", ["bracket", "airplane", "bottle", "box", "textured_can", "mug"])
def test_without_noise_the_pose_is_exact(name: str) -> None:
    shape = make_shape(name)
    trial = make_trial(shape, 0, noise=PERFECT, mask_mode="exact", occlusion=(0.0, 0.0))
    found = found_in(trial, prepared(name))
    assert off(shape, found.T_cam_obj, trial.T_cam_obj) < 0.01
    assert found.score > 0.85


def test_the_outcome_depends_on_neither_threads_nor_repetition() -> None:
    trial, model = trial_of("textured_can", 1), prepared("textured_can")
    first, again, two = found_in(trial, model), found_in(trial, model), found_in(trial, model, threads=2)
    for other in (again, two):
        assert np.array_equal(first.T_cam_obj, other.T_cam_obj)
        assert (first.score, first.state, first.ambiguous) == (other.score, other.state, other.ambiguous)
        assert first.runner_up is not None and other.runner_up is not None
        assert first.runner_up.margin == other.runner_up.margin


def test_the_pose_is_that_of_the_meshs_own_frame() -> None:
    shape, trial = make_shape("bracket"), trial_of("bracket", 0)
    T_far_mesh = pose((0.7, -1.1, 0.4), (0.3, -0.3, 0.2))
    model = prepare(moved(shape.mesh, T_far_mesh))
    found = found_in(trial, model)
    assert off(shape, found.T_cam_obj @ T_far_mesh, trial.T_cam_obj) < 0.03


@pytest.mark.parametrize("right", ["bracket", "airplane"])
@pytest.mark.parametrize("wrong", ["bottle", "textured_can", "bowl"])
def test_another_object_is_lost_or_fits_clearly_worse(right: str, wrong: str) -> None:
    trial = trial_of(right, 0)
    other = found_in(trial, prepared(wrong))
    assert other.state == "lost" or other.score < found_in(trial, prepared(right)).score - 0.25


def test_a_mug_whose_handle_is_hidden_is_ambiguous() -> None:
    shape, model = make_shape("mug"), prepared("mug")
    # Upright, from slightly above, with the handle to the right, where a board stands in front.
    T = pose((np.radians(-60), 0, 0), (0, 0.03, 0.5))
    picture = look(shape.mesh, T)
    edge = int(CAMERA.project(se3.apply(T, np.array([[0.038, 0, 0.05]])))[0, 0])
    rgb, depth, mask = (np.array(part) for part in picture)
    whole = estimate(model, rgb, depth, mask, CAMERA)
    assert not whole.ambiguous and off(shape, whole.T_cam_obj, T) < 0.02
    depth[:, edge:], mask[:, edge:], rgb[:, edge:] = 0.35, False, 30
    found = estimate(model, rgb, depth, mask, CAMERA)
    assert found.ambiguous
    assert found.runner_up is not None and found.runner_up.margin < 0.02


@pytest.mark.parametrize("name", ["bracket", "airplane", "bottle", "box"])
def test_clear_views_are_not_ambiguous(name: str) -> None:
    assert not found_in(trial_of(name, 0), prepared(name)).ambiguous


@pytest.mark.parametrize("name", ["bracket", "textured_can", "mug", "box"])
def test_the_runner_up_is_another_pose(name: str) -> None:
    shape = make_shape(name)
    found = found_in(trial_of(name, 1), prepared(name))
    assert found.runner_up is not None and found.runner_up.margin >= 0
    assert se3.is_rigid(found.runner_up.T_cam_obj, atol=1e-9)
    assert off(shape, found.runner_up.T_cam_obj, found.T_cam_obj) > 0.08


def test_masks_without_pixels_or_depth_are_refused() -> None:
    trial, model = trial_of("bracket", 0), prepared("bracket")
    few = np.zeros_like(trial.mask)
    few[100, 100:111] = True
    blind = np.where(trial.mask, np.float32(0), trial.depth_m)
    for depth, mask, code in (
        (trial.depth_m, few, "mask_empty"),
        (trial.depth_m, np.zeros_like(few), "mask_empty"),
        (blind, trial.mask, "mask_without_depth"),
        (np.where(trial.mask, np.float32(np.nan), trial.depth_m), trial.mask, "mask_without_depth"),
    ):
        with pytest.raises(InputError) as refusal:
            estimate(model, trial.rgb, depth, mask, trial.camera)
        assert refusal.value.code == code and refusal.value.field == "mask"


@pytest.mark.parametrize("field", ["rgb", "depth_m", "mask"])
def test_pictures_of_different_sizes_are_refused(field: str) -> None:
    trial, model = trial_of("bracket", 0), prepared("bracket")
    inputs = {"rgb": trial.rgb, "depth_m": trial.depth_m, "mask": trial.mask}
    inputs[field] = inputs[field][:240]
    with pytest.raises(InputError) as refusal:
        estimate(model, **inputs, camera=trial.camera)
    assert refusal.value.code == "sizes_differ" and refusal.value.field == field


def test_depth_that_is_no_number_counts_as_unmeasured() -> None:
    trial, model = trial_of("bracket", 1), prepared("bracket")
    zero = found_in(trial, model)
    for nothing in (np.nan, np.inf, -1.0):
        depth = np.where(trial.depth_m > 0, trial.depth_m, np.float32(nothing))
        found = estimate(model, trial.rgb, depth, trial.mask, trial.camera)
        assert np.array_equal(found.T_cam_obj, zero.T_cam_obj)


def test_arrays_of_other_layouts_and_types_give_the_same() -> None:
    trial, model = trial_of("textured_can", 1), prepared("textured_can")
    bgr = np.ascontiguousarray(trial.rgb[..., ::-1])
    mask = np.asfortranarray(trial.mask)
    found = estimate(model, bgr[..., ::-1], np.asfortranarray(trial.depth_m, np.float64), mask, trial.camera)
    assert np.array_equal(found.T_cam_obj, found_in(trial, model).T_cam_obj)


@pytest.mark.parametrize("name", ["bracket", "textured_can"])
@pytest.mark.parametrize("pixels", [14, 30, 60])
def test_a_tiny_mask_gives_some_answer(name: str, pixels: int) -> None:
    trial = trial_of(name, 1)
    v, u = np.nonzero(trial.true_visible_mask & (trial.depth_m > 0))
    nearest = np.argsort((v - v.mean()) ** 2 + (u - u.mean()) ** 2)[:pixels]
    mask = np.zeros_like(trial.mask)
    mask[v[nearest], u[nearest]] = True
    check(estimate(prepared(name), trial.rgb, trial.depth_m, mask, trial.camera))


def check(found: PoseEstimate) -> None:
    """An answer, whether right or not, that can be used."""
    assert se3.is_rigid(found.T_cam_obj, atol=1e-9)
    assert 0 <= found.score <= 1 and found.state in ("estimated", "lost")


def test_a_black_picture_gives_some_answer() -> None:
    trial = trial_of("textured_can", 1)
    check(estimate(prepared("textured_can"), np.zeros_like(trial.rgb), trial.depth_m, trial.mask, trial.camera))


def test_a_mask_of_the_whole_picture_gives_some_answer() -> None:
    trial = trial_of("bracket", 0)
    check(estimate(prepared("bracket"), trial.rgb, trial.depth_m, np.ones_like(trial.mask), trial.camera))


def test_a_mask_on_another_surface_gives_some_answer() -> None:
    trial = trial_of("bracket", 0)
    mask = np.zeros_like(trial.mask)
    mask[:40, :40] = True
    check(estimate(prepared("bracket"), trial.rgb, np.full_like(trial.depth_m, 3.0), mask, trial.camera))


@pytest.mark.parametrize("side_m", [-0.25, 0.26])
def test_an_object_partly_outside_the_picture(side_m: float) -> None:
    shape = make_shape("bracket")
    T = pose((2.2, 0.5, 0.3), (side_m, 0.02, 0.5))
    picture = look(shape.mesh, T)
    beside = picture.mask[:, 0] if side_m < 0 else picture.mask[:, -1]
    assert beside.any()
    found = estimate(prepared("bracket"), *picture, CAMERA)
    assert found.found and off(shape, found.T_cam_obj, T) < 0.05


def test_a_sheet_seen_from_its_edge() -> None:
    sheet = Mesh(
        vertices=np.array([(x, y, z) for x in (-0.06, 0.06) for y in (-0.04, 0.04) for z in (-0.001, 0.001)]),
        faces=np.array(
            [(0, 1, 3), (0, 3, 2), (4, 7, 5), (4, 6, 7), (0, 5, 1), (0, 4, 5), (2, 3, 7), (2, 7, 6), (0, 2, 6),
             (0, 6, 4), (1, 7, 3), (1, 5, 7)]
        ),
    )  # fmt: skip
    model = prepare(sheet)
    T = pose((np.pi / 2, 0, 0), (0, 0, 0.35))
    picture = look(sheet, T)
    assert 12 < picture.mask.sum() < 400
    check(estimate(model, *picture, CAMERA))
    tilted = pose((0.8, 0.3, 0), (0, 0, 0.45))
    found = estimate(model, *look(sheet, tilted), CAMERA)
    assert found.found and pose_errors.adds(found.T_cam_obj, tilted, sheet.vertices) < 0.004


def spoilt(mesh: Mesh, how: str) -> Mesh:
    random = np.random.default_rng(0)
    if how == "inside out":
        return replace(mesh, faces=mesh.faces[:, ::-1].copy())
    if how == "wound at random":
        flip = random.random(len(mesh.faces)) < 0.5
        return replace(mesh, faces=np.where(flip[:, None], mesh.faces[:, ::-1], mesh.faces))
    if how == "unwelded":
        return Mesh(vertices=mesh.vertices[mesh.faces].reshape(-1, 3), faces=np.arange(mesh.faces.size).reshape(-1, 3))
    # Open: the outer side of the stud's end is missing.
    middles = mesh.vertices[mesh.faces].mean(axis=1)
    at_top = (middles[:, 2] > 0.0349) & (middles[:, 0] > 0)
    assert 0 < at_top.sum() < 0.4 * len(mesh.faces)
    return mesh.select_faces(~at_top, "open")


@pytest.mark.parametrize("how", ["inside out", "wound at random", "unwelded", "open"])
def test_careless_meshes_do_as_well(how: str) -> None:
    shape = make_shape("bracket")
    model = prepare(spoilt(shape.mesh, how))
    for seed in (0, 1):
        trial = trial_of("bracket", seed)
        found = found_in(trial, model)
        assert found.found and off(shape, found.T_cam_obj, trial.T_cam_obj) < 0.03


def test_a_depth_camera_out_of_calibration_shifts_the_pose_by_as_much() -> None:
    for seed in (0, 1):
        poses = [found_in(trial_of("bracket", seed, "standard", bias), prepared("bracket")) for bias in (0.0, 0.006)]
        centre = prepared("bracket").centre[None]
        shift = se3.apply(poses[1].T_cam_obj, centre)[0] - se3.apply(poses[0].T_cam_obj, centre)[0]
        assert 0.003 < shift[2] < 0.009 and np.linalg.norm(shift) < 0.009
        R, R_biased = (found.T_cam_obj[:3, :3] for found in poses)
        assert np.degrees(se3.geodesic_angle(R, R_biased)) < 3


@pytest.mark.parametrize(
    ("name", "seed", "mode"),
    [
        ("bracket", 0, "over_segmented"), ("bracket", 1, "over_segmented"), ("airplane", 0, "over_segmented"),
        ("bottle", 0, "over_segmented"), ("box", 1, "over_segmented"), ("bracket", 0, "under_segmented"),
        ("airplane", 0, "under_segmented"), ("bottle", 2, "under_segmented"), ("box", 1, "under_segmented"),
    ],
)  # fmt: skip
def test_masks_that_leak_or_miss_a_part(name: str, seed: int, mode: str) -> None:
    trial = trial_of(name, seed, mode)
    found = found_in(trial, prepared(name))
    assert found.found and off(make_shape(name), found.T_cam_obj, trial.T_cam_obj) < 0.1


def test_half_the_resolution_is_enough() -> None:
    trial, shape = trial_of("bracket", 1), make_shape("bracket")
    camera = trial.camera.scaled(0.5)
    rgb = cv2.resize(trial.rgb, (320, 240), interpolation=cv2.INTER_AREA)
    # Every other pixel's centre lies half a small pixel aside of the resized picture's.
    camera = replace(camera, cx=camera.cx + 0.25, cy=camera.cy + 0.25)
    depth, mask = trial.depth_m[::2, ::2], trial.mask[::2, ::2]
    found = estimate(prepared("bracket"), rgb, depth, mask, camera)
    assert found.found and off(shape, found.T_cam_obj, trial.T_cam_obj) < 0.1
