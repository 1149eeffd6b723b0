"""Method `raster`: templates by a z-buffer on the CPU, one view per thread at a time.

Two engines fill the z-buffer: scan conversion and, for few cases, rays (`rays`). At 512 x 512 scan conversion is the
cheaper at every size measured. One view with 2 x 2 samples (176,400 rays in the object's box; one Xeon core, CPU
time) against Embree 4 through embreex:

    triangles    raster, whole view    Embree, rays alone    Embree, building the tree
       45,666          4 ms                  33 ms                     0.1 s
      730,656         19 ms                  43 ms                     1.7 s
    2,922,624         36 ms                  60 ms                     8.1 s

Rays take over for small pictures of huge meshes from very many views: at 64 x 64 and 2.1 million triangles a view
costs them 3.6 ms instead of 18, and the tree is repaid after some 380 views.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from gnomon.geometry import rasterize, shade
from gnomon.geometry.drawable import Drawable, make_drawable
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.surface import SRGB_STEPS, linear_to_srgb, make_surface
from gnomon.tasks.templates import scene
from gnomon.tasks.templates.methods import rays
from gnomon.tasks.templates.methods.blocks import Blocks
from gnomon.tasks.templates.scene import RenderOptions, TemplateView

Engine = Literal["auto", "scan", "rays"]
"""Scan conversion, or rays through embreex; "auto" takes the one that needs less CPU time."""

_BACKGROUND_HALF = np.float16(-1).view(np.uint16)


def render(
    mesh: Mesh,
    T_obj_cam: Float[np.ndarray, "N 4 4"],
    options: RenderOptions,
    *,
    threads: int,
    engine: Engine = "auto",
) -> Iterator[tuple[int, TemplateView]]:
    """Draw `mesh` from every pose and yield (index, view) in the order of the poses.

    Poses are camera-to-object with OpenCV axes on the unit sphere; the scene puts them at CAMERA_RADIUS. At
    most two views per thread wait to be taken. The views do not depend on `threads`. Raises InputError
    xyz_overflow, and MissingError not_installed where `engine` asks for rays and embreex is absent.
    """
    scene.check_xyz_range(mesh)
    drawing = _Drawing(mesh, options)
    if engine == "rays" or (engine == "auto" and drawing.rays_pay(T_obj_cam)):
        drawing.build_tree()
    with ThreadPoolExecutor(max(threads, 1), thread_name_prefix="raster") as pool:
        waiting: deque[tuple[int, Future[TemplateView]]] = deque()
        for index, pose in enumerate(T_obj_cam):
            waiting.append((index, pool.submit(drawing.view, pose)))
            if len(waiting) > 2 * threads:
                first, view = waiting.popleft()
                yield first, view.result()
        for index, view in waiting:
            yield index, view.result()


def warm_up() -> None:
    """Compile every kernel, or load it from the cache, by drawing one triangle."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float64)
    mesh = Mesh(vertices=corners, faces=np.array([[0, 1, 2]]))
    options = RenderOptions(size=8)
    pose = np.eye(4)
    pose[2, 3] = -1.0
    engines: tuple[Engine, ...] = ("scan", "rays") if rays.is_installed() else ("scan",)
    for engine in engines:
        for _ in render(mesh, pose[None], options, threads=1, engine=engine):
            pass


