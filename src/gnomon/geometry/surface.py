"""Colours of a drawable's triangles, in linear light, and the tables between sRGB and linear light."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float, Float32, Int32, Int64, UInt8

from gnomon.geometry.drawable import Drawable
from gnomon.geometry.mesh import Mesh

SRGB_STEPS = 16384
"""Steps of the table linear -> sRGB. Near black 8-bit sRGB needs steps under 1/3295."""

FLAT_GREY_LINEAR = 0.8
"""Colour of a mesh that has none."""


class Surface(NamedTuple):
    """What colours and bends the triangles of a drawable; arrays that do not apply have no rows."""

    functions: Float32[np.ndarray, "F 4*n"]
    """Per triangle linear functions of position, each gradient (3) and constant, side by side in memory.

    The first is the height over the triangle (its gradient the unit normal); then, at the columns below where not
    0: normal x, y, z, turned to the side of the triangle's own; linear red, green, blue; u, v."""
    normal_column: int
    rgb_column: int
    uv_column: int
    face_linear: Float32[np.ndarray, "F 3"]
    """Used where a triangle has neither texture nor vertex colours; one row = the same for all."""
    face_texture: Int32[np.ndarray, " F"]
    """Texture of each triangle, -1 for none."""
    texels: UInt8[np.ndarray, "T 3"]
    """The pixels of all textures one after the other."""
    texture_shape: Int64[np.ndarray, "N 3"]
    """Per texture: first texel, height, width."""
    to_linear: Float32[np.ndarray, " 256"]


def make_surface(mesh: Mesh, drawable: Drawable, grey_linear: float | None = None) -> Surface:
    """Colours of `mesh` in the drawable's order; `grey_linear` paints everything in that grey instead."""
    to_linear = srgb_to_linear()
    painted = grey_linear is None
    face_linear = np.full((1, 3), FLAT_GREY_LINEAR if painted else grey_linear, np.float32)
    if painted and mesh.face_rgb is not None:
        face_linear = to_linear[mesh.face_rgb[drawable.face_order]]
    textured = painted and bool(mesh.textures) and mesh.uv is not None and mesh.face_texture is not None
    parts: list[np.ndarray] = [np.zeros((len(drawable.vertices), 0), np.float32)]
    columns = {"rgb_column": 0, "uv_column": 0, "normal_column": 0}

    def add(name: str, values: np.ndarray) -> None:
        columns[name] = 4 + 4 * sum(part.shape[1] for part in parts)
        parts.append(values)

    if mesh.vertex_normals is not None:
        add("normal_column", np.asarray(mesh.vertex_normals, np.float32))
    if painted and mesh.vertex_rgb is not None:
        add("rgb_column", to_linear[mesh.vertex_rgb])
    if textured:
        add("uv_column", np.asarray(mesh.uv, np.float32))
    values = np.ascontiguousarray(np.concatenate(parts, axis=1))
    functions = np.zeros((len(drawable.faces), 4 + 4 * values.shape[1]), np.float32)
    _fill_functions(drawable.vertices, drawable.faces, values, functions)
    if columns["normal_column"] > 0:
        _turn_normals(functions, columns["normal_column"], drawable.vertices, drawable.faces)
    texels, texture_shape = _join_textures(mesh.textures if textured else ())
    face_texture = np.zeros(0, np.int32)
    if textured and mesh.face_texture is not None:
        face_texture = np.ascontiguousarray(mesh.face_texture[drawable.face_order], dtype=np.int32)
    return Surface(
        functions=functions,
        **columns,
        face_linear=np.ascontiguousarray(face_linear),
        face_texture=face_texture,
        texels=texels,
        texture_shape=texture_shape,
        to_linear=to_linear,
    )


