"""From the buffer of `rasterize` to pictures: colour, mask and the maps of coordinates, depth and normals.

Light is computed per sample in linear colour: a point light on a surface that is matt with a dull highlight, a
constant ambient term, and a uniform background. The highlight is that of Blender's standard material: microfacets
with the GGX distribution (Walter et al., "Microfacet models for refraction through rough surfaces", 2007). A pixel's
colour is the tent-filtered mean of the samples around its centre; everything else comes from the sample in the
centre alone, so that no value mixes object and background.

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

REFLECTANCE = 0.04
"""Share of the light that the surface mirrors when looked at straight on; the rest enters it and comes back matt."""
ROUGHNESS_2 = 0.0625
"""Square of the GGX width 0.25, which Blender's roughness 0.5 stands for."""


class Eye(NamedTuple):
    """Where samples are seen from and what lights them, in the object's unit, relative to its `origin`."""

    to_object: Float64[np.ndarray, "3 3"]
    """(x, y, 1) in lattice samples -> direction in the object's axes with depth 1."""
    centre: Float32[np.ndarray, " 3"]
    lamp: Float32[np.ndarray, " 3"]
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
def resolve(surface, origin, eye, step, box, buffer, to_srgb, maps):
    """Fill `maps` where samples in `box` were touched, and leave the buffer empty again.

    Args:
        surface: colours of the triangles.
        origin: of the drawable.
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
    light = np.empty((4, n_samples), np.float32)
    for row in range((py1 - py0) * step + taps):
        y = py0 * step + row
        _unpack(buffer[y, px0 * step : px0 * step + n_samples], faces, depth)
        _locate(y, px0 * step, eye, depth, point, light)
        _colour(surface, eye, faces, point, light, line)
        filter_columns(line, step, weights, ring[row % taps])
        py = py0 + (row - step + 1) // step
        if (row - step + 1) % step == 0 and py0 <= py <= py1:
            _write_maps(py, px0, px1, step, faces, depth, point, origin, maps)
            if maps.normal.size > 0:
                _write_normals(surface, eye, step, faces, point, maps.normal[py, px0 : px1 + 1])
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
def _locate(y, x_first, eye, depth, point, light):
    """Seen points, and what the light there needs whatever the surface.

    light: the lamp's strength over the cube of its distance; 1 over its distance; 1 over the camera's distance; 1
    over the squared length of the sum of the directions to both.
    """
    m = eye.to_object
    cx, cy, cz = eye.centre[0], eye.centre[1], eye.centre[2]
    dx = np.float32(m[0, 1] * y + m[0, 2] + m[0, 0] * x_first)
    dy = np.float32(m[1, 1] * y + m[1, 2] + m[1, 0] * x_first)
    dz = np.float32(m[2, 1] * y + m[2, 2] + m[2, 0] * x_first)
    mx = np.float32(m[0, 0])
    my = np.float32(m[1, 0])
    mz = np.float32(m[2, 0])
    lx, ly, lz = eye.lamp[0], eye.lamp[1], eye.lamp[2]
    strength = np.float32(eye.strength)
    one = np.float32(1.0)
    two = np.float32(2.0)
    for s in range(depth.shape[0]):
        z = depth[s]
        column = np.float32(s)
        px = cx + z * (dx + mx * column)
        py = cy + z * (dy + my * column)
        pz = cz + z * (dz + mz * column)
        point[0, s] = px
        point[1, s] = py
        point[2, s] = pz
        vx = cx - px
        vy = cy - py
        vz = cz - pz
        px = lx - px
        py = ly - py
        pz = lz - pz
        per_lamp = one / np.sqrt(px * px + py * py + pz * pz)
        per_camera = one / np.sqrt(vx * vx + vy * vy + vz * vz)
        light[0, s] = strength * per_lamp * per_lamp * per_lamp
        light[1, s] = per_lamp
        light[2, s] = per_camera
        light[3, s] = one / (two + two * (px * vx + py * vy + pz * vz) * per_lamp * per_camera)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _colour(surface, eye, faces, point, light, line):
    """Linear colour of each sample; a fourth channel is the coverage, and the colour is 0 where there is none."""
    has_alpha = line.shape[0] == 4
    line[:3] = np.float32(0.0) if has_alpha else np.float32(eye.background)
    if has_alpha:
        for s in range(faces.shape[0]):
            line[3, s] = np.float32(1.0) if faces[s] >= 0 else np.float32(0.0)
    f = surface.functions
    ambient = np.float32(eye.ambient)
    # A loop for each kind of surface: what does not apply costs nothing per sample.
    if surface.uv_column > 0:
        _textured_samples(surface, eye, faces, point, light, line)
    elif surface.normal_column > 0:
        painted = surface.rgb_column > 0
        _smooth_samples(f, painted, surface.face_linear, eye.centre, eye.lamp, ambient, faces, point, light, line)
    elif surface.rgb_column > 0:
        _painted_samples(f, eye.centre, eye.lamp, ambient, faces, point, light, line)
    else:
        _plain_samples(f, surface.face_linear, eye.centre, eye.lamp, ambient, faces, light, line)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _plain_samples(f, face_linear, centre, lamp, ambient, faces, light, line):
    """Flat triangles, each of one colour."""
    last_row = np.uint32(face_linear.shape[0] - 1)
    for s in range(faces.shape[0]):
        if faces[s] >= 0:
            t = np.uint32(faces[s])
            row = min(t, last_row)
            matt, shine = _lit(_heights(f, t, centre, lamp), light, s, ambient)
            line[0, s] = matt * face_linear[row, 0] + shine
            line[1, s] = matt * face_linear[row, 1] + shine
            line[2, s] = matt * face_linear[row, 2] + shine


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _painted_samples(f, centre, lamp, ambient, faces, point, light, line):
    """Flat triangles with colours at their corners."""
    zero = np.float32(0.0)
    one = np.float32(1.0)
    for s in range(faces.shape[0]):
        if faces[s] >= 0:
            t = np.uint32(faces[s])
            x = point[0, s]
            y = point[1, s]
            z = point[2, s]
            matt, shine = _lit(_heights(f, t, centre, lamp), light, s, ambient)
            # On slivers rounding may carry the functions beyond the colours at the corners.
            line[0, s] = matt * min(max(f[t, 4] * x + f[t, 5] * y + f[t, 6] * z + f[t, 7], zero), one) + shine
            line[1, s] = matt * min(max(f[t, 8] * x + f[t, 9] * y + f[t, 10] * z + f[t, 11], zero), one) + shine
            line[2, s] = matt * min(max(f[t, 12] * x + f[t, 13] * y + f[t, 14] * z + f[t, 15], zero), one) + shine


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _lit(heights, light, s, ambient):
    """What the surface's colour is multiplied with, and what is added to it whatever its colour.

    The lamp stands behind the camera, so that its direction and the camera's are alike; their mean cosine is taken
    for both in the masking of microfacets (Smith's, of equal angles).
    """
    lamp = max(heights[0], np.float32(0.0))
    received = lamp * light[0, s]
    both = lamp * light[1, s] + heights[1] * light[2, s]
    bend = np.float32(1.0 - ROUGHNESS_2)
    rough = np.float32(ROUGHNESS_2)
    cosine = max(np.float32(0.5) * both, np.float32(1e-3))
    width = np.float32(1.0) - bend * min(both * both * light[3, s], np.float32(1.0))
    masking = np.float32(4.0) * cosine * np.sqrt(bend * cosine * cosine + rough)
    mirrored = received * rough / (width * width * masking) + ambient
    return np.float32(1.0 - REFLECTANCE) * (ambient + received), np.float32(REFLECTANCE) * mirrored


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _heights(f, t, centre, lamp):
    """Heights of the lamp and of the camera over a triangle, from the side of the camera.

    An unsigned `t` spares the compiler the test for an index counted from the end.
    """
    camera = f[t, 0] * centre[0] + f[t, 1] * centre[1] + f[t, 2] * centre[2] + f[t, 3]
    height = f[t, 0] * lamp[0] + f[t, 1] * lamp[1] + f[t, 2] * lamp[2] + f[t, 3]
    return (height, camera) if camera >= np.float32(0.0) else (-height, -camera)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _smooth_samples(f, painted, face_linear, centre, lamp, ambient, faces, point, light, line):
    """Triangles with normals at their corners, and with colours there or each of one colour."""
    zero = np.float32(0.0)
    one = np.float32(1.0)
    last_row = np.uint32(face_linear.shape[0] - 1)
    for s in range(faces.shape[0]):
        if faces[s] >= 0:
            t = np.uint32(faces[s])
            x = point[0, s]
            y = point[1, s]
            z = point[2, s]
            matt, shine = _lit(_smooth_heights(f, t, x, y, z, centre, lamp), light, s, ambient)
            if painted:
                red = min(max(f[t, 16] * x + f[t, 17] * y + f[t, 18] * z + f[t, 19], zero), one)
                green = min(max(f[t, 20] * x + f[t, 21] * y + f[t, 22] * z + f[t, 23], zero), one)
                blue = min(max(f[t, 24] * x + f[t, 25] * y + f[t, 26] * z + f[t, 27], zero), one)
            else:
                row = min(t, last_row)
                red = face_linear[row, 0]
                green = face_linear[row, 1]
                blue = face_linear[row, 2]
            line[0, s] = matt * red + shine
            line[1, s] = matt * green + shine
            line[2, s] = matt * blue + shine


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _smooth_heights(f, t, x, y, z, centre, lamp):
    """Heights of the lamp and of the camera over the plane at right angles to the interpolated normal."""
    nx = f[t, 4] * x + f[t, 5] * y + f[t, 6] * z + f[t, 7]
    ny = f[t, 8] * x + f[t, 9] * y + f[t, 10] * z + f[t, 11]
    nz = f[t, 12] * x + f[t, 13] * y + f[t, 14] * z + f[t, 15]
    square = nx * nx + ny * ny + nz * nz
    camera = f[t, 0] * centre[0] + f[t, 1] * centre[1] + f[t, 2] * centre[2] + f[t, 3]
    height = nx * (lamp[0] - x) + ny * (lamp[1] - y) + nz * (lamp[2] - z)
    seen = nx * (centre[0] - x) + ny * (centre[1] - y) + nz * (centre[2] - z)
    # Normals that cancel out are no use; the triangle's own is.
    if square < np.float32(1e-12):
        return _heights(f, t, centre, lamp)
    scale = np.float32(1.0) / np.sqrt(square)
    if camera < np.float32(0.0):
        scale = -scale
    # Towards the rim an interpolated normal may turn away from the camera although the triangle does not.
    return height * scale, max(seen * scale, np.float32(0.0))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _textured_samples(surface, eye, faces, point, light, line):
    """Triangles of a mesh with textures, some perhaps without, with or without normals of its own."""
    f = surface.functions
    face_linear = surface.face_linear
    face_texture = surface.face_texture
    at_rgb = surface.rgb_column
    at_uv = surface.uv_column
    smooth = surface.normal_column > 0
    last_row = np.uint32(face_linear.shape[0] - 1)
    zero = np.float32(0.0)
    one = np.float32(1.0)
    for s in range(faces.shape[0]):
        if faces[s] < 0:
            continue
        t = np.uint32(faces[s])
        x = point[0, s]
        y = point[1, s]
        z = point[2, s]
        row = min(t, last_row)
        red = face_linear[row, 0]
        green = face_linear[row, 1]
        blue = face_linear[row, 2]
        if face_texture[t] >= 0:
            u = _value(f, t, at_uv, x, y, z)
            v = _value(f, t, at_uv + 4, x, y, z)
            red, green, blue = texture_colour(
                surface.texels, surface.texture_shape, surface.to_linear, face_texture[t], u, v
            )
        elif at_rgb > 0:
            red = min(max(_value(f, t, at_rgb, x, y, z), zero), one)
            green = min(max(_value(f, t, at_rgb + 4, x, y, z), zero), one)
            blue = min(max(_value(f, t, at_rgb + 8, x, y, z), zero), one)
        heights = _heights(f, t, eye.centre, eye.lamp)
        if smooth:
            heights = _smooth_heights(f, t, x, y, z, eye.centre, eye.lamp)
        matt, shine = _lit(heights, light, s, np.float32(eye.ambient))
        line[0, s] = matt * red + shine
        line[1, s] = matt * green + shine
        line[2, s] = matt * blue + shine


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _value(functions, face, at, x, y, z):
    return functions[face, at] * x + functions[face, at + 1] * y + functions[face, at + 2] * z + functions[face, at + 3]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _write_maps(py, px0, px1, step, faces, depth, point, origin, maps):
    ox, oy, oz = origin[0], origin[1], origin[2]
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
def _write_normals(surface, eye, step, faces, point, out):
    f = surface.functions
    for i in range(out.shape[0]):
        s = i * step + step - 1
        if faces[s] < 0:
            continue
        t = np.uint32(faces[s])
        nx, ny, nz = f[t, 0], f[t, 1], f[t, 2]
        camera = nx * eye.centre[0] + ny * eye.centre[1] + nz * eye.centre[2] + f[t, 3]
        if surface.normal_column > 0:
            sx = _value(f, t, 4, point[0, s], point[1, s], point[2, s])
            sy = _value(f, t, 8, point[0, s], point[1, s], point[2, s])
            sz = _value(f, t, 12, point[0, s], point[1, s], point[2, s])
            length = np.sqrt(sx * sx + sy * sy + sz * sz)
            if length > np.float32(1e-6):
                nx, ny, nz = sx / length, sy / length, sz / length
        if camera < np.float32(0.0):
            nx, ny, nz = -nx, -ny, -nz
        out[i, 0] = half_bits(nx)
        out[i, 1] = half_bits(ny)
        out[i, 2] = half_bits(nz)
