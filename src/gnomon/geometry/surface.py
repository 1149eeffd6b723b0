"""Colours of a drawable's triangles, in linear light, and the tables between sRGB and linear light."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8

from gnomon.geometry.drawable import Drawable
from gnomon.geometry.mesh import Mesh

SRGB_STEPS = 16384
"""Steps of the table linear -> sRGB. Near black 8-bit sRGB needs steps under 1/3295."""

FLAT_GREY_LINEAR = 0.8
"""Colour of a mesh that has none."""


class Surface(NamedTuple):
    """What colours and bends the triangles of a drawable; arrays that do not apply have no rows."""

    faces: Int32[np.ndarray, "F 3"]
    face_linear: Float32[np.ndarray, "F 3"]
    """Used where a triangle has neither texture nor vertex colours; one row = the same for all."""
    vertex_linear: Float32[np.ndarray, "V 3"]
    vertex_normals: Float32[np.ndarray, "V 3"]
    uv: Float32[np.ndarray, "V 2"]
    face_texture: Int32[np.ndarray, " F"]
    texels: UInt8[np.ndarray, "T 3"]
    """The pixels of all textures one after the other."""
    texture_shape: Int64[np.ndarray, "N 3"]
    """Per texture: first texel, height, width."""
    to_linear: Float32[np.ndarray, " 256"]


def make_surface(mesh: Mesh, drawable: Drawable, grey_linear: float | None = None) -> Surface:
    """Colours of `mesh` in the drawable's order; `grey_linear` paints everything in that grey instead."""
    to_linear = srgb_to_linear()
    grey = FLAT_GREY_LINEAR if grey_linear is None else grey_linear
    plain = Surface(
        faces=drawable.faces,
        face_linear=np.full((1, 3), grey, np.float32),
        vertex_linear=np.zeros((0, 3), np.float32),
        vertex_normals=np.zeros((0, 3), np.float32),
        uv=np.zeros((0, 2), np.float32),
        face_texture=np.zeros(0, np.int32),
        texels=np.zeros((0, 3), np.uint8),
        texture_shape=np.zeros((0, 3), np.int64),
        to_linear=to_linear,
    )
    if mesh.vertex_normals is not None:
        plain = plain._replace(vertex_normals=np.ascontiguousarray(mesh.vertex_normals, dtype=np.float32))
    if grey_linear is not None:
        return plain
    if mesh.face_rgb is not None:
        plain = plain._replace(face_linear=to_linear[mesh.face_rgb[drawable.face_order]])
    if mesh.vertex_rgb is not None:
        plain = plain._replace(vertex_linear=to_linear[mesh.vertex_rgb])
    return _with_textures(plain, mesh, drawable)


def _with_textures(surface: Surface, mesh: Mesh, drawable: Drawable) -> Surface:
    if not mesh.textures or mesh.uv is None or mesh.face_texture is None:
        return surface
    shapes = [texture.shape[:2] for texture in mesh.textures]
    first = np.cumsum([0, *(height * width for height, width in shapes)])[:-1]
    return surface._replace(
        uv=np.ascontiguousarray(mesh.uv, dtype=np.float32),
        face_texture=np.ascontiguousarray(mesh.face_texture[drawable.face_order], dtype=np.int32),
        texels=np.concatenate([texture.reshape(-1, 3) for texture in mesh.textures]),
        texture_shape=np.column_stack((first, shapes)).astype(np.int64),
    )


def srgb_to_linear() -> Float32[np.ndarray, " 256"]:
    """Linear light for each 8-bit sRGB value."""
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb() -> UInt8[np.ndarray, " n"]:
    """8-bit sRGB for linear light 0..1 in SRGB_STEPS steps."""
    value = np.arange(SRGB_STEPS + 1) / SRGB_STEPS
    srgb = np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.round(srgb * 255).astype(np.uint8)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def texture_colour(surface, texture, u, v):
    """Linear colour of a texture at (u, v): bilinear, repeating in both directions, v up."""
    first = surface.texture_shape[texture, 0]
    height = surface.texture_shape[texture, 1]
    width = surface.texture_shape[texture, 2]
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
            red += weight * surface.to_linear[surface.texels[at, 0]]
            green += weight * surface.to_linear[surface.texels[at, 1]]
            blue += weight * surface.to_linear[surface.texels[at, 2]]
    return red, green, blue
