"""Scenes in the BOP format: pictures with cameras and true poses of objects.

    000002/                      a scene; its name is its id
      scene_camera.json          {"3": {"cam_K": 9 numbers, "depth_scale": mm per step of the depth pictures}, ...}
      scene_gt.json              {"3": [{"obj_id": 5, "cam_R_m2c": 9 numbers, "cam_t_m2c": 3 numbers in mm}, ...], ...}
      scene_gt_info.json         {"3": [{"visib_fract": 0.97, ...}, ...], ...}; may be missing
      rgb/000003.png             or .jpg, or gray/ in place of rgb/
      depth/000003.png           16 bits; may be missing
      mask/000003_000001.png     silhouette of the second entry of the image; mask_visib/: its visible part

Also taken:

    - A folder for a single image: `camera.json` in place of scene_camera.json, holding that image's entry alone, and
      `rgb.png` and `depth.png` instead of folders. scene_gt.json has then one key, or is the list of poses itself.
    - `camera.json` beside rgb/ and depth/, when one camera took all images.
    - `visib_fract`, or `px_count_visib` with `px_count_all`, in the entries of scene_gt.json.
    - Masks named after the object instead of the entry: 000003_obj000005.png, or obj_000005.png for a single image.

Poses come out as `T_cam_obj` in metres, in the camera frame of `gnomon.geometry.camera`, which is that of BOP.
Specification: docs/bop_datasets_format.md of github.com/thodan/bop_toolkit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from gnomon.errors import InputError
from gnomon.formats import bop_fields as fields
from gnomon.formats import bop_pictures
from gnomon.geometry.camera import Camera

MAX_IMAGES = 200_000
MAX_POSES_PER_IMAGE = 1000


@dataclass(frozen=True, eq=False)
class TruePose:
    """One entry of scene_gt.json."""

    gt_id: int
    """Its place in the image's list, from 0."""
    obj_id: int
    T_cam_obj: Float64[np.ndarray, "4 4"]
    visib_fract: float | None
    """Visible share of the silhouette, 0 to 1; None if the data set does not say."""


@dataclass(frozen=True, eq=False)
class BopImage:
    """One image of a scene; pictures are read when they are asked for."""

    folder: Path
    scene_id: int | None
    """None if the scene's folder is not named by a number."""
    im_id: int
    K: Float64[np.ndarray, "3 3"]
    mm_per_step: float
    """What one step of the depth picture means."""
    rgb_path: Path | None
    depth_path: Path | None
    truths: tuple[TruePose, ...]

    def camera(self) -> Camera:
        """The camera with the size of the depth picture, or of the colour picture where there is no depth."""
        width, height = bop_pictures.picture_size(self._need(self.depth_path or self.rgb_path, "picture"))
        return Camera.from_K(self.K, width, height)

    def read_rgb(self) -> UInt8[np.ndarray, "H W 3"]:
        """8-bit sRGB."""
        return bop_pictures.read_rgb(self._need(self.rgb_path, "colour picture"))

    def read_depth(self) -> Float32[np.ndarray, "H W"]:
        """Metres along the camera's z axis, 0 where there is no measurement."""
        return bop_pictures.read_depth(self._need(self.depth_path, "depth picture"), self.mm_per_step)

    def read_mask(self, gt_id: int, *, visible: bool = True) -> Bool[np.ndarray, "H W"]:
        """The object's silhouette, or only the part of it that can be seen."""
        return bop_pictures.read_mask(self._need(self.mask_path(gt_id, visible=visible), "mask"))

    def mask_path(self, gt_id: int, *, visible: bool = True) -> Path | None:
        """Where the mask of an entry is, None without one."""
        folder = self.folder / ("mask_visib" if visible else "mask")
        names = [f"{self.im_id:06d}_{gt_id:06d}"]
        obj_id = self.truths[gt_id].obj_id
        if sum(truth.obj_id == obj_id for truth in self.truths) == 1:
            names += [f"{self.im_id:06d}_obj{obj_id:06d}"]
            # Without the image's number in its name a mask can only be that of a single image.
            names += [f"obj_{obj_id:06d}"] if (self.folder / "camera.json").is_file() else []
        return next((path for name in names if (path := bop_pictures.find_picture(folder / name))), None)

    def _need(self, path: Path | None, what: str) -> Path:
        if path is None:
            raise fields.not_found(self.folder, f"{what} of image {self.im_id} in")
        return path


@dataclass(frozen=True, eq=False)
class BopScene:
    """The images of one folder, by increasing id."""

    folder: Path
    scene_id: int | None
    images: tuple[BopImage, ...]


