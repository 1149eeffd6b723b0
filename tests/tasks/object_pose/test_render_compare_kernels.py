"""Kernels against slow twins in NumPy, and the numbers they count against counting by hand."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from known_objects import CAMERA, look, pose, prepared

from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.view import draw_view, prepare_view
from gnomon.tasks.object_pose.methods.render_compare import dense, follow, likelihood, linear6, points, search, tile
from gnomon.tasks.object_pose.methods.render_compare.model import PoseModel
from gnomon.tasks.object_pose.methods.render_compare.observation import Crop, Observation, crop_around, observe
from gnomon.tasks.synthetic.shapes import make_shape

POSES = [pose((0.3 * i, 1.7 - 0.9 * i, 0.5 + i), (0.02 * i - 0.03, 0.01, 0.45 + 0.1 * i)) for i in range(4)]


def about_centre(model: PoseModel, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return T[:3, :3].copy(), se3.apply(T, model.centre[None])[0]


class Scene(NamedTuple):
    model: PoseModel
    seen: Observation
    R: np.ndarray
    t: np.ndarray


def scene(name: str, T: np.ndarray, size: int = 96) -> Scene:
    model = prepared(name)
    picture = look(make_shape(name).mesh, T)
    crop = crop_around(picture.mask, picture.depth_m, CAMERA, model.diameter_m, size)
    seen = observe(*picture, CAMERA, crop, use_colour=model.textured)
    return Scene(model, seen, *about_centre(model, T))


# --- drawing --------------------------------------------------------------------------------------------------------


def drawn(model: PoseModel, R: np.ndarray, t: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, tuple]:
    projected = np.empty((3, model.shape.vertices.shape[1]), np.float32)
    nearness = np.zeros((camera.height, camera.width), np.float32)
    face = np.full(nearness.shape, -1, np.int32)
    box = tile.draw(model.shape, R, t, (camera.fx, camera.fy, camera.cx, camera.cy), projected, nearness, face)
    return nearness, face, box


@pytest.mark.parametrize("name", ["bracket", "airplane", "bottle", "textured_can", "box"])
def test_the_small_z_buffer_draws_what_the_exact_one_draws(name: str) -> None:
    model, shape = prepared(name), make_shape(name)
    assert model.shape.faces.shape[0] == len(shape.mesh.faces), "not simplified"
    exact = prepare_view(shape.mesh)
    for T in POSES:
        nearness, face, box = drawn(model, *about_centre(model, T), CAMERA)
        depth = draw_view(exact, T, CAMERA, colour=False).depth_m
        assert ((face >= 0) == (nearness > 0)).all()
        both = (depth > 0) & (face >= 0)
        assert ((depth > 0) != (face >= 0)).sum() <= 0.01 * both.sum()
        close = np.isclose(1 / nearness[both], depth[both], rtol=1e-4, atol=0)
        assert close.mean() > 0.99
        v, u = np.nonzero(face >= 0)
        assert box[0] <= u.min() and u.max() <= box[2] and box[1] <= v.min() and v.max() <= box[3]
        tile.clear(box, nearness, face)
        assert not nearness.any() and (face == -1).all()


def test_an_object_beyond_the_picture_touches_nothing() -> None:
    model = prepared("bracket")
    nearness, _, box = drawn(model, np.eye(3), np.array([5.0, 0, 1]), CAMERA)
    assert box[2] < box[0] and not nearness.any()


def test_an_object_across_the_border_is_drawn_to_the_last_pixel() -> None:
    model, shape = prepared("airplane"), make_shape("airplane")
    T = pose((0.4, 0.2, 0.1), (0.24, -0.17, 0.45))
    _, face, _ = drawn(model, *about_centre(model, T), CAMERA)
    depth = draw_view(prepare_view(shape.mesh), T, CAMERA, colour=False).depth_m
    assert (depth[:, -1] > 0).any() and ((depth > 0) != (face >= 0)).sum() <= 0.02 * (depth > 0).sum()


# --- six unknowns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_normal_equations_are_solved(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(8, 50)).astype(np.float32)
    rows[7] = np.abs(rows[7])
    count = 40
    A, b, x = np.zeros((6, 6)), np.zeros(6), np.empty(6)
    linear6.normal_equations(rows, count, A, b)
    J, r, w = rows[:6, :count].T.astype(np.float64), rows[6, :count], rows[7, :count]
    expected_A, expected_b = J.T @ (w[:, None] * J), J.T @ (w * r)
    np.testing.assert_allclose(A, np.tril(expected_A), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(b, expected_b, rtol=1e-4, atol=1e-4)
    assert linear6.solve(np.tril(expected_A), expected_b, x)
    np.testing.assert_allclose(x, np.linalg.solve(expected_A, expected_b), rtol=1e-9, atol=1e-12)


def test_singular_equations_are_noticed() -> None:
    J = np.random.default_rng(0).normal(size=(20, 6))
    J[:, 5] = 0
    assert not linear6.solve(J.T @ J, np.ones(6), np.empty(6))
    assert not linear6.solve(np.zeros((6, 6)), np.ones(6), np.empty(6))


@pytest.mark.parametrize("vector", [(0.0, 0, 0), (1e-10, 0, 0), (1e-5, -2e-5, 0), (0.4, -0.2, 1.1), (0, np.pi, 0)])
def test_a_step_turns_about_the_objects_centre(vector: tuple[float, float, float]) -> None:
    expected = se3.so3_exp(np.array(vector))
    out = np.empty((3, 3))
    linear6.rotation(*(float(part) for part in vector), out)
    np.testing.assert_allclose(out, expected, atol=1e-9)
    T = POSES[2]
    R, t = T[:3, :3].copy(), T[:3, 3].copy()
    linear6.move(R, t, np.array([*vector, 0.01, -0.02, 0.03]), np.empty((3, 3)))
    np.testing.assert_allclose(R, expected @ T[:3, :3], atol=1e-9)
    np.testing.assert_allclose(t, T[:3, 3] + [0.01, -0.02, 0.03], atol=1e-15)


# --- point sets -----------------------------------------------------------------------------------------------------


def slow_score(
    model: PoseModel, view: int, R: np.ndarray, t: np.ndarray, seen: Observation, tau: float, use_luma: bool
) -> float:
    """What `points._score` computes, point by point."""
    size = len(seen.mask)
    gain = total = 0.0
    cells, pairs = set(), []
    for i in range(model.points.points.shape[2]):
        p, n = R @ model.points.points[view, :, i] + t, R @ model.points.normals[view, :, i]
        u, v = seen.fx * p[0] / p[2] + seen.cx + 0.5, seen.fy * p[1] / p[2] + seen.cy + 0.5
        if not (0 <= u <= size - 0.5 and 0 <= v <= size - 0.5):
            total += 1
            continue
        u, v = int(u), int(v)
        inside = seen.mask[v, u] > 0
        if inside:
            cells.add((v * points.GRID // size, u * points.GRID // size))
        d, normal = seen.surface[v, u, 0], seen.surface[v, u, 1:]
        if d <= 0:
            gain += points.UNMEASURED_INSIDE_GAIN if inside else 0
            total += points.UNMEASURED
            continue
        e = (d - p[2]) / tau
        fit = max(1 - abs(e), 0) * (max(normal @ n, 0) if normal[2] != 0 else 1)
        gain += fit if inside else points.OUTSIDE_GAIN * fit
        total += points.SEEN_NEARER_OUTSIDE if e < -1 and not inside else 1
        if inside and abs(e) < 1 and use_luma:
            pairs.append((model.points.luma[view, i], seen.luma[v, u]))
    share = seen.cell_share.reshape(points.GRID, points.GRID)
    result = gain / (total + 1e-6) * sum(share[cell] for cell in cells)
    if len(pairs) > 20:
        (vm, c), (_, vo) = np.cov(np.array(pairs, np.float64).T, bias=True)
        result += points.LUMA_WEIGHT * c / np.sqrt((vm + 4e-4) * (vo + 4e-4))
    return float(result)


@pytest.mark.parametrize("name", ["bracket", "textured_can"])
def test_scores_of_point_sets(name: str) -> None:
    model, seen, R_true, t_true = scene(name, POSES[1])
    holes = np.random.default_rng(1).random(seen.mask.shape) < 0.1
    seen.surface[holes] = 0
    rng = np.random.default_rng(0)
    scratch = points.make_scratch(points_of(model))
    tau = 0.12 * model.diameter_m
    results = []
    for i in range(40):
        R = se3.so3_exp(rng.normal(size=3) * 0.15 * (i % 4)) @ R_true
        t = t_true + rng.normal(size=3) * 0.01 * (i % 5)
        view = int(follow.nearest_views(model, R[None], t[None])[0])
        arrays = model.points.points[view], model.points.normals[view], model.points.luma[view]
        fast = points._score(*arrays, R, t, seen, tau, model.textured, scratch, points_of(model))
        results.append((fast, slow_score(model, view, R, t, seen, tau, model.textured)))
    fast, slow = np.array(results).T
    # Points on a pixel's border may fall to either side.
    np.testing.assert_allclose(fast, slow, atol=0.01)
    assert np.median(np.abs(fast - slow)) < 1e-4
    assert np.ptp(slow) > 0.3


def points_of(model: PoseModel) -> int:
    return model.points.points.shape[2]


def plane_errors(model: PoseModel, view: int, R: np.ndarray, t: np.ndarray, seen: Observation) -> np.ndarray:
    p = R @ model.points.points[view] + t[:, None]
    n = R @ model.points.normals[view]
    u = np.round(seen.fx * p[0] / p[2] + seen.cx).astype(int).clip(0, len(seen.mask) - 1)
    v = np.round(seen.fy * p[1] / p[2] + seen.cy).astype(int).clip(0, len(seen.mask) - 1)
    d = seen.surface[v, u, 0]
    q = np.stack([(u - seen.cx) / seen.fx * d, (v - seen.cy) / seen.fy * d, d])
    used = seen.mask[v, u] > 0
    return np.abs((n * (q - p)).sum(axis=0))[used]


@pytest.mark.parametrize("name", ["bracket", "airplane"])
@pytest.mark.parametrize("seed", range(3))
def test_point_sets_are_moved_onto_the_surface(name: str, seed: int) -> None:
    model, seen, R_true, t_true = scene(name, POSES[1])
    rng = np.random.default_rng(seed)
    turn = rng.normal(size=3)
    turn *= np.radians(8) / np.linalg.norm(turn)
    R, t = se3.so3_exp(turn) @ R_true, t_true + 0.006 * rng.choice([-1.0, 1.0], 3)
    view = int(follow.nearest_views(model, R_true[None], t_true[None])[0])
    before = np.median(plane_errors(model, view, R, t, seen))
    d, square = model.diameter_m, model.shape.mean_square_radius
    arrays = model.points.points[view], model.points.normals[view]
    scratch = points.make_scratch(points_of(model))
    points._refine(*arrays, square, R, t, seen, 0.15 * d, 0.03 * d, 12, scratch, points_of(model))
    assert np.median(plane_errors(model, view, R, t, seen)) < 0.25 * before
    assert np.degrees(se3.geodesic_angle(R, R_true)) < 2
    assert np.linalg.norm(t - t_true) < 0.003
    assert se3.is_rigid(se3.se3(R, t), atol=1e-6)


def test_without_any_partner_a_pose_stays() -> None:
    model, seen, R, t = scene("bracket", POSES[1])
    seen.surface[:] = 0
    before = R.copy(), t.copy()
    scratch = points.make_scratch(points_of(model))
    arrays = model.points.points[0], model.points.normals[0]
    points._refine(*arrays, 1e-3, R, t, seen, 0.02, 0.01, 5, scratch, points_of(model))
    assert np.array_equal(R, before[0]) and np.array_equal(t, before[1])


# --- drawings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bracket", "airplane", "textured_can"])
def test_drawings_make_a_pose_exact(name: str) -> None:
    model, seen, R_true, t_true = scene(name, POSES[1], 128)
    rng = np.random.default_rng(4)
    turns = rng.normal(size=(4, 3))
    turns *= np.radians(4) / np.linalg.norm(turns, axis=1, keepdims=True)
    R, t = se3.so3_exp(turns) @ R_true, t_true + 0.003 * rng.choice([-1.0, 1.0], (4, 3))
    d = model.diameter_m
    dense.refine_many(model.shape, R, t, seen, (0.05 * d, 0.015 * d), 6, 2, 1, True, model.textured, 0, 3)
    for i in range(3):
        assert np.degrees(se3.geodesic_angle(R[i], R_true)) < 0.7
        assert np.linalg.norm(t[i] - t_true) < 0.002
    # The fourth was not asked for.
    np.testing.assert_array_equal(R[3], se3.so3_exp(turns[3]) @ R_true)


# --- what a drawn pose explains -------------------------------------------------------------------------------------

TAU, SIGMA = 0.008, 0.002


def counts(scene: Scene, **changed: np.ndarray) -> dict[str, float]:
    seen = scene.seen._replace(**changed)
    out = np.zeros((1, likelihood.N_TERMS))
    likelihood.evaluate_many(
        scene.model.shape, scene.R[None], scene.t[None], seen, TAU, SIGMA, scene.model.textured, 0, 1, out
    )
    return dict(zip(likelihood.TERMS, out[0].tolist(), strict=True))


def drawn_depth(scene: Scene) -> np.ndarray:
    """Depth of the model's own drawing in the window, 0 outside."""
    seen = scene.seen
    camera = Camera(seen.fx, seen.fy, seen.cx, seen.cy, len(seen.mask), len(seen.mask))
    nearness, face, _ = drawn(scene.model, scene.R, scene.t, camera)
    return np.where(face >= 0, 1 / np.maximum(nearness, 1e-6), 0).astype(np.float32)


