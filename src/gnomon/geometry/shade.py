"""From the buffers of `rasterize` to pictures: colour, mask and the maps of coordinates, depth and normals.

Light is computed per sample in linear colour: a point light with Lambert's law, a constant ambient term, and a
uniform background. A pixel's colour is the tent-filtered mean of the samples around its centre; everything else
comes from the sample in the centre alone, so that no value mixes object and background.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, UInt8, UInt16

from gnomon.geometry.drawable import Drawable
from gnomon.geometry.mesh import Mesh

SRGB_STEPS = 16384
"""Steps of the table linear -> sRGB. Near black 8-bit sRGB needs steps under 1/3295."""

FLAT_GREY_LINEAR = 0.8
"""Colour of a mesh without any colour."""


def srgb_to_linear() -> Float32[np.ndarray, "256"]:
    """Linear light for each 8-bit sRGB value."""
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb() -> UInt8[np.ndarray, "n"]:
    """8-bit sRGB for linear light 0..1 in SRGB_STEPS steps."""
    value = np.arange(SRGB_STEPS + 1) / SRGB_STEPS
    srgb = np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.round(srgb * 255).astype(np.uint8)


class Surface(NamedTuple):
    """How the triangles of a drawable are coloured; arrays that do not apply have length 0 or 1."""

    vertex_linear: Float32[np.ndarray, "V 3"]
    face_linear: Float32[np.ndarray, "F 3"]
    """Used where a triangle has neither texture nor vertex colours; one row = the same for all."""
    vertex_normals: Float32[np.ndarray, "V 3"]
    uv: Float32[np.ndarray, "V 2"]
    face_texture: Int32[np.ndarray, "F"]
    texels: UInt8[np.ndarray, "T 3"]
    """The pixels of all textures one after the other."""
    texture_shape: Int64[np.ndarray, "N 3"]
    """Per texture: first texel, height, width."""
    to_linear: Float32[np.ndarray, "256"]


def make_surface(mesh: Mesh, drawable: Drawable, grey_linear: float | None = None) -> Surface:
    """Colours of `mesh` in the drawable's order; `grey_linear` paints everything in that grey instead."""
    to_linear = srgb_to_linear()
    none3 = np.zeros((0, 3), np.float32)
    face_linear = np.full((1, 3), FLAT_GREY_LINEAR if grey_linear is None else grey_linear, np.float32)
    vertex_linear, uv, face_texture, texels = none3, none3[:, :2], np.zeros(0, np.int32), np.zeros((0, 3), np.uint8)
    shape = np.zeros((0, 3), np.int64)
    if grey_linear is None:
        if mesh.face_rgb is not None:
            face_linear = to_linear[mesh.face_rgb[drawable.face_order]]
        if mesh.vertex_rgb is not None:
            vertex_linear = to_linear[mesh.vertex_rgb]
        if mesh.textures and mesh.uv is not None and mesh.face_texture is not None:
            uv = mesh.uv.astype(np.float32)
            face_texture = mesh.face_texture[drawable.face_order].astype(np.int32)
            texels = np.concatenate([texture.reshape(-1, 3) for texture in mesh.textures])
            first = np.cumsum([0, *(t.shape[0] * t.shape[1] for t in mesh.textures)])
            shape = np.array([(f, *t.shape[:2]) for f, t in zip(first, mesh.textures, strict=False)], np.int64)
    normals = none3 if mesh.vertex_normals is None else mesh.vertex_normals.astype(np.float32)
    return Surface(vertex_linear, face_linear, normals, uv, face_texture, texels, shape, to_linear)


class Lighting(NamedTuple):
    """Light in the object's unit and linear colour."""

    position: Float64[np.ndarray, "3"]
    """Point light, relative to the drawable's origin."""
    strength: float
    """Radiance of a white surface that faces the light at distance 1."""
    ambient: float
    background: float


