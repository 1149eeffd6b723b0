"""The pictures of method `raster` by brute force: every ray against every triangle, in float64.

Slow and short. It shows what `raster` computes without how, and the tests hold `raster` against it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from gnomon.geometry.mesh import Mesh
from gnomon.geometry.shade import REFLECTANCE, ROUGHNESS_2
from gnomon.geometry.surface import FLAT_GREY_LINEAR, linear_to_srgb_bytes, srgb_to_linear
from gnomon.tasks.templates import scene
from gnomon.tasks.templates.scene import RenderOptions, TemplateView


def render(
    mesh: Mesh, T_obj_cam: Float[np.ndarray, "N 4 4"], options: RenderOptions
) -> Iterator[tuple[int, TemplateView]]:
    """As `raster.render`, without `transparent`."""
    for index, pose in enumerate(T_obj_cam):
        yield index, _view(mesh, pose, options)


def _view(mesh: Mesh, T_obj_cam: Float[np.ndarray, "4 4"], options: RenderOptions) -> TemplateView:
    scale, step, size = scene.scene_scale(mesh, options.normalize), options.supersample, options.size
    camera = T_obj_cam[:3, 3] * scene.CAMERA_RADIUS / scale
    # Samples lie 1 / step of a pixel apart, from step - 1 samples before the first centre to as many after the last.
    at = (np.arange(size * step + step - 1) - (step - 1)) / step
    y, x = np.meshgrid(at, at, indexing="ij")
    pixels = np.stack((x, y, np.ones_like(x)), axis=-1).reshape(-1, 3)
    rays = pixels @ np.linalg.inv(scene.camera_matrix(size)).T @ T_obj_cam[:3, :3].T
    depth, face, weights = _nearest(mesh, camera, rays, scene.NEAR / scale, scene.FAR / scale)

    hit = face >= 0
    points = np.where(hit[:, None], camera + np.where(hit, depth, 0)[:, None] * rays, 0)
    normals = _normals(mesh, face, weights, rays) * hit[:, None]
    lamp = camera * scene.LIGHT_RADIUS / scene.CAMERA_RADIUS
    to_lamp = lamp - points
    distance = np.linalg.norm(to_lamp, axis=1)
    received = np.maximum((normals * to_lamp).sum(axis=1), 0) / distance**3 * scene.light_strength() / scale**2
    highlight = _highlight(normals, to_lamp / distance[:, None], camera - points)
    matt = (1 - REFLECTANCE) * (scene.AMBIENT_LINEAR + received)
    shine = REFLECTANCE * (scene.AMBIENT_LINEAR + received * highlight)
    linear = np.full((len(rays), 3), scene.BACKGROUND_LINEAR)
    linear[hit] = _albedo(mesh, face[hit], weights[hit], options) * matt[hit, None] + shine[hit, None]

    side = len(at)
    centres = np.s_[step - 1 :: step, step - 1 :: step]
    mask = hit.reshape(side, side)[centres]
    maps = {
        "xyz": np.where(mask[..., None], points.reshape(side, side, 3)[centres], -1).astype(np.float16),
        "depth": np.where(mask, depth.reshape(side, side)[centres], 0).astype(np.float32),
        "normal": normals.reshape(side, side, 3)[centres].astype(np.float16),
    }
    return TemplateView(
        rgb=linear_to_srgb_bytes(_tent(linear.reshape(side, side, 3), step, size)),
        mask=mask.astype(np.uint8) * 255,
        xyz=maps["xyz"],
        depth=maps["depth"] if options.depth else None,
        normal=maps["normal"] if options.normals else None,
    )


def _highlight(
    normals: Float[np.ndarray, "S 3"], lamp: Float[np.ndarray, "S 3"], to_camera: Float[np.ndarray, "S 3"]
) -> Float[np.ndarray, " S"]:
    """pi times GGX microfacets over the matt surface's 1, with one cosine for lamp and camera in Smith's masking."""
    camera = to_camera / np.linalg.norm(to_camera, axis=1, keepdims=True)
    between = lamp + camera
    half = between / np.linalg.norm(between, axis=1, keepdims=True)
    facing_half = np.minimum((normals * half).sum(axis=1) ** 2, 1)
    spread = ROUGHNESS_2 / (facing_half * (ROUGHNESS_2 - 1) + 1) ** 2
    facing = np.maximum(((normals * lamp).sum(axis=1) + np.maximum((normals * camera).sum(axis=1), 0)) / 2, 1e-3)
    return spread / (4 * facing * np.sqrt(facing**2 * (1 - ROUGHNESS_2) + ROUGHNESS_2))


def _nearest(
    mesh: Mesh, camera: Float[np.ndarray, " 3"], rays: Float[np.ndarray, "S 3"], near: float, far: float
) -> tuple[Float[np.ndarray, " S"], Int[np.ndarray, " S"], Float[np.ndarray, "S 3"]]:
    """Depth, triangle (-1: none) and barycentric weights of what each ray meets first (Moeller, Trumbore 1997)."""
    depth = np.full(len(rays), np.inf)
    face = np.full(len(rays), -1)
    weights = np.zeros((len(rays), 3))
    for index, corners in enumerate(mesh.vertices[mesh.faces].astype(np.float64)):
        a, edge1, edge2 = corners[0], corners[1] - corners[0], corners[2] - corners[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            p = np.cross(rays, edge2)
            inverse = 1 / (p @ edge1)
            v = (p @ (camera - a)) * inverse
            q = np.cross(camera - a, edge1)
            w = (rays @ q) * inverse
            t = (edge2 @ q) * inverse
            better = (v >= 0) & (w >= 0) & (v + w <= 1) & (t >= near) & (t <= far) & (t < depth)
        depth[better], face[better] = t[better], index
        weights[better] = np.stack((1 - v[better] - w[better], v[better], w[better]), axis=-1)
    return depth, face, weights


def _normals(
    mesh: Mesh, face: Int[np.ndarray, " S"], weights: Float[np.ndarray, "S 3"], rays: Float[np.ndarray, "S 3"]
) -> Float[np.ndarray, "S 3"]:
    """Unit normals on the viewer's side, interpolated where the mesh has them."""
    a, b, c = (mesh.vertices[mesh.faces[face, k]].astype(np.float64) for k in range(3))
    flat = np.cross(b - a, c - a)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    flat = np.where(((flat * rays).sum(axis=1) > 0)[:, None], -flat, flat)
    if mesh.vertex_normals is None:
        return flat
    smooth = (mesh.vertex_normals[mesh.faces[face]] * weights[..., None]).sum(axis=1)
    length = np.linalg.norm(smooth, axis=1, keepdims=True)
    smooth = np.where(length > 1e-12, smooth / np.maximum(length, 1e-12), flat)
    return np.where(((smooth * flat).sum(axis=1) < 0)[:, None], -smooth, smooth)


