"""Which triangle is seen at each sample of a picture: a z-buffer in homogeneous coordinates.

A vertex becomes p = (fx X + cx Z, fy Y + cy Z, Z) in float64, X Y Z in the camera frame. Over the picture the
edge function of two vertices is (p_j x p_k) . (x, y, 1); a sample (x, y) is covered where the three edge
functions of a triangle have the sign of its determinant, zero included (Olano and Greer, "Triangle scan
conversion using 2D homogeneous coordinates", 1997). Two things follow:

- No sample falls between two triangles with a common edge: in floating point too, p_j x p_k is exactly
  -(p_k x p_j). That holds only while no multiply-add is fused, so these kernels must not use `fastmath`.
- Triangles that cross the camera's plane need no clipping, only a test of depth at each sample.

The sum of the edge functions over the determinant is 1 / Z, linear over the picture.

A sample of the buffer is one int64: the float32 bits of 1 / Z above FACE_MASK minus the triangle's number, 0 where
nothing is seen. The nearer triangle, and of two equally near the one with the lower number, has the larger value:
the buffer is a plain maximum and depends neither on the order of drawing nor on threads.
"""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Int64

from gnomon.geometry.drawable import CLUSTER_SIZE

FACE_MASK = 0x7FFFFFFF

LANES = 4
"""Rows are drawn in aligned runs of this many samples, which the compiler turns into vector instructions."""


