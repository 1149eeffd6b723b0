"""`object-pose` as a job: sequences, batches, bad items, kills, and the files that come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pose_scenes import rotation_error_deg, save_depth, write_scene

import gnomon
from gnomon.api import Home, Job
from gnomon.context import Context
from gnomon.errors import Cancelled, InputError
from gnomon.events import EventLog
from gnomon.formats.bop_results import read_results
from gnomon.job import Reason, State
from gnomon.tasks.object_pose import run as running

LIMIT_S = 240.0
GOOD_MM, GOOD_DEG = 10.0, 5.0


@pytest.fixture
def scene(tmp_path: Path) -> dict[str, Any]:
    return write_scene(tmp_path / "scene", 4)


@pytest.fixture
def truth(scene: dict[str, Any]) -> np.ndarray:
    return np.array(json.loads((Path(scene["camera"]).parent / "truth.json").read_text()))


def submit(home: Home, scene: dict[str, Any], **options: Any) -> Job:
    resources = gnomon.Resources(cpus=2, mem_gb=4, timeout_s=LIMIT_S)
    return home.submit(gnomon.ObjectPose.parse(**scene | options), resources=resources)


def masks(scene: dict[str, Any]) -> list[str]:
    return sorted(str(path) for path in (Path(scene["mask"][0]).parent).iterdir())


def assert_near(T: np.ndarray, T_true: np.ndarray) -> None:
    assert np.linalg.norm(T[:3, 3] - T_true[:3, 3]) * 1000 < GOOD_MM
    assert rotation_error_deg(T, T_true) < GOOD_DEG


def test_a_sequence_is_followed_and_has_all_its_files(home: Home, scene: dict[str, Any], truth: np.ndarray):
    job = submit(home, scene)
    result = job.result(timeout_s=LIMIT_S)
    assert job.status().state is State.SUCCEEDED and job.status().reason is None
    for T, T_true in zip(result.poses("mug"), truth, strict=True):
        assert_near(T, T_true)
    assert result.frames[0].objects[0].state == "estimated"
    names = {path.relative_to(job.results).as_posix() for path in job.results.rglob("*") if path.is_file()}
    frames = [f"{i:06d}" for i in range(4)]
    assert names == {
        "poses.json", "poses.csv", "report.html", "result.json", "overlay.webm",
        *(f"{folder}/{frame}.txt" for folder in ("ob_in_cam", "poses/mug") for frame in frames),
        *(f"overlay/{frame}.jpg" for frame in frames),
    }  # fmt: skip
    np.testing.assert_array_equal(np.loadtxt(job.results / "ob_in_cam" / "000002.txt"), result.poses("mug")[2])
    assert [item.im_id for item in read_results(job.results / "poses.csv")] == [0, 1, 2, 3]
    page = (job.results / "report.html").read_text()
    assert "overlay.webm" in page and "overlay/000003.jpg" in page and "<svg" in page


def test_the_same_request_gives_the_same_poses(home: Home, scene: dict[str, Any]):
    one, two = (submit(home, scene, video=False).result(timeout_s=LIMIT_S) for _ in range(2))
    np.testing.assert_array_equal(one.poses("mug"), two.poses("mug"))


def test_every_mask_by_itself(home: Home, scene: dict[str, Any], truth: np.ndarray):
    result = submit(home, scene, mask=masks(scene), track=False, overlay=False, video=False).result(timeout_s=LIMIT_S)
    assert {frame.objects[0].state for frame in result.frames} == {"estimated"}
    for T, T_true in zip(result.poses("mug"), truth, strict=True):
        assert_near(T, T_true)


def test_a_bad_mesh_and_a_bad_mask_fail_alone(home: Home, scene: dict[str, Any], tmp_path: Path):
    (tmp_path / "broken.obj").write_text("v 0 0 0\n")
    empty = tmp_path / "empty.png"
    Image.fromarray(np.zeros((360, 480), np.uint8)).save(empty)
    mask = scene["mask"][0]
    changes = {"mesh": [*scene["mesh"], str(tmp_path / "broken.obj"), *scene["mesh"]], "mask": [mask, mask, str(empty)]}
    job = submit(home, scene, **changes, name=["good", "broken", "unseen"], video=False)
    result = job.result(timeout_s=LIMIT_S)
    assert job.status().reason is Reason.ITEMS_FAILED
    good, broken, unseen = result.objects
    assert (good.found, good.error) == (4, None)
    assert broken.error is not None and broken.error["code"].startswith("mesh_")
    assert unseen.error is not None and unseen.error["code"] == "mask_empty"
    assert "mask_empty" in (job.results / "report.html").read_text()


def test_several_objects_are_followed_at_once(home: Home, scene: dict[str, Any], truth: np.ndarray):
    result = submit(home, scene, mask=[scene["mask"][0]] * 2, mask_frame=[0, 0], video=False).result(timeout_s=LIMIT_S)
    assert [(item.name, item.instance, item.found) for item in result.objects] == [("mug-1", 0, 4), ("mug-2", 1, 4)]
    for name in ("mug-1", "mug-2"):
        assert_near(result.poses(name)[3], truth[3])
    assert not (result.root / "ob_in_cam").exists() and len(list((result.root / "poses" / "mug-2").iterdir())) == 4


def test_an_object_that_begins_later_has_no_poses_before(home: Home, scene: dict[str, Any], truth: np.ndarray):
    changes = {"mask": [masks(scene)[2]], "mask_frame": [2], "overlay": False, "video": False}
    result = submit(home, scene, **changes).result(timeout_s=LIMIT_S)
    assert [len(frame.objects) for frame in result.frames] == [0, 0, 1, 1]
    assert np.isnan(result.poses("mug")[:2]).all()
    assert_near(result.poses("mug")[3], truth[3])


def test_a_sequence_has_one_camera(home: Home, scene: dict[str, Any]):
    for name in ("rgb", "depth"):
        with Image.open(scene[name][1]) as picture:
            smaller = picture.crop((0, 0, 470, 360))
        smaller.save(scene[name][1])
    result = submit(home, scene).result(timeout_s=LIMIT_S)
    error = result.frames[1].objects[0].error
    assert error is not None and error["code"] == "camera_changes"
    assert [frame.objects[0].found for frame in result.frames] == [True, False, True, True]


def test_a_frame_that_cannot_be_read_does_not_end_the_sequence(home: Home, scene: dict[str, Any], truth: np.ndarray):
    depth = Path(scene["depth"][1])
    depth.write_bytes(depth.read_bytes()[:5000])
    job = submit(home, scene)
    result = job.result(timeout_s=LIMIT_S)
    assert job.status().reason is Reason.ITEMS_FAILED
    entry = result.frames[1].objects[0]
    assert entry.state == "failed" and entry.error is not None and entry.error["code"] == "depth_unreadable"
    assert_near(result.poses("mug")[3], truth[3])
    assert (result.objects[0].found, result.objects[0].failed) == (3, 1)


def test_an_object_that_is_not_there_is_lost_and_said_so(home: Home, scene: dict[str, Any], truth: np.ndarray):
    for name in ("rgb", "depth"):
        values = np.array(Image.open(scene[name][2]))
        values[:] = values[5, 5] if name == "rgb" else 900
        Image.fromarray(values).save(scene[name][2])
    job = submit(home, scene)
    result = job.result(timeout_s=LIMIT_S)
    assert result.frames[2].objects[0].state == "lost"
    assert np.isnan(result.poses("mug")[2]).all() and not (job.results / "ob_in_cam" / "000002.txt").exists()
    record = json.loads((job.results / "result.json").read_text())
    assert any("lost in 1 of 4 frames: 000002" in text for text in record["warnings"])
    assert "LOST in 1" in gnomon.ObjectPose.summary(record["result"])[0]
    assert_near(result.poses("mug")[3], truth[3])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda scene: save_depth(Path(scene["depth"][0]), np.zeros((360, 480))), "depth_empty"),
        (
            lambda scene: Path(scene["camera"]).write_text('{"fx": 0, "fy": 460, "cx": 239, "cy": 179}'),
            "camera_invalid",
        ),
        (lambda scene: Image.new("L", (480, 360)).save(scene["mask"][0]), "mask_empty"),
        (lambda scene: Image.new("L", (48, 36), 255).save(scene["mask"][0]), "sizes_differ"),
        (lambda scene: scene.update(mesh_unit="m"), "unit_implausible"),
        (lambda scene: scene.update(depth_unit="m"), "depth_implausible"),
    ],
)
def test_what_cannot_be_used_is_an_error_and_never_a_pose(home: Home, scene: dict[str, Any], change: Any, code: str):
    for name in ("rgb", "depth"):
        scene[name] = scene[name][:1]
    change(scene)
    job = submit(home, scene)
    with pytest.raises(InputError) as error:
        job.result(timeout_s=LIMIT_S)
    assert error.value.code == code and job.status().reason is Reason.BAD_INPUT


def test_what_is_finished_is_not_done_again(home: Home, scene: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    """An attempt ends before the last frame; the next one is asked for those not known to be whole."""
    job = submit(home, scene, mask=masks(scene), track=False, overlay=False, video=False)
    whole = job.result(timeout_s=LIMIT_S)
    attempt, request = job.directory.newest_attempt(), job.request()
    assert attempt is not None
    # The job's own attempt is published, so its place is free for the two of this test.
    attempt.out.mkdir()
    asked: list[int] = []

    def estimator_that_ends(last: int) -> Any:
        def estimate_poses(objects: Any, targets: Any, frames: Any, setup: Any) -> Any:
            asked.extend(frame.index for frame in frames)
            for answer in real(objects, targets, frames, setup):
                if getattr(answer, "frame", -1) == last:
                    raise Cancelled("stop")
                yield answer

        return lambda name: estimate_poses

    def run_again() -> None:
        events = EventLog(attempt.events)
        context = Context(
            attempt, events, request.inputs, cpus=1, seed=0, cache=home.path / "cache", check_cancelled=lambda: None
        )
        try:
            running.run(gnomon.ObjectPose.parse(**request.params), context)
        finally:
            events.close()

    real = running.estimator("render-compare")
    monkeypatch.setattr(running, "CHUNK_FRAMES", 1)
    monkeypatch.setattr(running, "estimator", estimator_that_ends(3))
    with pytest.raises(Cancelled):
        run_again()
    assert asked == [0, 1, 2, 3]
    asked.clear()
    monkeypatch.setattr(running, "estimator", estimator_that_ends(99))
    run_again()
    assert asked == [2, 3]
    again = gnomon.ObjectPose.read_result({"poses": "poses.json"}, attempt.out)
    np.testing.assert_allclose(again.poses("mug"), whole.poses("mug"), atol=1e-9)


def test_symmetries_come_from_models_info(home: Home, scene: dict[str, Any], tmp_path: Path):
    info = tmp_path / "models_info.json"
    axis = {"axis": [0, 0, 1], "offset": [0, 0, 0]}
    info.write_text(json.dumps({"3": {"diameter": 187, "symmetries_continuous": [axis]}}))
    few = {name: scene[name][:1] for name in ("rgb", "depth")}
    result = submit(home, scene, **few, models_info=str(info), obj_id=[3]).result(timeout_s=LIMIT_S)
    assert (result.objects[0].symmetries, result.objects[0].obj_id) == ("1 axis", 3)
    with pytest.raises(InputError) as error:
        submit(home, scene, **few, models_info=str(info), obj_id=[4]).result(timeout_s=LIMIT_S)
    assert error.value.code == "symmetries_invalid"


def test_an_object_of_a_bop_scene(home: Home, shared_data: Path):
    folder = shared_data / "object_pose" / "gazebo_linemod"
    spec = gnomon.ObjectPose.from_scene(folder, obj_id=[5], im_id=[0], video=False)
    job = home.submit(spec, resources=gnomon.Resources(cpus=2, mem_gb=4, timeout_s=LIMIT_S))
    result = job.result(timeout_s=LIMIT_S)
    (truth,) = [item for item in json.loads((folder / "scene_gt.json").read_text())["0"] if item["obj_id"] == 5]
    T_true = np.eye(4)
    T_true[:3, :3] = np.reshape(truth["cam_R_m2c"], (3, 3))
    T_true[:3, 3] = np.array(truth["cam_t_m2c"]) / 1000
    (entry,) = result.frames[0].objects
    assert (entry.obj_id, result.frames[0].im_id) == (5, 0)
    assert_near(entry.pose, T_true)
