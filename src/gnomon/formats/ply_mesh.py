"""A PLY file as a Mesh: vertex and face colours, normals, texture coordinates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from gnomon.formats import ply
from gnomon.formats.mesh_companions import companions
from gnomon.formats.picture import read_picture
from gnomon.geometry.mesh import Mesh

_UV_NAMES = (("u", "v"), ("s", "t"), ("texture_u", "texture_v"), ("texture_s", "texture_t"))
_UV_LIST = "texcoord"


def ply_to_mesh(path: Path) -> Mesh:
    """Decode `path`. Faces may still be degenerate or use vertices that do not exist. Raises PlyError."""
    data = path.read_bytes()
    header = ply.read_header(data[: ply.MAX_HEADER_BYTES])
    tables = ply.read_tables(data, header)
    vertex, face = tables.get("vertex", ply.Table()), tables.get("face", ply.Table())
    vertices = _columns(vertex, ("x", "y", "z"))
    if vertices is None:
        if header.count("vertex"):
            raise ply.PlyError("vertices have no x, y, z")
        vertices = np.zeros((0, 3))
    faces, row, places = ply.face_corners(face)
    face_rgb = _colours(face)
    mesh = Mesh(
        vertices=vertices.astype(np.float64),
        faces=faces,
        vertex_normals=_columns(vertex, ("nx", "ny", "nz")),
        vertex_rgb=_colours(vertex),
        face_rgb=None if face_rgb is None else face_rgb[row],
    )
    return _with_texture(mesh, path, header, vertex, face, places)


def _columns(table: ply.Table, names: tuple[str, ...]) -> Float[np.ndarray, "rows n"] | None:
    if not all(name in table.columns for name in names):
        return None
    return np.column_stack([table.columns[name] for name in names]).astype(np.float64)


def _colours(table: ply.Table) -> UInt8[np.ndarray, "rows 3"] | None:
    """red, green, blue as bytes; colours stored as fractions are scaled."""
    for names in (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue")):
        values = _columns(table, names)
        if values is not None:
            stored = table.columns[names[0]].dtype.kind
            # In ASCII everything is read as float: fractions show by their range.
            if stored == "f" and values.size and values.max() <= 1.0 and (values % 1 != 0).any():
                values = np.round(values * 255)
            return np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)
    return None


def _with_texture(
    mesh: Mesh, path: Path, header: ply.Header, vertex: ply.Table, face: ply.Table, places: Int[np.ndarray, "F 3"]
) -> Mesh:
    """Add the picture named by `comment TextureFile`, if it is there and the file says where it goes."""
    names = [name for name in companions(path) if name in header.textures]
    picture = read_picture(path.parent / names[0]) if names else None
    if picture is None:
        return mesh
    uv = next((found for pair in _UV_NAMES if (found := _columns(vertex, pair)) is not None), None)
    if uv is None:
        uv = _corner_uv(face, places)
        if uv is None:
            return mesh
        mesh = _split_corners(mesh)
    return replace(mesh, uv=uv, textures=(picture,), face_texture=np.zeros(len(mesh.faces), np.int32))


def _corner_uv(face: ply.Table, places: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "3*F 2"] | None:
    """Texture coordinates that the face element lists for each of its corners, corner after corner."""
    if _UV_LIST not in face.lists:
        return None
    name = next(name for name in face.lists if name != _UV_LIST)
    values, starts = face.lists[_UV_LIST]
    corner_starts = face.lists[name][1]
    row = np.searchsorted(corner_starts, places[:, 0], side="right") - 1
    # Corner c of a row has its u at 2c of the row's list.
    at = starts[row][:, None] + 2 * (places - corner_starts[row][:, None])
    if at.size and at.max() + 1 >= len(values):
        return None
    return np.stack((values[at], values[at + 1]), axis=-1).reshape(-1, 2).astype(np.float64)


def _split_corners(mesh: Mesh) -> Mesh:
    """Give every triangle three vertices of its own."""
    corner = mesh.faces.reshape(-1)
    if corner.size and (corner.min() < 0 or corner.max() >= len(mesh.vertices)):
        raise ply.PlyError("a face uses a vertex that does not exist")
    return replace(
        mesh,
        vertices=mesh.vertices[corner],
        faces=np.arange(len(corner)).reshape(-1, 3),
        vertex_normals=None if mesh.vertex_normals is None else mesh.vertex_normals[corner],
        vertex_rgb=None if mesh.vertex_rgb is None else mesh.vertex_rgb[corner],
    )
