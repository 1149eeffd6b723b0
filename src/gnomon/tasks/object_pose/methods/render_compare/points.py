"""Hypotheses as point sets: score thousands, refine hundreds, without drawing anything.

A hypothesis is a template (256 visible points of one of 162 viewing directions) turned about the camera's axis and
moved so that its centre lies on the mask's. Points are compared with the depth at the pixel where they fall.

Each kernel first moves all points, in loops that become vector instructions, and then looks pixels up, without
branches on what it finds: those cannot be predicted.
"""

from __future__ import annotations

import numba
import numpy as np

from gnomon.tasks.object_pose.methods.render_compare.linear6 import move, normal_equations, solve

GRID = 12
"""The mask is divided into GRID x GRID cells to see how much of it a hypothesis covers."""

SEEN_NEARER_OUTSIDE = 0.1
"""Cost of a point behind something outside the mask: most likely hidden by an occluder."""

UNMEASURED = 0.5
BEYOND_PICTURE = 0.05
UNMEASURED_INSIDE_GAIN = 0.3
OUTSIDE_GAIN = 0.3
LUMA_WEIGHT = 0.3


@numba.njit(cache=True, nogil=True, error_model="numpy")
def make_scratch(n_points):
    """Buffers of one thread."""
    return (
        np.empty((8, n_points), np.float32),
        np.empty((8, n_points), np.float32),
        np.empty((6, 6)),
        np.empty(6),
        np.empty(6),
        np.empty((3, 3)),
        np.zeros(GRID * GRID, np.uint8),
    )


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def turn_columns(source, R, out, row, count):
    """Rotate rows 0-2 of `source` into rows row..row+2 of `out`."""
    f32 = np.float32
    r00, r01, r02 = f32(R[0, 0]), f32(R[0, 1]), f32(R[0, 2])
    r10, r11, r12 = f32(R[1, 0]), f32(R[1, 1]), f32(R[1, 2])
    r20, r21, r22 = f32(R[2, 0]), f32(R[2, 1]), f32(R[2, 2])
    sx = source[0, :count]
    sy = source[1, :count]
    sz = source[2, :count]
    ox = out[row, :count]
    oy = out[row + 1, :count]
    oz = out[row + 2, :count]
    for i in range(count):
        x = sx[i]
        y = sy[i]
        z = sz[i]
        ox[i] = r00 * x + r01 * y + r02 * z
        oy[i] = r10 * x + r11 * y + r12 * z
        oz[i] = r20 * x + r21 * y + r22 * z


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _project(moved, t, seen, count):
    """Rows 6 and 7 of `moved`: pixels of the points in rows 0-2, plus a half for rounding by truncation."""
    f32 = np.float32
    fx, fy, cx, cy = f32(seen.fx), f32(seen.fy), f32(seen.cx + 0.5), f32(seen.cy + 0.5)
    t0, t1, t2 = f32(t[0]), f32(t[1]), f32(t[2])
    x = moved[0, :count]
    y = moved[1, :count]
    z = moved[2, :count]
    u = moved[6, :count]
    v = moved[7, :count]
    for i in range(count):
        w = f32(1.0) / (z[i] + t2)
        u[i] = fx * (x[i] + t0) * w + cx
        v[i] = fy * (y[i] + t1) * w + cy


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _score(points, normals, luma, R, t, seen, tau, use_luma, scratch, count):
    """How well a point set fits, 0 to 1 (up to 1.3 with colour).

    Args:
        points, normals: (3, n) float32, object frame.
        luma: (n,) float32, the model's brightness at the points.
        R, t: pose of the object in the camera's frame.
        seen: the Observation.
        tau: depth difference in metres at which a point counts nothing.
        count: how many of the points to use.
    """
    moved, _, _, _, _, _, cells = scratch
    turn_columns(points, R, moved, 0, count)
    turn_columns(normals, R, moved, 3, count)
    _project(moved, t, seen, count)
    surface = seen.surface
    mask = seen.mask
    size = np.int64(mask.shape[0])
    f32 = np.float32
    one = f32(1.0)
    zero = f32(0.0)
    limit = f32(size) - f32(0.5)
    t2 = f32(t[2])
    inv_tau = f32(1.0 / tau)
    to_cell = f32(GRID / size)
    gain = f32(0.0)
    total = f32(0.0)
    m1 = m2 = o1 = o2 = mo = pairs = 0.0
    cells[:] = 0
    for i in range(count):
        fu = moved[6, i]
        fv = moved[7, i]
        outside = (fu < zero) | (fv < zero) | (fu > limit) | (fv > limit)
        fu = min(max(fu, zero), limit)
        fv = min(max(fv, zero), limit)
        u = np.uint32(fu)
        v = np.uint32(fv)
        inside = (mask[v, u] > 0) & (not outside)
        cells[np.uint32(fv * to_cell) * np.uint32(GRID) + np.uint32(fu * to_cell)] |= np.uint8(inside)
        d = surface[v, u, 0]
        nz = surface[v, u, 3]
        e = (d - moved[2, i] - t2) * inv_tau
        dot = surface[v, u, 1] * moved[3, i] + surface[v, u, 2] * moved[4, i] + nz * moved[5, i]
        w = max(one - abs(e), zero)
        w *= max(dot, zero) if nz != zero else one
        w *= one if inside else f32(OUTSIDE_GAIN)
        cost = f32(SEEN_NEARER_OUTSIDE) if (e < -one) & (not inside) else one
        measured = d > zero
        w = w if measured else (f32(UNMEASURED_INSIDE_GAIN) if inside else zero)
        cost = cost if measured else (f32(UNMEASURED) if d == zero else f32(BEYOND_PICTURE))
        gain += zero if outside else w
        total += one if outside else cost
        if use_luma and inside and measured and abs(e) < one:
            lm = luma[i]
            lo = seen.luma[v, u]
            m1 += lm
            m2 += lm * lm
            o1 += lo
            o2 += lo * lo
            mo += lm * lo
            pairs += 1.0
    covered = 0.0
    weights = seen.cell_share
    for i in range(GRID * GRID):
        covered += weights[i] if cells[i] > 0 else zero
    result = gain / (total + 1e-6) * covered
    if use_luma and pairs > 20.0:
        vm = m2 / pairs - (m1 / pairs) ** 2
        vo = o2 / pairs - (o1 / pairs) ** 2
        result += LUMA_WEIGHT * (mo / pairs - m1 / pairs * o1 / pairs) / np.sqrt((vm + 4e-4) * (vo + 4e-4))
    return result


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def score_templates(model, seen, angles, centres, depth_m, centre_uv, tau, count, use_luma, first, last, out):
    """Score every template of [first, last) at every angle about the camera's axis into out (views, angles).

    Args:
        model: PointModel.
        angles: radians.
        centres: (views, 3), the template's centre in its camera's axes, put on the mask's centre.
        depth_m: depth of the mask's centre.
        centre_uv: the mask's centre in pixels.
        count: points of each template to use.
    """
    scratch = make_scratch(count)
    R = np.empty((3, 3))
    t = np.empty(3)
    for view in range(first, last):
        points = model.points[view]
        normals = model.normals[view]
        luma = model.luma[view]
        for a in range(angles.shape[0]):
            pose_of(model.R_cam_obj[view], angles[a], centres[view], depth_m, centre_uv, seen, R, t)
            out[view, a] = _score(points, normals, luma, R, t, seen, tau, use_luma, scratch, count)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def pose_of(R_view, angle, centre, depth_m, centre_uv, seen, R, t):
    """The pose of a template turned by `angle` about the camera's axis with its centre on the mask's."""
    c = np.cos(angle)
    s = np.sin(angle)
    for j in range(3):
        R[0, j] = c * R_view[0, j] - s * R_view[1, j]
        R[1, j] = s * R_view[0, j] + c * R_view[1, j]
        R[2, j] = R_view[2, j]
    t[0] = (centre_uv[0] - seen.cx) / seen.fx * depth_m - (c * centre[0] - s * centre[1])
    t[1] = (centre_uv[1] - seen.cy) / seen.fy * depth_m - (s * centre[0] + c * centre[1])
    t[2] = depth_m - centre[2]


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _residuals(moved, t, seen, tau, count, rows):
    """Fill `rows` for `normal_equations` with the points that have a partner; returns how many and their weight."""
    f32 = np.float32
    surface = seen.surface
    near = seen.near_mask
    size = near.shape[0]
    inv_fx, inv_fy = f32(1.0 / seen.fx), f32(1.0 / seen.fy)
    cx, cy = f32(seen.cx), f32(seen.cy)
    t0, t1, t2 = f32(t[0]), f32(t[1]), f32(t[2])
    limit = f32(size) - f32(0.5)
    zero, one = f32(0.0), f32(1.0)
    inv_tau = f32(1.0 / tau)
    reach = f32(3.0 * tau)
    weight = f32(0.0)
    n = 0
    for i in range(count):
        fu = moved[6, i]
        fv = moved[7, i]
        outside = (fu < zero) | (fv < zero) | (fu > limit) | (fv > limit)
        u = np.uint32(min(max(fu, zero), limit))
        v = np.uint32(min(max(fv, zero), limit))
        d = surface[v, u, 0]
        rx = moved[0, i]
        ry = moved[1, i]
        rz = moved[2, i]
        nx = moved[3, i]
        ny = moved[4, i]
        nz = moved[5, i]
        dz = d - rz - t2
        r = nx * ((f32(u) - cx) * inv_fx * d - rx - t0) + ny * ((f32(v) - cy) * inv_fy * d - ry - t1) + nz * dz
        e = r * inv_tau
        w = max(one - e * e, zero)
        keep = (d > zero) & (near[v, u] > 0) & (abs(dz) < reach) & (w > zero) & (not outside)
        rows[0, n] = ry * nz - rz * ny
        rows[1, n] = rz * nx - rx * nz
        rows[2, n] = rx * ny - ry * nx
        rows[3, n] = nx
        rows[4, n] = ny
        rows[5, n] = nz
        rows[6, n] = r
        rows[7, n] = w * w
        weight += w * w if keep else zero
        n += 1 if keep else 0
    return n, weight


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _refine(points, normals, square, R, t, seen, tau_first, tau_last, steps, scratch, count):
    """Gauss-Newton on point-to-plane distances, each point paired with the depth at its pixel.

    Chen and Medioni, "Object modelling by registration of multiple range images", 1992; projective pairing as
    Blais and Levine, 1995. Tukey weights whose width shrinks from tau_first to tau_last. Changes R and t.
    """
    moved, rows, A, b, x, turn, _ = scratch
    for step in range(steps):
        tau = tau_first * (tau_last / tau_first) ** (step / max(steps - 1, 1))
        turn_columns(points, R, moved, 0, count)
        turn_columns(normals, R, moved, 3, count)
        _project(moved, t, seen, count)
        n, total = _residuals(moved, t, seen, tau, count, rows)
        if total < 6.0:
            return
        A[:] = 0.0
        b[:] = 0.0
        normal_equations(rows, n, A, b)
        # Damping relative to what a step moves: the object's radius for turns, one for shifts.
        for p in range(3):
            A[p, p] = A[p, p] * 1.001 + 1e-3 * total * square
            A[p + 3, p + 3] = A[p + 3, p + 3] * 1.001 + 3e-3 * total
        if not solve(A, b, x):
            return
        move(R, t, x, turn)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def refine_many(model, square, views, Rs, ts, seen, taus, steps, tau_score, use_luma, first, last, scores):
    """Refine hypotheses [first, last) in place and score them.

    The first `steps[0]` steps, with Tukey widths from taus[0] to taus[1], only have to find the way: half of the
    points do. `square` is the mean square radius of the object.
    """
    count = model.points.shape[2]
    scratch = make_scratch(count)
    for i in range(first, last):
        view = views[i]
        points = model.points[view]
        normals = model.normals[view]
        _refine(points, normals, square, Rs[i], ts[i], seen, taus[0], taus[1], steps[0], scratch, count // 2)
        _refine(points, normals, square, Rs[i], ts[i], seen, taus[1], taus[2], steps[1], scratch, count)
        scores[i] = _score(points, normals, model.luma[view], Rs[i], ts[i], seen, tau_score, use_luma, scratch, count)
