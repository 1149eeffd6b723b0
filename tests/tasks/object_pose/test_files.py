"""The result files of object-pose: what they hold, and that they come back as they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gnomon.errors import InputError
from gnomon.formats.bop_results import read_results
from gnomon.geometry import se3
from gnomon.tasks.object_pose import files
from gnomon.tasks.object_pose.spec import (
    CameraRecord,
    FrameResult,
    ObjectInFrame,
    ObjectPose,
    ObjectPoseResult,
    ObjectSummary,
    RunnerUpPose,
)


def rows(T: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in T)


def pose(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return se3.se3(se3.so3_exp(rng.normal(size=3)), np.array([0.1, -0.2, 0.9]) + rng.normal(size=3) * 0.01)


def entry(name: str, seed: int, state: str = "estimated", **details) -> ObjectInFrame:
    T = None if state == "failed" else rows(pose(seed))
    return ObjectInFrame(object=name, obj_id=5, T_cam_obj=T, score=0.8, state=state, seconds=0.25, **details)  # pyright: ignore


def result(*frames: tuple[ObjectInFrame, ...], objects: tuple[str, ...] = ("can",)) -> ObjectPoseResult:
    return ObjectPoseResult(
        method="render-compare",
        camera=CameraRecord(K=((500, 0, 1), (0, 500, 1), (0, 0, 1)), width=4, height=3),
        objects=tuple(ObjectSummary(name=name, mesh="can.ply", obj_id=5) for name in objects),
        frames=tuple(
            FrameResult(name=f"f{i}", frame_index=i, scene_id=2, im_id=10 + i, objects=entries)
            for i, entries in enumerate(frames)
        ),
    )


def test_poses_json_comes_back_as_it_was(tmp_path: Path):
    runner_up = RunnerUpPose(T_cam_obj=rows(pose(9)), margin=0.01)
    made = result((entry("can", 0, ambiguous=True, runner_up=runner_up),), (entry("can", 1, "lost"),))
    files.write(tmp_path, made)
    found = files.read_poses(tmp_path / "poses.json")
    assert found == made.model_copy(update={"root": tmp_path})
    np.testing.assert_array_equal(found.poses("can")[0], pose(0))
    assert np.isnan(found.poses("can")[1]).all() and np.isnan(found.poses("nothing")).all()
    # A line a frame, so that long sequences can be looked at.
    lines = (tmp_path / "poses.json").read_text().splitlines()
    assert sum('"frame_index"' in line for line in lines) == 2
    json.loads((tmp_path / "poses.json").read_text())


def test_text_files_are_what_numpy_writes(tmp_path: Path):
    files.write(tmp_path, result((entry("can", 0),)))
    for path in (tmp_path / "poses" / "can" / "f0.txt", tmp_path / "ob_in_cam" / "f0.txt"):
        np.testing.assert_array_equal(np.loadtxt(path), pose(0))
        first = path.read_text().splitlines()
        assert len(first) == 4 and first[3].split()[3] == "1.000000000000000000e+00"


def test_what_was_not_found_is_in_no_file_but_poses_json(tmp_path: Path):
    error = {"code": "depth_empty", "message": "nothing", "exit_code": 2}
    files.write(
        tmp_path, result((entry("can", 0),), (entry("can", 1, "lost"),), (entry("can", 2, "failed", error=error),))
    )
    assert [path.name for path in (tmp_path / "ob_in_cam").iterdir()] == ["f0.txt"]
    assert len(read_results(tmp_path / "poses.csv")) == 1
    assert [frame.objects[0].state for frame in files.read_poses(tmp_path / "poses.json").frames][1:] == [
        "lost",
        "failed",
    ]


def test_several_objects_have_folders_of_their_own(tmp_path: Path):
    files.write(tmp_path, result((entry("can", 0), entry("cup", 1)), objects=("can", "cup")))
    assert not (tmp_path / "ob_in_cam").exists()
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "poses" / "cup" / "f0.txt"), pose(1))


def test_files_of_an_earlier_attempt_do_not_stay(tmp_path: Path):
    files.write(tmp_path, result((entry("can", 0),), (entry("can", 1),)))
    files.write(tmp_path, result((entry("can", 0),), (entry("can", 1, "lost"),)))
    assert [path.name for path in (tmp_path / "ob_in_cam").iterdir()] == ["f0.txt"]


def test_the_csv_is_bops(tmp_path: Path):
    files.write(tmp_path, result((entry("can", 0), entry("cup", 1)), objects=("can", "cup")))
    found = read_results(tmp_path / "poses.csv")
    assert [(item.scene_id, item.im_id, item.obj_id, item.score) for item in found] == [(2, 10, 5, 0.8)] * 2
    # One time for the image, the same on each of its lines.
    assert [item.seconds for item in found] == [0.5, 0.5]
    np.testing.assert_allclose(found[1].T_cam_obj, pose(1), atol=1e-15)


def test_a_damaged_result_is_refused(tmp_path: Path):
    (tmp_path / "poses.json").write_text("{}")
    with pytest.raises(InputError) as error:
        files.read_poses(tmp_path / "poses.json")
    assert error.value.code == "result_unreadable"


def test_the_summary_says_what_was_lost():
    def line(**counts) -> str:
        item = ObjectSummary(name="can", mesh="can.ply", obj_id=5, median_score=0.81, median_seconds=0.2, **counts)
        return ObjectPose.summary({"objects": [item.model_dump()]})[0]

    assert line(frames=1, found=1) == "can: found, score 0.81, 0.200 s a frame"
    assert "found in 7 of 10 frames" in line(frames=10, found=7, lost=2, failed=1)
    assert line(frames=10, found=7, lost=2, failed=1).endswith("LOST in 2, failed in 1")
    assert line(frames=1, error={"message": "no", "code": "mask_empty"}) == "can: failed, no [mask_empty]"