def test_pixels_are_counted_by_what_was_seen_there() -> None:
    made = scene("bracket", POSES[1])
    z = drawn_depth(made)
    seen = made.seen
    on = z > 0
    kind = np.random.default_rng(0).integers(0, 4, z.shape)
    depth = np.choose(kind, [z, z + 0.05, z - 0.05, np.zeros_like(z)]).astype(np.float32)
    surface = seen.surface.copy()
    surface[..., 0] = np.where(on, depth, seen.surface[..., 0])
    surface[..., 1:] = 0
    mask = np.random.default_rng(1).integers(0, 3, z.shape).astype(np.uint8)
    beyond = np.zeros(z.shape, bool)
    beyond[:, :30] = True
    found = counts(made, surface=surface, mask=mask, inside_picture=(~beyond).astype(np.uint8))
    on &= ~beyond
    inside = mask > 0
    for name, which in {
        "agree": (kind == 0) & inside, "agree_out": (kind == 0) & ~inside,
        "through_in": (kind == 1) & inside, "through_out": (kind == 1) & ~inside,
        "nearer_in": (kind == 2) & inside, "hidden": (kind == 2) & ~inside,
        "unknown_in": (kind == 3) & inside, "unknown_out": (kind == 3) & ~inside,
    }.items():  # fmt: skip
        assert found[name] == (on & which).sum() > 20, name
    assert found["drawn"] == on.sum()
    bare = z == 0
    expected = likelihood.INNER * (bare & (mask == 2)).sum() + likelihood.BORDER * (bare & (mask == 1)).sum()
    assert found["unexplained"] == pytest.approx(expected)
    assert found["slant"] == 0 and found["misfit"] == pytest.approx(0, abs=1e-3)


