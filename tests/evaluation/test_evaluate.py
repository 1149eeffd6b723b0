"""Targets, whole evaluations, and `gnomon eval object-pose`, on a small data set made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from gnomon.cli import cli
from gnomon.errors import InputError
from gnomon.evaluation.estimates import read_estimates
from gnomon.evaluation.targets import read_target_list, select
from gnomon.formats import bop
from gnomon.formats.bop_results import BopEstimate, write_results
from gnomon.formats.mesh_file import load_mesh
from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.view import draw_view, prepare_view

CAMERA = Camera(200, 200, 79.5, 59.5, 160, 120)
HALF_TURN = np.diag([-1.0, -1, 1, 1])
CORNERS = [(x, y, z) for x in (-30, 30) for y in (-20, 20) for z in (-10, 10)]
FACES = ["0 1 3 2", "4 6 7 5", "0 4 5 1", "2 3 7 6", "0 2 6 4", "1 5 7 3"]


def box_ply() -> str:
    head = "ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
    head += "element face 6\nproperty list uchar int vertex_indices\nend_header\n"
    return head + "".join(f"{x} {y} {z}\n" for x, y, z in CORNERS) + "".join(f"4 {face}\n" for face in FACES)


def pose(x: float, y: float) -> np.ndarray:
    return se3.se3(se3.so3_exp(np.array([0.5, 0.3, 0.1])), np.array([x, y, 0.6]))


TRUTHS = [(1, pose(-0.1, 0), 1.0), (1, pose(0.1, 0), 0.5), (2, pose(0, -0.1), 0.8), (2, pose(0, 0.1), 0.05)]
"""Object, pose and visible share. Object 1 has no symmetry, object 2, the same box, half a turn about z."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with one image, 5, of scene 3."""
    root = tmp_path_factory.mktemp("bop")
    scene = root / "test" / "000003"
    for folder in ("rgb", "depth"):
        (scene / folder).mkdir(parents=True)
    (root / "models").mkdir()
    for obj_id in (1, 2):
        (root / "models" / f"obj_{obj_id:06d}.ply").write_text(box_ply())
    diameter = float(np.linalg.norm([60, 40, 20]))
    info = {
        "1": {"diameter": diameter},
        "2": {"diameter": diameter, "symmetries_discrete": [HALF_TURN.reshape(-1).tolist()]},
    }
    (root / "models" / "models_info.json").write_text(json.dumps(info))
    entries = [
        {"obj_id": obj_id, "cam_R_m2c": T[:3, :3].reshape(-1).tolist(), "cam_t_m2c": (T[:3, 3] * 1000).tolist()}
        for obj_id, T, _ in TRUTHS
    ]
    (scene / "scene_gt.json").write_text(json.dumps({"5": entries}))
    (scene / "scene_gt_info.json").write_text(json.dumps({"5": [{"visib_fract": share} for *_, share in TRUTHS]}))
    camera = {"cam_K": CAMERA.K.reshape(-1).tolist(), "depth_scale": 0.1}
    (scene / "scene_camera.json").write_text(json.dumps({"5": camera}))
    box = prepare_view(load_mesh(root / "models" / "obj_000001.ply").scaled(0.001))
    depth_m = np.full((CAMERA.height, CAMERA.width), 0.9)
    for _, T, _ in TRUTHS:
        seen = draw_view(box, T, CAMERA, colour=False).depth_m
        depth_m = np.where(seen > 0, np.minimum(depth_m, np.where(seen > 0, seen, np.inf)), depth_m)
    Image.fromarray((depth_m * 10_000).round().astype(np.uint16)).save(scene / "depth" / "000005.png")
    Image.new("RGB", (CAMERA.width, CAMERA.height)).save(scene / "rgb" / "000005.png")
    return root


def estimate(obj_id: int, T: np.ndarray, score: float = 1.0, im_id: int = 5, scene_id: int = 3) -> BopEstimate:
    return BopEstimate(scene_id, im_id, obj_id, score, T, 0.25)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["eval", "object-pose", *map(str, arguments)])


