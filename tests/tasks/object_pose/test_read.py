"""Pictures, depth, masks and cameras: every form that is taken, and every wrong one with its error."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gnomon.errors import InputError
from gnomon.formats import depth as depth_format
from gnomon.formats.depth import read_depth
from gnomon.tasks.object_pose.frames import plan
from gnomon.tasks.object_pose.read import read_mask, read_mesh_m, read_rgb
from gnomon.tasks.object_pose.read_camera import CameraFile
from gnomon.tasks.object_pose.spec import ObjectPose

H, W = 48, 64


def save(path: Path, array: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)
    return path


def code_of(function: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments, **options)
    assert error.value.field and error.value.message
    return error.value.code


# Depth


@pytest.mark.parametrize(
    ("name", "dtype", "value", "unit_m"),
    [
        ("a.png", np.uint16, 750, 0.001),
        ("a.tif", np.uint16, 750, 0.001),
        ("a.tiff", np.float32, 0.75, 1.0),
        ("a.npy", np.float64, 0.75, 1.0),
        ("a.npy", np.float32, 0.75, 1.0),
        ("a.npy", np.uint16, 750, 0.001),
        ("a.npy", np.int32, 750, 0.001),
    ],
)
def test_whole_numbers_are_millimetres_and_floating_point_is_metres(
    tmp_path: Path, name: str, dtype: Any, value: float, unit_m: float
):
    found = read_depth(save(tmp_path / name, np.full((H, W), value, dtype)))
    assert found.unit_m == unit_m and found.depth_m.dtype == np.float32
    np.testing.assert_allclose(found.depth_m, 0.75, rtol=1e-6)


def test_a_unit_that_is_stated_counts(tmp_path: Path):
    path = save(tmp_path / "a.png", np.full((H, W), 7500, np.uint16))
    np.testing.assert_allclose(read_depth(path, unit_m=0.0001).depth_m, 0.75, rtol=1e-6)


def test_nan_and_infinity_mean_that_nothing_was_measured(tmp_path: Path):
    array = np.full((H, W), 0.5, np.float32)
    array[0, :3] = np.nan, np.inf, 0
    assert (read_depth(save(tmp_path / "a.npy", array)).depth_m[0, :4] == [0, 0, 0, 0.5]).all()


@pytest.mark.parametrize("value", [-0.5, -np.inf])
def test_negative_depth_is_refused(tmp_path: Path, value: float):
    assert code_of(read_depth, save(tmp_path / "a.npy", np.full((H, W), value, np.float32))) == "depth_negative"


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("a.png", np.zeros((H, W), np.uint8)),
        ("a.png", np.zeros((H, W, 3), np.uint8)),
        ("a.npy", np.zeros((H, W), np.uint8)),
        ("a.npy", np.zeros((H, W, 3), np.float32)),
        ("a.npy", np.zeros((H, W), bool)),
        ("a.npy", np.zeros((H, W), np.complex64)),
        ("a.npy", np.zeros((0, W), np.float32)),
    ],
)
def test_depth_of_the_wrong_type(tmp_path: Path, name: str, array: np.ndarray):
    assert code_of(read_depth, save(tmp_path / name, array)) == "depth_type"


def test_damaged_files(tmp_path: Path):
    rng = np.random.default_rng(0)
    whole = save(tmp_path / "a.png", rng.integers(0, 60000, (H, W), np.uint16)).read_bytes()
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole[: len(whole) // 2])
    assert code_of(read_depth, cut) == "depth_unreadable"
    colour = save(tmp_path / "b.png", rng.integers(0, 255, (H, W, 3), np.uint8)).read_bytes()
    (tmp_path / "cut_b.png").write_bytes(colour[: len(colour) // 2])
    assert code_of(read_rgb, tmp_path / "cut_b.png") == "picture_unreadable"
    assert code_of(read_mask, cut) == "mask_unreadable"
    (tmp_path / "no.npy").write_bytes(b"nothing")
    assert code_of(read_depth, tmp_path / "no.npy") == "depth_unreadable"
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert code_of(read_depth, tmp_path / "objects.npy") == "depth_unreadable"
    np.savez(tmp_path / "several.npz", a=np.zeros(3))
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    assert code_of(read_depth, tmp_path / "several.npy") == "depth_type"


def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(depth_format, "MOST_PIXELS", H * W - 1)
    assert code_of(read_depth, save(tmp_path / "a.npy", np.zeros((H, W), np.float32))) == "picture_too_large"
    assert code_of(read_depth, save(tmp_path / "a.png", np.zeros((H, W), np.uint16))) == "picture_too_large"
    assert code_of(read_rgb, save(tmp_path / "b.png", np.zeros((H, W, 3), np.uint8))) == "picture_too_large"


def test_a_bomb_is_too_large_and_not_damaged(tmp_path: Path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 16, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")))
    assert code_of(read_depth, tmp_path / "a.png") == "picture_too_large"


# Colour and masks


def test_colour_in_any_mode(tmp_path: Path):
    rgb = np.random.default_rng(1).integers(0, 255, (H, W, 3), np.uint8)
    np.testing.assert_array_equal(read_rgb(save(tmp_path / "a.png", rgb)), rgb)
    rgba = np.dstack([rgb, np.zeros((H, W), np.uint8)])
    np.testing.assert_array_equal(read_rgb(save(tmp_path / "b.png", rgba)), rgb)
    grey = read_rgb(save(tmp_path / "c.png", rgb[..., 0]))
    np.testing.assert_array_equal(grey, np.repeat(rgb[..., :1], 3, axis=2))


def test_depth_given_as_colour_is_noticed(tmp_path: Path):
    assert code_of(read_rgb, save(tmp_path / "a.png", np.zeros((H, W), np.uint16))) == "picture_type"


def test_any_value_but_zero_is_the_object(tmp_path: Path):
    mask = np.zeros((H, W), np.uint8)
    mask[3, 4], mask[5, 6] = 1, 255
    for array in (mask, mask.astype(np.uint16), mask > 0):
        found = read_mask(save(tmp_path / "a.png", array))
        assert np.argwhere(found).tolist() == [[3, 4], [5, 6]]
    indexed = Image.fromarray(mask).convert("P")
    indexed.putpalette([0, 0, 0] * 256)
    indexed.save(tmp_path / "p.png")
    assert read_mask(tmp_path / "p.png").sum() == 2


def test_a_jpeg_mask_is_not_larger_than_the_object(tmp_path: Path):
    mask = np.zeros((H, W), np.uint8)
    mask[10:30, 20:40] = 255
    found = read_mask(save(tmp_path / "a.jpg", mask))
    np.testing.assert_array_equal(found, mask > 0)


def test_of_several_channels_the_first_with_a_value_counts(tmp_path: Path):
    mask = np.zeros((H, W, 4), np.uint8)
    mask[..., 3] = 255
    mask[1, 1, 1], mask[2, 2, 2] = 9, 9
    assert np.argwhere(read_mask(save(tmp_path / "a.png", mask))).tolist() == [[1, 1]]
    assert np.argwhere(read_mask(save(tmp_path / "b.png", mask[..., :3]))).tolist() == [[1, 1]]
    mask[..., :3] = 0
    assert not read_mask(save(tmp_path / "c.png", mask)).any(), "alpha is no mask"


# Cameras

K = [[500.0, 0, 31.5], [0, 510.0, 23.5], [0, 0, 1]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps({"fx": 500, "fy": 510, "cx": 31.5, "cy": 23.5})),
        ("a.json", json.dumps({"K": K})),
        ("a.json", json.dumps({"camera_matrix": K})),
        ("a.json", json.dumps({"cam_K": np.array(K).ravel().tolist(), "depth_scale": 0.1})),
        ("a.json", json.dumps({"3": {"cam_K": np.array(K).ravel().tolist(), "depth_scale": 0.1}})),
        ("a.json", json.dumps(K)),
        ("cam_K.txt", "\n".join(" ".join(map(str, row)) for row in K)),
        ("cam_K.txt", "500,0,31.5\n0,510,23.5\n0,0,1\n"),
    ],
)
def test_cameras_in_all_forms(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    found = CameraFile(tmp_path / name).of(3)
    np.testing.assert_array_equal(found.camera(W, H, name).K, K)
    assert found.depth_scale in ((0.1,) if "depth_scale" in text else (None,))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "camera_unreadable"),
        ('{"fx": 500}', "camera_unreadable"),
        ('{"K": [[1, 2], [3, 4]]}', "camera_unreadable"),
        ('{"K": "no"}', "camera_unreadable"),
        ('"text"', "camera_unreadable"),
        (json.dumps({"K": K, "depth_scale": -1}), "camera_unreadable"),
        ('{"fx": NaN, "fy": 500, "cx": 31, "cy": 23}', "camera_invalid"),
        ('{"fx": 500, "fy": 500, "cx": Infinity, "cy": 23}', "camera_invalid"),
        ('{"fx": 0, "fy": 500, "cx": 31, "cy": 23}', "camera_invalid"),
        ('{"K": [[500, 0, 31], [0, 500, 23], [0, 0, 0]]}', "camera_invalid"),
        ('{"K": [[500, 3, 31], [0, 500, 23], [0, 0, 1]]}', "camera_invalid"),
        ('{"fx": 500, "fy": 500, "cx": 900, "cy": 23}', "camera_implausible"),
        ('{"fx": 0.7, "fy": 0.7, "cx": 0.5, "cy": 0.5}', "camera_implausible"),
        ('{"fx": 500, "fy": 500, "cx": 31, "cy": 23, "width": 640, "height": 480}', "sizes_differ"),
        ('{"4": {"cam_K": [500, 0, 31, 0, 500, 23, 0, 0, 1]}}', "camera_missing"),
    ],
)
def test_cameras_that_cannot_be_used(tmp_path: Path, text: str, code: str):
    (tmp_path / "a.json").write_text(text)
    assert code_of(lambda: CameraFile(tmp_path / "a.json").of(3).camera(W, H, "a.json")) == code


# A whole frame


@pytest.fixture
def frame(tmp_path: Path) -> dict[str, Path]:
    """A box of 40 mm at 0.8 m: 25 pixels wide."""
    mask = np.zeros((H, W), np.uint8)
    mask[12:36, 20:44] = 255
    (tmp_path / "camera.json").write_text('{"fx": 500, "fy": 500, "cx": 31.5, "cy": 23.5}')
    return {
        "rgb": save(tmp_path / "rgb.png", np.zeros((H, W, 3), np.uint8)),
        "depth": save(tmp_path / "depth.png", np.full((H, W), 800, np.uint16)),
        "mask": save(tmp_path / "mask.png", mask),
        "camera": tmp_path / "camera.json",
    }


def load(frame: dict[str, Path], diameter_m: float = 0.06, **options: Any) -> Any:
    spec = ObjectPose.parse(**frame, mesh="cup.ply", **options)
    (only,) = plan(spec, Path)[1]
    loaded = only.load()
    return loaded, only.mask(0, loaded, diameter_m)


def test_a_good_frame(frame: dict[str, Path]):
    loaded, mask = load(frame)
    assert (loaded.camera.width, loaded.camera.height, int(mask.sum())) == (W, H, 24 * 24)
    np.testing.assert_allclose(loaded.depth_m, 0.8, rtol=1e-6)


@pytest.mark.parametrize("part", ["depth", "mask"])
def test_sizes_that_differ(frame: dict[str, Path], part: str):
    save(frame[part], np.full((H, W + 1), 800, np.uint16))
    assert code_of(load, frame) == "sizes_differ"


def test_a_mask_without_anything(frame: dict[str, Path]):
    save(frame["mask"], np.zeros((H, W), np.uint8))
    assert code_of(load, frame) == "mask_empty"


def test_a_mask_without_depth(frame: dict[str, Path]):
    depth = np.full((H, W), 800, np.uint16)
    depth[10:40, 15:50] = 0
    save(frame["depth"], depth)
    assert code_of(load, frame) == "mask_without_depth"


def test_depth_without_a_measurement(frame: dict[str, Path]):
    save(frame["depth"], np.zeros((H, W), np.uint16))
    assert code_of(load, frame) == "depth_empty"


def test_depth_in_another_unit_is_noticed_and_the_unit_named(frame: dict[str, Path], tmp_path: Path):
    # Millimetres in floating point are taken for metres.
    frame["depth"] = save(tmp_path / "depth.npy", np.full((H, W), 800, np.float32))
    with pytest.raises(InputError) as error:
        load(frame)
    assert error.value.code == "depth_implausible" and "--depth-unit mm" in (error.value.fix or "")
    load(frame, depth_unit="mm")
    load(frame, depth_scale=1.0)
    # Metres in whole numbers.
    frame["depth"] = save(tmp_path / "depth2.png", np.full((H, W), 1, np.uint16))
    with pytest.raises(InputError) as error:
        load(frame)
    assert error.value.code == "depth_implausible" and "--depth-unit m" in (error.value.fix or "")


def test_the_scale_of_the_camera_file_is_for_its_pngs(frame: dict[str, Path], tmp_path: Path):
    frame["camera"].write_text('{"cam_K": [500, 0, 31.5, 0, 500, 23.5, 0, 0, 1], "depth_scale": 0.1}')
    frame["depth"] = save(tmp_path / "a.png", np.full((H, W), 8000, np.uint16))
    np.testing.assert_allclose(load(frame)[0].depth_m, 0.8, rtol=1e-6)
    frame["depth"] = save(tmp_path / "a.npy", np.full((H, W), 0.8, np.float32))
    np.testing.assert_allclose(load(frame)[0].depth_m, 0.8, rtol=1e-6)


@pytest.mark.parametrize(
    ("diameter_m", "stated", "meant"),
    [(60.0, "m", "mm"), (0.00006, "mm", "m"), (1.524, "inch", "mm"), (0.6, "cm", "mm")],
)
def test_a_mesh_whose_size_cannot_be_is_refused(frame: dict[str, Path], diameter_m: float, stated: str, meant: str):
    with pytest.raises(InputError) as error:
        load(frame, diameter_m, mesh_unit=stated)
    assert error.value.code == "unit_implausible"
    assert f"--mesh-unit {meant}" in (error.value.fix or "")
    load(frame, diameter_m, mesh_unit=stated, allow_any_size=True)


def test_an_object_of_which_little_is_seen_is_no_mistake(frame: dict[str, Path]):
    load(frame, 0.3)


def test_meshes_become_metres(tmp_path: Path):
    path = tmp_path / "a.obj"
    path.write_text("v 0 0 0\nv 40 0 0\nv 0 30 0\nf 1 2 3\n")
    spec = ObjectPose.parse(rgb="a.png", depth="a.png", mask="a.png", mesh=str(path), camera="c.json")
    assert read_mesh_m(path, spec).diameter == pytest.approx(0.05)
    assert code_of(read_mesh_m, path, spec.model_copy(update={"mesh_unit": "m"})) == "unit_implausible"
