"""The methods of `templates`, the default first."""

from __future__ import annotations

from gnomon.methods import Method
from gnomon.tasks.templates.methods.blender_environment import ENVIRONMENT


def _warm_raster() -> None:
    from gnomon.tasks.templates.methods import raster

    raster.warm_up()


METHODS = (
    Method(
        name="raster",
        task="templates",
        summary="Numba rasteriser, exact masks and coordinates, direct light with a highlight",
        licence="MIT",
        paper="M. Olano, T. Greer: Triangle Scan Conversion Using 2D Homogeneous Coordinates, 1997",
        warm_up=_warm_raster,
    ),
    Method(
        name="blender",
        task="templates",
        summary="Blender's Cycles path tracer for the RGB; masks and coordinates from raster",
        licence="GPL-3.0 (bpy, in its own process and environment)",
        paper="Blender Foundation: Blender, https://www.blender.org",
        environment=ENVIRONMENT,
    ),
)
