"""Meshes as the templates want them: read, and with the shading that the reference renderer would give them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gnomon.formats.mesh_file import load_mesh
from gnomon.geometry.mesh import Mesh


def read_mesh(path: str | Path) -> Mesh:
    """`load_mesh` for templates: PLY files are drawn with flat faces even if they have vertex normals.

    Of the reference pictures of SAM-6D's own example, made from a PLY with normals, flat shading is the closer
    one. OBJ and glTF keep their normals, as Blender's importers do.

    Raises:
        InputError: what `load_mesh` raises.
    """
    mesh = load_mesh(path)
    if Path(path).suffix.lower() == ".ply":
        return dataclasses.replace(mesh, vertex_normals=None)
    return mesh
