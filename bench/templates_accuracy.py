"""How close the rasteriser's pictures are to a path tracer's: PSNR over the object's pixels, overlap of silhouettes.

    python bench/templates_accuracy.py MESH [--views 0,8,17,25,33,41] [--samples 50]

Needs `gnomon methods install blender`. The silhouette is that of the path tracer's own alpha channel at one half.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from gnomon import paths
from gnomon.tasks.templates.methods import blender, raster
from gnomon.tasks.templates.read import read_mesh
from gnomon.tasks.templates.scene import RenderOptions
from gnomon.tasks.templates.views import view_poses


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mesh", type=Path)
    parser.add_argument("--views", default="0,8,17,25,33,41", help="numbers of the 42 views")
    parser.add_argument("--samples", type=int, default=50)
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.views.split(",")]
    mesh, poses = read_mesh(arguments.mesh), view_poses(0)[numbers]
    options = RenderOptions(samples=arguments.samples)
    ours = dict(raster.render(mesh, poses, options, threads=2))
    traced = _traced(mesh, poses, options)
    cut_out = _traced(mesh, poses, dataclasses.replace(options, transparent=True))
    errors, overlaps = [], []
    for place, number in enumerate(numbers):
        on = ours[place].mask == 255
        seen = cut_out[place].rgb[..., 3] > 127
        errors.append(ours[place].rgb[on].astype(float) - traced[place].rgb[on])
        overlaps.append((on & seen).sum() / (on | seen).sum())
        print(f"view {number:2d}: {psnr(errors[-1]):.1f} dB, overlap {overlaps[-1]:.5f}")
    print(f"all pixels: {psnr(np.concatenate(errors)):.1f} dB, overlap mean {np.mean(overlaps):.5f}")


def psnr(error: np.ndarray) -> float:
    """Peak signal-to-noise ratio of 8-bit values in dB."""
    return float(10 * np.log10(255**2 / np.mean(error**2)))


def _traced(mesh, poses, options):
    with tempfile.TemporaryDirectory() as folder:
        views = blender.render(
            mesh, poses, options, threads=2, workdir=Path(folder) / "work", cache_root=paths.cache_dir()
        )
        return dict(views)


if __name__ == "__main__":
    main()