def report(path: Path, data: Path, *arguments: object) -> dict[str, Any]:
    done = run(path, data / "test", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_true_poses_score_one_and_what_is_hidden_is_left_out(data: Path, tmp_path: Path):
    path = tmp_path / "r.csv"
    write_results(path, [estimate(obj_id, T) for obj_id, T, _ in TRUTHS])
    found = report(path, data)
    assert found["total"]["targets"] == 3
    assert found["total"]["estimates"] == 3
    for name in ("recall_add_s", "recall_mssd", "ar_mssd", "ar_mspd", "ar_vsd", "ar"):
        assert found["total"][name] == 1.0, name
    assert found["total"]["auc_add"] == pytest.approx(1)
    assert found["total"]["median_rotation_deg"] == pytest.approx(0, abs=1e-4)
    assert [entry["obj_id"] for entry in found["objects"]] == [1, 2]
    assert found["seconds_per_image"] == 0.25
    assert found["left_out"]["truths_not_visible"] == 1
    assert found["left_out"]["estimates_beyond_count"] == 1


def test_misses_strays_and_symmetry(data: Path, tmp_path: Path):
    """One of object 1 is missing, one is half a turn wrong; object 2 may be half a turn wrong."""
    path = tmp_path / "r.csv"
    write_results(
        path,
        [
            estimate(1, TRUTHS[0][1] @ HALF_TURN),
            estimate(2, TRUTHS[2][1] @ HALF_TURN, 0.9),
            estimate(2, TRUTHS[3][1], 0.2),
            estimate(1, TRUTHS[0][1], im_id=6),
            estimate(7, TRUTHS[0][1]),
        ],
    )
    found = report(path, data)
    one, two = found["objects"]
    assert (one["targets"], one["estimates"], one["recall_add_s"], one["ar_mssd"]) == (2, 1, 0, 0)
    # ADD-S forgives half a turn of the box also where nobody called it a symmetry; the other target is missed.
    assert one["auc_adds"] == pytest.approx(0.5)
    # A box turned by half about z shows the same surface.
    assert one["ar_vsd"] == pytest.approx(0.5, abs=0.01)
    assert (two["targets"], two["recall_add_s"], two["ar_mssd"], two["ar_mspd"]) == (1, 1, 1, 1)
    assert two["median_rotation_deg"] == pytest.approx(0, abs=1e-4)
    # Worked: ADD of half a turn is the mean distance of corners, 2 * sqrt(30^2 + 20^2) mm.
    assert two["auc_add"] == pytest.approx(1 - 2 * np.hypot(0.03, 0.02) / 0.1)
    assert found["total"]["ar_mssd"] == pytest.approx(1 / 3)
    assert found["left_out"] == {
        "truths_not_visible": 1,
        "truths_not_listed": 0,
        "estimates_without_pose": 0,
        "estimates_of_other_images": 1,
        "estimates_of_other_objects": 1,
        "estimates_beyond_count": 1,
    }


def test_a_list_of_targets_takes_the_most_visible(data: Path, tmp_path: Path):
    path, targets = tmp_path / "r.csv", tmp_path / "targets.json"
    write_results(path, [estimate(1, TRUTHS[1][1])])
    wanted = [
        {"scene_id": 3, "im_id": 5, "obj_id": 1, "inst_count": 1},
        {"scene_id": 3, "im_id": 9, "obj_id": 1, "inst_count": 1},
    ]
    targets.write_text(json.dumps(wanted))
    found = report(path, data, "--targets", targets)
    # The estimate is of the less visible instance, which does not count.
    assert (found["total"]["targets"], found["total"]["ar_mssd"]) == (1, 0)
    assert found["left_out"]["truths_not_listed"] == 3
    assert found["notes"] == ["1 listed targets of these scenes have no true pose and are left out"]
    targets.write_text("[]")
    assert run(path, data / "test", "--targets", targets).exit_code != 0


def test_visib_min_can_be_zero(data: Path, tmp_path: Path):
    path = tmp_path / "r.csv"
    write_results(path, [estimate(obj_id, T) for obj_id, T, _ in TRUTHS])
    assert report(path, data, "--visib-min", 0, "--metrics", "mssd")["total"]["targets"] == 4


def test_only_what_was_asked_for_is_computed(data: Path, tmp_path: Path):
    path = tmp_path / "r.csv"
    write_results(path, [estimate(1, TRUTHS[0][1])])
    total = report(path, data, "--metrics", "mspd")["total"]
    assert total["ar_mspd"] == pytest.approx(1 / 3)
    assert all(total[name] is None for name in ("ar_mssd", "ar_vsd", "ar", "auc_add", "median_rotation_deg"))


def test_without_depth_there_is_no_vsd(data: Path, tmp_path: Path):
    path, copy = tmp_path / "r.csv", tmp_path / "000003"
    write_results(path, [])
    (copy / "rgb").mkdir(parents=True)
    for name in ("scene_camera.json", "scene_gt.json", "scene_gt_info.json", "rgb/000005.png"):
        (copy / name).write_bytes((data / "test" / "000003" / name).read_bytes())
    done = run(path, copy, "--models", data / "models", "--json")
    found = json.loads(done.stdout)
    assert (found["total"]["ar_mssd"], found["total"]["ar_vsd"], found["total"]["ar"]) == (0, None, None)
    assert "VSD" in found["notes"][0]
    done = run(path, copy, "--models", data / "models", "--metrics", "vsd")
    assert isinstance(done.exception, InputError)
    assert done.exception.code == "bop_not_found"


def frames(objects: list[dict[str, Any]], **ids: Any) -> dict[str, Any]:
    return {"schema_version": 1, "frames": [{"name": "000005", "frame_index": 0, **ids, "objects": objects}]}


def entry(obj_id: int | None, T: np.ndarray | None, **more: Any) -> dict[str, Any]:
    record = {"object": "obj_000001", "obj_id": obj_id, "instance": 0, "score": 0.9, "state": "estimated"}
    return record | {"T_cam_obj": None if T is None else T.tolist(), "seconds": 0.2} | more


@pytest.mark.parametrize("ids", [{"scene_id": 3, "im_id": 5}, {"scene_id": None, "im_id": None}, {}])
def test_poses_json_is_taken_too(data: Path, tmp_path: Path, ids: dict[str, Any]):
    path = tmp_path / "poses.json"
    lost = entry(2, TRUTHS[2][1], state="lost")
    path.write_text(json.dumps(frames([entry(1, TRUTHS[0][1]), entry(None, TRUTHS[1][1]), lost], **ids)))
    found = report(path, data)
    assert found["objects"][0]["recall_mssd"] == 1
    assert found["objects"][1]["recall_mssd"] == 0
    assert found["left_out"]["estimates_without_pose"] == 1
    assert found["seconds_per_image"] == pytest.approx(0.6)


NAN_POSE = np.full((4, 4), np.nan)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ([], "frames"),
        ({"frames": []}, "schema_version"),
        (frames([entry(1, NAN_POSE)]), "frames[0].objects[0].T_cam_obj"),
        (frames([entry(1, 2 * np.eye(4))]), "frames[0].objects[0].T_cam_obj"),
        (frames([entry(1, np.eye(4), score=None)]), "frames[0].objects[0].score"),
        (frames([entry(None, np.eye(4), object="mug")]), "frames[0].objects[0].obj_id"),
        (frames([entry(1, np.eye(4), seconds="x")]), "frames[0].objects[0].seconds"),
        (frames([5]), "frames[0].objects[0]"),  # type: ignore[list-item]
        (frames([], name="first"), "frames[0].name (without im_id)"),
    ],
)
def test_what_is_wrong_with_poses_json_is_named(tmp_path: Path, content: Any, field: str):
    path = tmp_path / "poses.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_estimates(path)
    assert (caught.value.code, caught.value.field) == ("bop_invalid", field)


