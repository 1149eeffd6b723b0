"""One mesh drawn at a pose, as a camera with any pinhole parameters sees it: depth, triangle, normal and albedo.

There is one sample per pixel, in its centre, and no light. The picture's arrays come zeroed from the system, which
hands out their pages when they are touched: the cost is that of the object's box, not that of the picture.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, Int64, UInt8

from gnomon.errors import InputError
from gnomon.geometry import rasterize
from gnomon.geometry.camera import Camera
from gnomon.geometry.drawable import Drawable, make_drawable
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.rasterize import FACE_MASK, LANES
from gnomon.geometry.surface import SRGB_STEPS, Surface, linear_to_srgb, make_surface, texture_colour


@dataclass(frozen=True)
class ViewMesh:
    """A mesh made ready for `draw_view`, which any number of threads may share."""

    drawable: Drawable
    surface: Surface
    face_order: Int32[np.ndarray, " F"]
    """Sorted position -> index in the mesh's `faces`."""


@dataclass(frozen=True)
class View:
    """What each pixel of a picture sees of one mesh."""

    depth_m: Float32[np.ndarray, "H W"]
    """Along the camera's z axis, 0 where the mesh is not seen."""
    face: Int32[np.ndarray, "H W"]
    """Index into the mesh's `faces`, -1 where the mesh is not seen."""
    normal_cam: Float32[np.ndarray, "H W 3"]
    """Unit normals in the camera's axes, towards the camera; interpolated if the mesh has normals of its own.

    0 where the mesh is not seen."""
    rgb: UInt8[np.ndarray, "H W 3"] | None
    """Unlit sRGB colour of the surface, 0 where the mesh is not seen; None if it was not asked for."""


def prepare_view(mesh: Mesh) -> ViewMesh:
    """Sort and index the triangles of a mesh whose vertices are in metres, once per mesh."""
    drawable = make_drawable(mesh)
    return ViewMesh(drawable, make_surface(mesh, drawable), drawable.face_order.astype(np.int32))


def draw_view(
    prepared: ViewMesh,
    T_cam_obj: Float[np.ndarray, "4 4"],
    camera: Camera,
    *,
    near_m: float = 0.01,
    far_m: float = 100.0,
    colour: bool = True,
) -> View:
    """Draw a mesh at the rigid pose `T_cam_obj` (metres); surfaces nearer than `near_m` or beyond `far_m` are left out.

    The same call gives the same bytes on any thread. Raises InputError `poses_not_rigid` for a pose with numbers that
    are not finite.
    """
    drawable, size = prepared.drawable, (camera.height, camera.width)
    to_lattice, to_object, centre = np.empty((3, 4)), np.empty((3, 3)), np.empty(3)
    pose = np.ascontiguousarray(T_cam_obj, np.float64)
    if not np.isfinite(pose).all():
        raise InputError(
            "the pose has numbers that are not finite",
            code="poses_not_rigid",
            field="T_cam_obj",
            value=pose,
            expected="a rotation and a translation in metres",
            fix="draw only poses that were found",
        )
    pinhole = (float(camera.fx), float(camera.fy), float(camera.cx), float(camera.cy))
    _project_pose(pose, pinhole, drawable.origin, to_lattice, to_object, centre)
    maps = _Maps(
        depth_m=np.zeros(size, np.float32),
        face=np.full(size, -1, np.int32),
        normal_cam=np.zeros((*size, 3), np.float32),
        rgb=np.zeros((*size, 3) if colour else (0, 0, 3), np.uint8),
    )
    cull = drawable.closed and _outside(drawable, centre, near_m)
    buffer = _local.buffer(*size)
    box = np.array([camera.width, camera.height, -1, -1])
    rasterize.draw(
        drawable.cluster_xyz, drawable.cluster_start, drawable.corners, drawable.bounds, to_lattice, centre,
        cull, float(near_m), float(far_m), camera.width, camera.height, buffer, box,
    )  # fmt: skip
    if box[2] >= 0:
        rotation = np.ascontiguousarray(pose[:3, :3])
        _resolve(prepared.surface, prepared.face_order, rotation, to_object, centre, box, buffer, _TO_SRGB, maps)
    return View(maps.depth_m, maps.face, maps.normal_cam, maps.rgb if colour else None)


