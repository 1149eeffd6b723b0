"""BOP folders, models, results and detections: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gnomon.errors import InputError
from gnomon.formats import bop, bop_models
from gnomon.formats.bop_detections import decode_rle, encode_rle, read_detections
from gnomon.formats.bop_results import BopEstimate, read_results, write_results
from gnomon.geometry import se3

K = [100.0, 0, 31.5, 0, 100.0, 23.5, 0, 0, 1]
POSE = {"obj_id": 5, "cam_R_m2c": [1, 0, 0, 0, 0, -1, 0, 1, 0], "cam_t_m2c": [10.0, -20.0, 500.0]}
TRIANGLE = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
element face 1
property list uchar int vertex_indices
end_header
0 0 0
30 0 0
0 40 0
3 0 1 2
"""


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Scene 2 with image 3: two instances of object 5 and one of object 8."""
    folder = tmp_path / "test" / "000002"
    write(folder / "scene_camera.json", {"3": {"cam_K": K, "depth_scale": 0.1}})
    write(folder / "scene_gt.json", {"3": [POSE, POSE | {"obj_id": 8}, POSE]})
    write(folder / "scene_gt_info.json", {"3": [{"visib_fract": share} for share in (0.9, 0.5, 0.05)]})
    save(folder / "rgb" / "000003.png", np.full((48, 64, 3), 7, np.uint8))
    save(folder / "depth" / "000003.png", np.full((48, 64), 5000, np.uint16))
    save(folder / "mask_visib" / "000003_000001.png", np.eye(48, 64, dtype=np.uint8) * 255)
    save(folder / "mask" / "000003_obj000008.png", np.full((48, 64), 255, np.uint8))
    return folder


def refusal(call: Any, *arguments: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return caught.value


def test_a_scene_is_read_in_metres(scene: Path):
    found = bop.read_scene(scene)
    assert found.scene_id == 2
    (image,) = found.images
    assert (image.im_id, [truth.obj_id for truth in image.truths]) == (3, [5, 8, 5])
    assert [truth.visib_fract for truth in image.truths] == [0.9, 0.5, 0.05]
    np.testing.assert_allclose(image.truths[0].T_cam_obj[:3, 3], [0.01, -0.02, 0.5])
    np.testing.assert_array_equal(image.truths[0].T_cam_obj[:3, :3], np.reshape(POSE["cam_R_m2c"], (3, 3)))
    camera = image.camera()
    assert (camera.width, camera.height, camera.fx, camera.cy) == (64, 48, 100, 23.5)
    assert image.read_rgb()[0, 0].tolist() == [7, 7, 7]
    depth_m = image.read_depth()
    assert depth_m.dtype == np.float32
    assert depth_m[0, 0] == pytest.approx(0.5)
    assert image.read_mask(1).sum() == 48
    assert image.read_mask(1, visible=False).all()
    assert image.mask_path(0) is None
    assert refusal(image.read_mask, 0).code == "bop_not_found"


def test_a_split_holds_its_scenes_and_a_scene_is_a_split(scene: Path):
    assert [found.scene_id for found in bop.read_split(scene.parent)] == [2]
    assert [found.scene_id for found in bop.read_split(scene)] == [2]
    assert refusal(bop.read_split, scene.parent.parent).code == "bop_not_found"
    assert refusal(bop.read_split, scene / "nothing").code == "bop_not_found"


@pytest.mark.parametrize("as_list", [True, False])
def test_a_folder_for_one_image(tmp_path: Path, as_list: bool):
    folder = tmp_path / "one"
    poses = [POSE | {"px_count_all": 100, "px_count_visib": 25}, POSE | {"obj_id": 6, "px_count_visib": 7}]
    write(folder / "camera.json", {"cam_K": K, "depth_scale": 1.0})
    write(folder / "scene_gt.json", poses if as_list else {"7": poses})
    save(folder / "rgb.jpg", np.zeros((48, 64), np.uint8))
    save(folder / "depth.png", np.zeros((48, 64), np.uint16))
    save(folder / "mask_visib" / "obj_000006.png", np.full((48, 64), 255, np.uint8))
    found = bop.read_scene(folder)
    assert found.scene_id is None
    (image,) = found.images
    assert image.im_id == (0 if as_list else 7)
    assert [truth.visib_fract for truth in image.truths] == [0.25, None]
    assert image.read_rgb().shape == (48, 64, 3)
    assert not image.read_depth().any()
    assert image.read_mask(1).all()


def test_one_camera_for_a_folder_of_pictures_without_poses(tmp_path: Path):
    write(tmp_path / "camera.json", {"cam_K": K})
    for im_id in (4, 12):
        save(tmp_path / "gray" / f"{im_id:06d}.png", np.zeros((48, 64), np.uint8))
    images = bop.read_scene(tmp_path).images
    assert [image.im_id for image in images] == [4, 12]
    assert all(image.truths == () and image.rgb_path and not image.depth_path for image in images)
    assert refusal(images[0].read_depth).code == "bop_not_found"


@pytest.mark.parametrize(
    ("name", "content", "code", "field"),
    [
        ("scene_camera.json", "{", "bop_unreadable", None),
        ("scene_camera.json", [], "bop_invalid", "the file"),
        ("scene_camera.json", {}, "bop_invalid", "the file"),
        ("scene_camera.json", {"x": {}}, "bop_invalid", "key 'x' of the file"),
        ("scene_camera.json", {"3": {"cam_K": K[:8]}}, "bop_invalid", "3.cam_K"),
        ("scene_camera.json", {"3": {"cam_model": {}}}, "bop_invalid", "3.cam_K"),
        ("scene_camera.json", {"3": {"cam_K": K, "depth_scale": "x"}}, "bop_invalid", "3.depth_scale"),
        ("scene_camera.json", {"4": {"cam_K": K}}, "bop_invalid", "image 3"),
        ("scene_gt.json", {"3": [{**POSE, "obj_id": -1}] * 3}, "bop_invalid", "3[0].obj_id"),
        ("scene_gt.json", {"3": [{**POSE, "cam_t_m2c": [0, float("nan"), 0]}] * 3}, "bop_invalid", "3[0].cam_t_m2c"),
        ("scene_gt.json", {"3": [{**POSE, "cam_R_m2c": [1] * 9}] * 3}, "bop_invalid", "3[0].cam_R_m2c"),
        ("scene_gt.json", {"3": [POSE, POSE, 5]}, "bop_invalid", "3[2]"),
        ("scene_gt.json", {"3": [POSE]}, "bop_invalid", "3"),
        ("scene_gt_info.json", {"3": [{"visib_fract": None}] * 3}, "bop_invalid", "3[0].visib_fract"),
    ],
)
def test_what_is_wrong_with_a_scene_is_named(scene: Path, name: str, content: Any, code: str, field: str | None):
    write(scene / name, content)
    error = refusal(bop.read_scene, scene)
    assert (error.code, error.field) == (code, field)
    assert "scene_" in error.message


def test_pictures_that_are_no_pictures(scene: Path):
    (image,) = bop.read_scene(scene).images
    assert image.rgb_path is not None and image.depth_path is not None
    image.rgb_path.write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    assert refusal(image.read_rgb).code == "bop_unreadable"
    save(image.depth_path, np.zeros((48, 64, 3), np.uint8))
    assert refusal(image.read_depth).code == "bop_unreadable"


# Models


def test_models_with_and_without_info(tmp_path: Path):
    folder = tmp_path / "models"
    write(folder / "obj_000001.ply", TRIANGLE)
    write(folder / "obj_000002.ply", TRIANGLE)
    turn = [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    write(folder / "models_info.json", {"1": {"diameter": 51.0, "symmetries_discrete": [turn]}})
    models = bop_models.read_models(folder)
    assert models[1].diameter_m == pytest.approx(0.051)
    assert (models[1].symmetries.is_trivial, models[1].has_info) == (False, True)
    assert models[2].diameter_m == pytest.approx(0.05)
    assert (models[2].symmetries.is_trivial, models[2].has_info) == (True, False)
    np.testing.assert_allclose(models[2].mesh().vertices.max(axis=0), [0.03, 0.04, 0])
    write(folder / "models_info.json", {"1": {"diameter": 0}})
    assert refusal(bop_models.read_models, folder).field == "1.diameter"
    assert refusal(bop_models.read_models, tmp_path).code == "bop_not_found"


def test_models_are_found_near_a_scene(scene: Path):
    root = scene.parent.parent
    assert bop_models.find_models(scene) is None
    (root / "models").mkdir()
    assert bop_models.find_models(scene) == root / "models"
    assert bop_models.find_models(scene.parent) == root / "models"
    (root / "models_eval").mkdir()
    assert bop_models.find_models(scene) == root / "models_eval"


@pytest.mark.parametrize("seed", range(5))
def test_the_diameter_is_the_largest_distance(seed: int):
    points = np.random.default_rng(seed).normal(size=(200, 3)) * [1, 1, seed]
    expected = np.linalg.norm(points[:, None] - points[None], axis=-1).max()
    assert bop_models.diameter(points) == pytest.approx(expected, rel=1e-12)


# Results


def test_results_come_back_as_they_were(tmp_path: Path):
    path = tmp_path / "results.csv"
    poses = se3.se3_exp(np.random.default_rng(0).normal(size=(3, 6)))
    written = [BopEstimate(2, i, 5, 0.1 * i, T, None if i else 1.5) for i, T in enumerate(poses)]
    write_results(path, written)
    assert path.read_text().splitlines()[0] == "scene_id,im_id,obj_id,score,R,t,time"
    for old, new in zip(written, read_results(path), strict=True):
        assert (new.scene_id, new.im_id, new.obj_id, new.score, new.seconds) == (
            2,
            old.im_id,
            5,
            old.score,
            old.seconds,
        )
        np.testing.assert_allclose(new.T_cam_obj, old.T_cam_obj, rtol=1e-15, atol=1e-15)
    bad = BopEstimate(2, 1, 5, 1.0, np.full((4, 4), np.nan), None)
    assert refusal(write_results, path, [bad]).code == "bop_invalid"


LINE = "2,3,5,0.5,1 0 0 0 1 0 0 0 1,10 20 1000,-1"


def test_results_without_header_and_with_blank_lines(tmp_path: Path):
    write(tmp_path / "r.csv", f"{LINE}\n\n{LINE}\n")
    found = read_results(tmp_path / "r.csv")
    assert len(found) == 2
    assert found[0].T_cam_obj[:3, 3].tolist() == [0.01, 0.02, 1.0]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("2,3,5,0.5", "line 2"),
        (LINE.replace("2,3", "2,x"), "line 2, im_id"),
        (LINE.replace("2,3", "2,-3"), "line 2, im_id"),
        (LINE.replace("0.5", "nan"), "line 2, score"),
        (LINE.replace("10 20", "nan 20"), "line 2, t"),
        (LINE.replace("10 20", "20"), "line 2, t"),
        (LINE.replace("1 0 0 0 1", "1 0 0 0 2"), "line 2, R"),
        (LINE.replace("-1", ""), "line 2, time"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, field: str):
    write(tmp_path / "r.csv", f"{LINE}\n{line}\n")
    error = refusal(read_results, tmp_path / "r.csv")
    assert (error.code, error.field) == ("bop_invalid", field)


def test_results_that_are_no_text(tmp_path: Path):
    assert refusal(read_results, tmp_path / "r.csv").code == "bop_not_found"
    (tmp_path / "r.csv").write_bytes(b"\xff\xfe\x00\x80")
    assert refusal(read_results, tmp_path / "r.csv").code == "bop_unreadable"


# Detections

PACKED = {
    # By pycocotools 2.0.11 mask.encode.
    "331N00000140L05OM": np.array(
        [
            [0, 1, 1, 1, 0],
            [0, 0, 0, 0, 0],
            [0, 1, 0, 1, 0],
            [1, 0, 0, 1, 1],
            [1, 1, 0, 0, 0],
            [1, 0, 0, 0, 0],
            [0, 1, 1, 0, 0],
        ]
    ),
    "01": np.ones((1, 1)),
    "h0": np.zeros((4, 6)),
    "0h0": np.ones((6, 4)),
    "Zm06Y13M2N2O0O10000001O001N2N2Ng]1": np.add.outer((np.arange(48) - 48 * 0.6) ** 2, (np.arange(64) - 64 * 0.4) ** 2)
    < (48 * 0.15) ** 2,
}


@pytest.mark.parametrize("text", PACKED)
def test_packed_masks(text: str):
    mask = PACKED[text].astype(bool)
    np.testing.assert_array_equal(decode_rle({"size": list(mask.shape), "counts": text}), mask)


@pytest.mark.parametrize("seed", range(6))
def test_listed_masks_come_back(seed: int):
    rng = np.random.default_rng(seed)
    mask = rng.random((5, 9)) < seed / 5
    rle = json.loads(json.dumps(encode_rle(mask)))
    np.testing.assert_array_equal(decode_rle(rle), mask)


@pytest.mark.parametrize(
    "rle",
    [
        {},
        {"size": [2, 2], "counts": [1, 2]},
        {"size": [2, 2], "counts": [5, -1]},
        {"size": [2, 2], "counts": [1.5, 2.5]},
        {"size": [2, 2], "counts": None},
        {"size": [2, 2], "counts": "\x7f"},
        {"size": [2, 2], "counts": "o"},
        {"size": [2, 2], "counts": "ooooooooooo0"},
        {"size": [2, -2], "counts": [4]},
        {"size": [10**6, 10**6], "counts": [10**12]},
    ],
)
def test_damaged_masks_are_refused(rle: dict):
    assert refusal(decode_rle, rle).code == "bop_invalid"


def test_detections(tmp_path: Path):
    path = tmp_path / "detections.json"
    entry = {"scene_id": 2, "image_id": 3, "category_id": 5, "score": 0.8, "bbox": [1, 2, 3, 4], "time": 0.5}
    write(path, [entry | {"segmentation": {"size": [6, 4], "counts": "0h0"}}, entry | {"time": -1}])
    first, second = read_detections(path)
    assert (first.scene_id, first.im_id, first.obj_id, first.score, first.seconds) == (2, 3, 5, 0.8, 0.5)
    assert first.bbox_px is not None and first.bbox_px.tolist() == [1, 2, 3, 4]
    assert first.mask().all()
    assert second.seconds is None
    error = refusal(second.mask)
    assert "detections.json[1]" in error.message
    write(path, [entry, entry | {"score": "high"}])
    assert refusal(read_detections, path).field == "[1].score"
    write(path, {})
    assert refusal(read_detections, path).code == "bop_invalid"


def test_the_shared_folders_are_read(shared_data: Path):
    for name, images in (("lmo_000002_000003", 1), ("gazebo_linemod", 10)):
        folder = shared_data / "object_pose" / name
        if not folder.is_dir():
            pytest.skip("needs the object pose images")
        scene = bop.read_scene(folder)
        assert len(scene.images) == images
        image = scene.images[0]
        assert image.read_depth().shape == image.read_rgb().shape[:2] == (480, 640)
        assert all(image.read_mask(truth.gt_id).shape == (480, 640) for truth in image.truths)
