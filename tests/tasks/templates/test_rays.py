"""Views by rays: the same as by scan conversion, but for rounding; and when which of the two is taken."""

from __future__ import annotations

from dataclasses import replace

import meshes
import numpy as np
import pytest

from gnomon.errors import MissingError
from gnomon.geometry.mesh import Mesh
from gnomon.tasks.templates.methods import raster, rays
from gnomon.tasks.templates.scene import RenderOptions, TemplateView
from gnomon.tasks.templates.views import view_poses

OPTIONS = RenderOptions(size=256, depth=True, normals=True)
POSES = view_poses(0)[[1, 9, 20, 33]]
needs_embree = pytest.mark.skipif(not rays.is_installed(), reason="needs embreex")


def views(mesh: Mesh, engine: raster.Engine, poses: np.ndarray = POSES, threads: int = 1) -> list[TemplateView]:
    return [view for _, view in raster.render(mesh, poses, OPTIONS, threads=threads, engine=engine)]


def moved(poses: np.ndarray, shift: tuple[float, float, float]) -> np.ndarray:
    """The cameras shifted along their own axes, in units of their distance from the origin."""
    poses = poses.copy()
    poses[:, :3, 3] += poses[:, :3, :3] @ np.array(shift)
    return poses


KINDS = {
    "cube": meshes.coloured(meshes.cube()),
    "bumpy": meshes.coloured(meshes.bumpy(3)),
    "open": replace(meshes.icosphere(3), faces=meshes.icosphere(3).faces[:300]),
    "off centre": meshes.cube(30.0, (200, -100, 50)),
}
SHIFTS = {
    "centred": (0, 0, 0),
    "cut by the picture's edge": (0.3, -0.25, 0),
    "inside": (0, 0, 1.0),
    "near plane": (0, 0, 0.85),
}


@needs_embree
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("kind", KINDS)
def test_rays_see_what_scan_conversion_sees(kind: str, shift: str) -> None:
    # Turned by odd angles: on symmetric ones samples fall on edges, where either triangle's colour is right.
    mesh, poses = meshes.turned(KINDS[kind], (0.3, -0.7, 1.1)), moved(POSES, SHIFTS[shift])
    unit = np.abs(mesh.vertices).max()
    for scan, ray in zip(views(mesh, "scan", poses), views(mesh, "rays", poses), strict=True):
        both, either = (scan.mask & ray.mask) > 0, (scan.mask | ray.mask) > 0
        assert both.sum() >= 0.999 * either.sum()
        assert scan.depth is not None and ray.depth is not None
        # Half a float16 step, twice; single samples at the rim of a nearer part may fall on either side of it.
        far_off = np.abs(scan.xyz.astype(float) - ray.xyz.astype(float)).max(axis=-1) > 2e-3 * unit
        assert (far_off & both).sum() <= 1e-3 * both.sum()
        deeper = np.abs(scan.depth - ray.depth) > 1e-4 * unit
        assert (deeper & both).sum() <= 1e-3 * both.sum()
        unlike = np.abs(scan.rgb.astype(int) - ray.rgb.astype(int)).max(axis=-1) > 2
        assert unlike.sum() <= 2e-3 * max(either.sum(), 1)


@needs_embree
def test_views_by_rays_do_not_depend_on_threads_or_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = meshes.bumpy(5)
    one = views(mesh, "rays")
    monkeypatch.setattr(rays, "RAYS_PER_BATCH", 1000)
    for a, b in zip(one, views(mesh, "rays", threads=3), strict=True):
        assert np.array_equal(a.rgb, b.rgb) and np.array_equal(a.xyz, b.xyz) and np.array_equal(a.mask, b.mask)


@needs_embree
def test_an_object_beside_the_picture_is_not_drawn() -> None:
    away = moved(POSES, (3.0, 0, 0))
    assert not any(view.mask.any() for view in views(meshes.cube(), "rays", away))


@pytest.mark.parametrize(
    ("triangles", "count", "samples", "pays"),
    [
        (45_000, 42, 180_000, False),
        (5_000_000, 42, 180_000, False),
        (5_000_000, 42, 0, False),
        (5_000_000, 642, 180_000, False),
        (5_000_000, 642, 5_000, True),
    ],
)
def test_rays_pay_for_small_pictures_of_huge_meshes_from_many_views(
    triangles: int, count: int, samples: int, pays: bool
) -> None:
    assert rays.ray_engine_pays(triangles, count, samples) is pays


@needs_embree
def test_auto_takes_rays_only_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    init = rays.RayTree.__init__
    monkeypatch.setattr(rays.RayTree, "__init__", lambda self, drawable: (built.append(1), init(self, drawable))[1])
    views(meshes.cube(), "auto")
    assert not built
    monkeypatch.setattr(rays, "ray_engine_pays", lambda triangles, count, samples: True)
    views(meshes.cube(), "auto")
    assert built
    monkeypatch.setattr(rays, "ray_engine_pays", lambda triangles, count, samples: samples == 0)
    built.clear()
    views(meshes.cube(), "auto")
    assert not built


def test_without_embreex_auto_scans_and_rays_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rays.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(rays, "ray_engine_pays", lambda triangles, count, samples: True)
    assert views(meshes.cube(), "auto")[0].mask.any()
    with pytest.raises(MissingError) as caught:
        views(meshes.cube(), "rays")
    assert caught.value.code == "not_installed" and caught.value.fix == 'pip install "gnomon[embree]"'