def read_split(folder: str | Path) -> tuple[BopScene, ...]:
    """The scenes of a split such as test/, or the one scene that the folder is.

    Raises:
        InputError: Nothing there is a scene (`bop_not_found`), or one is damaged (`bop_unreadable`, `bop_invalid`).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise fields.not_found(folder, "folder")
    if is_scene(folder):
        return (read_scene(folder),)
    inside = sorted(path for path in folder.iterdir() if path.name.isdigit() and is_scene(path))
    if not inside:
        raise InputError(
            f"{folder} is neither a BOP scene nor a folder of scenes",
            code="bop_not_found",
            value=folder,
            expected="scene_camera.json or camera.json in it, or in folders in it that are named by numbers",
            fix="name a scene such as test/000002, or a split such as test",
        )
    return tuple(read_scene(path) for path in inside)


def is_scene(folder: Path) -> bool:
    return (folder / "scene_camera.json").is_file() or (folder / "camera.json").is_file()


def read_scene(folder: str | Path) -> BopScene:
    """One scene; see the head of this module for what it may look like. Raises InputError as `read_split` does."""
    folder = Path(folder)
    name = folder.resolve().name
    scene_id = int(name) if name.isascii() and name.isdigit() else None
    truths = _read_truths(folder)
    cameras = _read_cameras(folder, sorted(truths))
    if strays := sorted(set(truths) - set(cameras)):
        path = folder / "scene_gt.json"
        raise fields.invalid(path, f"image {strays[0]}", strays[0], "an image of scene_camera.json")
    images = [
        _image(folder, scene_id, im_id, camera, truths.get(im_id, ()), is_only=len(cameras) == 1)
        for im_id, camera in sorted(cameras.items())
    ]
    return BopScene(folder, scene_id, tuple(images))


_CameraEntry = tuple[Float64[np.ndarray, "3 3"], float]


def _image(
    folder: Path, scene_id: int | None, im_id: int, camera: _CameraEntry, truths: tuple[TruePose, ...], *, is_only: bool
) -> BopImage:
    def find(*kinds: str) -> Path | None:
        stems = [folder / kind / f"{im_id:06d}" for kind in kinds] + [folder / kind for kind in kinds if is_only]
        return next((path for stem in stems if (path := bop_pictures.find_picture(stem))), None)

    K, mm_per_step = camera
    return BopImage(folder, scene_id, im_id, K, mm_per_step, find("rgb", "gray"), find("depth"), truths)


def _read_cameras(folder: Path, gt_im_ids: list[int]) -> dict[int, _CameraEntry]:
    path = folder / "scene_camera.json"
    if path.is_file():
        entries = fields.by_id(fields.read_json(path), path)
        if not 0 < len(entries) <= MAX_IMAGES:
            raise fields.invalid(path, "the file", f"{len(entries)} images", f"1 to {MAX_IMAGES} images")
        return {im_id: _camera(entry, path, f"{im_id}.") for im_id, entry in entries.items()}
    path = folder / "camera.json"
    camera = _camera(fields.read_json(path), path, "")
    names = {picture.stem for kind in ("rgb", "gray", "depth") for picture in (folder / kind).glob("*")}
    found = [int(name) for name in names if name.isascii() and name.isdigit()]
    return dict.fromkeys(sorted({*found, *gt_im_ids}) or [0], camera)


def _camera(entry: Any, path: Path, prefix: str) -> _CameraEntry:
    if not isinstance(entry, dict) or "cam_K" not in entry:
        raise fields.invalid(path, f"{prefix}cam_K", None, "there; other camera models are not supported")
    K = fields.numbers(entry["cam_K"], 9, path, f"{prefix}cam_K").reshape(3, 3)
    return K, fields.number(entry.get("depth_scale", 1.0), path, f"{prefix}depth_scale")


def _read_truths(folder: Path) -> dict[int, tuple[TruePose, ...]]:
    path, info_path = folder / "scene_gt.json", folder / "scene_gt_info.json"
    if not path.is_file():
        return {}
    content = fields.read_json(path)
    by_image = {0: content} if isinstance(content, list) else fields.by_id(content, path)
    infos = fields.by_id(fields.read_json(info_path), info_path) if info_path.is_file() else None
    found = {}
    for im_id, entries in by_image.items():
        if not isinstance(entries, list) or len(entries) > MAX_POSES_PER_IMAGE:
            raise fields.invalid(path, f"{im_id}", entries, f"a list of at most {MAX_POSES_PER_IMAGE} poses")
        info = entries if infos is None else infos.get(im_id)
        if not isinstance(info, list) or len(info) != len(entries):
            raise fields.invalid(info_path, f"{im_id}", info, f"a list of {len(entries)}, as in scene_gt.json")
        found[im_id] = tuple(
            _truth(gt_id, entry, extra, path, f"{im_id}[{gt_id}]")
            for gt_id, (entry, extra) in enumerate(zip(entries, info, strict=True))
        )
    return found


def _truth(gt_id: int, entry: Any, info: Any, path: Path, field: str) -> TruePose:
    if not isinstance(entry, dict) or not isinstance(info, dict):
        raise fields.invalid(path, field, entry, "an object with obj_id, cam_R_m2c and cam_t_m2c")
    obj_id = fields.whole_number(entry.get("obj_id"), path, f"{field}.obj_id")
    names = f"{field}.cam_R_m2c", f"{field}.cam_t_m2c"
    T_cam_obj = fields.pose(entry.get("cam_R_m2c"), entry.get("cam_t_m2c"), path, *names)
    return TruePose(gt_id, obj_id, T_cam_obj, _visible_share(info, path, field))


def _visible_share(info: dict[str, Any], path: Path, field: str) -> float | None:
    if "visib_fract" in info:
        return fields.number(info["visib_fract"], path, f"{field}.visib_fract")
    if "px_count_visib" not in info:
        return None
    seen = fields.number(info["px_count_visib"], path, f"{field}.px_count_visib")
    if seen == 0:
        return 0.0
    # A count of visible pixels alone says nothing about the share.
    whole = fields.number(info.get("px_count_all", 0), path, f"{field}.px_count_all")
    return seen / whole if whole > 0 else None
