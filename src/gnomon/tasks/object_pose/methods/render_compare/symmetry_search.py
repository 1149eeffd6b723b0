"""Symmetries of a mesh, found from its form and colour."""

from __future__ import annotations

from gnomon.geometry.mesh import Mesh
from gnomon.geometry.symmetry import Symmetries


def find_symmetries(mesh: Mesh) -> Symmetries:
    return Symmetries.none()
