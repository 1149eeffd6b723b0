"""A z-buffer for one small picture of a light mesh, as fast as a single core can fill it.

Unlike `gnomon.geometry.rasterize` it needs no watertight rule and no clipping: the object lies whole in front of
the camera, and single stray samples do not matter. float32, incremental edge functions.
"""

from __future__ import annotations

import numba
import numpy as np

WIDE = 5
"""Rows of triangles wider than this many pixels are cut to the inside first; narrower ones are just tried."""


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def project(vertices, R, t, pinhole, projected):
    """Rows of `projected` (3, V) float32: u, v and 1 / z of the (3, V) vertices."""
    f32 = np.float32
    r00, r01, r02 = f32(R[0, 0]), f32(R[0, 1]), f32(R[0, 2])
    r10, r11, r12 = f32(R[1, 0]), f32(R[1, 1]), f32(R[1, 2])
    r20, r21, r22 = f32(R[2, 0]), f32(R[2, 1]), f32(R[2, 2])
    t0, t1, t2 = f32(t[0]), f32(t[1]), f32(t[2])
    kx, ky, ox, oy = f32(pinhole[0]), f32(pinhole[1]), f32(pinhole[2]), f32(pinhole[3])
    xs = vertices[0]
    ys = vertices[1]
    zs = vertices[2]
    u = projected[0]
    v = projected[1]
    near = projected[2]
    for i in range(xs.shape[0]):
        x = xs[i]
        y = ys[i]
        z = zs[i]
        w = f32(1.0) / max(r20 * x + r21 * y + r22 * z + t2, f32(1e-3))
        u[i] = kx * (r00 * x + r01 * y + r02 * z + t0) * w + ox
        v[i] = ky * (r10 * x + r11 * y + r12 * z + t1) * w + oy
        near[i] = w


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _cut(start, step, low, high):
    """Narrow [low, high] to where start + step * x >= 0 (x counted from 0), give or take a pixel's rounding."""
    if step > 0.0:
        low = max(low, -start / step)
    elif step < 0.0:
        high = min(high, -start / step)
    elif start < 0.0:
        high = low - np.float32(1.0)
    return low, high


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _span(beta, gamma, beta_step, gamma_step, x0, x1):
    """The part of [x0, x1] that may lie inside; empty if first > last. beta and gamma are those at x0."""
    low = np.float32(0.0)
    high = np.float32(x1 - x0)
    low, high = _cut(beta, beta_step, low, high)
    low, high = _cut(gamma, gamma_step, low, high)
    low, high = _cut(np.float32(1.0) - beta - gamma, -beta_step - gamma_step, low, high)
    if low > high + np.float32(1.0):
        return x0, np.int32(x0 - 1)
    skip = np.int32(max(low, np.float32(0.0)))
    return np.int32(x0 + skip), np.int32(min(x0 + np.int32(max(high, np.float32(0.0))) + np.int32(1), x1))


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _draw_row(nearness, face, first, last, beta, gamma, beta_step, gamma_step, w, w_step, k):
    zero, one = np.float32(0.0), np.float32(1.0)
    for x in range(first, last + 1):
        if beta >= zero and gamma >= zero and beta + gamma <= one and w > nearness[x]:
            nearness[x] = w
            face[x] = k
        beta += beta_step
        gamma += gamma_step
        w += w_step


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def draw(shape, R, t, pinhole, projected, nearness, face):
    """Fill `nearness` (1 / depth, 0 = nothing) and `face` (-1 = nothing) of one picture.

    `pinhole` is (fx, fy, cx, cy). Both maps must be empty before. Returns the box of touched pixels
    (x0, y0, x1, y1), inclusive; x1 < x0 when nothing is seen.
    """
    project(shape.vertices, R, t, pinhole, projected)
    height, width = nearness.shape
    f32 = np.float32
    us = projected[0]
    vs = projected[1]
    ws = projected[2]
    faces = shape.faces
    cull = shape.closed
    bx0, by0, bx1, by1 = width, height, -1, -1
    right, bottom = f32(width - 1), f32(height - 1)
    zero, one = f32(0.0), f32(1.0)
    for k in range(faces.shape[0]):
        a = faces[k, 0]
        b = faces[k, 1]
        c = faces[k, 2]
        ax = us[a]
        ay = vs[a]
        bx = us[b]
        by = vs[b]
        gx = us[c]
        gy = vs[c]
        e1x = bx - ax
        e1y = by - ay
        e2x = gx - ax
        e2y = gy - ay
        area = e1x * e2y - e1y * e2x
        # Seen from outside, a triangle of a closed surface turns against the clock, with y down.
        if area == zero or (cull and area > zero):
            continue
        x0 = np.int32(np.ceil(max(min(ax, min(bx, gx)), zero)))
        x1 = np.int32(np.floor(min(max(ax, max(bx, gx)), right)))
        y0 = np.int32(np.ceil(max(min(ay, min(by, gy)), zero)))
        y1 = np.int32(np.floor(min(max(ay, max(by, gy)), bottom)))
        if x0 > x1 or y0 > y1:
            continue
        inv = one / area
        wa = ws[a]
        bdx = e2y * inv
        bdy = -e2x * inv
        cdx = -e1y * inv
        cdy = e1x * inv
        db = ws[b] - wa
        dc = ws[c] - wa
        wdx = bdx * db + cdx * dc
        px = f32(x0) - ax
        wide = x1 - x0 >= WIDE
        for y in range(y0, y1 + 1):
            py = f32(y) - ay
            beta = bdx * px + bdy * py
            gamma = cdx * px + cdy * py
            first, last = x0, x1
            if wide:
                first, last = _span(beta, gamma, bdx, cdx, x0, x1)
                beta += bdx * f32(first - x0)
                gamma += cdx * f32(first - x0)
            _draw_row(nearness[y], face[y], first, last, beta, gamma, bdx, cdx, wa + beta * db + gamma * dc, wdx, k)
        bx0 = min(bx0, x0)
        by0 = min(by0, y0)
        bx1 = max(bx1, x1)
        by1 = max(by1, y1)
    return bx0, by0, bx1, by1


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def clear(box, nearness, face):
    """Empty the part of the maps that `draw` touched."""
    x0, y0, x1, y1 = box
    if x1 >= x0:
        nearness[y0 : y1 + 1, x0 : x1 + 1] = np.float32(0.0)
        face[y0 : y1 + 1, x0 : x1 + 1] = -1
