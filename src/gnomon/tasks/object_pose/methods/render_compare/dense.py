"""Refine a hypothesis by drawing the mesh: depth along normals, the silhouette, and brightness.

Each drawing gives the visible surface points; two Gauss-Newton steps move them; then the mesh is drawn again. The
residuals:

- depth: distance of the measured point from the surface's plane, paired by pixel (point-to-plane);
- silhouette: at rim pixels, the distance to the mask's border, unless something nearer begins there and hides
  the true outline;
- brightness: against the model's own, after fitting gain and offset. Its weight is that of the variances,
  (sigma_depth / sigma_brightness)^2: metres against 0 to 1.

All have Tukey weights whose width shrinks.
"""

from __future__ import annotations

import numba
import numpy as np

from gnomon.tasks.object_pose.methods.render_compare import tile
from gnomon.tasks.object_pose.methods.render_compare.linear6 import add, move, solve

SILHOUETTE_WEIGHT = 0.3
BRIGHTNESS_WEIGHT = 5e-4
BRIGHTNESS_TUKEY = 0.25


@numba.njit(cache=True, nogil=True, error_model="numpy")
def make_scratch(n_vertices, size):
    """Buffers of one thread: projected vertices, z-buffer, visible points with normals, brightness and rim."""
    return (
        np.empty((n_vertices, 3), np.float32),
        np.zeros((size, size), np.float32),
        np.full((size, size), -1, np.int32),
        np.empty((size * size, 3), np.float32),
        np.empty((size * size, 3), np.float32),
        np.empty(size * size, np.float32),
        np.empty(size * size, np.uint8),
        np.empty((6, 6)),
        np.empty((4, 6)),
        np.empty((3, 3)),
    )


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def colour_at(shape, R, t, x, y, z):
    """Row of the colour volume at a camera point."""
    px = x - t[0]
    py = y - t[1]
    pz = z - t[2]
    n = shape.colours.shape[0]
    i = int((R[0, 0] * px + R[1, 0] * py + R[2, 0] * pz - shape.low[0]) * shape.cells_per_m)
    j = int((R[0, 1] * px + R[1, 1] * py + R[2, 1] * pz - shape.low[1]) * shape.cells_per_m)
    k = int((R[0, 2] * px + R[1, 2] * py + R[2, 2] * pz - shape.low[2]) * shape.cells_per_m)
    i = min(max(i, 0), n - 1)
    j = min(max(j, 0), n - 1)
    k = min(max(k, 0), n - 1)
    return shape.colours[i, j, k]


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _collect(shape, R, t, seen, box, scratch, use_colour):
    """The visible surface points in camera axes; returns how many."""
    _, nearness, face, points, normals, luma, rim, _, _, _ = scratch
    size = nearness.shape[0]
    fx, fy, cx, cy = seen.fx, seen.fy, seen.cx, seen.cy
    n = 0
    for y in range(max(box[1], 1), min(box[3], size - 2) + 1):
        for x in range(max(box[0], 1), min(box[2], size - 2) + 1):
            k = face[y, x]
            if k < 0:
                continue
            at_rim = face[y - 1, x] < 0 or face[y + 1, x] < 0 or face[y, x - 1] < 0 or face[y, x + 1] < 0
            if seen.near_mask[y, x] == 0 and not at_rim:
                continue
            z = 1.0 / nearness[y, x]
            px = (x - cx) / fx * z
            py = (y - cy) / fy * z
            ax = shape.normals[k, 0]
            ay = shape.normals[k, 1]
            az = shape.normals[k, 2]
            nx = R[0, 0] * ax + R[0, 1] * ay + R[0, 2] * az
            ny = R[1, 0] * ax + R[1, 1] * ay + R[1, 2] * az
            nz = R[2, 0] * ax + R[2, 1] * ay + R[2, 2] * az
            # The winding of files is not to be trusted: what is seen faces the camera.
            sign = -1.0 if nx * px + ny * py + nz * z > 0.0 else 1.0
            points[n, 0] = px
            points[n, 1] = py
            points[n, 2] = z
            normals[n, 0] = sign * nx
            normals[n, 1] = sign * ny
            normals[n, 2] = sign * nz
            rim[n] = 1 if at_rim else 0
            if use_colour:
                c = colour_at(shape, R, t, px, py, z)
                luma[n] = (0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]) / 255.0
            n += 1
    return n


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _gain_offset(seen, count, tau, scratch):
    """Gain and offset that take the model's brightness to the picture's."""
    _, _, _, points, _, luma, _, _, _, _ = scratch
    size = seen.depth.shape[0]
    n = m1 = m2 = o1 = o2 = 0.0
    for i in range(count):
        u = int(seen.fx * points[i, 0] / points[i, 2] + seen.cx + 0.5)
        v = int(seen.fy * points[i, 1] / points[i, 2] + seen.cy + 0.5)
        if u < 0 or v < 0 or u >= size or v >= size:
            continue
        if seen.mask[v, u] > 0 and seen.depth[v, u] > 0 and abs(seen.depth[v, u] - points[i, 2]) < tau:
            m1 += luma[i]
            m2 += luma[i] * luma[i]
            o1 += seen.luma[v, u]
            o2 += seen.luma[v, u] ** 2
            n += 1.0
    if n < 20:
        return 1.0, 0.0
    spread_m = np.sqrt(max(m2 / n - (m1 / n) ** 2, 1e-8))
    spread_o = np.sqrt(max(o2 / n - (o1 / n) ** 2, 1e-8))
    gain = min(spread_o / spread_m, 5.0)
    return gain, o1 / n - gain * m1 / n


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _silhouette(seen, x, y, z, uf, vf, u, v, t, tau, J):
    """The silhouette's residual in metres and its weight (0: none), with its Jacobian in J."""
    size = seen.depth.shape[0]
    distance = seen.mask_distance
    d = distance[v, u]
    if abs(d) >= 10.0:
        return 0.0, 0.0
    gx = 0.5 * (distance[v, u + 1] - distance[v, u - 1])
    gy = 0.5 * (distance[v + 1, u] - distance[v - 1, u])
    for q in range(1, 4):
        ou = int(uf + gx * q * 1.5 + 0.5)
        ov = int(vf + gy * q * 1.5 + 0.5)
        if 0 <= ou < size and 0 <= ov < size:
            outer = seen.depth[ov, ou]
            if (0.0 < outer < z - tau) or seen.inside_picture[ov, ou] == 0:
                return 0.0, 0.0
    r = -(d + 0.5) * z / seen.fx
    e = abs(r) / max(tau, 4.0 * z / seen.fx)
    if e >= 1.0:
        return 0.0, 0.0
    w = 1.0 - e * e
    gy *= seen.fy / seen.fx
    gz = -(gx * x + gy * y) / z
    J[3] = gx
    J[4] = gy
    J[5] = gz
    J[0] = (y - t[1]) * gz - (z - t[2]) * gy
    J[1] = (z - t[2]) * gx - (x - t[0]) * gz
    J[2] = (x - t[0]) * gy - (y - t[1]) * gx
    return r, w * w * SILHOUETTE_WEIGHT


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _brightness(seen, x, y, z, uf, vf, expected, t, J):
    """The brightness residual and its weight, with its Jacobian in J."""
    u = int(uf)
    v = int(vf)
    fu = uf - u
    fv = vf - v
    image = seen.luma
    seen_luma = (1 - fv) * ((1 - fu) * image[v, u] + fu * image[v, u + 1]) + fv * (
        (1 - fu) * image[v + 1, u] + fu * image[v + 1, u + 1]
    )
    r = expected - seen_luma
    e = abs(r) / BRIGHTNESS_TUKEY
    if e >= 1.0:
        return 0.0, 0.0
    w = 1.0 - e * e
    gx = seen.luma_gradient[v, u, 0] * seen.fx / z
    gy = seen.luma_gradient[v, u, 1] * seen.fy / z
    gz = -(gx * x + gy * y) / z
    J[3] = gx
    J[4] = gy
    J[5] = gz
    J[0] = (y - t[1]) * gz - (z - t[2]) * gy
    J[1] = (z - t[2]) * gx - (x - t[0]) * gz
    J[2] = (x - t[0]) * gy - (y - t[1]) * gx
    return r, w * w * BRIGHTNESS_WEIGHT


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _accumulate(seen, t, count, tau, use_silhouette, use_colour, gain, offset, A, b, J, scratch):
    """Fill the normal equations; returns the sum of depth weights."""
    _, _, _, points, normals, luma, rim, _, _, _ = scratch
    size = seen.depth.shape[0]
    fx, fy, cx, cy = seen.fx, seen.fy, seen.cx, seen.cy
    total = 0.0
    for i in range(count):
        x = points[i, 0]
        y = points[i, 1]
        z = points[i, 2]
        uf = fx * x / z + cx
        vf = fy * y / z + cy
        if not (uf >= 2.0 and vf >= 2.0 and uf < size - 3 and vf < size - 3):
            continue
        u = int(uf + 0.5)
        v = int(vf + 0.5)
        if use_silhouette and rim[i] == 1:
            r, w = _silhouette(seen, x, y, z, uf, vf, u, v, t, tau, J)
            if w > 0.0:
                add(A, b, J, r, w)
        d = seen.depth[v, u]
        if d <= 0.0 or seen.near_mask[v, u] == 0 or abs(d - z) > 4.0 * tau:
            continue
        nx = normals[i, 0]
        ny = normals[i, 1]
        nz = normals[i, 2]
        r = nx * ((u - cx) / fx * d - x) + ny * ((v - cy) / fy * d - y) + nz * (d - z)
        e = r / tau
        w = 1.0 - e * e
        if w <= 0.0:
            continue
        w *= w
        sx = seen.normal[v, u, 0]
        sy = seen.normal[v, u, 1]
        sz = seen.normal[v, u, 2]
        if sz != 0.0:
            w *= max(0.1, sx * nx + sy * ny + sz * nz)
        J[0] = (y - t[1]) * nz - (z - t[2]) * ny
        J[1] = (z - t[2]) * nx - (x - t[0]) * nz
        J[2] = (x - t[0]) * ny - (y - t[1]) * nx
        J[3] = nx
        J[4] = ny
        J[5] = nz
        total += w
        add(A, b, J, r, w)
        if use_colour and seen.mask[v, u] > 0:
            r, w = _brightness(seen, x, y, z, uf, vf, gain * luma[i] + offset, t, J)
            if w > 0.0:
                add(A, b, J, r, w)
    return total


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _shift_points(count, R, t, before, turn, scratch):
    """Move the visible points by the same step as the pose."""
    _, _, _, points, normals, _, _, _, _, _ = scratch
    for i in range(count):
        x = points[i, 0] - before[0]
        y = points[i, 1] - before[1]
        z = points[i, 2] - before[2]
        points[i, 0] = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z + t[0]
        points[i, 1] = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z + t[1]
        points[i, 2] = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z + t[2]
        x = normals[i, 0]
        y = normals[i, 1]
        z = normals[i, 2]
        normals[i, 0] = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z
        normals[i, 1] = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z
        normals[i, 2] = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def refine(shape, R, t, seen, tau_first, tau_last, drawings, steps, use_silhouette, use_colour, scratch):
    """Refine one pose in place: `drawings` times draw, then `steps` Gauss-Newton steps."""
    projected, nearness, face, _, _, _, _, A, rows, turn = scratch
    b = rows[0]
    x = rows[1]
    J = rows[2]
    before = rows[3, :3]
    square = shape.mean_square_radius
    last = max(drawings * steps - 1, 1)
    for drawing in range(drawings):
        box = tile.draw(
            shape.vertices, shape.faces, R, t, seen.fx, seen.fy, seen.cx, seen.cy, projected, nearness, face
        )
        count = _collect(shape, R, t, seen, box, scratch, use_colour)
        tile.clear(box, nearness, face)
        if count < 12:
            return
        gain = 1.0
        offset = 0.0
        if use_colour:
            gain, offset = _gain_offset(seen, count, tau_first, scratch)
        for step in range(steps):
            tau = tau_first * (tau_last / tau_first) ** ((drawing * steps + step) / last)
            A[:] = 0.0
            b[:] = 0.0
            total = _accumulate(
                seen, t, count, tau, use_silhouette, use_colour, gain, offset, A, b, J, scratch
            )
            if total < 6.0:
                return
            for p in range(3):
                A[p, p] += 1e-4 * total * square
                A[p + 3, p + 3] += 1e-4 * total
            if not solve(A, b, x):
                return
            angle = np.sqrt(x[0] ** 2 + x[1] ** 2 + x[2] ** 2)
            if angle > 0.5:
                for p in range(6):
                    x[p] *= 0.5 / angle
            before[0] = t[0]
            before[1] = t[1]
            before[2] = t[2]
            move(R, t, x, turn)
            if step + 1 < steps:
                _shift_points(count, R, t, before, turn, scratch)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def refine_many(shape, Rs, ts, seen, taus, drawings, steps, use_silhouette, use_colour, first, last):
    """Refine poses [first, last) in place; taus are the first and last Tukey widths in metres."""
    scratch = make_scratch(shape.vertices.shape[0], seen.depth.shape[0])
    for i in range(first, last):
        refine(
            shape, Rs[i], ts[i], seen, taus[0], taus[1], drawings, steps, use_silhouette, use_colour, scratch
        )