def test_a_perfect_picture_is_explained_perfectly() -> None:
    made = scene("bracket", POSES[1])
    found = counts(made)
    mask_pixels = float((made.seen.mask > 0).sum())
    assert found["agree"] > 0.95 * mask_pixels and found["score"] > 0.9
    value = likelihood.evidence(np.array([list(found.values())]), mask_pixels, False)[0]
    assert 0.85 < value <= 1.001


@pytest.mark.parametrize(
    ("turn", "shift_m"), [((0, 0, 0), (0.02, 0, 0)), ((0, 0, 0), (0, 0, 0.02)), ((0.5, 0, 0), (0, 0, 0))]
)
def test_a_wrong_pose_explains_less(turn: tuple, shift_m: tuple) -> None:
    made = scene("bracket", POSES[1])
    right = counts(made)
    wrong = counts(made._replace(R=se3.so3_exp(np.array(turn, float)) @ made.R, t=made.t + np.array(shift_m)))
    assert wrong["score"] < right["score"] - 0.2
    terms = np.array([list(right.values()), list(wrong.values())])
    for evidence in (likelihood.evidence(terms, right["agree"], False), likelihood.evidence_without_mask(terms, False)):
        assert evidence[1] < evidence[0] - 0.2


def test_an_occluder_costs_little_and_looking_through_costs_much() -> None:
    made = scene("bracket", POSES[1])
    z = drawn_depth(made)
    half = np.zeros(z.shape, bool)
    half[:, : int(np.median(np.nonzero(z)[1]))] = True
    results = {}
    for what, depth in (("hidden", 0.3), ("through", 1.5)):
        surface, mask = made.seen.surface.copy(), made.seen.mask.copy()
        surface[half, 0], surface[half, 1:], mask[half] = depth, 0, 0
        found = counts(made, surface=surface, mask=mask)
        results[what] = likelihood.evidence(np.array([list(found.values())]), float((mask > 0).sum()), False)[0]
    assert results["hidden"] > 0.85 and results["through"] < 0.4


