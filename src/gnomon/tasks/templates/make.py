"""One mesh to one folder of templates: read, check, draw, write, describe."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from gnomon import atomic
from gnomon.errors import MethodError
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.units import check_size, to_metres
from gnomon.tasks.templates.contact_sheet import ContactSheet
from gnomon.tasks.templates.files import ViewWriter
from gnomon.tasks.templates.read import read_mesh
from gnomon.tasks.templates.scene import CAMERA_RADIUS, RenderOptions, TemplateView, camera_matrix, scene_scale
from gnomon.tasks.templates.spec import Templates

BLENDER_FILES = ".blender"
"""Where method blender keeps its own files while it draws."""

OFF_CENTRE = 0.25
"""Warn when the box's centre is further from the CAD origin than this share of the object's diameter."""


def make_set(
    mesh_file: Path,
    folder: Path,
    spec: Templates,
    T_obj_cam: Float[np.ndarray, "N 4 4"],
    *,
    threads: int,
    cache_root: Path,
    on_view: Callable[[], None],
) -> None:
    """Write the template set of one mesh into an existing, empty folder.

    `T_obj_cam` are camera-to-object poses on the unit sphere, as `view_poses` and `load_poses` give them.

    Raises:
        InputError: the mesh cannot be used as it is; codes in docs/errors.md.
        MethodError: fewer views came out than were asked for.
    """
    mesh = read_mesh(mesh_file)
    if not spec.allow_any_size:
        check_size(mesh.diameter, spec.mesh_unit, name=mesh_file.name)
    options = options_of(spec)
    templates = folder / "templates" if spec.layout == "nested" else folder
    templates.mkdir(exist_ok=True)
    sheet = ContactSheet(len(T_obj_cam))
    written = 0
    with ViewWriter(
        templates,
        folder,
        depth=spec.depth,
        normals=spec.normals,
        bundle=spec.bundle,
        count=len(T_obj_cam),
        threads=threads,
    ) as writer:
        for index, view in _views(mesh, T_obj_cam, options, spec.method, threads, folder, cache_root):
            writer.write(index, view)
            sheet.add(index, view)
            written += 1
            on_view()
    shutil.rmtree(folder / BLENDER_FILES, ignore_errors=True)
    if written != len(T_obj_cam):
        raise MethodError(f"{written} of {len(T_obj_cam)} views came out", code="views_missing")
    sheet.save(folder / "contact_sheet.png")
    atomic.write_json(folder / "templates.json", _manifest(mesh, mesh_file, spec, options, T_obj_cam))


def options_of(spec: Templates) -> RenderOptions:
    return RenderOptions(
        size=spec.size,
        normalize=spec.normalize,
        colorize=spec.colorize,
        base_color=spec.base_color,
        supersample=spec.supersample,
        transparent=spec.transparent,
        depth=spec.depth,
        normals=spec.normals,
        samples=spec.samples,
    )


def _views(
    mesh: Mesh,
    T_obj_cam: Float[np.ndarray, "N 4 4"],
    options: RenderOptions,
    method: str,
    threads: int,
    folder: Path,
    cache_root: Path,
) -> Iterator[tuple[int, TemplateView]]:
    if method == "blender":
        from gnomon.tasks.templates.methods import blender

        workdir = folder / BLENDER_FILES
        return blender.render(mesh, T_obj_cam, options, threads=threads, workdir=workdir, cache_root=cache_root)
    from gnomon.tasks.templates.methods import raster

    return raster.render(mesh, T_obj_cam, options, threads=threads)


def _manifest(
    mesh: Mesh,
    mesh_file: Path,
    spec: Templates,
    options: RenderOptions,
    T_obj_cam: Float[np.ndarray, "N 4 4"],
) -> dict[str, Any]:
    """What a consumer needs to use the set: camera, poses and units, all in the mesh's own unit."""
    scale = scene_scale(mesh, options.normalize)
    in_mesh_unit = T_obj_cam.copy()
    in_mesh_unit[:, :3, 3] *= CAMERA_RADIUS / scale
    T_cam_obj = np.linalg.inv(in_mesh_unit)
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    warnings = list(mesh.warnings)
    off_centre = float(np.linalg.norm((low + high) / 2)) / mesh.diameter
    if options.normalize and off_centre > OFF_CENTRE:
        warnings.append(
            f"the object's centre is {off_centre:.2f} diameters from the CAD origin; it is drawn off-centre and small"
        )
    return {
        "schema_version": 1,
        "mesh": mesh_file.name,
        "mesh_unit": spec.mesh_unit,
        "method": spec.method,
        "views": len(T_obj_cam),
        "size": options.size,
        "K": camera_matrix(options.size).tolist(),
        "pixel_centres": "integer coordinates; add 0.5 to cx and cy for the corner convention",
        "T_cam_obj": [np.round(T, 9).tolist() for T in T_cam_obj],
        "T_cam_obj_convention": "object to camera, OpenCV axes (x right, y down, z forward), in mesh_unit",
        "xyz": "object coordinates in mesh_unit, float16; -1 in all channels outside the mask",
        "scene_scale": scale,
        "vertices": len(mesh.vertices),
        "triangles": len(mesh.faces),
        "bounds": [low.tolist(), high.tolist()],
        "diameter_m": to_metres(mesh.diameter, spec.mesh_unit),
        "warnings": warnings,
    }
