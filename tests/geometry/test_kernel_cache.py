"""Compiled kernels do not outlive a change of the sources they were made from."""

from __future__ import annotations

import os
from pathlib import Path

from gnomon.geometry.kernel_cache import forget_stale, is_cold


def test_kernels_older_than_any_source_are_forgotten(tmp_path: Path):
    (tmp_path / "__pycache__").mkdir()
    for name, age in (("kernel.py", 100), ("constants.py", 300)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (age, age))
    for name, age in (("kernel.draw-1.py311.nbi", 200), ("kernel.fill-1.py311.nbi", 400)):
        (tmp_path / "__pycache__" / name).touch()
        os.utime(tmp_path / "__pycache__" / name, (age, age))
    assert not is_cold(tmp_path)
    assert forget_stale(tmp_path) == 1
    assert [path.name for path in (tmp_path / "__pycache__").iterdir()] == ["kernel.fill-1.py311.nbi"]
    assert forget_stale(tmp_path) == 0
    (tmp_path / "__pycache__" / "kernel.fill-1.py311.nbi").unlink()
    assert is_cold(tmp_path)
