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

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from gnomon.tasks.object_pose.methods.render_compare import tile
from gnomon.tasks.object_pose.methods.render_compare.linear6 import move, normal_equations, solve
from gnomon.tasks.object_pose.methods.render_compare.points import turn_columns

SILHOUETTE_WEIGHT = 0.3
BRIGHTNESS_WEIGHT = 5e-4
BRIGHTNESS_TUKEY = 0.25


class Scratch(NamedTuple):
    """Buffers of one thread."""

    projected: Float32[np.ndarray, "3 V"]
    face_normals: Float32[np.ndarray, "3 F"]
    nearness: Float32[np.ndarray, "S S"]
    face: Int32[np.ndarray, "S S"]
    surface: Float32[np.ndarray, "7 n"]
    """Visible points: x, y, z, normal, brightness."""
    rim: UInt8[np.ndarray, " n"]
    rows: Float32[np.ndarray, "8 m"]
    A: Float64[np.ndarray, "6 6"]
    b: Float64[np.ndarray, " 6"]
    x: Float64[np.ndarray, " 6"]
    before: Float64[np.ndarray, " 3"]
    turn: Float64[np.ndarray, "3 3"]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def make_scratch(n_vertices, n_faces, size):
    return Scratch(
        np.empty((3, n_vertices), np.float32),
        np.empty((3, n_faces), np.float32),
        np.zeros((size, size), np.float32),
        np.full((size, size), -1, np.int32),
        np.empty((7, size * size), np.float32),
        np.empty(size * size, np.uint8),
        # A point can give a residual of each kind.
        np.empty((8, 3 * size * size), np.float32),
        np.empty((6, 6)),
        np.empty(6),
        np.empty(6),
        np.empty(3),
        np.empty((3, 3)),
    )


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def colour_at(shape, R, t, x, y, z):
    """Place in the colour volume of a camera point."""
    px = x - t[0]
    py = y - t[1]
    pz = z - t[2]
    n = shape.colours.shape[0]
    i = int((R[0, 0] * px + R[1, 0] * py + R[2, 0] * pz - shape.low[0]) * shape.cells_per_m)
    j = int((R[0, 1] * px + R[1, 1] * py + R[2, 1] * pz - shape.low[1]) * shape.cells_per_m)
    k = int((R[0, 2] * px + R[1, 2] * py + R[2, 2] * pz - shape.low[2]) * shape.cells_per_m)
    return min(max(i, 0), n - 1), min(max(j, 0), n - 1), min(max(k, 0), n - 1)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _collect(shape, R, t, seen, box, scratch, stride, use_colour):
    """The visible surface points in camera axes; returns how many.

    With stride 2 every other pixel inside is left out, as on a chess board's fields; rim pixels are all kept.
    """
    nearness = scratch.nearness
    face = scratch.face
    surface = scratch.surface
    turned = scratch.face_normals
    turn_columns(shape.normals, R, turned, 0, shape.normals.shape[1])
    size = nearness.shape[0]
    f32 = np.float32
    cx, cy = f32(seen.cx), f32(seen.cy)
    inv_fx, inv_fy = f32(1.0 / seen.fx), f32(1.0 / seen.fy)
    near_mask = seen.near_mask
    n = 0
    for y in range(max(box[1], 1), min(box[3], size - 2) + 1):
        for x in range(max(box[0], 1), min(box[2], size - 2) + 1):
            k = face[y, x]
            if k < 0:
                continue
            at_rim = face[y - 1, x] < 0 or face[y + 1, x] < 0 or face[y, x - 1] < 0 or face[y, x + 1] < 0
            if not at_rim and (near_mask[y, x] == 0 or (stride > 1 and (x + y) % stride != 0)):
                continue
            z = f32(1.0) / nearness[y, x]
            px = (f32(x) - cx) * inv_fx * z
            py = (f32(y) - cy) * inv_fy * z
            nx = turned[0, k]
            ny = turned[1, k]
            nz = turned[2, k]
            # The winding of files is not to be trusted: what is seen faces the camera.
            sign = f32(-1.0) if nx * px + ny * py + nz * z > f32(0.0) else f32(1.0)
            surface[0, n] = px
            surface[1, n] = py
            surface[2, n] = z
            surface[3, n] = sign * nx
            surface[4, n] = sign * ny
            surface[5, n] = sign * nz
            scratch.rim[n] = 1 if at_rim else 0
            if use_colour:
                i, j, l = colour_at(shape, R, t, px, py, z)  # noqa: E741
                c = shape.colours[i, j, l]
                surface[6, n] = (f32(0.299) * c[0] + f32(0.587) * c[1] + f32(0.114) * c[2]) / f32(255.0)
            n += 1
    return n


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _gain_offset(seen, count, tau, surface):
    """Gain and offset that take the model's brightness to the picture's."""
    size = seen.mask.shape[0]
    n = m1 = m2 = o1 = o2 = 0.0
    for i in range(count):
        u = int(seen.fx * surface[0, i] / surface[2, i] + seen.cx + 0.5)
        v = int(seen.fy * surface[1, i] / surface[2, i] + seen.cy + 0.5)
        if u < 0 or v < 0 or u >= size or v >= size:
            continue
        d = seen.surface[v, u, 0]
        if seen.mask[v, u] > 0 and d > 0 and abs(d - surface[2, i]) < tau:
            luma = surface[6, i]
            m1 += luma
            m2 += luma * luma
            o1 += seen.luma[v, u]
            o2 += seen.luma[v, u] ** 2
            n += 1.0
    if n < 20:
        return 1.0, 0.0
    spread_m = np.sqrt(max(m2 / n - (m1 / n) ** 2, 1e-8))
    spread_o = np.sqrt(max(o2 / n - (o1 / n) ** 2, 1e-8))
    gain = min(spread_o / spread_m, 5.0)
    return gain, o1 / n - gain * m1 / n


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _put(rows, n, x, y, z, gx, gy, gz, r, w):
    """One residual whose gradient at the point (x, y, z), relative to the centre, is g."""
    rows[0, n] = y * gz - z * gy
    rows[1, n] = z * gx - x * gz
    rows[2, n] = x * gy - y * gx
    rows[3, n] = gx
    rows[4, n] = gy
    rows[5, n] = gz
    rows[6, n] = r
    rows[7, n] = w


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _depth_rows(seen, t, count, tau, surface, rows):
    """Point-to-plane residuals; returns how many and the sum of their weights."""
    f32 = np.float32
    measured = seen.surface
    near = seen.near_mask
    size = near.shape[0]
    fx, fy, cx, cy = f32(seen.fx), f32(seen.fy), f32(seen.cx), f32(seen.cy)
    inv_fx, inv_fy = f32(1.0) / fx, f32(1.0) / fy
    t0, t1, t2 = f32(t[0]), f32(t[1]), f32(t[2])
    zero, one, half = f32(0.0), f32(1.0), f32(0.5)
    inv_tau = f32(1.0 / tau)
    reach = f32(4.0 * tau)
    limit = f32(size - 1)
    total = f32(0.0)
    n = 0
    for i in range(count):
        x = surface[0, i]
        y = surface[1, i]
        z = surface[2, i]
        w = one / z
        u = np.uint32(min(max(fx * x * w + cx + half, zero), limit))
        v = np.uint32(min(max(fy * y * w + cy + half, zero), limit))
        nx = surface[3, i]
        ny = surface[4, i]
        nz = surface[5, i]
        d = measured[v, u, 0]
        r = nx * ((f32(u) - cx) * inv_fx * d - x) + ny * ((f32(v) - cy) * inv_fy * d - y) + nz * (d - z)
        e = r * inv_tau
        w = max(one - e * e, zero)
        dot = measured[v, u, 1] * nx + measured[v, u, 2] * ny + measured[v, u, 3] * nz
        w = w * w * (max(dot, f32(0.1)) if measured[v, u, 3] != zero else one)
        keep = (d > zero) & (near[v, u] > 0) & (abs(d - z) < reach) & (w > zero)
        _put(rows, n, x - t0, y - t1, z - t2, nx, ny, nz, r, w)
        total += w if keep else zero
        n += 1 if keep else 0
    return n, total


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _silhouette_rows(seen, t, count, tau, scratch, n):
    """Add the silhouette's residuals after the first n rows; returns the new count."""
    surface = scratch.surface
    distance = seen.mask_distance
    size = distance.shape[0]
    for i in range(count):
        if scratch.rim[i] == 0:
            continue
        x = surface[0, i]
        y = surface[1, i]
        z = surface[2, i]
        uf = seen.fx * x / z + seen.cx
        vf = seen.fy * y / z + seen.cy
        if not (uf >= 2.0 and vf >= 2.0 and uf < size - 3 and vf < size - 3):
            continue
        u = int(uf + 0.5)
        v = int(vf + 0.5)
        d = distance[v, u]
        r = -(d + 0.5) * z / seen.fx
        e = abs(r) / max(tau, 4.0 * z / seen.fx)
        if abs(d) >= 10.0 or e >= 1.0:
            continue
        gx = 0.5 * (distance[v, u + 1] - distance[v, u - 1])
        gy = 0.5 * (distance[v + 1, u] - distance[v - 1, u])
        hidden = False
        for q in range(1, 4):
            ou = int(uf + gx * q * 1.5 + 0.5)
            ov = int(vf + gy * q * 1.5 + 0.5)
            if 0 <= ou < size and 0 <= ov < size:
                outer = seen.surface[ov, ou, 0]
                if (0.0 < outer < z - tau) or seen.inside_picture[ov, ou] == 0:
                    hidden = True
        if hidden:
            continue
        w = 1.0 - e * e
        gy *= seen.fy / seen.fx
        gz = -(gx * x + gy * y) / z
        _put(scratch.rows, n, x - t[0], y - t[1], z - t[2], gx, gy, gz, r, w * w * SILHOUETTE_WEIGHT)
        n += 1
    return n


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _brightness_rows(seen, t, count, tau, scratch, gain, offset, n):
    """Add the brightness residuals after the first n rows; returns the new count."""
    surface = scratch.surface
    image = seen.luma
    size = image.shape[0]
    for i in range(count):
        x = surface[0, i]
        y = surface[1, i]
        z = surface[2, i]
        uf = seen.fx * x / z + seen.cx
        vf = seen.fy * y / z + seen.cy
        if not (uf >= 2.0 and vf >= 2.0 and uf < size - 3 and vf < size - 3):
            continue
        u = int(uf + 0.5)
        v = int(vf + 0.5)
        d = seen.surface[v, u, 0]
        if seen.mask[v, u] == 0 or d <= 0.0 or abs(d - z) > tau:
            continue
        u = int(uf)
        v = int(vf)
        fu = uf - u
        fv = vf - v
        expected = gain * surface[6, i] + offset
        r = expected - (
            (1 - fv) * ((1 - fu) * image[v, u] + fu * image[v, u + 1])
            + fv * ((1 - fu) * image[v + 1, u] + fu * image[v + 1, u + 1])
        )
        e = abs(r) / BRIGHTNESS_TUKEY
        if e >= 1.0:
            continue
        w = 1.0 - e * e
        gx = seen.luma_gradient[v, u, 0] * seen.fx / z
        gy = seen.luma_gradient[v, u, 1] * seen.fy / z
        gz = -(gx * x + gy * y) / z
        _put(scratch.rows, n, x - t[0], y - t[1], z - t[2], gx, gy, gz, r, w * w * BRIGHTNESS_WEIGHT)
        n += 1
    return n


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _move_columns(array, row, count, turn, start, end):
    """Turn rows row..row+2 about the point `start`, which goes to `end`."""
    f32 = np.float32
    a00, a01, a02 = f32(turn[0, 0]), f32(turn[0, 1]), f32(turn[0, 2])
    a10, a11, a12 = f32(turn[1, 0]), f32(turn[1, 1]), f32(turn[1, 2])
    a20, a21, a22 = f32(turn[2, 0]), f32(turn[2, 1]), f32(turn[2, 2])
    s0, s1, s2 = f32(start[0]), f32(start[1]), f32(start[2])
    e0, e1, e2 = f32(end[0]), f32(end[1]), f32(end[2])
    xs = array[row, :count]
    ys = array[row + 1, :count]
    zs = array[row + 2, :count]
    for i in range(count):
        x = xs[i] - s0
        y = ys[i] - s1
        z = zs[i] - s2
        xs[i] = a00 * x + a01 * y + a02 * z + e0
        ys[i] = a10 * x + a11 * y + a12 * z + e1
        zs[i] = a20 * x + a21 * y + a22 * z + e2


