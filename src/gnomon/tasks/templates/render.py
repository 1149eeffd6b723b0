"""Templates as arrays, without jobs and without files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from gnomon.errors import InputError
from gnomon.geometry.mesh import Mesh
from gnomon.tasks.templates.methods import raster
from gnomon.tasks.templates.read import read_mesh
from gnomon.tasks.templates.scene import RenderOptions, TemplateView
from gnomon.tasks.templates.views import Level, load_poses, view_poses


def render_templates(
    mesh: Mesh | str | Path,
    *,
    level: Level = 0,
    camera_poses: Float[np.ndarray, "N 4 4"] | str | Path | None = None,
    options: RenderOptions | None = None,
    method: Literal["raster"] = "raster",
    threads: int | None = None,
) -> list[TemplateView]:
    """Draw a mesh from the 42, 162 or 642 views of `level`, or from poses of your own.

    Args:
        mesh: a mesh or a file (PLY, OBJ, STL, GLB, glTF).
        camera_poses: `T_obj_cam` with OpenCV axes on the unit sphere, or an .npy file of them, where a translation
            of 1000 is the unit. Overrides `level`.
        threads: views drawn at the same time; all cores by default. The result does not depend on it.
    """
    if method != "raster":
        raise InputError(
            f"there is no method {method!r} here", code="bad_method", field="method", value=method, expected="raster"
        )
    if not isinstance(mesh, Mesh):
        mesh = read_mesh(mesh)
    if camera_poses is None:
        T_obj_cam = view_poses(level)
    elif isinstance(camera_poses, str | Path):
        T_obj_cam = load_poses(camera_poses)
    else:
        T_obj_cam = np.asarray(camera_poses, np.float64)
    views = raster.render(mesh, T_obj_cam, options or RenderOptions(), threads=threads or os.cpu_count() or 1)
    return [view for _, view in views]