class _Maps(NamedTuple):
    depth_m: Float32[np.ndarray, "H W"]
    face: Int32[np.ndarray, "H W"]
    normal_cam: Float32[np.ndarray, "H W 3"]
    rgb: UInt8[np.ndarray, "H W 3"]
    """Of size 0 if not asked for."""


class _Buffers(threading.local):
    """This thread's z-buffer, kept for the largest picture so far and empty between views."""

    def __init__(self) -> None:
        self._samples = np.zeros(0, np.int64)

    def buffer(self, height: int, width: int) -> Int64[np.ndarray, "height columns"]:
        columns = -(-width // LANES) * LANES
        if self._samples.size < height * columns:
            self._samples = np.zeros(height * columns, np.int64)
        return self._samples[: height * columns].reshape(height, columns)


_local = _Buffers()
_TO_SRGB = linear_to_srgb()


def _outside(drawable: Drawable, centre: Float64[np.ndarray, " 3"], near_m: float) -> bool:
    """The near plane cannot cut the surface open: then the back faces of a closed one are always hidden."""
    return bool((np.abs(centre) - drawable.half_extent).max() > 2 * near_m)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _project_pose(T, pinhole, origin, to_lattice, to_object, centre):
    """Matrices object point -> homogeneous pixel and pixel -> ray, and the camera's centre, relative to `origin`."""
    fx, fy, cx, cy = pinhole
    for k in range(3):
        to_lattice[0, k] = fx * T[0, k] + cx * T[2, k]
        to_lattice[1, k] = fy * T[1, k] + cy * T[2, k]
        to_lattice[2, k] = T[2, k]
        to_object[k, 0] = T[0, k] / fx
        to_object[k, 1] = T[1, k] / fy
        to_object[k, 2] = T[2, k] - T[0, k] * (cx / fx) - T[1, k] * (cy / fy)
        centre[k] = -(T[0, k] * T[0, 3] + T[1, k] * T[1, 3] + T[2, k] * T[2, 3]) - origin[k]
    x = T[0, 0] * origin[0] + T[0, 1] * origin[1] + T[0, 2] * origin[2] + T[0, 3]
    y = T[1, 0] * origin[0] + T[1, 1] * origin[1] + T[1, 2] * origin[2] + T[1, 3]
    z = T[2, 0] * origin[0] + T[2, 1] * origin[1] + T[2, 2] * origin[2] + T[2, 3]
    to_lattice[0, 3] = fx * x + cx * z
    to_lattice[1, 3] = fy * y + cy * z
    to_lattice[2, 3] = z


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _resolve(surface, face_order, rotation, to_object, centre, box, buffer, to_srgb, maps):
    """Fill `maps` where samples in `box` were touched, and leave the buffer empty again."""
    height, width = maps.depth_m.shape
    # Triangles are drawn in whole aligned runs, which may touch samples beyond the picture's right border.
    x0 = box[0] & ~(LANES - 1)
    x1 = min((box[2] + LANES) & ~(LANES - 1), buffer.shape[1])
    columns = np.empty(x1 - x0, np.int64)
    faces = np.empty(x1 - x0, np.int64)
    points = np.empty((x1 - x0, 3))
    for y in range(max(box[1], 0), min(box[3], height - 1) + 1):
        count = _locate(
            buffer[y, x0:x1], x0, y, width, face_order, to_object, centre, columns, faces, points,
            maps.depth_m[y], maps.face[y],
        )  # fmt: skip
        _write_normals(surface, count, columns, faces, points, rotation, centre, maps.normal_cam[y])
        if maps.rgb.size > 0:
            _write_colours(surface, count, columns, faces, points, to_srgb, maps.rgb[y])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _locate(samples, x0, y, width, face_order, to_object, centre, columns, faces, points, out_depth, out_face):
    """Columns, sorted triangles and points of a row's seen samples, and their number; the samples are emptied."""
    n = 0
    for s in range(samples.shape[0]):
        value = samples[s]
        samples[s] = 0
        x = x0 + s
        if value == 0 or x >= width:
            continue
        t = FACE_MASK - (value & FACE_MASK)
        depth = np.float32(1.0) / np.int32(value >> 32).view(np.float32)
        out_depth[x] = depth
        out_face[x] = face_order[t]
        columns[n] = x
        faces[n] = t
        for k in range(3):
            points[n, k] = centre[k] + depth * (to_object[k, 0] * x + to_object[k, 1] * y + to_object[k, 2])
        n += 1
    return n


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _write_normals(surface, count, columns, faces, points, rotation, centre, out):
    f = surface.functions
    at = surface.normal_column
    cx, cy, cz = centre[0], centre[1], centre[2]
    for n in range(count):
        t = faces[n]
        nx, ny, nz = np.float64(f[t, 0]), np.float64(f[t, 1]), np.float64(f[t, 2])
        side = 1.0 if nx * cx + ny * cy + nz * cz + f[t, 3] >= 0.0 else -1.0
        nx, ny, nz = side * nx, side * ny, side * nz
        if at > 0:
            x, y, z = points[n, 0], points[n, 1], points[n, 2]
            sx = side * _value(f, t, at, x, y, z)
            sy = side * _value(f, t, at + 4, x, y, z)
            sz = side * _value(f, t, at + 8, x, y, z)
            length = np.sqrt(sx * sx + sy * sy + sz * sz)
            # Normals that cancel out are no use, nor those that turn away from the camera at the rim.
            if length > 1e-6 and sx * (cx - x) + sy * (cy - y) + sz * (cz - z) > 0.0:
                nx, ny, nz = sx / length, sy / length, sz / length
        column = columns[n]
        for k in range(3):
            out[column, k] = np.float32(rotation[k, 0] * nx + rotation[k, 1] * ny + rotation[k, 2] * nz)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _write_colours(surface, count, columns, faces, points, to_srgb, out):
    """Colour of the texture where there is one, else that of the corners, else that of the triangle."""
    f = surface.functions
    face_linear = surface.face_linear
    face_texture = surface.face_texture
    at_rgb = surface.rgb_column
    at_uv = surface.uv_column
    last_row = face_linear.shape[0] - 1
    for n in range(count):
        t = faces[n]
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        row = min(t, last_row)
        red, green, blue = face_linear[row, 0], face_linear[row, 1], face_linear[row, 2]
        if at_uv > 0 and face_texture[t] >= 0:
            u = np.float32(_value(f, t, at_uv, x, y, z))
            v = np.float32(_value(f, t, at_uv + 4, x, y, z))
            red, green, blue = texture_colour(
                surface.texels, surface.texture_shape, surface.to_linear, face_texture[t], u, v
            )
        elif at_rgb > 0:
            red = np.float32(_value(f, t, at_rgb, x, y, z))
            green = np.float32(_value(f, t, at_rgb + 4, x, y, z))
            blue = np.float32(_value(f, t, at_rgb + 8, x, y, z))
        column = columns[n]
        # On slivers rounding may carry the functions beyond the colours at the corners.
        out[column, 0] = to_srgb[np.int64(min(max(red, 0.0), 1.0) * SRGB_STEPS + 0.5)]
        out[column, 1] = to_srgb[np.int64(min(max(green, 0.0), 1.0) * SRGB_STEPS + 0.5)]
        out[column, 2] = to_srgb[np.int64(min(max(blue, 0.0), 1.0) * SRGB_STEPS + 0.5)]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _value(functions, t, at, x, y, z):
    return functions[t, at] * x + functions[t, at + 1] * y + functions[t, at + 2] * z + functions[t, at + 3]
