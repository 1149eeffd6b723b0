"""Method `blender`: colours by Blender's path tracer, everything else by the rasteriser.

Blender is under the GPL and wants a NumPy of its own, so it runs as a separate program in a private environment.
A path tracer's mask has soft edges and its coordinates are means over a pixel; those of the rasteriser are exact,
so only the pictures come from Blender.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from gnomon import environments
from gnomon.errors import MethodError
from gnomon.geometry.mesh import Mesh
from gnomon.tasks.templates import scene
from gnomon.tasks.templates.methods.blender_environment import ENVIRONMENT
from gnomon.tasks.templates.scene import RenderOptions, TemplateView

SCRIPT = Path(__file__).with_name("blender_script.py")
SEED = 0


def render(
    mesh: Mesh,
    T_obj_cam: Float[np.ndarray, "N 4 4"],
    options: RenderOptions,
    *,
    threads: int,
    workdir: Path,
    cache_root: Path,
) -> Generator[tuple[int, TemplateView], None, None]:
    """Draw `mesh` from every pose and yield (index, view) in the order of the poses, as `raster.render` does.

    `workdir` is made if need be and left empty; `cache_root` is where the environment was installed. The same
    request gives the same bytes. Closing the iterator stops Blender.

    Raises InputError `xyz_overflow`, MissingError `method_not_installed`, MethodError `method_failed` and
    `views_missing`.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="blender-", dir=workdir) as name:
        folder = Path(name)
        _write_scene(folder, mesh, T_obj_cam, options, threads)
        lines = environments.lines(ENVIRONMENT, cache_root, SCRIPT, [str(folder)], cwd=folder)
        with contextlib.closing(lines):
            yield from _merge(folder, lines, _exact_views(mesh, T_obj_cam, options))


def _exact_views(
    mesh: Mesh, T_obj_cam: Float[np.ndarray, "N 4 4"], options: RenderOptions
) -> Iterator[tuple[int, TemplateView]]:
    from gnomon.tasks.templates.methods import raster

    # Blender has the processors; a view takes the rasteriser milliseconds. Its colours are drawn in vain, so that
    # the other maps are the same bytes as with method `raster`.
    return raster.render(mesh, T_obj_cam, options, threads=1)


def _merge(
    folder: Path, lines: Iterator[str], exact: Iterator[tuple[int, TemplateView]]
) -> Iterator[tuple[int, TemplateView]]:
    """Take the next exact view whenever the script reports the next picture."""
    for line in lines:
        sent = environments.record(line)
        if sent is None:
            continue
        index, view = next(exact)
        if sent.get("frame") != index:
            raise MethodError(f"Blender sent {sent} where picture {index} was due", code="views_missing")
        yield index, dataclasses.replace(view, rgb=_take_picture(folder / f"frame_{index}.png"))
    left = sum(1 for _ in exact)
    if left:
        raise MethodError(f"Blender ended {left} pictures early", code="views_missing")


def _take_picture(file: Path) -> UInt8[np.ndarray, "H W C"]:
    from PIL import Image

    with Image.open(file) as picture:
        rgb = np.array(picture)
    file.unlink()
    return rgb


def _write_scene(
    folder: Path, mesh: Mesh, T_obj_cam: Float[np.ndarray, "N 4 4"], options: RenderOptions, threads: int
) -> None:
    (folder / "scene.json").write_text(json.dumps(_settings(options, threads)))
    np.savez(folder / "scene.npz", **_arrays(mesh, T_obj_cam, options))


def _settings(options: RenderOptions, threads: int) -> dict[str, Any]:
    from gnomon.geometry.surface import FLAT_GREY_LINEAR

    K = scene.camera_matrix(options.size)
    return {
        "size_px": options.size,
        "fov_rad": 2 * math.atan(options.size / 2 / K[0, 0]),
        "near": scene.NEAR,
        "far": scene.FAR,
        "samples": options.samples,
        "threads": max(threads, 1),
        "seed": SEED,
        "transparent": options.transparent,
        "grey_linear": options.base_color if options.colorize else FLAT_GREY_LINEAR,
        "world_linear": scene.BACKGROUND_LINEAR,
        "light_w": scene.LIGHT_POWER_W,
        "light_distance": scene.LIGHT_RADIUS / scene.CAMERA_RADIUS,
    }


def _arrays(mesh: Mesh, T_obj_cam: Float[np.ndarray, "N 4 4"], options: RenderOptions) -> dict[str, Any]:
    """The arrays of `blender_script`: lengths in scene units, and only the colours that are to be seen."""
    poses = T_obj_cam.copy()
    poses[:, :3, 3] *= scene.CAMERA_RADIUS
    arrays = {
        "vertices": (mesh.vertices * scene.scene_scale(mesh, options.normalize)).astype(np.float32),
        "faces": mesh.faces.astype(np.int32),
        "T_obj_cam": poses,
    }
    if mesh.vertex_normals is not None:
        arrays["vertex_normals"] = mesh.vertex_normals
    if not options.colorize:
        arrays |= _colours(mesh)
    return arrays


def _colours(mesh: Mesh) -> dict[str, Any]:
    arrays = {}
    if mesh.vertex_rgb is not None:
        arrays["vertex_rgb"] = mesh.vertex_rgb
    elif mesh.face_rgb is not None:
        arrays["face_rgb"] = mesh.face_rgb
    if mesh.textures and mesh.uv is not None and mesh.face_texture is not None:
        arrays |= {"uv": mesh.uv, "face_texture": mesh.face_texture}
        arrays |= {f"texture_{number}": texture for number, texture in enumerate(mesh.textures)}
    return arrays
