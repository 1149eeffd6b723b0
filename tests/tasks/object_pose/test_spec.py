"""Requests of object-pose: counts that must agree, what belongs to which, and scene folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gnomon.errors import InputError
from gnomon.formats.bop_detections import encode_rle
from gnomon.tasks.object_pose.frames import object_ids, plan
from gnomon.tasks.object_pose.spec import ObjectPose

TWO = {"rgb": ["a/1.png", "a/2.png"], "depth": ["d/1.png", "d/2.png"], "camera": "camera.json"}
ONE = {"rgb": "1.png", "depth": "1d.png", "camera": "camera.json", "mesh": "cup.ply", "mask": "m.png"}


def parse(**fields: Any) -> ObjectPose:
    return ObjectPose.parse(**fields)


@pytest.fixture
def camera_file(tmp_path: Path) -> Path:
    path = tmp_path / "camera.json"
    path.write_text('{"fx": 500, "fy": 500, "cx": 31.5, "cy": 23.5}')
    return path


def planned(spec: ObjectPose, camera_file: Path, **files: Path) -> tuple[list[Any], list[dict[int, Any]]]:
    """Targets as (name, mesh, obj_id, instance), and the targets that begin in each frame."""
    targets, frames = plan(spec, lambda name: files.get(name, camera_file if name == "camera.json" else Path(name)))
    return [(t.name, t.mesh, t.obj_id, t.instance) for t in targets], [sorted(frame.masks) for frame in frames]


def code_of(**fields: Any) -> tuple[str, str | None]:
    with pytest.raises(InputError) as error:
        parse(**fields)
    return error.value.code, error.value.field


# Counts


def test_single_files_and_paths_are_lists():
    spec = parse(**ONE | {"rgb": Path("1.png")})
    assert (spec.rgb, spec.mask, spec.mesh) == (["1.png"], ["m.png"], ["cup.ply"])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"depth": ["d/1.png"]}, "depth"),
        ({"im_id": [1]}, "im_id"),
        ({"obj_id": [1, 2]}, "obj_id"),
        ({"name": ["a", "b"]}, "name"),
        ({"mask": ["m"] * 3, "mesh": ["a.ply", "b.ply"]}, "mask"),
        ({"mask_frame": [0, 1]}, "mask_frame"),
        ({"track": False}, "mask"),
    ],
)
def test_numbers_of_files_must_agree(changes: dict[str, Any], field: str):
    assert code_of(**TWO | {"mesh": "cup.ply", "mask": "m.png"} | changes) == ("counts_differ", field)


def test_masks_or_detections_are_needed_and_not_both():
    assert code_of(**TWO, mesh="cup.ply") == ("field_missing", "mask")
    assert code_of(**ONE, detections="found.json") == ("field_invalid", "mask")


def test_places_of_masks_must_exist():
    assert code_of(**ONE, mask_frame=[1]) == ("field_invalid", "mask_frame")
    assert code_of(**ONE, mask_mesh=[-1]) == ("field_invalid", "mask_mesh")


def test_a_unit_and_a_scale_of_depth_contradict_each_other():
    assert code_of(**ONE, depth_unit="m", depth_scale=0.1) == ("field_invalid", "depth_scale")
    assert code_of(**ONE, depth_scale=0)[0] == "field_invalid"


# What belongs to which


def test_one_mesh_for_several_masks_means_several_instances(camera_file: Path):
    spec = parse(**TWO, mesh="cup.ply", mask=["m1.png", "m2.png"])
    targets, begins = planned(spec, camera_file)
    assert targets == [("cup-1", 0, 1, 0), ("cup-2", 0, 1, 1)]
    assert begins == [[0, 1], []]


def test_a_mesh_for_each_mask(camera_file: Path):
    spec = parse(**TWO, mesh=["obj_000005.ply", "obj_000008.ply"], mask=["m1.png", "m2.png"], name=["can", "drill"])
    assert planned(spec, camera_file) == ([("can", 0, 5, 0), ("drill", 1, 8, 0)], [[0, 1], []])


def test_without_tracking_masks_go_frame_by_frame(camera_file: Path):
    spec = parse(**TWO, mesh=["a.ply", "b.ply"], mask=["a1", "b1", "a2", "b2"], track=False)
    assert planned(spec, camera_file) == ([("a", 0, 1, 0), ("b", 1, 2, 0)], [[0, 1], [0, 1]])
    spec = parse(**TWO, mesh="a.ply", mask=["x", "y", "z"], track=False, mask_frame=[0, 1, 1])
    assert planned(spec, camera_file) == ([("a-1", 0, 1, 0), ("a-2", 0, 1, 1)], [[0], [0, 1]])


def test_an_object_may_begin_later(camera_file: Path):
    spec = parse(**TWO, mesh="a.ply", mask="m.png", mask_frame=[1])
    assert planned(spec, camera_file)[1] == [[], [0]]


def test_names_are_unique_and_safe(camera_file: Path):
    spec = parse(**TWO, mesh=["x/cup.ply", "y/cup.ply"], mask=["1", "2"], name=["../a b", "../A b"])
    targets, _ = planned(spec, camera_file)
    assert [target[0] for target in targets] == ["a_b-1", "A_b-2"]


def test_frames_are_named_after_their_pictures_unless_these_are_alike(camera_file: Path):
    spec = parse(**TWO | {"rgb": ["a/000017.png", "a/x.png"]}, mesh="cup.ply", mask="m.png")
    _, frames = plan(spec, lambda name: camera_file)
    assert [(frame.name, frame.im_id) for frame in frames] == [("000017", 17), ("x", 1)]
    spec = parse(**TWO | {"rgb": ["1/rgb.png", "2/rgb.png"]}, mesh="cup.ply", mask="m.png")
    _, frames = plan(spec, lambda name: camera_file)
    assert [frame.name for frame in frames] == ["000000", "000001"]
    _, frames = plan(spec.model_copy(update={"im_id": [3, 8]}), lambda name: camera_file)
    assert [(frame.name, frame.im_id) for frame in frames] == [("000003", 3), ("000008", 8)]


def test_numbers_of_objects_come_from_file_names_where_they_tell_them_apart():
    assert object_ids(parse(**ONE | {"mesh": "obj_000012.ply"})) == [12]
    both = {"mesh": ["a/obj_000003.ply", "b/obj_000003.ply"], "mask": ["1", "2"]}
    assert object_ids(parse(**ONE | both)) == [1, 2]
    assert object_ids(parse(**ONE | both, obj_id=[7, 9])) == [7, 9]


# Detections


def write_detections(path: Path, entries: list[tuple[int, int, float, np.ndarray]], scene_id: int = 2) -> Path:
    records = [
        {"scene_id": scene_id, "image_id": im, "category_id": obj, "score": score, "segmentation": encode_rle(mask)}
        for im, obj, score, mask in entries
    ]
    path.write_text(json.dumps(records))
    return path


def test_the_best_detections_of_each_object_are_used(tmp_path: Path, camera_file: Path):
    masks = [np.zeros((48, 64), bool) for _ in range(3)]
    for i, mask in enumerate(masks):
        mask[i, : i + 1] = True
    file = write_detections(
        tmp_path / "found.json", [(1, 5, 0.2, masks[0]), (1, 5, 0.9, masks[1]), (1, 6, 1.0, masks[2])]
    )
    fields = TWO | {"mesh": "obj_000005.ply", "detections": "found.json", "scene_id": 2, "track": False}
    targets, frames = plan(parse(**fields), {"found.json": file, "camera.json": camera_file}.get)  # pyright: ignore
    assert [(target.obj_id, target.instance) for target in targets] == [(5, 0)]
    np.testing.assert_array_equal(frames[0].masks[0](), masks[1])
    assert frames[1].masks == {}
    targets, _ = planned(parse(**fields, instances=2), camera_file, **{"found.json": file})
    assert len(targets) == 2


def test_detections_of_other_scenes_are_no_use(tmp_path: Path, camera_file: Path):
    file = write_detections(tmp_path / "found.json", [(1, 5, 0.2, np.ones((2, 2), bool))], scene_id=3)
    spec = parse(**TWO, mesh="obj_000005.ply", detections="found.json")
    with pytest.raises(InputError) as error:
        planned(spec, camera_file, **{"found.json": file})
    assert error.value.code == "detections_none"


# Scene folders


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    return path


@pytest.fixture
def request_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "request"
    for name in ("b", "a", "c"):
        touch(folder / "rgb" / f"{name}.png")
        touch(folder / "depth" / f"{name}.png")
    touch(folder / "masks" / "a.png")
    (folder / "mesh").mkdir()
    for name in ("a.ply", "original.ply"):
        (folder / "mesh" / name).write_bytes(b"ply")
    (folder / "cam_K.txt").write_text("1 0 0\n0 1 0\n0 0 1\n")
    return folder


def names(files: list[str] | None) -> list[str]:
    return [Path(file).name for file in files or []]


def test_a_saved_request_is_in_order_and_its_mesh_in_metres(request_folder: Path):
    spec = ObjectPose.from_scene(request_folder)
    assert names(spec.rgb) == names(spec.depth) == ["a.png", "b.png", "c.png"]
    assert (names(spec.mask), names(spec.mesh), spec.mesh_unit, spec.track) == (["a.png"], ["a.ply"], "m", True)
    assert ObjectPose.from_scene(request_folder, mesh_unit="mm").mesh_unit == "mm"


def test_the_frame_with_the_mask_comes_first(request_folder: Path):
    (request_folder / "masks" / "a.png").rename(request_folder / "masks" / "b.png")
    assert names(ObjectPose.from_scene(request_folder).rgb) == ["b.png", "a.png", "c.png"]


@pytest.mark.parametrize("part", ["depth/b.png", "masks/a.png", "mesh/a.ply"])
def test_what_a_saved_request_lacks_is_named(request_folder: Path, part: str):
    (request_folder / part).unlink()
    with pytest.raises(InputError) as error:
        ObjectPose.from_scene(request_folder)
    assert error.value.code == "scene_incomplete" and part.split("/")[0] in error.value.message


def test_folders_that_are_no_scene(tmp_path: Path):
    for folder, code in ((tmp_path, "scene_layout"), (tmp_path / "none", "input_not_found")):
        with pytest.raises(InputError) as error:
            ObjectPose.from_scene(folder)
        assert error.value.code == code


def test_single_files_do_not_go_with_a_scene(request_folder: Path):
    with pytest.raises(InputError) as error:
        ObjectPose.from_scene(request_folder, rgb=["x.png"])
    assert error.value.code == "field_invalid" and error.value.field == "rgb"


@pytest.fixture
def bop_folder(tmp_path: Path) -> Path:
    """Two images, objects 5 (twice in image 7) and 8; one entry is hidden."""
    folder = tmp_path / "set" / "test" / "000002"
    entries = {3: [5, 8], 7: [5, 5, 8]}
    cameras = {str(i): {"cam_K": [500, 0, 2, 0, 500, 2, 0, 0, 1], "depth_scale": 0.1} for i in entries}
    truths, infos = {}, {}
    for im_id, objects in entries.items():
        touch(folder / "rgb" / f"{im_id:06d}.png")
        touch(folder / "depth" / f"{im_id:06d}.png")
        pose = {"cam_R_m2c": [1, 0, 0, 0, 1, 0, 0, 0, 1], "cam_t_m2c": [0, 0, 900]}
        truths[str(im_id)] = [{"obj_id": obj_id, **pose} for obj_id in objects]
        infos[str(im_id)] = [{"visib_fract": 0.0 if (im_id, i) == (7, 2) else 0.9} for i in range(len(objects))]
        for i in range(len(objects)):
            touch(folder / "mask_visib" / f"{im_id:06d}_{i:06d}.png")
    for name, content in (("scene_camera", cameras), ("scene_gt", truths), ("scene_gt_info", infos)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    models = tmp_path / "set" / "models"
    models.mkdir()
    for obj_id in (5, 8, 9):
        (models / f"obj_{obj_id:06d}.ply").write_bytes(b"ply")
    (models / "models_info.json").write_text("{}")
    return folder


def test_a_bop_scene_has_a_target_for_each_visible_object(bop_folder: Path):
    spec = ObjectPose.from_scene(bop_folder)
    assert names(spec.mesh) == ["obj_000005.ply", "obj_000008.ply"]
    assert (spec.obj_id, spec.im_id, spec.scene_id, spec.track) == ([5, 8], [3, 7], 2, False)
    assert (spec.mask_frame, spec.mask_mesh) == ([0, 0, 1, 1], [0, 1, 0, 0])
    assert Path(spec.camera).name == "scene_camera.json" and spec.models_info is not None
    targets, frames = plan(spec, Path)
    assert [(target.obj_id, target.instance) for target in targets] == [(5, 0), (5, 1), (8, 0)]
    assert [sorted(frame.masks) for frame in frames] == [[0, 2], [0, 1]]


def test_objects_and_images_can_be_chosen(bop_folder: Path):
    spec = ObjectPose.from_scene(bop_folder, obj_id=[8], im_id=[3])
    assert (names(spec.mesh), names(spec.rgb), names(spec.mask)) == (
        ["obj_000008.ply"], ["000003.png"], ["000003_000001.png"],
    )  # fmt: skip
    for option in ({"obj_id": [9]}, {"im_id": [4]}, {"obj_id": [4], "detections": "found.json"}):
        with pytest.raises(InputError) as error:
            ObjectPose.from_scene(bop_folder, **option)
        assert error.value.code == "scene_incomplete"


def test_tracking_a_bop_scene_uses_the_first_masks(bop_folder: Path):
    spec = ObjectPose.from_scene(bop_folder, track=True)
    assert (spec.mask_frame, spec.mask_mesh) == ([0, 0], [0, 1])


def test_detections_take_the_place_of_masks(bop_folder: Path):
    spec = ObjectPose.from_scene(bop_folder, detections="found.json", obj_id=[9])
    assert spec.mask is None and names(spec.mesh) == ["obj_000009.ply"]


def test_models_elsewhere(bop_folder: Path, tmp_path: Path):
    (tmp_path / "set" / "models").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError) as error:
        ObjectPose.from_scene(bop_folder)
    assert error.value.code == "scene_incomplete" and "--models" in (error.value.fix or "")
    assert len(ObjectPose.from_scene(bop_folder, models=tmp_path / "elsewhere").mesh) == 2


def test_real_scene_folders(shared_data: Path):
    lmo = ObjectPose.from_scene(shared_data / "object_pose" / "lmo_000002_000003")
    assert (len(lmo.rgb), len(lmo.mask or []), lmo.obj_id) == (1, 7, [1, 5, 8, 9, 10, 11, 12])
    gazebo = ObjectPose.from_scene(shared_data / "object_pose" / "gazebo_linemod", obj_id=[5])
    assert len(gazebo.rgb) == 10 and names(gazebo.mesh) == ["obj_000005.ply"]
