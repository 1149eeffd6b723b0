"""Scanned and designed objects out of a folder of mesh files, brought to metres and a size that fits a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gnomon.formats.mesh_file import load_mesh
from gnomon.geometry.symmetry import Symmetries
from gnomon.geometry.units import METRES_PER
from gnomon.tasks.synthetic.shapes import Shape


@dataclass(frozen=True)
class _Source:
    file: str
    """Path in the folder."""
    size: str | float
    """Unit of the file's numbers, or the diagonal of the bounding box in metres where they have none."""
