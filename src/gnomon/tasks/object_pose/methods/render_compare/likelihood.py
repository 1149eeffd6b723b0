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
    "chroma": -2.0,
}
"""What each pixel of a kind says for a pose, in agreeing pixels.

Fitted by logistic regression on pairs of a right and a wrong pose of tuning trials, and rounded. Above all a part of
the object behind something nearer costs next to nothing: occlusion is common, and charging for it favours poses that
turn a handle away from an occluder.
"""


(
    SCORE, NCC, CHROMA, AGREE, THROUGH_IN, THROUGH_OUT, NEARER_IN, HIDDEN, UNKNOWN_IN,
    UNKNOWN_OUT, UNEXPLAINED, MISFIT, SLANT, OUTSIDE, DRAWN, AGREE_OUT,
) = range(N_TERMS)  # fmt: skip

INNER, BORDER = 1.0, 0.3
"""What an unexplained mask pixel counts, well inside the mask and at its border."""

MOST_MISFIT = 9.0
FEWEST_PAIRS = 20

OUTSIDE_GAIN = 0.3
"""What an agreeing pixel counts for the score outside the mask."""


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def evaluate(shape, R, t, seen, tau, sigma, use_colour, scratch, out):
    """Draw one pose and count what kinds of pixel there are.

    Args:
        tau: metres at which a depth difference counts as none of the object's.
        sigma: metres, the sensor's noise at this distance.
        out: N_TERMS numbers, named in TERMS. _in and _out: inside and outside the mask. agree: depth as drawn;
            through: something farther was seen; nearer, hidden: something nearer; unknown: no depth; unexplained:
            mask pixels that are not drawn; misfit, slant: squared depth difference over its variance, and one minus
            the cosine between normals, summed over agreeing pixels; score: see `_score`.
    """
    nearness = scratch.nearness
    face = scratch.face
    size = seen.mask.shape[0]
    pinhole = (seen.fx, seen.fy, seen.cx, seen.cy)
    box = tile.draw(shape, R, t, pinhole, scratch.projected, nearness, face)
    turn_columns(shape.normals, R, scratch.face_normals, 0, shape.normals.shape[1])
    # Sums stay in registers here; in an array each would wait for the one before.
    agree_in = agree_out = through_in = through_out = nearer_in = hidden = unknown_in = unknown_out = 0
    unexplained_inner = unexplained_border = 0
    gains = misfits = slants = outside = 0.0
    for y in range(size):
        for x in range(size):
            inside = seen.mask[y, x]
            if face[y, x] < 0:
                unexplained_inner += inside == 2
                unexplained_border += inside == 1
                continue
            if seen.inside_picture[y, x] == 0:
                continue
            d = seen.surface[y, x, 0]
            z = 1.0 / nearness[y, x]
            if d <= 0.0:
                unknown_in += inside > 0
                unknown_out += inside == 0
            elif d - z >= tau:
                through_in += inside > 0
                through_out += inside == 0
            elif z - d >= tau:
                nearer_in += inside > 0
                hidden += inside == 0
            else:
                gain, misfit, slant = _agreement(seen, scratch.face_normals, face[y, x], x, y, d, z, tau, sigma)
                misfits += misfit
                slants += slant
                agree_in += inside > 0
                agree_out += inside == 0
                gains += gain if inside > 0 else OUTSIDE_GAIN * gain
                outside += min(seen.mask_distance[y, x], 4.0) * 0.25 if inside == 0 else 0.0
    out[NCC], out[CHROMA] = _colour(shape, R, t, seen, box, tau, scratch) if use_colour else (0.0, 0.0)
    tile.clear(box, nearness, face)
    out[AGREE], out[AGREE_OUT] = agree_in, agree_out
    out[THROUGH_IN], out[THROUGH_OUT] = through_in, through_out
    out[NEARER_IN], out[HIDDEN] = nearer_in, hidden
    out[UNKNOWN_IN], out[UNKNOWN_OUT] = unknown_in, unknown_out
    out[UNEXPLAINED] = INNER * unexplained_inner + BORDER * unexplained_border
    out[MISFIT], out[SLANT], out[OUTSIDE] = misfits, slants, outside
    out[DRAWN] = agree_in + agree_out + through_in + through_out + nearer_in + hidden + unknown_in + unknown_out
    out[SCORE] = _score(out, gains)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _agreement(seen, face_normals, k, x, y, d, z, tau, sigma):
    """How well an agreeing pixel agrees: its gain, misfit and slant."""
    nx = face_normals[0, k]
    ny = face_normals[1, k]
    nz = face_normals[2, k]
    along = nx * (x - seen.cx) / seen.fx + ny * (y - seen.cy) / seen.fy + nz
    # Half a pixel aside on a slanted surface changes the depth by as much as noise does.
    slope = np.sqrt(max(1.0 - nz * nz, 0.0)) / max(abs(along), 0.15)
    e = d - z
    misfit = min(e * e / (sigma * sigma + (0.5 * z / seen.fx * slope) ** 2), MOST_MISFIT)
    gain = 1.0 - (e / tau) ** 2
    sz = seen.surface[y, x, 3]
    if sz == 0.0:
        return gain, misfit, 0.0
    dot = seen.surface[y, x, 1] * nx + seen.surface[y, x, 2] * ny + sz * nz
    dot = max(0.0, -dot if along > 0.0 else dot)
    return gain * (0.3 + 0.7 * dot), misfit, 1.0 - dot


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _colour(shape, R, t, seen, box, tau, scratch):
    """Correlation of brightness, and mean difference in chromaticity, over the mask's agreeing pixels."""
    m1 = m2 = p1 = p2 = mp = chroma = 0.0
    n = 0
    for y in range(box[1], box[3] + 1):
        for x in range(box[0], box[2] + 1):
            if scratch.face[y, x] < 0 or seen.mask[y, x] == 0:
                continue
            z = 1.0 / scratch.nearness[y, x]
            if seen.surface[y, x, 0] <= 0.0 or abs(seen.surface[y, x, 0] - z) >= tau:
                continue
            i, j, l = colour_at(shape, R, t, (x - seen.cx) / seen.fx * z, (y - seen.cy) / seen.fy * z, z)  # noqa: E741
            cell = shape.colours[i, j, l]
            mr, mg, mb = cell[0] / 255.0, cell[1] / 255.0, cell[2] / 255.0
            pr, pg, pb = seen.rgb[y, x, 0], seen.rgb[y, x, 1], seen.rgb[y, x, 2]
            model = 0.299 * mr + 0.587 * mg + 0.114 * mb
            picture = 0.299 * pr + 0.587 * pg + 0.114 * pb
            m1 += model
            m2 += model * model
            p1 += picture
            p2 += picture * picture
            mp += model * picture
            n += 1
            model_sum = mr + mg + mb + 0.1
            picture_sum = pr + pg + pb + 0.1
            chroma += abs(mr / model_sum - pr / picture_sum) + abs(mg / model_sum - pg / picture_sum)
    if n <= FEWEST_PAIRS:
        return 0.0, 0.0
    variance = (m2 / n - (m1 / n) ** 2 + 4e-4) * (p2 / n - (p1 / n) ** 2 + 4e-4)
    return (mp / n - m1 / n * p1 / n) / np.sqrt(variance), chroma / n


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _score(out, gains):
    """The share of the visible surface and of the mask that agree, 0 to 1."""
    bad = out[THROUGH_IN] + out[THROUGH_OUT] + 0.7 * out[NEARER_IN] + 0.25 * out[UNKNOWN_OUT]
    total = out[AGREE] + out[AGREE_OUT] + bad + out[UNEXPLAINED] + 0.15 * out[HIDDEN] + 0.3 * out[UNKNOWN_IN]
    return (gains + 0.25 * out[UNKNOWN_IN]) / (total + 1e-9)


def evidence(terms: Float64[np.ndarray, "n k"], mask_pixels: float, use_colour: bool) -> Float64[np.ndarray, " n"]:
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
