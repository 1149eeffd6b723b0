"""A z-buffer for one small picture of a light mesh, as fast as a single core can fill it.

Unlike `gnomon.geometry.rasterize` it needs no watertight rule and no clipping: the object lies whole in front of
the camera, and single stray samples do not matter. float32, incremental edge functions.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def draw(vertices, faces, R, t, fx, fy, cx, cy, projected, nearness, face):
    """Fill `nearness` (1 / depth, 0 = nothing) and `face` (-1 = nothing) of one picture.

    `projected` is (V, 3) float32 scratch and holds u, v, 1 / z of every vertex afterwards. Returns the box of
    touched pixels (x0, y0, x1, y1), inclusive; x1 < x0 when nothing is seen. Both maps must be empty before.
    """
    height, width = nearness.shape
    f32 = np.float32
    r00, r01, r02 = f32(R[0, 0]), f32(R[0, 1]), f32(R[0, 2])
    r10, r11, r12 = f32(R[1, 0]), f32(R[1, 1]), f32(R[1, 2])
    r20, r21, r22 = f32(R[2, 0]), f32(R[2, 1]), f32(R[2, 2])
    t0, t1, t2 = f32(t[0]), f32(t[1]), f32(t[2])
    kx, ky, ox, oy = f32(fx), f32(fy), f32(cx), f32(cy)
    for i in range(vertices.shape[0]):
        x = vertices[i, 0]
        y = vertices[i, 1]
        z = vertices[i, 2]
        w = f32(1.0) / max(r20 * x + r21 * y + r22 * z + t2, f32(1e-3))
        projected[i, 0] = kx * (r00 * x + r01 * y + r02 * z + t0) * w + ox
        projected[i, 1] = ky * (r10 * x + r11 * y + r12 * z + t1) * w + oy
        projected[i, 2] = w
    bx0, by0, bx1, by1 = width, height, -1, -1
    right, bottom = f32(width - 1), f32(height - 1)
    zero, one = f32(0.0), f32(1.0)
    for k in range(faces.shape[0]):
        a = faces[k, 0]
        b = faces[k, 1]
        c = faces[k, 2]
        ax = projected[a, 0]
        ay = projected[a, 1]
        bx = projected[b, 0]
        by = projected[b, 1]
        gx = projected[c, 0]
        gy = projected[c, 1]
        x0 = int(np.ceil(max(min(ax, min(bx, gx)), zero)))
        x1 = int(np.floor(min(max(ax, max(bx, gx)), right)))
        if x0 > x1:
            continue
        y0 = int(np.ceil(max(min(ay, min(by, gy)), zero)))
        y1 = int(np.floor(min(max(ay, max(by, gy)), bottom)))
        if y0 > y1:
            continue
        e1x = bx - ax
        e1y = by - ay
        e2x = gx - ax
        e2y = gy - ay
        area = e1x * e2y - e1y * e2x
        if area == zero:
            continue
        inv = one / area
        wa = projected[a, 2]
        bdx = e2y * inv
        bdy = -e2x * inv
        cdx = -e1y * inv
        cdy = e1x * inv
        db = projected[b, 2] - wa
        dc = projected[c, 2] - wa
        wx = bdx * db + cdx * dc
        px = f32(x0) - ax
        for y in range(y0, y1 + 1):
            py = f32(y) - ay
            beta = bdx * px + bdy * py
            gamma = cdx * px + cdy * py
            w = wa + beta * db + gamma * dc
            for x in range(x0, x1 + 1):
                if beta >= zero and gamma >= zero and beta + gamma <= one and w > nearness[y, x]:
                    nearness[y, x] = w
                    face[y, x] = k
                beta += bdx
                gamma += cdx
                w += wx
        bx0 = min(bx0, x0)
        by0 = min(by0, y0)
        bx1 = max(bx1, x1)
        by1 = max(by1, y1)
    return bx0, by0, bx1, by1


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def clear(box, nearness, face):
    """Empty the part of the maps that `draw` touched."""
    x0, y0, x1, y1 = box
    for y in range(y0, y1 + 1):
        for x in range(x0, x1 + 1):
            nearness[y, x] = np.float32(0.0)
            face[y, x] = -1
