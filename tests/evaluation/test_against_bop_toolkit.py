"""The same numbers as bop_toolkit, whose answers are kept in bop_reference.json (see make_bop_reference.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bop_cases import DELTA_MM, HEIGHT, MATCH_SEEDS, SEEDS, SYMMETRY_STEP, WIDTH, make_case, make_match_case

from gnomon.evaluation import object_pose, pose_errors, recall
from gnomon.evaluation.estimates import read_estimates
from gnomon.evaluation.targets import select
from gnomon.evaluation.visible_surface import vsd
from gnomon.formats import bop, bop_models
from gnomon.geometry.camera import Camera
from gnomon.geometry.symmetry import Symmetries

REFERENCE = json.loads(Path(__file__).with_name("bop_reference.json").read_text("utf-8"))


def metres(T_mm: np.ndarray) -> np.ndarray:
    T = T_mm.copy()
    T[:3, 3] /= 1000
    return T


@pytest.mark.parametrize("seed", SEEDS)
def test_errors_of_one_pose(seed: int):
    case, expected = make_case(seed), REFERENCE["metrics"][str(seed)]
    poses = metres(case.T_est), metres(case.T_gt)
    points = case.points / 1000
    transforms = Symmetries.from_bop(case.info).transforms(SYMMETRY_STEP)
    camera = Camera.from_K(case.K, WIDTH, HEIGHT)
    rotation_rad, translation_m = pose_errors.rotation_and_translation(*poses, Symmetries.none())
    found = {
        "add": pose_errors.add(*poses, points) * 1000,
        "adi": pose_errors.adds(*poses, points) * 1000,
        "mssd": pose_errors.mssd(*poses, points, transforms) * 1000,
        "mspd": pose_errors.mspd(*poses, points, transforms, camera),
        "te": translation_m * 1000,
    }
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-9, abs=1e-9), name
    # The arccosine in bop_toolkit loses digits for small angles.
    assert np.degrees(rotation_rad) == pytest.approx(expected["re"], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_visible_surface(seed: int):
    case = make_case(seed)
    depths = [depth / 1000 for depth in (case.depth_est, case.depth_gt, case.depth_measured)]
    camera = Camera.from_K(case.K, WIDTH, HEIGHT)
    found = vsd(*depths, camera, case.info["diameter"] / 1000, delta_m=DELTA_MM / 1000)
    np.testing.assert_allclose(found, REFERENCE["metrics"][str(seed)]["vsd"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_symmetry_transformations(seed: int):
    expected = REFERENCE["metrics"][str(seed)]
    transforms = Symmetries.from_bop(make_case(seed).info).transforms(SYMMETRY_STEP)
    assert len(transforms) == expected["symmetries"]
    for index, numbers in expected["symmetries_picked"].items():
        wanted = np.reshape(numbers, (3, 4)) * [1, 1, 1, 0.001]
        np.testing.assert_allclose(transforms[int(index), :3], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", MATCH_SEEDS)
def test_matching(seed: int):
    errors, scores, valid = make_match_case(seed)
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    for threshold, expected in REFERENCE["matching"][str(seed)].items():
        matched = recall.match(errors[order], float(threshold), valid)
        found = [[g, order[e]] for g, e in enumerate(matched) if e >= 0]
        assert found == expected, threshold


def test_a_real_image(shared_data: Path, tmp_path: Path):
    """Estimates of a published method for an image of LM-O: every error, and the average recalls."""
    folder = shared_data / "object_pose" / "lmo_000002_000003"
    if not folder.is_dir():
        pytest.skip("needs the image of LM-O")
    real = REFERENCE["real_image"]
    (tmp_path / "results.csv").write_text("\n".join(real["rows"]))
    extra = {int(obj_id): [numbers] for obj_id, numbers in real["extra_symmetries"].items()}
    models = {
        obj_id: bop_models.BopModel(
            obj_id,
            model.path,
            model.diameter_m,
            Symmetries.from_bop({"symmetries_discrete": extra.get(obj_id, [])}),
            has_info=True,
        )
        for obj_id, model in bop_models.read_models(folder / "models").items()
    }
    selection = select(bop.read_split(folder), read_estimates(tmp_path / "results.csv"))
    results = object_pose.target_errors(selection.targets, models, frozenset(object_pose.METRICS))
    for result, expected in zip(results, real["errors"], strict=True):
        assert result.target.obj_id == expected["obj_id"]
        for name, key, scale in (("add", "add_m", 1000), ("adi", "adds_m", 1000), ("mspd", "mspd", 1)):
            assert result.errors[key].item() * scale == pytest.approx(expected[name], rel=1e-6), name
        assert result.errors["mssd"].item() * expected["diameter"] == pytest.approx(expected["mssd"], rel=1e-6)
        # Equal when it was made; room for a pixel, should the drawing change at a border.
        np.testing.assert_allclose(result.errors["vsd"][0, 0], expected["vsd"], rtol=0, atol=2e-3)
    scores = object_pose.score(results)
    assert scores.targets == 7
    assert scores.ar_mssd == pytest.approx(real["recalls"]["mssd"], abs=1e-9)
    assert scores.ar_mspd == pytest.approx(real["recalls"]["mspd"], abs=1e-9)
    assert scores.ar_vsd == pytest.approx(real["recalls"]["vsd"], abs=1e-9)
    assert scores.ar == pytest.approx(np.mean(list(real["recalls"].values())), abs=1e-9)