def make_buffer(width: int, height: int) -> Int64[np.ndarray, "height columns"]:
    """An empty buffer for `draw`; columns are `width` rounded up to whole runs."""
    return np.zeros((height, -(-width // LANES) * LANES), np.int64)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def draw(
    cluster_xyz, cluster_start, corners, bounds, to_lattice, camera, cull, near, far, width, height, buffer, box
):  # fmt: skip
    """Draw all clusters into `buffer`, and widen `box` to the samples that may have been touched.

    Args:
        cluster_xyz, cluster_start, corners, bounds: of a `Drawable`.
        to_lattice: 3x4 float64, object point (relative to the drawable's origin) -> p in lattice samples.
        camera: the camera's centre, relative to the drawable's origin.
        cull: leave out triangles that face away.
        near, far: limits of depth, in the object's unit.
        width, height: samples of the lattice.
        buffer: from `make_buffer`, see the module's docstring.
        box: int64 [x0, y0, x1, y1], x1 and y1 inclusive.
    """
    p = np.empty((3, 3 * CLUSTER_SIZE))
    uv = np.empty((2, 3 * CLUSTER_SIZE), np.float32)
    span = np.empty((4, CLUSTER_SIZE), np.int32)
    seen = np.empty(CLUSTER_SIZE, np.int32)
    columns = np.arange(buffer.shape[1]).astype(np.float64)
    cu = np.empty((3, CLUSTER_SIZE), np.float32)
    cv = np.empty((3, CLUSTER_SIZE), np.float32)
    # u and v are rounded once to float32: half a unit in the last place of the largest coordinate.
    slack = np.float32(max(width, height) * 2e-7 + 1e-4)
    size = (np.float32(width - 1), np.float32(height - 1))
    depth_range = (1.0 / far, 1.0 / near)
    for c in range(bounds.shape[0]):
        sphere = bounds[c]
        if cull and _faces_away(sphere, camera):
            continue
        m = to_lattice[2]
        depth = m[0] * sphere[0] + m[1] * sphere[1] + m[2] * sphere[2] + m[3]
        if depth + sphere[3] < near or depth - sphere[3] > far:
            continue
        first = cluster_start[c]
        _project(cluster_xyz[:, first : cluster_start[c + 1]], to_lattice, p, uv)
        own = corners[:, c * CLUSTER_SIZE : min((c + 1) * CLUSTER_SIZE, corners.shape[1])]
        _fetch(own, uv[0], uv[1], cu, cv)
        _spans(
            cu[0], cu[1], cu[2], cv[0], cv[1], cv[2], own.shape[1], slack, cull, size,
            span[0], span[1], span[2], span[3],
        )  # fmt: skip
        if depth - sphere[3] < near:
            _spans_near(own, p, near, size, span)
        _draw_cluster(own, p, span, seen, cull, depth_range, FACE_MASK - c * CLUSTER_SIZE, columns, buffer, box)


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _faces_away(sphere, camera):
    """No triangle of the cluster can show its front: its cone of normals points away from the camera."""
    dx = sphere[0] - camera[0]
    dy = sphere[1] - camera[1]
    dz = sphere[2] - camera[2]
    along = dx * sphere[4] + dy * sphere[5] + dz * sphere[6]
    return along >= sphere[7] * np.sqrt(dx * dx + dy * dy + dz * dz) + sphere[3]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _project(xyz, m, p, uv):
    for i in range(xyz.shape[1]):
        x = np.float64(xyz[0, i])
        y = np.float64(xyz[1, i])
        z = np.float64(xyz[2, i])
        p0 = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
        p1 = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
        p2 = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
        inv = 1.0 / p2
        p[0, i] = p0
        p[1, i] = p1
        p[2, i] = p2
        uv[0, i] = np.float32(p0 * inv)
        uv[1, i] = np.float32(p1 * inv)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fetch(corners, u, v, corner_u, corner_v):
    """Copy each corner's u and v, so that `_spans` reads them in a row."""
    for t in range(corners.shape[1]):
        i = corners[0, t]
        j = corners[1, t]
        k = corners[2, t]
        corner_u[0, t] = u[i]
        corner_v[0, t] = v[i]
        corner_u[1, t] = u[j]
        corner_v[1, t] = v[j]
        corner_u[2, t] = u[k]
        corner_v[2, t] = v[k]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spans(u0, u1, u2, v0, v1, v2, count, slack, cull, size, low_x, high_x, low_y, high_y):
    """The box of samples under each triangle, high_x = -1 where there is none.

    Right for triangles in front of the camera. No branches and one array per value: the loop becomes vector
    instructions.
    """
    one = np.float32(1.0)
    edge_margin = np.float32(4.0) * slack
    keep = not cull
    right, bottom = size
    for t in range(count):
        # After clamping to -1 and adding 1, truncation is ceil for the lower and floor + 1 for the upper bound.
        x0 = np.int32(min(max(min(min(u0[t], u1[t]), u2[t]) - slack, -one), right) + one)
        y0 = np.int32(min(max(min(min(v0[t], v1[t]), v2[t]) - slack, -one), bottom) + one)
        x1 = np.int32(np.int32(min(max(max(max(u0[t], u1[t]), u2[t]) + slack, -one), right) + one) - np.int32(1))
        y1 = np.int32(np.int32(min(max(max(max(v0[t], v1[t]), v2[t]) + slack, -one), bottom) + one) - np.int32(1))
        # Twice the area in the picture; the margin leaves triangles seen nearly edge-on to the exact test.
        du1 = u1[t] - u0[t]
        dv1 = v1[t] - v0[t]
        du2 = u2[t] - u0[t]
        dv2 = v2[t] - v0[t]
        margin = edge_margin * (abs(du1) + abs(dv1) + abs(du2) + abs(dv2)) + slack * slack
        # With a single sample in the box: it is outside if it lies to the left of one edge and right of another.
        ru0 = u0[t] - np.float32(x0)
        ru1 = u1[t] - np.float32(x0)
        ru2 = u2[t] - np.float32(x0)
        rv0 = v0[t] - np.float32(y0)
        rv1 = v1[t] - np.float32(y0)
        rv2 = v2[t] - np.float32(y0)
        e0 = ru1 * rv2 - rv1 * ru2
        e1 = ru2 * rv0 - rv2 * ru0
        e2 = ru0 * rv1 - rv0 * ru1
        missed = (max(max(e0, e1), e2) > margin) & (min(min(e0, e1), e2) < -margin) & (x0 == x1) & (y0 == y1)
        seen = (y1 >= y0) & (x1 >= x0) & (keep | (du1 * dv2 - dv1 * du2 <= margin)) & (not missed)
        low_x[t] = x0
        high_x[t] = x1 if seen else np.int32(-1)
        low_y[t] = y0
        high_y[t] = y1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spans_near(corners, p, near, size, span):
    """Correct the boxes of triangles that reach in front of the near plane: clip them there first."""
    for t in range(corners.shape[1]):
        if min(p[2, corners[0, t]], p[2, corners[1, t]], p[2, corners[2, t]]) >= near:
            continue
        left = top = np.inf
        right = bottom = -np.inf
        for side in range(3):
            i = corners[side, t]
            j = corners[(side + 1) % 3, t]
            x = y = np.nan
            if p[2, i] >= near:
                left, right = min(left, p[0, i] / p[2, i]), max(right, p[0, i] / p[2, i])
                top, bottom = min(top, p[1, i] / p[2, i]), max(bottom, p[1, i] / p[2, i])
            if (p[2, i] >= near) != (p[2, j] >= near):
                along = (near - p[2, i]) / (p[2, j] - p[2, i])
                x = (p[0, i] + along * (p[0, j] - p[0, i])) / near
                y = (p[1, i] + along * (p[1, j] - p[1, i])) / near
                left, right = min(left, x), max(right, x)
                top, bottom = min(top, y), max(bottom, y)
        # One sample of margin is far more than the rounding of the clipped corners.
        span[0, t] = np.int32(max(np.floor(min(left, 1e6)) - 1.0, 0.0))
        span[1, t] = np.int32(min(np.ceil(max(right, -2.0)) + 1.0, size[0]))
        span[2, t] = np.int32(max(np.floor(min(top, 1e6)) - 1.0, 0.0))
        span[3, t] = np.int32(min(np.ceil(max(bottom, -2.0)) + 1.0, size[1]))
        if left > right or span[3, t] < span[2, t]:
            span[1, t] = -1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _draw_cluster(corners, p, span, seen, cull, depth_range, first_mark, columns, buffer, box):
    inv_far, inv_near = depth_range
    x_low, y_low, x_high, y_high = box
    # First a list of the triangles to draw, made without branches: whether one has samples is hard to predict.
    n_seen = 0
    for t in range(corners.shape[1]):
        seen[n_seen] = t
        n_seen += 1 if span[1, t] >= span[0, t] else 0
    for nth in range(n_seen):
        t = np.int64(seen[nth])
        x0 = np.int64(span[0, t])
        x1 = np.int64(span[1, t])
        y0 = np.int64(span[2, t])
        y1 = np.int64(span[3, t])
        i = corners[0, t]
        j = corners[1, t]
        k = corners[2, t]
        a0 = p[1, j] * p[2, k] - p[2, j] * p[1, k]
        b0 = p[2, j] * p[0, k] - p[0, j] * p[2, k]
        c0 = p[0, j] * p[1, k] - p[1, j] * p[0, k]
        a1 = p[1, k] * p[2, i] - p[2, k] * p[1, i]
        b1 = p[2, k] * p[0, i] - p[0, k] * p[2, i]
        c1 = p[0, k] * p[1, i] - p[1, k] * p[0, i]
        a2 = p[1, i] * p[2, j] - p[2, i] * p[1, j]
        b2 = p[2, i] * p[0, j] - p[0, i] * p[2, j]
        c2 = p[0, i] * p[1, j] - p[1, i] * p[0, j]
        det = p[0, i] * a0 + p[1, i] * b0 + p[2, i] * c0
        if det == 0.0 or (cull and det > 0.0):
            continue
        if det < 0.0:
            det = -det
            a0, b0, c0 = -a0, -b0, -c0
            a1, b1, c1 = -a1, -b1, -c1
            a2, b2, c2 = -a2, -b2, -c2
        inv_det = 1.0 / det
        az = (a0 + a1 + a2) * inv_det
        bz = (b0 + b1 + b2) * inv_det
        cz = (c0 + c1 + c2) * inv_det
        x_low = min(x_low, x0)
        y_low = min(y_low, y0)
        x_high = max(x_high, x1)
        y_high = max(y_high, y1)
        xa = x0 & ~(LANES - 1)
        xe = (x1 + LANES) & ~(LANES - 1)
        for y in range(y0, y1 + 1):
            _draw_run(
                buffer[y, xa:xe], columns[xa:xe], a0, b0 * y + c0, a1, b1 * y + c1, a2, b2 * y + c2,
                az, bz * y + cz, inv_far, inv_near, first_mark - t,
            )  # fmt: skip
    box[0] = x_low
    box[1] = y_low
    box[2] = x_high
    box[3] = y_high


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _draw_run(run, columns, a0, e0, a1, e1, a2, e2, az, ez, inv_far, inv_near, mark):
    """One row of one triangle: where all conditions hold, the larger of old and new. No branches."""
    for s in range(run.shape[0]):
        x = columns[s]
        nearness = az * x + ez
        in_depth = min(nearness - inv_far, inv_near - nearness)
        inside = min(min(a0 * x + e0, a1 * x + e1), min(a2 * x + e2, in_depth))
        value = (np.int64(np.float32(nearness).view(np.int32)) << 32) | mark
        run[s] = max(run[s], value if inside >= 0.0 else np.int64(0))
