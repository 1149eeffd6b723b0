"""Blender against the rasteriser. Skipped unless `gnomon methods install blender` was run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from gnomon import environments, paths
from gnomon.errors import MissingError
from gnomon.geometry.mesh import Mesh
from gnomon.tasks.templates.methods import blender, raster
from gnomon.tasks.templates.scene import RenderOptions, TemplateView
from gnomon.tasks.templates.views import view_poses

CACHE = paths.cache_dir()
"""The user's own, read before the tests move it away: an environment is too large to build in a test."""

needs_blender = pytest.mark.skipif(
    not environments.is_ready(blender.ENVIRONMENT, CACHE),
    reason="the blender method is not installed: gnomon methods install blender",
)
SMALL = RenderOptions(size=96, samples=16, transparent=True)
POSES = view_poses(0)[[6, 38]]


def make_box() -> Mesh:
    """A box with a corner cut off its symmetry by colour: every vertex has its own."""
    corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([tri for a, b, c, d in sides for tri in ((a, b, c), (a, c, d))])
    rgb = np.array([(40 + 180 * x, 40 + 180 * y, 40 + 180 * z) for x, y, z in (corners > 0)], np.uint8)
    return Mesh(vertices=corners * (50, 30, 20), faces=faces, vertex_rgb=rgb)


def make_card() -> Mesh:
    """One square in the plane x = 0 whose picture is different in each quarter."""
    vertices = np.array([(0, -1, -1), (0, 1, -1), (0, 1, 1), (0, -1, 1)], float)
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4, :4], picture[:4, 4:] = (200, 30, 30), (30, 200, 30)
    picture[4:, :4], picture[4:, 4:] = (30, 30, 200), (200, 200, 200)
    return Mesh(
        vertices=vertices,
        faces=np.array([(0, 1, 2), (0, 2, 3)]),
        uv=np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float),
        face_texture=np.array([0, 0]),
        textures=(picture,),
    )


def draw(mesh: Mesh, folder: Path, options: RenderOptions, poses: np.ndarray = POSES) -> list[TemplateView]:
    views = blender.render(mesh, poses, options, threads=2, workdir=folder / "work", cache_root=CACHE)
    indices, drawn = zip(*views, strict=True)
    assert indices == tuple(range(len(poses)))
    return list(drawn)


def foreground_difference(one: TemplateView, other: TemplateView) -> float:
    """Mean absolute difference of the colours inside the mask, 0..255."""
    difference = one.rgb[..., :3].astype(int) - other.rgb[..., :3]
    return float(np.abs(difference[one.mask == 255]).mean())


@needs_blender
def test_pictures_agree_with_the_rasteriser(tmp_path: Path) -> None:
    mesh = make_box()
    exact = [view for _, view in raster.render(mesh, POSES, SMALL, threads=1)]
    for traced, flat in zip(draw(mesh, tmp_path, SMALL), exact, strict=True):
        assert np.array_equal(traced.mask, flat.mask)
        assert np.array_equal(traced.xyz, flat.xyz)
        covered = traced.rgb[..., 3] > 127
        assert np.mean(covered != (flat.mask == 255)) < 0.005
        assert foreground_difference(traced, flat) < 20
    assert not any((tmp_path / "work").iterdir())


@needs_blender
def test_texture_lies_the_same_way_round(tmp_path: Path) -> None:
    mesh = make_card()
    facing = view_poses(0)[[26, 23]]
    exact = [view for _, view in raster.render(mesh, facing, SMALL, threads=1)]
    for traced, flat in zip(draw(mesh, tmp_path, SMALL, facing), exact, strict=True):
        turned = dataclasses.replace(flat, rgb=flat.rgb[:, ::-1])
        assert foreground_difference(traced, flat) < 25
        assert foreground_difference(traced, turned) > 40


@needs_blender
def test_same_request_gives_the_same_bytes(tmp_path: Path) -> None:
    options = RenderOptions(size=48, samples=4, colorize=True, base_color=0.3)
    first, second = (draw(make_box(), tmp_path, options, POSES[:1])[0] for _ in range(2))
    assert np.array_equal(first.rgb, second.rgb)
    assert first.rgb.shape == (48, 48, 3)
    inside = first.rgb[first.mask == 255].astype(int)
    assert np.ptp(inside, axis=1).max() <= 3, "colorize paints the object grey"


@needs_blender
def test_closing_early_leaves_nothing_behind(tmp_path: Path) -> None:
    views = blender.render(make_box(), POSES, SMALL, threads=1, workdir=tmp_path, cache_root=CACHE)
    next(views)
    views.close()
    assert not any(tmp_path.iterdir())


def test_without_the_environment_it_says_what_to_do(tmp_path: Path) -> None:
    views = blender.render(make_box(), POSES, SMALL, threads=1, workdir=tmp_path, cache_root=tmp_path)
    with pytest.raises(MissingError) as caught:
        next(views)
    assert caught.value.code == "method_not_installed"
    assert caught.value.fix == "gnomon methods install blender"
