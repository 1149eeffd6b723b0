"""From the buffer of `rasterize` to pictures: colour, mask and the maps of coordinates, depth and normals.

Light is computed per sample in linear colour: a point light with Lambert's law, a constant ambient term, and a
uniform background. A pixel's colour is the tent-filtered mean of the samples around its centre; everything else
comes from the sample in the centre alone, so that no value mixes object and background.

The work goes row by row, in loops that either are free of branches or follow the triangles along the row.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from gnomon.geometry.half import half_bits
from gnomon.geometry.rasterize import FACE_MASK
from gnomon.geometry.surface import texture_colour
from gnomon.geometry.tent import filter_columns, tent_weights, write_rgb


class Eye(NamedTuple):
    """Where samples are seen from and what lights them, in the object's unit, relative to its `origin`."""

    to_object: Float64[np.ndarray, "3 3"]
    """(x, y, 1) in lattice samples -> direction in the object's axes with depth 1."""
    centre: Float64[np.ndarray, " 3"]
    lamp: Float64[np.ndarray, " 3"]
    strength: float
    """Radiance of a white surface that faces the lamp at distance 1."""
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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def resolve(surface, planes, origin, eye, step, box, buffer, to_srgb, maps):
    """Fill `maps` where samples in `box` were touched, and leave the buffer empty again.

    Args:
        surface: colours of the triangles.
        planes, origin: of the drawable.
        eye: see `Eye`.
        step: lattice samples per pixel; pixel i has its centre at sample i * step + step - 1.
        box, buffer: as left by `draw`.
        to_srgb: table of `linear_to_srgb`.
        maps: must hold the background where nothing is drawn.
    """
    height, width = maps.mask.shape
    taps = 2 * step - 1
    px0 = max((box[0] - taps + step) // step, 0)
    px1 = min(box[2] // step, width - 1)
    py0 = max((box[1] - taps + step) // step, 0)
    py1 = min(box[3] // step, height - 1)
    if px1 < px0 or py1 < py0:
        return
    weights = tent_weights(step)
    n_samples = (px1 - px0) * step + taps
    channels = maps.rgb.shape[2]
    line = np.empty((channels, n_samples), np.float32)
    ring = np.zeros((taps, channels, px1 - px0 + 1), np.float32)
    faces = np.empty(n_samples, np.int32)
    depth = np.empty(n_samples, np.float32)
    point = np.empty((3, n_samples), np.float32)
    fall = np.empty(n_samples, np.float32)
    for row in range((py1 - py0) * step + taps):
        y = py0 * step + row
        _unpack(buffer[y, px0 * step : px0 * step + n_samples], faces, depth)
        _locate(y, px0 * step, eye, depth, point, fall)
        _colour(surface, planes, eye, faces, point, fall, line)
        filter_columns(line, weights, step, ring[row % taps])
        py = py0 + (row - step + 1) // step
        if (row - step + 1) % step == 0 and py0 <= py <= py1:
            _write_maps(py, px0, px1, step, faces, depth, point, origin, maps)
            if maps.normal.size > 0:
                _write_normals(surface, planes, eye, step, faces, point, maps.normal[py, px0 : px1 + 1])
        if row >= taps - 1 and (row - taps + 1) % step == 0:
            write_rgb(ring, (row + 1) % taps, weights, to_srgb, maps.rgb[py0 + (row - taps + 1) // step], px0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _unpack(samples, faces, depth):
    """Triangle (-1: none) and depth of each sample; the samples are emptied."""
    for s in range(samples.shape[0]):
        value = samples[s]
        samples[s] = 0
        depth[s] = np.float32(1.0) / np.int32(value >> 32).view(np.float32)
        faces[s] = np.int32(FACE_MASK - (value & FACE_MASK)) if value > 0 else np.int32(-1)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _locate(y, x_first, eye, depth, point, fall):
    """Seen points, and the lamp's strength over the cube of their distance from it."""
    m = eye.to_object
    cx, cy, cz = eye.centre
    dx = m[0, 1] * y + m[0, 2] + m[0, 0] * x_first
    dy = m[1, 1] * y + m[1, 2] + m[1, 0] * x_first
    dz = m[2, 1] * y + m[2, 2] + m[2, 0] * x_first
    lx = np.float32(eye.lamp[0])
    ly = np.float32(eye.lamp[1])
    lz = np.float32(eye.lamp[2])
    strength = np.float32(eye.strength)
    for s in range(depth.shape[0]):
        z = np.float64(depth[s])
        px = np.float32(cx + z * (dx + m[0, 0] * s))
        py = np.float32(cy + z * (dy + m[1, 0] * s))
        pz = np.float32(cz + z * (dz + m[2, 0] * s))
        point[0, s] = px
        point[1, s] = py
        point[2, s] = pz
        px = lx - px
        py = ly - py
        pz = lz - pz
        square = px * px + py * py + pz * pz
        fall[s] = strength / (square * np.sqrt(square))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _colour(surface, planes, eye, faces, point, fall, line):
    """Linear colour of each sample; with a fourth channel premultiplied by the coverage there."""
    channels = line.shape[0]
    smooth = surface.vertex_normals.shape[0] > 0
    textured = surface.face_texture.shape[0] > 0
    painted = surface.vertex_linear.shape[0] > 0
    one_colour = surface.face_linear.shape[0] == 1
    base = np.float32(0.0) if channels == 4 else np.float32(eye.background)
    ambient = np.float32(eye.ambient)
    cx = np.float32(eye.centre[0])
    cy = np.float32(eye.centre[1])
    cz = np.float32(eye.centre[2])
    lx = np.float32(eye.lamp[0])
    ly = np.float32(eye.lamp[1])
    lz = np.float32(eye.lamp[2])
    zero = np.float32(0.0)
    last = np.int32(-1)
    towards_lamp = side = red = green = blue = zero
    texture = np.int32(-1)
    for s in range(faces.shape[0]):
        face = faces[s]
        if face < 0:
            for ch in range(channels):
                line[ch, s] = base
            continue
        if face != last:
            last = face
            # Height of lamp and camera over the triangle: all a flat triangle needs for Lambert's law.
            height = planes[face, 0] * cx + planes[face, 1] * cy + planes[face, 2] * cz + planes[face, 3]
            side = np.float32(1.0) if height >= zero else np.float32(-1.0)
            height = planes[face, 0] * lx + planes[face, 1] * ly + planes[face, 2] * lz + planes[face, 3]
            towards_lamp = side * height
            if textured:
                texture = surface.face_texture[face]
            if not painted:
                row = 0 if one_colour else face
                red = surface.face_linear[row, 0]
                green = surface.face_linear[row, 1]
                blue = surface.face_linear[row, 2]
        x = point[0, s]
        y = point[1, s]
        z = point[2, s]
        if painted or textured or smooth:
            wb, wc = _weights(planes, face, x, y, z)
            wa = np.float32(1.0) - wb - wc
            a = surface.faces[face, 0]
            b = surface.faces[face, 1]
            c = surface.faces[face, 2]
            if texture >= 0:
                u = wa * surface.uv[a, 0] + wb * surface.uv[b, 0] + wc * surface.uv[c, 0]
                v = wa * surface.uv[a, 1] + wb * surface.uv[b, 1] + wc * surface.uv[c, 1]
                red, green, blue = texture_colour(surface, texture, u, v)
            elif painted:
                rgb = surface.vertex_linear
                red = wa * rgb[a, 0] + wb * rgb[b, 0] + wc * rgb[c, 0]
                green = wa * rgb[a, 1] + wb * rgb[b, 1] + wc * rgb[c, 1]
                blue = wa * rgb[a, 2] + wb * rgb[b, 2] + wc * rgb[c, 2]
            elif textured:
                row = 0 if one_colour else face
                red = surface.face_linear[row, 0]
                green = surface.face_linear[row, 1]
                blue = surface.face_linear[row, 2]
            if smooth:
                nx, ny, nz = _smooth_normal(surface, planes, face, a, b, c, wa, wb, wc)
                towards_lamp = side * (nx * (lx - x) + ny * (ly - y) + nz * (lz - z))
        light = ambient + max(towards_lamp, zero) * fall[s]
        line[0, s] = light * red
        line[1, s] = light * green
        line[2, s] = light * blue
        if channels == 4:
            line[3, s] = np.float32(1.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _weights(planes, face, x, y, z):
    """Barycentric weights of corners 1 and 2; rounding may have put the point a hair outside."""
    wb = planes[face, 4] * x + planes[face, 5] * y + planes[face, 6] * z + planes[face, 7]
    wc = planes[face, 8] * x + planes[face, 9] * y + planes[face, 10] * z + planes[face, 11]
    wb = min(max(wb, np.float32(0.0)), np.float32(1.0))
    wc = min(max(wc, np.float32(0.0)), np.float32(1.0) - wb)
    return wb, wc


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _smooth_normal(surface, planes, face, a, b, c, wa, wb, wc):
    """Interpolated unit normal, on the outer side as the file has it."""
    n = surface.vertex_normals
    nx = wa * n[a, 0] + wb * n[b, 0] + wc * n[c, 0]
    ny = wa * n[a, 1] + wb * n[b, 1] + wc * n[c, 1]
    nz = wa * n[a, 2] + wb * n[b, 2] + wc * n[c, 2]
    length = np.sqrt(nx * nx + ny * ny + nz * nz)
    if length < np.float32(1e-12):
        return planes[face, 0], planes[face, 1], planes[face, 2]
    # The triangle's own winding decides which side is which: a file's normals may point either way.
    if nx * planes[face, 0] + ny * planes[face, 1] + nz * planes[face, 2] < np.float32(0.0):
        length = -length
    return nx / length, ny / length, nz / length


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _write_maps(py, px0, px1, step, faces, depth, point, origin, maps):
    ox, oy, oz = origin
    for i in range(px1 - px0 + 1):
        s = i * step + step - 1
        if faces[s] >= 0:
            maps.mask[py, px0 + i] = 255
            maps.xyz[py, px0 + i, 0] = half_bits(np.float32(ox + point[0, s]))
            maps.xyz[py, px0 + i, 1] = half_bits(np.float32(oy + point[1, s]))
            maps.xyz[py, px0 + i, 2] = half_bits(np.float32(oz + point[2, s]))
            if maps.depth.size > 0:
                maps.depth[py, px0 + i] = depth[s]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _write_normals(surface, planes, eye, step, faces, point, out):
    cx, cy, cz = eye.centre
    for i in range(out.shape[0]):
        s = i * step + step - 1
        if faces[s] < 0:
            continue
        face = faces[s]
        nx = planes[face, 0]
        ny = planes[face, 1]
        nz = planes[face, 2]
        side = nx * cx + ny * cy + nz * cz + planes[face, 3]
        if surface.vertex_normals.shape[0] > 0:
            wb, wc = _weights(planes, face, point[0, s], point[1, s], point[2, s])
            wa = np.float32(1.0) - wb - wc
            a = surface.faces[face, 0]
            b = surface.faces[face, 1]
            c = surface.faces[face, 2]
            nx, ny, nz = _smooth_normal(surface, planes, face, a, b, c, wa, wb, wc)
        if side < 0.0:
            nx, ny, nz = -nx, -ny, -nz
        out[i, 0] = half_bits(nx)
        out[i, 1] = half_bits(ny)
        out[i, 2] = half_bits(nz)
