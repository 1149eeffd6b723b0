"""How well a drawn hypothesis explains what was seen, pixel by pixel."""

from __future__ import annotations

import numba
import numpy as np

from gnomon.tasks.object_pose.methods.render_compare import tile
from gnomon.tasks.object_pose.methods.render_compare.dense import colour_at, make_scratch
from gnomon.tasks.object_pose.methods.render_compare.points import turn_columns

N_TERMS = 16


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def evaluate(shape, R, t, seen, tau, sigma, use_colour, scratch, out):
    """Draw one pose and compare.

    Args:
        tau: metres at which a depth difference counts as none of the object's.
        sigma: metres, the sensor's noise at this distance.
        out: N_TERMS numbers, see the names in `search`.
    """
    nearness = scratch.nearness
    face = scratch.face
    turned = scratch.face_normals
    size = seen.mask.shape[0]
    fx, fy, cx, cy = seen.fx, seen.fy, seen.cx, seen.cy
    box = tile.draw(shape, R, t, seen, scratch.projected, nearness, face)
    turn_columns(shape.normals, R, turned, 0, shape.normals.shape[1])
    gain = agree = bad = hidden = unexplained = unknown = drawn = 0.0
    ll_in = ll_through = ll_hidden_in = ll_hidden_out = ll_outside = ll_missed = 0.0
    m1 = m2 = o1 = o2 = mo = pairs = chroma = 0.0
    inv_tau = 1.0 / tau
    for y in range(size):
        for x in range(size):
            k = face[y, x]
            inside = seen.mask[y, x]
            if k < 0:
                if inside == 2:
                    unexplained += 1.0
                elif inside == 1:
                    unexplained += 0.3
                if inside > 0:
                    ll_missed += min(-seen.mask_distance[y, x], 4.0) * 0.25
                continue
            if seen.inside_picture[y, x] == 0:
                continue
            drawn += 1.0
            d = seen.surface[y, x, 0]
            if d <= 0.0:
                if inside > 0:
                    unknown += 1.0
                else:
                    bad += 0.25
                    ll_outside += 0.3 * min(seen.mask_distance[y, x], 4.0) * 0.25
                continue
            z = 1.0 / nearness[y, x]
            e = (d - z) * inv_tau
            rx = (x - cx) / fx
            ry = (y - cy) / fy
            nx = turned[0, k]
            ny = turned[1, k]
            nz = turned[2, k]
            along = nx * rx + ny * ry + nz
            # Half a pixel aside on a slanted surface changes the depth by as much as noise does.
            slope = np.sqrt(max(1.0 - nz * nz, 0.0)) / max(abs(along), 0.15)
            spread = np.sqrt(sigma * sigma + (0.5 * z / fx * slope) ** 2)
            g = (d - z) / spread
            if abs(g) < 3.5 or abs(e) < 1.0:
                cost = min(0.5 * g * g, 6.0)
                if inside == 0:
                    ll_outside += min(seen.mask_distance[y, x], 4.0) * 0.25
                ll_in += cost
            elif g > 0.0:
                ll_through += 1.0
            elif inside > 0:
                ll_hidden_in += 1.0
            else:
                ll_hidden_out += 1.0
            if e >= 1.0:
                bad += 1.0
            elif e <= -1.0:
                if inside > 0:
                    bad += 0.7
                else:
                    hidden += 1.0
            else:
                w = 1.0 - e * e
                sx = seen.surface[y, x, 1]
                sy = seen.surface[y, x, 2]
                sz = seen.surface[y, x, 3]
                if sz != 0.0:
                    dot = sx * nx + sy * ny + sz * nz
                    if along > 0.0:
                        dot = -dot
                    w *= 0.3 + 0.7 * max(0.0, dot)
                if inside == 0:
                    w *= 0.3
                gain += w
                agree += 1.0
                if use_colour and inside > 0:
                    i, j, l = colour_at(shape, R, t, rx * z, ry * z, z)  # noqa: E741
                    c = shape.colours[i, j, l]
                    cr = c[0] / 255.0
                    cg = c[1] / 255.0
                    cb = c[2] / 255.0
                    pr = seen.rgb[y, x, 0]
                    pg = seen.rgb[y, x, 1]
                    pb = seen.rgb[y, x, 2]
                    lm = 0.299 * cr + 0.587 * cg + 0.114 * cb
                    lo = 0.299 * pr + 0.587 * pg + 0.114 * pb
                    m1 += lm
                    m2 += lm * lm
                    o1 += lo
                    o2 += lo * lo
                    mo += lm * lo
                    pairs += 1.0
                    sm = cr + cg + cb + 0.1
                    so = pr + pg + pb + 0.1
                    chroma += abs(cr / sm - pr / so) + abs(cg / sm - pg / so)
    tile.clear(box, nearness, face)
    total = agree + bad + unexplained + 0.15 * hidden + 0.3 * unknown
    out[0] = (gain + 0.25 * unknown) / (total + 1e-9)
    out[1] = 0.0
    out[2] = 0.0
    if pairs > 20.0:
        vm = m2 / pairs - (m1 / pairs) ** 2
        vo = o2 / pairs - (o1 / pairs) ** 2
        out[1] = (mo / pairs - m1 / pairs * o1 / pairs) / np.sqrt((vm + 4e-4) * (vo + 4e-4))
        out[2] = chroma / pairs
    out[3] = agree
    out[4] = bad
    out[5] = unexplained
    out[6] = hidden
    out[7] = unknown
    out[8] = drawn
    out[9] = ll_in
    out[10] = ll_through
    out[11] = ll_hidden_in
    out[12] = ll_hidden_out
    out[13] = ll_outside
    out[14] = ll_missed
    out[15] = pairs


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def evaluate_many(shape, Rs, ts, seen, tau, sigma, use_colour, first, last, out):
    """Evaluate poses [first, last) into the rows of out."""
    scratch = make_scratch(shape.vertices.shape[1], shape.faces.shape[0], seen.mask.shape[0])
    for i in range(first, last):
        evaluate(shape, Rs[i], ts[i], seen, tau, sigma, use_colour, scratch, out[i])