def _albedo(
    mesh: Mesh, face: Int[np.ndarray, " S"], weights: Float[np.ndarray, "S 3"], options: RenderOptions
) -> Float[np.ndarray, "S 3"]:
    """Linear colour of each hit."""
    table = srgb_to_linear().astype(np.float64)
    if options.colorize:
        return np.full((len(face), 3), options.base_color)
    colour = np.full((len(face), 3), FLAT_GREY_LINEAR)
    if mesh.face_rgb is not None:
        colour = table[mesh.face_rgb[face]]
    if mesh.vertex_rgb is not None:
        colour = (table[mesh.vertex_rgb[mesh.faces[face]]] * weights[..., None]).sum(axis=1)
    if mesh.uv is not None and mesh.face_texture is not None:
        uv = (mesh.uv[mesh.faces[face]] * weights[..., None]).sum(axis=1)
        for number, texture in enumerate(mesh.textures):
            inside = mesh.face_texture[face] == number
            colour[inside] = _bilinear(table[texture], uv[inside])
    return colour


def _bilinear(texture: Float[np.ndarray, "H W 3"], uv: Float[np.ndarray, "S 2"]) -> Float[np.ndarray, "S 3"]:
    height, width = texture.shape[:2]
    x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    colour = np.zeros((len(uv), 3))
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (1 - np.abs(x - x0 - dx)) * (1 - np.abs(y - y0 - dy))
        colour += weight[:, None] * texture[(y0 + dy) % height, (x0 + dx) % width]
    return colour


def _tent(linear: Float[np.ndarray, "S S 3"], step: int, size: int) -> Float[np.ndarray, "H W 3"]:
    """Weighted mean over the 2 step - 1 samples around each centre, along both axes."""
    weights = (step - np.abs(np.arange(2 * step - 1) - step + 1)) / step**2
    total = np.zeros((size, size, 3))
    for i, wy in enumerate(weights):
        for j, wx in enumerate(weights):
            total += wy * wx * linear[i : i + size * step : step, j : j + size * step : step]
    return total