def test_colours_tell_the_sides_of_a_can_apart() -> None:
    made = scene("textured_can", POSES[1])
    turned = made.R @ se3.so3_exp(np.array([0, 0, 2.0]))
    right, wrong = counts(made), counts(made._replace(R=turned))
    assert right["ncc"] > max(0.8, wrong["ncc"] + 0.2)
    assert right["chroma"] < wrong["chroma"]


# --- poses that are the same ----------------------------------------------------------------------------------------


def test_symmetric_poses_are_not_distinct() -> None:
    model = prepared("box")
    R0, t0 = about_centre(model, POSES[1])
    R = np.stack([R0 @ R_s for R_s in model.symmetry_R] + [se3.so3_exp(np.array([0, 0, 0.5])) @ R0])
    t = np.stack([R0 @ t_s + t0 for t_s in model.symmetry_t] + [t0])
    order = np.arange(len(R))
    assert search.distinct(model, R, t, order, 10, 0.1).tolist() == [0, len(R) - 1]
    assert search.distinct(model, R, t, order[::-1].copy(), 10, 0.1).tolist() == [len(R) - 1, len(R) - 2]
    assert search.distinct(model, R, t, order, 1, 0.1).tolist() == [0]


def test_turns_of_a_bottle_are_not_distinct_but_turns_of_a_mug_are() -> None:
    for name, kept in (("bottle", 1), ("mug", 5)):
        model = prepared(name)
        R0, t0 = about_centre(model, POSES[1])
        turns = np.stack([se3.so3_exp(np.array([0, 0, angle])) for angle in (0, 0.9, 2.0, 3.1, 4.4)])
        # About the axis of revolution, which need not go through the centre of the box.
        axis = -model.centre * [1, 1, 0]
        t = t0 + (axis - turns @ axis) @ R0.T
        assert len(search.distinct(model, R0 @ turns, t, np.arange(5), 9, 0.1)) == kept


