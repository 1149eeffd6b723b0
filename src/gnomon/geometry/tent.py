"""Samples to pixels: a separable tent filter in linear light, then 8-bit sRGB."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def tent_weights(step):
    """The 2 step - 1 weights of one axis; they sum to 1."""
    weights = np.empty(2 * step - 1, np.float32)
    for k in range(2 * step - 1):
        weights[k] = np.float32(step - abs(k - step + 1)) / np.float32(step * step)
    return weights


@numba.njit(cache=True, nogil=True, error_model="numpy")
def filter_columns(line, step, weights, out):
    """out[c, i] = sum over k of weights[k] * line[c, i * step + k]."""
    for ch in range(line.shape[0]):
        if step == 2:
            # The usual step, spelt out: with a constant stride the loop becomes vector instructions.
            for i in range(out.shape[1]):
                out[ch, i] = weights[0] * (line[ch, 2 * i] + line[ch, 2 * i + 2]) + weights[1] * line[ch, 2 * i + 1]
            continue
        for i in range(out.shape[1]):
            total = np.float32(0.0)
            for k in range(weights.shape[0]):
                total += weights[k] * line[ch, i * step + k]
            out[ch, i] = total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def write_rgb(ring, oldest, weights, to_srgb, out, px0):
    """Sum the filtered rows, oldest first, and write one row of pixels from column `px0` on.

    With four channels the colour is divided by the coverage, which becomes alpha. `ring` is used up.
    """
    taps, channels, n = ring.shape
    top = np.float32(to_srgb.shape[0] - 1)
    half = np.float32(0.5)
    one = np.float32(1.0)
    total = np.zeros((channels, n), np.float32)
    for k in range(taps):
        row = ring[(oldest + k) % taps]
        for ch in range(channels):
            for i in range(n):
                total[ch, i] += weights[k] * row[ch, i]
    for i in range(n):
        scale = top
        if channels == 4:
            if total[3, i] <= np.float32(0.0):
                continue
            out[px0 + i, 3] = np.uint8(min(total[3, i], one) * np.float32(255.0) + half)
            scale = top / total[3, i]
        for ch in range(3):
            value = total[ch, i] * scale
            # Written so that a NaN (a point in the lamp itself) counts as full light.
            out[px0 + i, ch] = to_srgb[np.int32((value if value < top else top) + half)]
