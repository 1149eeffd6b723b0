"""Scanned and designed objects out of a folder of mesh files, in metres and of a size that fits a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnomon.errors import InputError
from gnomon.formats.mesh_file import load_mesh
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.symmetry import Axis, Symmetries
from gnomon.geometry.units import METRES_PER_UNIT, Unit
from gnomon.tasks.synthetic.shapes import Shape


def _no_symmetry(mesh: Mesh) -> Symmetries:
    return Symmetries.none()


def _about_length(mesh: Mesh) -> Symmetries:
    """Any turn about the principal axis along which the surface is longest."""
    corners = mesh.vertices[mesh.faces]
    weight = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    weight /= weight.sum()
    centre = weight @ corners.mean(axis=1)
    # The second moments of a triangle's area are those of the middles of its sides, a third each.
    middles = (corners + np.roll(corners, 1, axis=1)) / 2 - centre
    _, axes = np.linalg.eigh(np.einsum("f,fki,fkj->ij", weight / 3, middles, middles))
    return Symmetries(np.empty((0, 4, 4)), (Axis(axes[:, 2], centre),))


@dataclass(frozen=True)
class _Source:
    file: str
    """Path below the folder."""
    unit: Unit | None
    """Of the file's numbers; None where they have none."""
    diameter_m: float = 0.0
    """Diagonal of the bounding box to give an object without a unit."""
    symmetries: Callable[[Mesh], Symmetries] = _no_symmetry


_SOURCES = {
    "bunny": _Source("bunny/bunny.ply", "m"),
    "fandisk": _Source("fandisk/fandisk.obj", None, 0.12),
    "featuretype": _Source("featuretype_inch/featuretype.STL", "inch"),
    "cycloidal": _Source("cycloidal/cycloidal.ply", None, 0.1),
    "duck": _Source("duck_textured_glb/Duck.glb", None, 0.12),
    "fuze": _Source("fuze_textured/fuze.obj", "m"),
    "iron": _Source("lm_iron_vertexcolour/obj_000013.ply", "mm"),
    "chair": _Source("chair/chair_model.obj", None, 0.15),
    "busted": _Source("busted/busted.STL", None, 0.12),
    # Its picture is missing, and without print only the tab tells one side of a can from another.
    "coke": _Source("coke_sam6d_templates/coke.ply", "m", symmetries=_about_length),
}

REAL = tuple(_SOURCES)
"""Names of the objects that `real_shape` can read."""


def real_shape(folder: Path, name: str) -> Shape:
    """One of the objects of `REAL` from its file below `folder`.

    Raises InputError for another name, and as `load_mesh` does, for instance `mesh_not_found`.
    """
    if name not in _SOURCES:
        raise InputError(
            f"there is no real shape {name!r}",
            field="name",
            value=name,
            expected="one of: " + ", ".join(_SOURCES),
            fix="take a name of REAL",
        )
    source = _SOURCES[name]
    mesh = load_mesh(folder / source.file)
    mesh = mesh.scaled(METRES_PER_UNIT[source.unit] if source.unit else source.diameter_m / mesh.diameter)
    return Shape(name, mesh, source.symmetries(mesh))


def real_shapes(folder: Path) -> tuple[Shape, ...]:
    """All objects of `REAL`."""
    return tuple(real_shape(folder, name) for name in REAL)
