"""How well a drawn hypothesis explains what was seen, pixel by pixel."""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float64

from gnomon.tasks.object_pose.methods.render_compare import tile
from gnomon.tasks.object_pose.methods.render_compare.dense import colour_at, make_scratch
from gnomon.tasks.object_pose.methods.render_compare.points import turn_columns

TERMS = (
    "score", "ncc", "chroma", "agree", "through_in", "through_out", "nearer_in", "hidden", "unknown_in",
    "unknown_out", "unexplained", "misfit", "slant", "outside", "drawn", "agree_out",
)  # fmt: skip
"""Names of what `evaluate` counts; see there."""

N_TERMS = len(TERMS)

WEIGHTS = {
    "agree": 1.0,
    "agree_out": 0.2,
    "through_in": -0.3,
    "through_out": -0.68,
    "nearer_in": -0.24,
    "hidden": -0.05,
    "unknown_out": -0.03,
    "unexplained": -0.4,
    "misfit": -0.06,
    "slant": -0.08,
    "ncc": 0.25,
    "chroma": -0.4,
}
"""What each pixel of a kind says for a pose, in agreeing pixels.

Fitted by logistic regression on pairs of a right and a wrong pose of tuning trials, and rounded. Above all a part of
the object behind something nearer costs next to nothing: occlusion is common, and charging for it favours poses that
turn a handle away from an occluder.
"""


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
    box = tile.draw(shape, R, t, (fx, fy, cx, cy), scratch.projected, nearness, face)
    turn_columns(shape.normals, R, turned, 0, shape.normals.shape[1])
    gain = agree = agree_out = unexplained = 0.0
    through_in = through_out = nearer_in = hidden = unknown_in = unknown_out = 0.0
    drawn = misfit = slant = outside = 0.0
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
                continue
            if seen.inside_picture[y, x] == 0:
                continue
            drawn += 1.0
            d = seen.surface[y, x, 0]
            if d <= 0.0:
                if inside > 0:
                    unknown_in += 1.0
                else:
                    unknown_out += 1.0
                continue
            z = 1.0 / nearness[y, x]
            e = (d - z) * inv_tau
            if e >= 1.0:
                if inside > 0:
                    through_in += 1.0
                else:
                    through_out += 1.0
                continue
            if e <= -1.0:
                if inside > 0:
                    nearer_in += 1.0
                else:
                    hidden += 1.0
                continue
            rx = (x - cx) / fx
            ry = (y - cy) / fy
            nx = turned[0, k]
            ny = turned[1, k]
            nz = turned[2, k]
            along = nx * rx + ny * ry + nz
            # Half a pixel aside on a slanted surface changes the depth by as much as noise does.
            slope = np.sqrt(max(1.0 - nz * nz, 0.0)) / max(abs(along), 0.15)
            g = (d - z) * (d - z) / (sigma * sigma + (0.5 * z / fx * slope) ** 2)
            misfit += min(g, 9.0)
            w = 1.0 - e * e
            sz = seen.surface[y, x, 3]
            if sz != 0.0:
                dot = seen.surface[y, x, 1] * nx + seen.surface[y, x, 2] * ny + sz * nz
                if along > 0.0:
                    dot = -dot
                dot = max(0.0, dot)
                slant += 1.0 - dot
                w *= 0.3 + 0.7 * dot
            if inside > 0:
                agree += 1.0
            else:
                agree_out += 1.0
                w *= 0.3
                outside += min(seen.mask_distance[y, x], 4.0) * 0.25
            gain += w
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
    bad = through_in + through_out + 0.7 * nearer_in + 0.25 * unknown_out
    total = agree + agree_out + bad + unexplained + 0.15 * hidden + 0.3 * unknown_in
    out[0] = (gain + 0.25 * unknown_in) / (total + 1e-9)
    out[1] = 0.0
    out[2] = 0.0
    if pairs > 20.0:
        vm = m2 / pairs - (m1 / pairs) ** 2
        vo = o2 / pairs - (o1 / pairs) ** 2
        out[1] = (mo / pairs - m1 / pairs * o1 / pairs) / np.sqrt((vm + 4e-4) * (vo + 4e-4))
        out[2] = chroma / pairs
    out[3] = agree
    out[4] = through_in
    out[5] = through_out
    out[6] = nearer_in
    out[7] = hidden
    out[8] = unknown_in
    out[9] = unknown_out
    out[10] = unexplained
    out[11] = misfit
    out[12] = slant
    out[13] = outside
    out[14] = drawn
    out[15] = agree_out


def evidence(
    terms: Float64[np.ndarray, "n k"], mask_pixels: float, use_colour: bool
) -> Float64[np.ndarray, " n"]:
    """How strongly the picture speaks for each pose; about 1 for a perfect one, comparable within a picture."""
    total = np.zeros(len(terms))
    for name, weight in WEIGHTS.items():
        if name in ("ncc", "chroma"):
            continue
        total += weight * terms[:, TERMS.index(name)]
    total /= mask_pixels
    if use_colour:
        total += WEIGHTS["ncc"] * terms[:, 1] + WEIGHTS["chroma"] * terms[:, 2]
    return total


def evidence_without_mask(terms: Float64[np.ndarray, "n k"], use_colour: bool) -> Float64[np.ndarray, " n"]:
    """`evidence` where the mask is only expected from a pose, and must not speak for that pose."""
    count = {name: terms[:, i] for i, name in enumerate(TERMS)}
    through = count["through_in"] + count["through_out"]
    total = count["agree"] + count["agree_out"] - 0.6 * through - 0.2 * count["nearer_in"] - 0.05 * count["hidden"]
    total = total - 0.1 * count["misfit"] - 0.1 * count["slant"]
    total = total / max(float(count["drawn"].max()), 1.0)
    if use_colour:
        total = total + WEIGHTS["ncc"] * count["ncc"] + WEIGHTS["chroma"] * count["chroma"]
    return total


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def evaluate_many(shape, Rs, ts, seen, tau, sigma, use_colour, first, last, out):
    """Evaluate poses [first, last) into the rows of out."""
    scratch = make_scratch(shape.vertices.shape[1], shape.faces.shape[0], seen.mask.shape[0])
    for i in range(first, last):
        evaluate(shape, Rs[i], ts[i], seen, tau, sigma, use_colour, scratch, out[i])
