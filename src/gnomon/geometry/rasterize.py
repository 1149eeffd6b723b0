"""Which triangle is seen at each sample of a picture: a z-buffer in homogeneous coordinates.

A vertex becomes p = (fx X + cx Z, fy Y + cy Z, Z) in float64, X Y Z in the camera frame. Over the picture the
edge function of two vertices is (p_j x p_k) . (x, y, 1); a sample (x, y) is covered where the three edge
functions of a triangle have the sign of its determinant, zero included (Olano and Greer, "Triangle scan
conversion using 2D homogeneous coordinates", 1997). Two things follow:

- No sample falls between two triangles with a common edge: in floating point too, p_j x p_k is exactly
  -(p_k x p_j). That holds only while no multiply-add is fused, so these kernels must not use `fastmath`.
- Triangles that cross the camera's plane need no clipping, only a test of depth at each sample.

The sum of the edge functions over the determinant is 1 / Z, linear over the picture, and is what the z-buffer
keeps. Results depend neither on the order of the triangles nor on the number of threads.
"""

from __future__ import annotations

import numba
import numpy as np

from gnomon.geometry.drawable import CLUSTER_SIZE

EMPTY = -1
"""Value in a triangle buffer where nothing is seen."""

LANES = 8
"""Samples tested together; rows of the buffers are a multiple of this long."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def draw(
    cluster_xyz,
    cluster_start,
    corners,
    bounds,
    to_lattice,
    camera,
    cull,
    near,
    far,
    width,
    height,
    inv_depth,
    triangle,
    box,
):
    """Draw all clusters into `inv_depth` and `triangle`, and widen `box` to the samples that were touched.

    Args:
        cluster_xyz, cluster_start, corners, bounds: of a `Drawable`.
        to_lattice: 3x4 float64, object point (relative to the drawable's origin) -> p in lattice samples.
        camera: the camera's centre, relative to the drawable's origin.
        cull: leave out triangles that face away.
        near, far: limits of depth, in the object's unit.
        width, height: samples of the lattice; the buffers may be wider.
        inv_depth: float32 [rows, columns], 0 where empty; 1 / depth of what is seen.
        triangle: int32 [rows, columns], EMPTY where empty; sorted triangle that is seen.
        box: int64 [x0, y0, x1, y1], x1 and y1 inclusive.
    """
    m = to_lattice
    px = np.empty(3 * CLUSTER_SIZE)
    py = np.empty(3 * CLUSTER_SIZE)
    pz = np.empty(3 * CLUSTER_SIZE)
    u = np.empty(3 * CLUSTER_SIZE, np.float32)
    v = np.empty(3 * CLUSTER_SIZE, np.float32)
    span = np.empty((4, CLUSTER_SIZE), np.int32)
    n_faces = corners.shape[1]
    # u and v are rounded once to float32: half a unit in the last place of the largest coordinate.
    slack = np.float32(max(width, height) * 2e-7 + 1e-4)
    inv_near = 1.0 / near
    inv_far = 1.0 / far

    for c in range(bounds.shape[0]):
        sx = bounds[c, 0] - camera[0]
        sy = bounds[c, 1] - camera[1]
        sz = bounds[c, 2] - camera[2]
        radius = bounds[c, 3]
        if cull:
            along = sx * bounds[c, 4] + sy * bounds[c, 5] + sz * bounds[c, 6]
            if along >= bounds[c, 7] * np.sqrt(sx * sx + sy * sy + sz * sz) + radius:
                continue
        depth = m[2, 0] * bounds[c, 0] + m[2, 1] * bounds[c, 1] + m[2, 2] * bounds[c, 2] + m[2, 3]
        if depth + radius < near or depth - radius > far:
            continue
        crosses_near = depth - radius < near

        w0 = cluster_start[c]
        for i in range(cluster_start[c + 1] - w0):
            x = np.float64(cluster_xyz[0, w0 + i])
            y = np.float64(cluster_xyz[1, w0 + i])
            z = np.float64(cluster_xyz[2, w0 + i])
            p0 = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
            p1 = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
            p2 = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            inv = 1.0 / p2
            px[i] = p0
            py[i] = p1
            pz[i] = p2
            u[i] = np.float32(p0 * inv)
            v[i] = np.float32(p1 * inv)

        f0 = c * CLUSTER_SIZE
        count = min(CLUSTER_SIZE, n_faces - f0)
        _spans(corners, f0, count, u, v, slack, cull, width, height, span)
        if crosses_near:
            _spans_near(corners, f0, count, px, py, pz, near, width, height, span)

        for t in range(count):
            x0 = span[0, t]
            x1 = span[1, t]
            if x1 < x0:
                continue
            y0 = span[2, t]
            y1 = span[3, t]
            i = corners[0, f0 + t]
            j = corners[1, f0 + t]
            k = corners[2, f0 + t]
            a0 = py[j] * pz[k] - pz[j] * py[k]
            b0 = pz[j] * px[k] - px[j] * pz[k]
            c0 = px[j] * py[k] - py[j] * px[k]
            a1 = py[k] * pz[i] - pz[k] * py[i]
            b1 = pz[k] * px[i] - px[k] * pz[i]
            c1 = px[k] * py[i] - py[k] * px[i]
            a2 = py[i] * pz[j] - pz[i] * py[j]
            b2 = pz[i] * px[j] - px[i] * pz[j]
            c2 = px[i] * py[j] - py[i] * px[j]
            det = px[i] * a0 + py[i] * b0 + pz[i] * c0
            if det == 0.0 or (cull and det > 0.0):
                continue
            if det > 0.0:
                sign = 1.0
            else:
                sign = -1.0
            a0 *= sign
            b0 *= sign
            c0 *= sign
            a1 *= sign
            b1 *= sign
            c1 *= sign
            a2 *= sign
            b2 *= sign
            c2 *= sign
            inv_det = 1.0 / (det * sign)
            az = (a0 + a1 + a2) * inv_det
            bz = (b0 + b1 + b2) * inv_det
            cz = (c0 + c1 + c2) * inv_det
            box[0] = min(box[0], x0)
            box[1] = min(box[1], y0)
            box[2] = max(box[2], x1)
            box[3] = max(box[3], y1)
            face = np.int32(f0 + t)
            for y in range(y0, y1 + 1):
                e0 = b0 * y + c0
                e1 = b1 * y + c1
                e2 = b2 * y + c2
                ez = bz * y + cz
                inside = False
                for x in range(x0, x1 + 1):
                    if a0 * x + e0 >= 0.0 and a1 * x + e1 >= 0.0 and a2 * x + e2 >= 0.0:
                        inside = True
                        nearness = np.float32(az * x + ez)
                        if inv_far <= nearness <= inv_near and (
                            nearness > inv_depth[y, x] or (nearness == inv_depth[y, x] and face < triangle[y, x])
                        ):
                            inv_depth[y, x] = nearness
                            triangle[y, x] = face
                    elif inside:
                        break


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spans(corners, f0, count, u, v, slack, cull, width, height, span):
    """The box of samples under each triangle, empty where no sample is, from corners that are all in front."""
    one = np.float32(1.0)
    zero = np.float32(0.0)
    right = np.float32(width - 1)
    bottom = np.float32(height - 1)
    for t in range(count):
        i = corners[0, f0 + t]
        j = corners[1, f0 + t]
        k = corners[2, f0 + t]
        left = min(max(min(min(u[i], u[j]), u[k]) - slack, -one), right)
        top = min(max(min(min(v[i], v[j]), v[k]) - slack, -one), bottom)
        x1 = np.int32(min(max(max(max(u[i], u[j]), u[k]) + slack, -one), right) + one) - 1
        y1 = np.int32(min(max(max(max(v[i], v[j]), v[k]) + slack, -one), bottom) + one) - 1
        x0 = np.int32(left + one)
        y0 = np.int32(top + one)
        seen = (y1 >= y0) & (x1 >= x0)
        if cull:
            # Twice the area in the picture; the margin keeps triangles seen nearly edge-on for the exact test.
            du1 = u[j] - u[i]
            dv1 = v[j] - v[i]
            du2 = u[k] - u[i]
            dv2 = v[k] - v[i]
            margin = np.float32(4.0) * slack * (abs(du1) + abs(dv1) + abs(du2) + abs(dv2)) + slack * slack
            seen = seen & (du1 * dv2 - dv1 * du2 <= margin)
        span[0, t] = x0
        span[1, t] = x1 if seen else np.int32(-1)
        span[2, t] = y0
        span[3, t] = y1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spans_near(corners, f0, count, px, py, pz, near, width, height, span):
    """Correct the boxes of triangles that reach in front of the near plane: clip them there first."""
    for t in range(count):
        lowest = min(pz[corners[0, f0 + t]], pz[corners[1, f0 + t]], pz[corners[2, f0 + t]])
        if lowest >= near:
            continue
        left = top = np.inf
        right = bottom = -np.inf
        for side in range(3):
            i = corners[side, f0 + t]
            j = corners[(side + 1) % 3, f0 + t]
            for end in range(2):
                if end == 0:
                    if pz[i] < near:
                        continue
                    x = px[i] / pz[i]
                    y = py[i] / pz[i]
                else:
                    if (pz[i] < near) == (pz[j] < near):
                        continue
                    along = (near - pz[i]) / (pz[j] - pz[i])
                    x = (px[i] + along * (px[j] - px[i])) / near
                    y = (py[i] + along * (py[j] - py[i])) / near
                left = min(left, x)
                right = max(right, x)
                top = min(top, y)
                bottom = max(bottom, y)
        # One sample of margin is far more than the rounding of the clipped corners.
        span[0, t] = np.int32(max(np.floor(min(left, 1e6)) - 1.0, 0.0))
        span[1, t] = np.int32(min(np.ceil(max(right, -1.0)) + 1.0, width - 1.0))
        span[2, t] = np.int32(max(np.floor(min(top, 1e6)) - 1.0, 0.0))
        span[3, t] = np.int32(min(np.ceil(max(bottom, -1.0)) + 1.0, height - 1.0))
        if left > right or span[3, t] < span[2, t]:
            span[1, t] = -1
