"""Trials: the same by seed, with a truth that the pictures agree with, and the visibility that was asked for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gnomon.errors import InputError
from gnomon.geometry.view import ViewMesh, draw_view, prepare_view
from gnomon.tasks.synthetic.canvas import OBJECT, Canvas
from gnomon.tasks.synthetic.sensor import PERFECT, Light
from gnomon.tasks.synthetic.shapes import TUNING, make_shape
from gnomon.tasks.synthetic.trials import CAMERA, OCCLUSION_SLACK, make_trial


@pytest.mark.parametrize("name", TUNING)
def test_the_truth_agrees_with_the_pictures(name: str) -> None:
    shape = make_shape(name)
    # With seed 3 this sheet of 1.5 mm is seen from its edge, where a depth camera measures next to nothing.
    trial = make_trial(shape, 4 if name == "slot_plate" else 3)
    view = draw_view(prepare_view(shape.mesh), trial.T_cam_obj, trial.camera)
    seen = trial.true_visible_mask
    np.testing.assert_allclose(trial.true_depth_m[seen], view.depth_m[seen], atol=1e-5)
    assert trial.visible_fraction == pytest.approx(seen.sum() / (view.depth_m > 0).sum())
    measured = seen & (trial.depth_m > 0)
    assert measured.sum() > 0.3 * seen.sum()
    # Steps of the disparity and a wrong scale: a few millimetres, never centimetres.
    assert np.median(np.abs(trial.depth_m - view.depth_m)[measured]) < 0.012
    assert trial.rgb.shape == (480, 640, 3) and trial.mask.dtype == bool
    overlap = (trial.mask & seen).sum() / (trial.mask | seen).sum()
    assert overlap > 0.35


def _same(a: object, b: object) -> bool:
    """Equal in every array and number; prepared bodies come from pools and are the same ones."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Light) and isinstance(b, Light):
        return _same(tuple(vars(a).values()), tuple(vars(b).values()))
    return a is b if isinstance(a, ViewMesh) else np.array_equal(a, b)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_bytes() -> None:
    shape = make_shape("mug")
    first, again, other = make_trial(shape, 5), make_trial(shape, 5), make_trial(shape, 6)
    for field in dataclasses.fields(first):
        assert _same(getattr(first, field.name), getattr(again, field.name)), field.name
    assert not np.array_equal(first.rgb, other.rgb)


def test_the_scene_can_be_drawn_again() -> None:
    trial = make_trial(make_shape("mug"), 5)
    canvas = Canvas(trial.camera)
    for part in trial.drawn:
        canvas.add(*part)
    assert np.array_equal(canvas.depth_m, trial.true_depth_m)
    assert np.array_equal(canvas.label == OBJECT, trial.true_visible_mask)


@pytest.mark.parametrize("occlusion", [(0.0, 0.0), (0.0, 0.35), (0.4, 0.5), (0.7, 0.8)])
def test_as_much_is_hidden_as_was_asked_for(occlusion: tuple[float, float]) -> None:
    for seed in range(4):
        trial = make_trial(make_shape("bracket"), seed, occlusion=occlusion, distance_m=(0.5, 0.7))
        hidden = 1 - trial.visible_fraction
        assert occlusion[0] - OCCLUSION_SLACK <= hidden <= occlusion[1] + OCCLUSION_SLACK
        assert trial.true_visible_mask.sum() >= 250


def test_without_faults_depth_is_the_truth() -> None:
    trial = make_trial(make_shape("bowl"), 1, noise=PERFECT)
    np.testing.assert_allclose(trial.depth_m, trial.true_depth_m, rtol=1e-5)
    biased = make_trial(make_shape("bowl"), 1, noise=PERFECT, depth_bias_m=0.02)
    np.testing.assert_allclose(biased.depth_m, trial.true_depth_m + 0.02, rtol=1e-5)


def test_another_camera() -> None:
    camera = CAMERA.scaled(0.5)
    trial = make_trial(make_shape("textured_can"), 0, camera=camera, least_visible_px=60)
    assert trial.rgb.shape == (240, 320, 3) and trial.camera == camera


def test_wishes_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(InputError, match="occlusion"):
        make_trial(make_shape("cube"), 0, occlusion=(0.2, 0.9))
    with pytest.raises(InputError, match="pixels"):
        make_trial(make_shape("ant"), 0, least_visible_px=100_000)