class Maps(NamedTuple):
    """What `resolve` writes; a map of size 0 is left out. Sizes are those of the picture."""

    rgb: UInt8[np.ndarray, "H W C"]
    """C = 3, or 4 with the object's coverage as alpha and its own colour beneath."""
    mask: UInt8[np.ndarray, "H W"]
    xyz: UInt16[np.ndarray, "H W 3"]
    """Bits of float16: object coordinates."""
    depth: Float32[np.ndarray, "H W"]
    normal: UInt16[np.ndarray, "H W 3"]
    """Bits of float16: unit normal in the object's axes, towards the camera."""


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="never")
def half_bits(value):
    """Bits of float16, rounded to nearest even. |value| must be below 65504; no NaN."""
    bits = np.float32(value).view(np.uint32)
    sign = (bits >> np.uint32(16)) & np.uint32(0x8000)
    magnitude = bits & np.uint32(0x7FFFFFFF)
    if magnitude < np.uint32(0x38800000):
        # Below the smallest normal half: adding 0.5 lets the adder round to multiples of 2^-24.
        small = np.float32(abs(np.float32(value)) + np.float32(0.5)).view(np.uint32) - np.uint32(0x3F000000)
        return np.uint16(sign | small)
    odd = (magnitude >> np.uint32(13)) & np.uint32(1)
    rounded = (magnitude - np.uint32(0x38000000) + np.uint32(0xFFF) + odd) >> np.uint32(13)
    return np.uint16(sign | rounded)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def resolve(
    faces, vertices, normals, surface, to_object, camera, origin, lighting, step, box,
    inv_depth, triangle, to_srgb, maps,
):  # fmt: skip
    """Fill `maps` where samples in `box` were touched, and leave the buffers empty again.

    Args:
        faces, vertices, normals: of the drawable.
        surface, lighting: see `Surface`, `Lighting`.
        to_object: 3x3 float64, (x, y, 1) in lattice samples -> direction in the object's axes with depth 1.
        camera: the camera's centre relative to `origin`.
        origin: the drawable's origin.
        step: lattice samples per pixel; pixel i has its centre at sample i * step + step - 1.
        box, inv_depth, triangle: as left by `draw`.
        to_srgb: table of `linear_to_srgb`.
        maps: see `Maps`; must hold the background where nothing is drawn.
    """
    height, width = maps.mask.shape
    taps = 2 * step - 1
    px0 = max((box[0] - taps + step) // step, 0)
    px1 = min(box[2] // step, width - 1)
    py0 = max((box[1] - taps + step) // step, 0)
    py1 = min(box[3] // step, height - 1)
    if px1 < px0 or py1 < py0:
        return
    weights = np.empty(taps, np.float32)
    for k in range(taps):
        weights[k] = np.float32(step - abs(k - step + 1)) / np.float32(step * step)
    channels = maps.rgb.shape[2]
    line = np.empty((channels, (px1 - px0) * step + taps), np.float32)
    ring = np.zeros((taps, channels, px1 - px0 + 1), np.float32)
    for row in range((py1 - py0) * step + taps):
        y = py0 * step + row
        _shade_row(
            y, px0 * step, faces, vertices, normals, surface, to_object, camera, origin, lighting, step,
            inv_depth[y], triangle[y], line, maps,
        )  # fmt: skip
        _filter_columns(line, weights, step, ring[row % taps])
        if row >= taps - 1 and (row - taps + 1) % step == 0:
            py = py0 + (row - taps + 1) // step
            _write_rgb(ring, (row + 1) % taps, weights, to_srgb, maps.rgb[py], px0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _shade_row(
    y, x_first, faces, vertices, normals, surface, to_object, camera, origin, lighting, step,
    inv_depth, triangle, line, maps,
):  # fmt: skip
    """Linear colour of one row of samples into `line`; maps where a sample is the centre of a pixel."""
    channels, n_columns = line.shape
    margin = step - 1
    has_vertex_rgb = surface.vertex_linear.shape[0] > 0
    has_vertex_normals = surface.vertex_normals.shape[0] > 0
    has_texture = surface.face_texture.shape[0] > 0
    needs_weights = has_vertex_rgb or has_vertex_normals or has_texture
    one_colour = surface.face_linear.shape[0] == 1
    on_pixel_row = (y - margin) % step == 0
    py = (y - margin) // step
    if py >= maps.mask.shape[0] or py < 0:
        on_pixel_row = False
    base = np.float32(0.0) if channels == 4 else np.float32(lighting.background)
    last = -1
    texture = -1
    g = np.zeros((2, 3))
    fx = fy = fz = ax = ay = az = 0.0
    ia = ib = ic = 0
    # Direction of the ray at this row's sample x: row_dir + x * to_object[:, 0].
    rx = to_object[0, 1] * y + to_object[0, 2]
    ry = to_object[1, 1] * y + to_object[1, 2]
    rz = to_object[2, 1] * y + to_object[2, 2]
    red = green = blue = np.float32(0.0)
    for column in range(n_columns):
        x = x_first + column
        face = triangle[x]
        if face < 0:
            for ch in range(channels):
                line[ch, column] = base
            continue
        depth = 1.0 / np.float64(inv_depth[x])
        inv_depth[x] = np.float32(0.0)
        triangle[x] = -1
        dx = rx + to_object[0, 0] * x
        dy = ry + to_object[1, 0] * x
        dz = rz + to_object[2, 0] * x
        # The seen point, relative to the drawable's origin.
        qx = camera[0] + depth * dx
        qy = camera[1] + depth * dy
        qz = camera[2] + depth * dz
        if face != last:
            last = face
            fx = np.float64(normals[face, 0])
            fy = np.float64(normals[face, 1])
            fz = np.float64(normals[face, 2])
            if not has_vertex_rgb:
                row = 0 if one_colour else face
                red = surface.face_linear[row, 0]
                green = surface.face_linear[row, 1]
                blue = surface.face_linear[row, 2]
            if needs_weights:
                ia = faces[face, 0]
                ib = faces[face, 1]
                ic = faces[face, 2]
                ax = np.float64(vertices[ia, 0])
                ay = np.float64(vertices[ia, 1])
                az = np.float64(vertices[ia, 2])
                _weight_gradients(vertices, ia, ib, ic, g)
            if has_texture:
                texture = surface.face_texture[face]
        nx = fx
        ny = fy
        nz = fz
        if needs_weights:
            ux = qx - ax
            uy = qy - ay
            uz = qz - az
            # Rounding may put a point a hair outside its triangle.
            wb = np.float32(min(max(g[0, 0] * ux + g[0, 1] * uy + g[0, 2] * uz, 0.0), 1.0))
            wc = np.float32(min(max(g[1, 0] * ux + g[1, 1] * uy + g[1, 2] * uz, 0.0), 1.0 - wb))
            wa = np.float32(1.0) - wb - wc
            if texture >= 0:
                u = wa * surface.uv[ia, 0] + wb * surface.uv[ib, 0] + wc * surface.uv[ic, 0]
                v = wa * surface.uv[ia, 1] + wb * surface.uv[ib, 1] + wc * surface.uv[ic, 1]
                red, green, blue = _texel(surface, texture, u, v)
            elif has_vertex_rgb:
                colour = surface.vertex_linear
                red = wa * colour[ia, 0] + wb * colour[ib, 0] + wc * colour[ic, 0]
                green = wa * colour[ia, 1] + wb * colour[ib, 1] + wc * colour[ic, 1]
                blue = wa * colour[ia, 2] + wb * colour[ib, 2] + wc * colour[ic, 2]
            if has_vertex_normals:
                normal = surface.vertex_normals
                nx = np.float64(wa * normal[ia, 0] + wb * normal[ib, 0] + wc * normal[ic, 0])
                ny = np.float64(wa * normal[ia, 1] + wb * normal[ib, 1] + wc * normal[ic, 1])
                nz = np.float64(wa * normal[ia, 2] + wb * normal[ib, 2] + wc * normal[ic, 2])
                length = np.sqrt(nx * nx + ny * ny + nz * nz)
                if length > 1e-12:
                    nx /= length
                    ny /= length
                    nz /= length
        # Which side is seen is a property of the flat triangle; an interpolated normal may lean over the rim.
        if fx * dx + fy * dy + fz * dz > 0.0:
            nx = -nx
            ny = -ny
            nz = -nz
        lx = lighting.position[0] - qx
        ly = lighting.position[1] - qy
        lz = lighting.position[2] - qz
        square = lx * lx + ly * ly + lz * lz
        facing = max(nx * lx + ny * ly + nz * lz, 0.0)
        light = np.float32(lighting.ambient + lighting.strength * facing / (square * np.sqrt(square)))
        line[0, column] = light * red
        line[1, column] = light * green
        line[2, column] = light * blue
        if channels == 4:
            line[3, column] = np.float32(1.0)
        if on_pixel_row and x >= margin and (x - margin) % step == 0:
            px = (x - margin) // step
            if px < maps.mask.shape[1]:
                maps.mask[py, px] = 255
                maps.xyz[py, px, 0] = half_bits(origin[0] + qx)
                maps.xyz[py, px, 1] = half_bits(origin[1] + qy)
                maps.xyz[py, px, 2] = half_bits(origin[2] + qz)
                if maps.depth.size > 0:
                    maps.depth[py, px] = depth
                if maps.normal.size > 0:
                    maps.normal[py, px, 0] = half_bits(nx)
                    maps.normal[py, px, 1] = half_bits(ny)
                    maps.normal[py, px, 2] = half_bits(nz)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _weight_gradients(vertices, ia, ib, ic, g):
    """Rows of g: the gradients of the barycentric weights of corners b and c in the triangle's plane."""
    bx = np.float64(vertices[ib, 0]) - vertices[ia, 0]
    by = np.float64(vertices[ib, 1]) - vertices[ia, 1]
    bz = np.float64(vertices[ib, 2]) - vertices[ia, 2]
    cx = np.float64(vertices[ic, 0]) - vertices[ia, 0]
    cy = np.float64(vertices[ic, 1]) - vertices[ia, 1]
    cz = np.float64(vertices[ic, 2]) - vertices[ia, 2]
    bb = bx * bx + by * by + bz * bz
    bc = bx * cx + by * cy + bz * cz
    cc = cx * cx + cy * cy + cz * cz
    gram = bb * cc - bc * bc
    inv = 1.0 / gram if gram > 0.0 else 0.0
    g[0, 0] = (cc * bx - bc * cx) * inv
    g[0, 1] = (cc * by - bc * cy) * inv
    g[0, 2] = (cc * bz - bc * cz) * inv
    g[1, 0] = (bb * cx - bc * bx) * inv
    g[1, 1] = (bb * cy - bc * by) * inv
    g[1, 2] = (bb * cz - bc * bz) * inv


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _texel(surface, texture, u, v):
    """Linear colour of a texture at (u, v), bilinear, repeating in both directions."""
    first, height, width = surface.texture_shape[texture]
    x = (u - np.floor(u)) * width - 0.5
    y = (1.0 - (v - np.floor(v))) * height - 0.5
    x0 = int(np.floor(x))
    y0 = int(np.floor(y))
    sx = np.float32(x - x0)
    sy = np.float32(y - y0)
    left = x0 % width
    right = (x0 + 1) % width
    above = first + (y0 % height) * width
    below = first + ((y0 + 1) % height) * width
    one = np.float32(1.0)
    w00 = (one - sx) * (one - sy)
    w01 = sx * (one - sy)
    w10 = (one - sx) * sy
    w11 = sx * sy
    t = surface.texels
    linear = surface.to_linear
    red = w00 * linear[t[above + left, 0]] + w01 * linear[t[above + right, 0]]
    green = w00 * linear[t[above + left, 1]] + w01 * linear[t[above + right, 1]]
    blue = w00 * linear[t[above + left, 2]] + w01 * linear[t[above + right, 2]]
    red += w10 * linear[t[below + left, 0]] + w11 * linear[t[below + right, 0]]
    green += w10 * linear[t[below + left, 1]] + w11 * linear[t[below + right, 1]]
    blue += w10 * linear[t[below + left, 2]] + w11 * linear[t[below + right, 2]]
    return red, green, blue


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _filter_columns(line, weights, step, out):
    """out[c, i] = sum of weights[k] * line[c, i * step + k]."""
    for ch in range(line.shape[0]):
        for i in range(out.shape[1]):
            total = weights[0] * line[ch, i * step]
            for k in range(1, weights.shape[0]):
                total += weights[k] * line[ch, i * step + k]
            out[ch, i] = total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _write_rgb(ring, oldest, weights, to_srgb, out, px0):
    """Sum the filtered rows, oldest first, and write 8-bit sRGB (with alpha: colour divided by coverage)."""
    taps, channels, n = ring.shape
    top = np.float32(to_srgb.shape[0] - 1)
    half = np.float32(0.5)
    for i in range(n):
        coverage = np.float32(1.0)
        if channels == 4:
            coverage = np.float32(0.0)
            for k in range(taps):
                coverage += weights[k] * ring[(oldest + k) % taps, 3, i]
            out[px0 + i, 3] = np.uint8(coverage * np.float32(255.0) + half)
            if coverage <= np.float32(0.0):
                continue
        for ch in range(3):
            total = np.float32(0.0)
            for k in range(taps):
                total += weights[k] * ring[(oldest + k) % taps, ch, i]
            out[px0 + i, ch] = to_srgb[np.int64(min(total / coverage, np.float32(1.0)) * top + half)]
