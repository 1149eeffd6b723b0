"""float32 to the bits of float16, for kernels: the compiler has no half type on every processor."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy")
def half_bits(value):
    """Bits of float16 as int32, rounded to nearest even. |value| must be below 65520; no NaN.

    No branches, so that loops over it become vector instructions.
    """
    size = np.float32(abs(value))
    sign = np.int32((np.float32(value).view(np.int32) >> np.int32(16)) & np.int32(0x8000))
    magnitude = np.int32(size.view(np.int32))
    odd = np.int32((magnitude >> np.int32(13)) & np.int32(1))
    normal = np.int32((magnitude - np.int32(0x38000000) + np.int32(0xFFF) + odd) >> np.int32(13))
    # Below the smallest normal half, adding 0.5 makes the adder itself round to multiples of 2^-24.
    small = np.int32(np.float32(size + np.float32(0.5)).view(np.int32) - np.int32(0x3F000000))
    return sign | (small if magnitude < np.int32(0x38800000) else normal)
