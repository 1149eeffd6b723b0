"""How good results are: errors against ground truth, and scores made of them.

Compiled kernels are kept beside their source; those that are out of date are thrown away before any is loaded.
"""

from __future__ import annotations

from pathlib import Path

from gnomon.geometry.kernel_cache import forget_stale

forget_stale(Path(__file__).parent)