def _join_textures(
    textures: tuple[UInt8[np.ndarray, "H W 3"], ...],
) -> tuple[UInt8[np.ndarray, "T 3"], Int64[np.ndarray, "N 3"]]:
    texels = [np.zeros((0, 3), np.uint8)]
    shapes = np.zeros((len(textures), 3), np.int64)
    first = 0
    for index, texture in enumerate(textures):
        height, width = texture.shape[:2]
        shapes[index] = first, height, width
        texels.append(texture.reshape(-1, 3))
        first += height * width
    return np.concatenate(texels), shapes


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fill_functions(vertices, faces, values, functions):
    """Height over each triangle, and each column of `values` interpolated over it, as functions of position."""
    for f in range(faces.shape[0]):
        i = faces[f, 0]
        j = faces[f, 1]
        k = faces[f, 2]
        ax = np.float64(vertices[i, 0])
        ay = np.float64(vertices[i, 1])
        az = np.float64(vertices[i, 2])
        bx = vertices[j, 0] - ax
        by = vertices[j, 1] - ay
        bz = vertices[j, 2] - az
        cx = vertices[k, 0] - ax
        cy = vertices[k, 1] - ay
        cz = vertices[k, 2] - az
        nx = by * cz - bz * cy
        ny = bz * cx - bx * cz
        nz = bx * cy - by * cx
        square = nx * nx + ny * ny + nz * nz
        inv = 1.0 / square if square > 0.0 else 0.0
        unit = np.sqrt(inv)
        functions[f, 0] = nx * unit
        functions[f, 1] = ny * unit
        functions[f, 2] = nz * unit
        functions[f, 3] = -(nx * ax + ny * ay + nz * az) * unit
        # c x n and n x b are the gradients of the weights of corners j and k in the triangle's plane.
        jx = (cy * nz - cz * ny) * inv
        jy = (cz * nx - cx * nz) * inv
        jz = (cx * ny - cy * nx) * inv
        kx = (ny * bz - nz * by) * inv
        ky = (nz * bx - nx * bz) * inv
        kz = (nx * by - ny * bx) * inv
        for column in range(values.shape[1]):
            start = np.float64(values[i, column])
            to_j = values[j, column] - start
            to_k = values[k, column] - start
            gx = to_j * jx + to_k * kx
            gy = to_j * jy + to_k * ky
            gz = to_j * jz + to_k * kz
            at = 4 + 4 * column
            functions[f, at] = gx
            functions[f, at + 1] = gy
            functions[f, at + 2] = gz
            functions[f, at + 3] = start - (gx * ax + gy * ay + gz * az)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _turn_normals(f, at, vertices, faces):
    """Turn interpolated normals to the side where the triangle's own points: those of files may point either way."""
    for t in range(f.shape[0]):
        along = 0.0
        for corner in range(3):
            x = vertices[faces[t, corner], 0]
            y = vertices[faces[t, corner], 1]
            z = vertices[faces[t, corner], 2]
            for k in range(3):
                row = at + 4 * k
                along += f[t, k] * (f[t, row] * x + f[t, row + 1] * y + f[t, row + 2] * z + f[t, row + 3])
        if along < 0.0:
            for column in range(at, at + 12):
                f[t, column] = -f[t, column]


def srgb_to_linear() -> Float32[np.ndarray, " 256"]:
    """Linear light for each 8-bit sRGB value."""
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb() -> UInt8[np.ndarray, " n"]:
    """8-bit sRGB for linear light 0..1 in SRGB_STEPS steps."""
    return linear_to_srgb_bytes(np.arange(SRGB_STEPS + 1) / SRGB_STEPS)


def linear_to_srgb_bytes(linear: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """8-bit sRGB for linear light between 0 and 1."""
    root = np.maximum(linear, 0.0031308) ** (1 / 2.4)
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * root - 0.055)
    return np.round(np.clip(srgb, 0, 1) * 255).astype(np.uint8)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def texture_colour(texels, texture_shape, to_linear, texture, u, v):
    """Linear colour of a texture at (u, v): bilinear, repeating in both directions, v up."""
    first = texture_shape[texture, 0]
    height = texture_shape[texture, 1]
    width = texture_shape[texture, 2]
    x = (u - np.floor(u)) * width - 0.5
    y = (1.0 - (v - np.floor(v))) * height - 0.5
    x0 = int(np.floor(x))
    y0 = int(np.floor(y))
    right = np.float32(x - x0)
    below = np.float32(y - y0)
    left = np.float32(1.0) - right
    above = np.float32(1.0) - below
    columns = (x0 % width, (x0 + 1) % width)
    rows = (first + (y0 % height) * width, first + ((y0 + 1) % height) * width)
    red = green = blue = np.float32(0.0)
    for row, row_weight in zip(rows, (above, below)):  # noqa: B905 - the compiler knows no `strict`
        for column, column_weight in zip(columns, (left, right)):  # noqa: B905
            weight = row_weight * column_weight
            at = row + column
            red += weight * to_linear[texels[at, 0]]
            green += weight * to_linear[texels[at, 1]]
            blue += weight * to_linear[texels[at, 2]]
    return red, green, blue
