"""Geometry in NumPy and Numba, and the conventions that all of gnomon follows.

- Lengths are metres, times seconds, angles radians.
- Cameras follow OpenCV: +x right, +y down, +z forward (into the scene). `K` is 3x3 in pixels.
- Pixel centres lie at integer coordinates: the top-left pixel covers [-0.5, 0.5] x [-0.5, 0.5].
- `T_a_b` (4x4) maps points of frame b into frame a: `p_a = T_a_b @ p_b`. An object's pose is `T_cam_obj`.
- Quaternions are wxyz. Files keep their own order; `gnomon.formats` converts, and nothing else does.
- Mesh vertices stay in the file's own unit next to a `unit`; see `gnomon.geometry.units` for the factors.
"""

from pathlib import Path

from gnomon.geometry.kernel_cache import forget_stale

forget_stale(Path(__file__).parent)