_ORIGIN = np.zeros(3)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def refine(shape, R, t, seen, taus, drawings, steps, stride, use_silhouette, use_colour, scratch):
    """Refine one pose in place: `drawings` times draw, then `steps` Gauss-Newton steps.

    `taus` are the first and the last Tukey width in metres.
    """
    A = scratch.A
    b = scratch.b
    x = scratch.x
    before = scratch.before
    turn = scratch.turn
    surface = scratch.surface
    pinhole = (seen.fx, seen.fy, seen.cx, seen.cy)
    last = max(drawings * steps - 1, 1)
    for drawing in range(drawings):
        box = tile.draw(shape, R, t, pinhole, scratch.projected, scratch.nearness, scratch.face)
        count = _collect(shape, R, t, seen, box, scratch, stride, use_colour)
        tile.clear(box, scratch.nearness, scratch.face)
        if count < 12:
            return
        gain = 1.0
        offset = 0.0
        if use_colour:
            gain, offset = _gain_offset(seen, count, taus[0], surface)
        for step in range(steps):
            tau = taus[0] * (taus[1] / taus[0]) ** ((drawing * steps + step) / last)
            n, total = _depth_rows(seen, t, count, tau, surface, scratch.rows)
            if total < 6.0 / (stride * stride):
                return
            if use_silhouette:
                n = _silhouette_rows(seen, t, count, tau, scratch, n)
            if use_colour:
                n = _brightness_rows(seen, t, count, tau, scratch, gain, offset, n)
            A[:] = 0.0
            b[:] = 0.0
            normal_equations(scratch.rows, n, A, b)
            for p in range(3):
                A[p, p] += 1e-4 * total * shape.mean_square_radius
                A[p + 3, p + 3] += 1e-4 * total
            if not solve(A, b, x):
                return
            angle = np.sqrt(x[0] ** 2 + x[1] ** 2 + x[2] ** 2)
            if angle > 0.5:
                x *= 0.5 / angle
            before[:] = t
            move(R, t, x, turn)
            if step + 1 < steps:
                _move_columns(surface, 0, count, turn, before, t)
                _move_columns(surface, 3, count, turn, _ORIGIN, _ORIGIN)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def refine_many(shape, Rs, ts, seen, taus, drawings, steps, stride, use_silhouette, use_colour, first, last):
    """Refine poses [first, last) in place."""
    scratch = make_scratch(shape.vertices.shape[1], shape.faces.shape[0], seen.mask.shape[0])
    for i in range(first, last):
        refine(shape, Rs[i], ts[i], seen, taus, drawings, steps, stride, use_silhouette, use_colour, scratch)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def information(shape, R, t, seen, tau, use_colour, out):
    """What the picture says about a pose: the lower half of the normal matrix of turn and shift into `out`.

    Camera axes, 6 x 6, for residuals in metres; a depth pixel weighs 1 at most. False where hardly anything fits.
    """
    scratch = make_scratch(shape.vertices.shape[1], shape.faces.shape[0], seen.mask.shape[0])
    pinhole = (seen.fx, seen.fy, seen.cx, seen.cy)
    box = tile.draw(shape, R, t, pinhole, scratch.projected, scratch.nearness, scratch.face)
    count = _collect(shape, R, t, seen, box, scratch, 1, use_colour)
    n, total = _depth_rows(seen, t, count, tau, scratch.surface, scratch.rows)
    if use_colour:
        gain, offset = _gain_offset(seen, count, tau, scratch.surface)
        n = _brightness_rows(seen, t, count, tau, scratch, gain, offset, n)
    out[:] = 0.0
    normal_equations(scratch.rows, n, out, scratch.b)
    return total >= 6.0