def test_results_have_a_known_ending(tmp_path: Path):
    (tmp_path / "r.txt").write_text("")
    with pytest.raises(InputError, match=r"\.csv"):
        read_estimates(tmp_path / "r.txt")


def test_a_nameless_folder_is_the_scene_that_the_results_are_about(data: Path, tmp_path: Path):
    path, copy = tmp_path / "r.csv", tmp_path / "mine"
    (copy / "rgb").mkdir(parents=True)
    for name in ("scene_camera.json", "scene_gt.json"):
        (copy / name).write_bytes((data / "test" / "000003" / name).read_bytes())
    write_results(path, [estimate(1, TRUTHS[0][1], scene_id=48)])
    selection = select(bop.read_split(copy), read_estimates(path))
    assert [len(target.estimates) for target in selection.targets] == [1, 0]
    assert selection.truths_of_unknown_visibility == 4
    assert "scene 48" in selection.notes[0]
    targets = tmp_path / "targets.json"
    targets.write_text(json.dumps([{"scene_id": 48, "im_id": 5, "obj_id": 1, "inst_count": 1}]))
    with pytest.raises(InputError, match="scene's number"):
        select(bop.read_split(copy), read_estimates(path), target_list=read_target_list(targets))


def test_results_of_another_scene_are_not_passed_over_in_silence(data: Path, tmp_path: Path):
    path = tmp_path / "r.csv"
    write_results(path, [estimate(1, TRUTHS[0][1], scene_id=0)])
    found = report(path, data, "--metrics", "mssd")
    assert (found["total"]["estimates"], found["left_out"]["estimates_of_other_images"]) == (0, 1)
    assert found["notes"] == ["no estimate is of an image in GT: they are of scenes [0], GT has [3]"]


def test_the_table_says_what_was_counted(data: Path, tmp_path: Path):
    path = tmp_path / "r.csv"
    write_results(path, [estimate(obj_id, T) for obj_id, T, _ in TRUTHS])
    done = run(path, data / "test")
    lines = done.output.splitlines()
    assert lines[0].split()[:3] == ["OBJECT", "TARGETS", "ESTIMATES"]
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "all"]
    assert "3 targets (visible by 0.1 or more) in 1 images, 3 estimates" in lines
    assert "left out: 1 true poses that are not visible enough" in lines


def test_missing_models_and_missing_truth(data: Path, tmp_path: Path):
    path = tmp_path / "r.csv"
    write_results(path, [])
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "obj_000001.ply").write_text(box_ply())
    done = run(path, data / "test", "--models", tmp_path / "models")
    assert isinstance(done.exception, InputError)
    assert "obj_000002.ply" in done.exception.message
    done = run(path, data / "test", "--visib-min", 1.0, "--models", tmp_path / "models")
    assert done.exit_code == 0
    bare = tmp_path / "000003"
    bare.mkdir()
    (bare / "scene_camera.json").write_bytes((data / "test" / "000003" / "scene_camera.json").read_bytes())
    done = run(path, bare, "--models", data / "models")
    assert isinstance(done.exception, InputError)
    assert done.exception.code == "bop_not_found"
