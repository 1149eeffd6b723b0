"""A scene folder as the files and numbers of a request: BOP's layout, and that of saved pose requests.

This runs where the request is made. The job then holds copies of the files and needs the folder no more.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gnomon.errors import InputError, NotFound
from gnomon.formats import bop
from gnomon.tasks.object_pose.spec import DEPTH_SUFFIXES, MASK_SUFFIXES, MESH_SUFFIXES, PICTURE_SUFFIXES

FILE_FIELDS = ("rgb", "depth", "mask", "mesh", "camera", "mask_frame", "mask_mesh")
MODEL_FOLDERS = ("models", "models_eval", "models_cad")
"""The folder whose meshes have colour first."""
LAYOUTS = (
    "scene_camera.json, scene_gt.json, rgb/, depth/ and mask_visib/ as in BOP, or cam_K.txt, rgb/, depth/, masks/ "
    "and mesh/ as saved by a pose server"
)
ORIGINAL = "original"
"""The stem of a mesh as it was sent, kept beside the one in metres."""

_MODEL_NAME = re.compile(r"obj_(\d{1,9})\.ply")


def expand(folder: Path, models: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """The spec's fields for all that is in the folder, with the user's `options`.

    Raises:
        InputError: `input_not_found`; `scene_layout`, the folder has none of the known layouts; `scene_incomplete`,
            a part of it is missing; `field_invalid`, an option names a file that the scene brings itself.
    """
    if not folder.is_dir():
        raise NotFound(
            f"there is no folder {folder}", code="input_not_found", field="scene", value=folder, expected="a folder"
        )
    doubled = [field for field in FILE_FIELDS if options.get(field) is not None]
    if doubled:
        raise InputError(
            f"--scene brings its own files; --{doubled[0].replace('_', '-')} cannot be given with it",
            code="field_invalid",
            field=doubled[0],
            expected="either --scene or single files",
        )
    if (folder / "cam_K.txt").is_file():
        return _saved_request(folder) | options
    if bop.is_scene(folder):
        return _bop_scene(folder, models, options)
    raise InputError(
        f"{folder} has no layout that is known",
        code="scene_layout",
        field="scene",
        value=folder,
        expected=LAYOUTS,
        fix="name the folder of one scene, such as test/000002, or give the files one by one",
    )


def _saved_request(folder: Path) -> dict[str, Any]:
    """Frames by name, the one with the mask first; the mesh there is in metres."""
    rgb = _files(folder / "rgb", PICTURE_SUFFIXES)
    depth = {path.stem: path for path in _files(folder / "depth", DEPTH_SUFFIXES)}
    masks = _files(folder / "masks", MASK_SUFFIXES)
    meshes = _files(folder / "mesh", MESH_SUFFIXES)
    if all(path.stem != ORIGINAL for path in rgb):
        # Else a frame is called like that too, and the mesh is its.
        meshes = [path for path in meshes if path.stem != ORIGINAL]
    for found, name in ((rgb, "rgb"), (masks, "masks"), (meshes, "mesh")):
        if not found:
            raise _incomplete(folder, f"no file in {name}/")
    without = [path.stem for path in rgb if path.stem not in depth]
    if without:
        raise _incomplete(folder, f"no depth/{without[0]}.png")
    mask = next((mask for frame in rgb for mask in masks if mask.stem == frame.stem), None)
    if mask is None:
        raise _incomplete(folder, f"no masks/{rgb[0].stem}.png")
    # The mask is that of the request's first frame; of the order of the others nothing is left but their names.
    rgb.sort(key=lambda path: (path.stem != mask.stem, path.name))
    mesh = next((path for path in meshes if path.stem == mask.stem), meshes[0])
    return {
        "rgb": [str(path) for path in rgb],
        "depth": [str(depth[path.stem]) for path in rgb],
        "mask": [str(mask)],
        "mesh": [str(mesh)],
        "camera": str(folder / "cam_K.txt"),
        "mesh_unit": "m",
    }


def _bop_scene(folder: Path, models: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    scene = bop.read_scene(folder)
    images = _chosen_images(scene, options)
    meshes = _model_files(folder, models)
    chosen_ids = _numbers(options.get("obj_id"))
    track = bool(options.get("track", False))
    detections = options.get("detections")
    if detections is not None:
        obj_ids, masks = chosen_ids or sorted(meshes), []
    else:
        masks = _masks(images, set(chosen_ids or meshes), first_only=track)
        obj_ids = sorted({obj_id for _, obj_id, _ in masks})
        if not masks:
            raise _incomplete(folder, "no mask_visib/ for any of these objects, and no --detections")
    absent = [obj_id for obj_id in obj_ids if obj_id not in meshes]
    if absent:
        raise _incomplete(folder, f"no mesh obj_{absent[0]:06d}.ply among its models")
    camera = folder / "scene_camera.json"
    expanded: dict[str, Any] = {
        "rgb": [str(_need(image.rgb_path, image, "colour")) for image in images],
        "depth": [str(_need(image.depth_path, image, "depth")) for image in images],
        "mesh": [str(meshes[obj_id]) for obj_id in obj_ids],
        "camera": str(camera if camera.is_file() else folder / "camera.json"),
        "track": track,
        "scene_id": scene.scene_id or 0,
    }
    info = meshes[obj_ids[0]].parent / "models_info.json"
    if info.is_file():
        expanded["models_info"] = str(info)
    if masks:
        expanded["mask"] = [str(path) for _, _, path in masks]
        expanded["mask_frame"] = [frame for frame, _, _ in masks]
        expanded["mask_mesh"] = [obj_ids.index(obj_id) for _, obj_id, _ in masks]
    return expanded | options | {"obj_id": obj_ids, "im_id": [image.im_id for image in images]}


def _chosen_images(scene: bop.BopScene, options: dict[str, Any]) -> list[bop.BopImage]:
    wanted = _numbers(options.get("im_id"))
    if not wanted:
        return list(scene.images)
    by_id = {image.im_id: image for image in scene.images}
    absent = [im_id for im_id in wanted if im_id not in by_id]
    if absent:
        raise InputError(
            f"{scene.folder} has no image {absent[0]}",
            code="scene_incomplete",
            field="im_id",
            value=absent[0],
            expected=f"{scene.images[0].im_id} to {scene.images[-1].im_id}",
        )
    return [by_id[im_id] for im_id in wanted]


def _masks(images: list[bop.BopImage], obj_ids: set[int], *, first_only: bool) -> list[tuple[int, int, Path]]:
    """(frame, object, mask) of all that is visible; or of each object only where it is first seen."""
    found: list[tuple[int, int, Path]] = []
    started: set[int] = set()
    for frame, image in enumerate(images):
        here = [
            (frame, truth.obj_id, path)
            for truth in image.truths
            if truth.obj_id in obj_ids and truth.visib_fract != 0 and truth.obj_id not in started
            if (path := image.mask_path(truth.gt_id)) is not None
        ]
        found += here
        if first_only:
            started |= {obj_id for _, obj_id, _ in here}
    return found


def _model_files(folder: Path, models: Path | None) -> dict[int, Path]:
    """Mesh files by object id. Only their names are looked at; the meshes are read by the job."""
    start = folder.resolve()
    places = [models] if models else [place / name for place in (start, *start.parents[:2]) for name in MODEL_FOLDERS]
    for place in places:
        if place.is_dir():
            named = {int(m[1]): path for path in sorted(place.iterdir()) if (m := _MODEL_NAME.fullmatch(path.name))}
            if named:
                return named
    raise InputError(
        f"there are no meshes obj_000001.ply ... in {models or 'any models folder near ' + str(folder)}",
        code="scene_incomplete",
        field="models",
        value=models,
        expected="a folder with obj_NNNNNN.ply, one for each object id",
        fix="give --models DIR",
    )


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.is_file())


def _need(path: Path | None, image: bop.BopImage, kind: str) -> Path:
    if path is None:
        raise _incomplete(image.folder, f"no {kind} picture of image {image.im_id}")
    return path


def _numbers(value: Any) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else [int(item) for item in value]


def _incomplete(folder: Path, what: str) -> InputError:
    return InputError(f"{folder} has {what}", code="scene_incomplete", field="scene", value=folder, expected=LAYOUTS)