def test_a_shift_makes_poses_distinct_from_the_threshold_on() -> None:
    model = prepared("bracket")
    R = np.stack([POSES[1][:3, :3]] * 3)
    t = np.array([0, 0, 0.5]) + model.diameter_m * np.array([[0, 0, 0], [0.09, 0, 0], [0, 0.11, 0]])
    assert search.distinct(model, R, t, np.arange(3), 9, 0.1).tolist() == [0, 2]


# --- windows --------------------------------------------------------------------------------------------------------


def test_a_windows_camera_sees_what_the_picture_shows() -> None:
    crop = Crop(173.2, 88.7, 61.5, 96)
    fx, fy, cx, cy = crop.camera(CAMERA)
    point = np.array([0.013, -0.052, 0.48])
    at = np.array([fx * point[0] / point[2] + cx, fy * point[1] / point[2] + cy])
    np.testing.assert_allclose(crop.to_picture @ [*at, 1], CAMERA.project(point), atol=1e-9)


def test_threads_share_the_work_without_gaps() -> None:
    for threads, count in ((1, 7), (2, 7), (3, 7), (8, 3), (4, 1)):
        done = np.zeros(count, int)

        def work(first: int, last: int, done: np.ndarray = done) -> None:
            done[first:last] += 1

        search.in_threads(threads, count, work)
        assert (done == 1).all()
