"""Hypotheses as point sets: score thousands, refine hundreds, without drawing anything.

A hypothesis is a template (256 visible points of one of 162 viewing directions) turned about the camera's axis and
moved so that its centre lies on the mask's. Points are compared with the depth at the pixel where they fall.
"""

from __future__ import annotations

import numba
import numpy as np

from gnomon.tasks.object_pose.methods.render_compare.linear6 import add, move, solve

GRID = 12
"""The mask is divided into GRID x GRID cells to see how much of it a hypothesis covers."""

SEEN_NEARER_OUTSIDE = 0.1
"""Cost of a point behind something outside the mask: most likely hidden by an occluder."""

SEEN_NEARER_INSIDE = 0.5
UNMEASURED = 0.5


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def score(points, normals, luma, R, t, seen, tau, use_luma, cells, cell_pixels):
    """How well a point set fits, 0 to 1 (up to 1.3 with colour).

    Args:
        points, normals: (n, 3) float32, object frame.
        luma: (n,) float32, the model's brightness at the points.
        R, t: pose of the object in the camera's frame.
        seen: the Observation.
        tau: depth difference in metres at which a point counts nothing.
        cells: (GRID, GRID) uint8 scratch.
        cell_pixels: (GRID, GRID) float32, mask pixels in each cell.
    """
    depth = seen.depth
    height, width = depth.shape
    fx, fy, cx, cy = seen.fx, seen.fy, seen.cx, seen.cy
    gain = n = bad = 0.0
    m1 = m2 = o1 = o2 = mo = pairs = 0.0
    cells[:] = 0
    to_cell_x = GRID / width
    to_cell_y = GRID / height
    inv_tau = 1.0 / tau
    for i in range(points.shape[0]):
        px = points[i, 0]
        py = points[i, 1]
        pz = points[i, 2]
        z = R[2, 0] * px + R[2, 1] * py + R[2, 2] * pz + t[2]
        inv_z = 1.0 / z
        fu = fx * (R[0, 0] * px + R[0, 1] * py + R[0, 2] * pz + t[0]) * inv_z + cx + 0.5
        fv = fy * (R[1, 0] * px + R[1, 1] * py + R[1, 2] * pz + t[1]) * inv_z + cy + 0.5
        if not (fu >= 0.0 and fv >= 0.0 and fu < width and fv < height):
            # What lies outside the crop is neither confirmed nor denied if the picture itself ends there.
            bad += 1.0
            continue
        u = int(fu)
        v = int(fv)
        inside = seen.mask[v, u]
        if inside > 0:
            cells[int(v * to_cell_y), int(u * to_cell_x)] = 1
        d = depth[v, u]
        if d <= 0.0:
            n += UNMEASURED
            if inside > 0:
                gain += 0.3
            continue
        e = (d - z) * inv_tau
        if e > 1.0:
            bad += 1.0
        elif e < -1.0:
            if inside > 0:
                bad += SEEN_NEARER_INSIDE
                n += SEEN_NEARER_INSIDE
            else:
                n += SEEN_NEARER_OUTSIDE
        else:
            w = 1.0 - abs(e)
            nx = seen.normal[v, u, 0]
            ny = seen.normal[v, u, 1]
            nz = seen.normal[v, u, 2]
            if nz != 0.0:
                ax = normals[i, 0]
                ay = normals[i, 1]
                az = normals[i, 2]
                dot = (
                    nx * (R[0, 0] * ax + R[0, 1] * ay + R[0, 2] * az)
                    + ny * (R[1, 0] * ax + R[1, 1] * ay + R[1, 2] * az)
                    + nz * (R[2, 0] * ax + R[2, 1] * ay + R[2, 2] * az)
                )
                w *= max(0.0, dot)
            if inside == 0:
                w *= 0.3
            gain += w
            n += 1.0
            if use_luma and inside > 0:
                lm = luma[i]
                lo = seen.luma[v, u]
                m1 += lm
                m2 += lm * lm
                o1 += lo
                o2 += lo * lo
                mo += lm * lo
                pairs += 1.0
    covered = total = 0.0
    for i in range(GRID):
        for j in range(GRID):
            total += cell_pixels[i, j]
            if cells[i, j] > 0:
                covered += cell_pixels[i, j]
    result = gain / (n + bad + 1e-6) * covered / max(total, 1e-6)
    if use_luma and pairs > 20.0:
        vm = m2 / pairs - (m1 / pairs) ** 2
        vo = o2 / pairs - (o1 / pairs) ** 2
        result += 0.3 * (mo / pairs - m1 / pairs * o1 / pairs) / np.sqrt((vm + 4e-4) * (vo + 4e-4))
    return result


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def score_templates(model, seen, angles, centres, depth_m, centre_uv, tau, n_points, use_luma, first, last, out):
    """Score every template of [first, last) at every angle about the camera's axis into out (views, angles).

    Args:
        model: PointModel.
        angles: radians.
        centres: (views, 3), the template's centre in its camera's axes, put on the mask's centre.
        depth_m: depth of the mask's centre.
        centre_uv: the mask's centre in pixels.
    """
    cells = np.zeros((GRID, GRID), np.uint8)
    R = np.empty((3, 3))
    t = np.empty(3)
    for view in range(first, last):
        points = model.points[view, :n_points]
        normals = model.normals[view, :n_points]
        luma = model.luma[view, :n_points]
        for a in range(angles.shape[0]):
            pose_of(model.R_cam_obj[view], angles[a], centres[view], depth_m, centre_uv, seen, R, t)
            out[view, a] = score(points, normals, luma, R, t, seen, tau, use_luma, cells, seen.cell_pixels)


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
def refine(points, normals, R, t, seen, tau_first, tau_last, steps, scratch):
    """Gauss-Newton on point-to-plane distances, each point paired with the depth at its pixel.

    Chen and Medioni, "Object modelling by registration of multiple range images", 1992; projective pairing as
    Blais and Levine, 1995. Tukey weights whose width shrinks from tau_first to tau_last. Changes R and t.
    """
    A, b, x, J, turn = scratch
    depth = seen.depth
    height, width = depth.shape
    fx, fy, cx, cy = seen.fx, seen.fy, seen.cx, seen.cy
    square = 0.0
    for i in range(points.shape[0]):
        square += points[i, 0] ** 2 + points[i, 1] ** 2 + points[i, 2] ** 2
    square /= points.shape[0]
    for step in range(steps):
        tau = tau_first * (tau_last / tau_first) ** (step / max(steps - 1, 1))
        A[:] = 0.0
        b[:] = 0.0
        total = 0.0
        for i in range(points.shape[0]):
            px = points[i, 0]
            py = points[i, 1]
            pz = points[i, 2]
            rx = R[0, 0] * px + R[0, 1] * py + R[0, 2] * pz
            ry = R[1, 0] * px + R[1, 1] * py + R[1, 2] * pz
            rz = R[2, 0] * px + R[2, 1] * py + R[2, 2] * pz
            z = rz + t[2]
            inv_z = 1.0 / z
            fu = fx * (rx + t[0]) * inv_z + cx + 0.5
            fv = fy * (ry + t[1]) * inv_z + cy + 0.5
            if not (fu >= 0.0 and fv >= 0.0 and fu < width and fv < height):
                continue
            u = int(fu)
            v = int(fv)
            d = depth[v, u]
            if d <= 0.0 or seen.near_mask[v, u] == 0 or abs(d - z) > 3.0 * tau:
                continue
            ax = normals[i, 0]
            ay = normals[i, 1]
            az = normals[i, 2]
            nx = R[0, 0] * ax + R[0, 1] * ay + R[0, 2] * az
            ny = R[1, 0] * ax + R[1, 1] * ay + R[1, 2] * az
            nz = R[2, 0] * ax + R[2, 1] * ay + R[2, 2] * az
            r = nx * ((u - cx) / fx * d - rx - t[0]) + ny * ((v - cy) / fy * d - ry - t[1]) + nz * (d - z)
            e = r / tau
            w = 1.0 - e * e
            if w <= 0.0:
                continue
            w *= w
            J[0] = ry * nz - rz * ny
            J[1] = rz * nx - rx * nz
            J[2] = rx * ny - ry * nx
            J[3] = nx
            J[4] = ny
            J[5] = nz
            total += w
            add(A, b, J, r, w)
        if total < 6.0:
            return
        # Damping relative to what a step moves: the object's radius for turns, one for shifts.
        for p in range(3):
            A[p, p] = A[p, p] * 1.001 + 1e-3 * total * square
            A[p + 3, p + 3] = A[p + 3, p + 3] * 1.001 + 3e-3 * total
        if not solve(A, b, x):
            return
        move(R, t, x, turn)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def refine_many(model, views, Rs, ts, seen, taus, steps, tau_score, use_luma, first, last, scores):
    """Refine hypotheses [first, last) in place and score them."""
    cells = np.zeros((GRID, GRID), np.uint8)
    scratch = (np.empty((6, 6)), np.empty(6), np.empty(6), np.empty(6), np.empty((3, 3)))
    half = model.points.shape[1] // 2
    for i in range(first, last):
        view = views[i]
        points = model.points[view]
        normals = model.normals[view]
        # The first steps only have to find the way; half of the points do.
        refine(points[:half], normals[:half], Rs[i], ts[i], seen, taus[0], taus[1], steps[0], scratch)
        refine(points, normals, Rs[i], ts[i], seen, taus[1], taus[2], steps[1], scratch)
        scores[i] = score(
            points, normals, model.luma[view], Rs[i], ts[i], seen, tau_score, use_luma, cells, seen.cell_pixels
        )