class _Drawing:
    """One mesh with its options, prepared once and drawn from many poses by several threads."""

    def __init__(self, mesh: Mesh, options: RenderOptions) -> None:
        self.options = options
        self.drawable = make_drawable(mesh)
        self.surface = make_surface(mesh, self.drawable, options.base_color if options.colorize else None)
        self.scale = scene.scene_scale(mesh, options.normalize)
        self.to_srgb = linear_to_srgb()
        # Lattice samples: s per pixel so that one falls on each centre, and s - 1 more around for the filter.
        self.samples = options.size * options.supersample + options.supersample - 1
        self._tree: rays.RayTree | None = None
        self._local = threading.local()

    def rays_pay(self, T_obj_cam: Float[np.ndarray, "N 4 4"]) -> bool:
        """Whether to draw these views by rays. Boxes are projected only where the tree could pay at all."""
        count, triangles = len(T_obj_cam), len(self.drawable.faces)
        if not rays.ray_engine_pays(triangles, count, 0) or not rays.is_installed():
            return False
        near = scene.NEAR / self.scale
        areas = []
        for pose in T_obj_cam:
            to_lattice, _ = _projection(pose[:3, :3], self._camera(pose), self.options)
            x0, y0, x1, y1 = rays.sample_box(self.drawable.half_extent, to_lattice, near, self.samples)
            areas.append(max(x1 + 1 - x0, 0) * max(y1 + 1 - y0, 0))
        return rays.ray_engine_pays(triangles, count, float(np.mean(areas)))

    def build_tree(self) -> None:
        """Draw by rays from now on. Raises MissingError not_installed."""
        self._tree = rays.RayTree(self.drawable)

    def _camera(self, T_obj_cam: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, " 3"]:
        """The camera's centre in the file's unit, relative to the drawable's origin."""
        return T_obj_cam[:3, 3] * (scene.CAMERA_RADIUS / self.scale) - self.drawable.origin

    def view(self, T_obj_cam: Float[np.ndarray, "4 4"]) -> TemplateView:
        options, drawable = self.options, self.drawable
        camera = self._camera(T_obj_cam)
        lamp = T_obj_cam[:3, 3] * (scene.LIGHT_RADIUS / self.scale)
        to_lattice, to_object = _projection(T_obj_cam[:3, :3], camera, options)
        eye = shade.Eye(
            to_object=to_object,
            centre=camera.astype(np.float32),
            lamp=(lamp - drawable.origin).astype(np.float32),
            strength=scene.light_strength() / self.scale**2,
            ambient=scene.AMBIENT_LINEAR,
            background=scene.BACKGROUND_LINEAR,
        )
        maps = self._blank_maps()
        box = np.array([self.samples, self.samples, -1, -1])
        buffer = self._buffer()
        self._fill(to_lattice, to_object, camera, buffer, box)
        if box[2] >= 0:
            step = options.supersample
            shade.resolve(self.surface, drawable.origin, eye, step, box, buffer, self.to_srgb, maps)
        return _as_view(maps, options)

    def _fill(
        self,
        to_lattice: Float[np.ndarray, "3 4"],
        to_object: Float[np.ndarray, "3 3"],
        camera: Float[np.ndarray, " 3"],
        buffer: Int64[np.ndarray, "R C"],
        box: Int64[np.ndarray, " 4"],
    ) -> None:
        """Write the triangle that each sample sees into `buffer`, by the engine in use, and widen `box` to them."""
        drawable, samples = self.drawable, self.samples
        near, far = scene.NEAR / self.scale, scene.FAR / self.scale
        if self._tree is not None:
            self._tree.draw(to_lattice, to_object, camera, near, far, samples, buffer, box)
            return
        cull = drawable.closed and _outside(drawable, camera, near)
        parts = drawable.cluster_xyz, drawable.cluster_start, drawable.corners, drawable.bounds
        rasterize.draw(*parts, to_lattice, camera, cull, near, far, samples, samples, buffer, box)

    def _buffer(self) -> Int64[np.ndarray, "R C"]:
        """This thread's z-buffer, empty between views."""
        if not hasattr(self._local, "buffer"):
            self._local.buffer = rasterize.make_buffer(self.samples, self.samples)
        return self._local.buffer

    def _blank_maps(self) -> shade.Maps:
        options, size = self.options, self.options.size
        if not hasattr(self._local, "blocks"):
            self._local.blocks = Blocks()
        full = self._local.blocks.full
        world = 0 if options.transparent else self.to_srgb[round(scene.BACKGROUND_LINEAR * SRGB_STEPS)]
        return shade.Maps(
            rgb=full((size, size, 4 if options.transparent else 3), world, np.uint8),
            mask=full((size, size), 0, np.uint8),
            xyz=full((size, size, 3), _BACKGROUND_HALF, np.uint16),
            depth=full((size, size) if options.depth else (0, 0), 0, np.float32),
            normal=full((size, size, 3) if options.normals else (0, 0, 3), 0, np.uint16),
        )


def _outside(drawable: Drawable, camera: Float[np.ndarray, " 3"], near: float) -> bool:
    """The near plane cannot cut the surface open: then the back faces of a closed one are always hidden."""
    away = np.abs(camera) - drawable.half_extent
    return bool(away.max() > 2 * near)


def _projection(
    R_obj_cam: Float[np.ndarray, "3 3"], camera: Float[np.ndarray, " 3"], options: RenderOptions
) -> tuple[Float[np.ndarray, "3 4"], Float[np.ndarray, "3 3"]]:
    """Object point -> homogeneous lattice sample (3x4), and lattice sample -> ray in the object's axes (3x3).

    Element-wise arithmetic only: a matrix product may fuse its multiply-adds and round differently elsewhere.
    """
    K, step = scene.camera_matrix(options.size), options.supersample
    f = K[0, 0] * step
    c = K[0, 2] * step + (step - 1)
    x, y, z = R_obj_cam.T
    linear = np.stack((f * x + c * z, f * y + c * z, z))
    shift = -(linear[:, 0] * camera[0] + linear[:, 1] * camera[1] + linear[:, 2] * camera[2])
    to_lattice = np.column_stack((linear, shift))
    to_object = np.column_stack((x / f, y / f, z - (x + y) * (c / f)))
    return np.ascontiguousarray(to_lattice), np.ascontiguousarray(to_object)


def _as_view(maps: shade.Maps, options: RenderOptions) -> TemplateView:
    return TemplateView(
        rgb=maps.rgb,
        mask=maps.mask,
        xyz=maps.xyz.view(np.float16),
        depth=maps.depth if options.depth else None,
        normal=maps.normal.view(np.float16) if options.normals else None,
    )
