"""Read a triangle mesh from PLY, OBJ, STL or glTF: the file's own axes and unit, all its geometry as one mesh.

The errors are InputError with field "mesh": mesh_not_found, mesh_format, mesh_unreadable, mesh_empty,
mesh_no_faces, mesh_not_finite, mesh_degenerate, mesh_too_large.
"""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import numpy as np

from gnomon.errors import InputError
from gnomon.formats import ply
from gnomon.formats.mesh_companions import missing_companions
from gnomon.formats.ply_mesh import ply_to_mesh
from gnomon.geometry.mesh import Mesh

EXTENSIONS = (".ply", ".obj", ".stl", ".glb", ".gltf")
MAX_TRIANGLES = 5_000_000
MAX_BYTES = 2_000_000_000

_STL_HEADER = 84
_STL_TRIANGLE = 50


def load_mesh(path: str | Path, *, max_triangles: int = MAX_TRIANGLES, max_bytes: int = MAX_BYTES) -> Mesh:
    """Read a mesh. What had to be mended or left out is in the mesh's `warnings`."""
    path = Path(path)
    check_announced(path, max_triangles=max_triangles, max_bytes=max_bytes)
    warnings: list[str] = []
    if path.suffix.lower() not in (".stl", ".glb"):
        warnings = [f"{name} is missing or out of reach: drawn without it" for name in missing_companions(path)]
    try:
        mesh = _decode(path)
    except ply.PlyError as error:
        raise _error("mesh_unreadable", f"{path.name} cannot be read: {error}", path) from error
    except InputError:
        raise
    except Exception as error:  # the readers of damaged files raise whatever the damage led to
        message = f"{path.name} cannot be read: {type(error).__name__}: {error}"
        raise _error("mesh_unreadable", message, path) from error
    _check_vertices(mesh, path)
    _check_triangle_count(len(mesh.faces), max_triangles, path)
    return _without_degenerate(mesh, path, warnings)


def check_announced(path: Path, *, max_triangles: int, max_bytes: int) -> None:
    """Refuse, before anything is decoded, what is no mesh file or is too large by its size or its header."""
    _check_file(path, max_bytes)
    _check_announced_triangles(path, max_triangles)


def _decode(path: Path) -> Mesh:
    if path.suffix.lower() == ".ply":
        return ply_to_mesh(path)
    from gnomon.formats.scene_mesh import scene_to_mesh

    return scene_to_mesh(path)


def _check_file(path: Path, max_bytes: int) -> None:
    if not path.is_file():
        raise _error("mesh_not_found", f"there is no mesh file {path}", path, fix="check the path of the mesh")
    if path.suffix.lower() not in EXTENSIONS:
        raise _error(
            "mesh_format",
            f"{path.name} has an extension that is not known",
            path,
            fix=f"convert the mesh to one of {', '.join(EXTENSIONS)}",
        )
    size = path.stat().st_size
    if size > max_bytes:
        message = f"{path.name} has {size:,} bytes; the limit is {max_bytes:,}"
        raise _error("mesh_too_large", message, path, fix="decimate the mesh or save it in a binary format")


def _check_announced_triangles(path: Path, max_triangles: int) -> None:
    """Refuse by the header alone what is far too large to decode."""
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        start = file.read(ply.MAX_HEADER_BYTES)
    count = 0
    if suffix == ".ply":
        try:
            count = ply.read_header(start).count("face")
        except ply.PlyError as error:
            raise _error("mesh_unreadable", f"{path.name} cannot be read: {error}", path) from error
    elif suffix == ".stl" and len(start) >= _STL_HEADER:
        (announced,) = struct.unpack_from("<I", start, _STL_HEADER - 4)
        binary = path.stat().st_size == _STL_HEADER + announced * _STL_TRIANGLE
        # ASCII takes 150 bytes and more per triangle; a binary file has no room for more than it has.
        count = announced if binary else 0
    elif suffix == ".obj" and path.stat().st_size > 10 * max_triangles:
        count = _count_lines(path, b"\nf ")
    _check_triangle_count(count, max_triangles, path)


def _count_lines(path: Path, start: bytes) -> int:
    total, tail = 0, b""
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            text = tail + block
            total += text.count(start)
            tail = text[-(len(start) - 1) :]
    return total


def _check_triangle_count(count: int, max_triangles: int, path: Path) -> None:
    if count > max_triangles:
        raise _error(
            "mesh_too_large",
            f"{path.name} has {count:,} triangles; the limit is {max_triangles:,}",
            path,
            fix=f"decimate the mesh to at most {max_triangles:,} triangles; a few 100,000 are plenty for pictures",
        )


def _check_vertices(mesh: Mesh, path: Path) -> None:
    if len(mesh.vertices) == 0:
        raise _error("mesh_empty", f"{path.name} has no vertices", path, fix="export the mesh again")
    finite = np.isfinite(mesh.vertices).all(axis=1)
    if not finite.all():
        bad, first, count = int((~finite).sum()), int(np.argmin(finite)), len(mesh.vertices)
        raise _error(
            "mesh_not_finite",
            f"{bad:,} of {count:,} vertices of {path.name} are NaN or infinite, the first is vertex {first}",
            path,
            fix="repair the mesh where it was made and export it again",
        )
    if len(mesh.faces) == 0:
        raise _error(
            "mesh_no_faces",
            f"{path.name} has {len(mesh.vertices):,} vertices and no faces: it is a point cloud",
            path,
            fix="reconstruct a surface first, for example with Poisson reconstruction",
        )
    low, high = int(mesh.faces.min()), int(mesh.faces.max())
    if low < 0 or high >= len(mesh.vertices):
        message = f"a face of {path.name} uses vertex {low if low < 0 else high} of {len(mesh.vertices):,}"
        raise _error("mesh_unreadable", message, path)


def _without_degenerate(mesh: Mesh, path: Path, warnings: list[str]) -> Mesh:
    """Drop triangles without area, and vertices that no triangle uses: those must not widen the bounding box."""
    a = mesh.vertices[mesh.faces[:, 0]]
    normal = np.cross(mesh.vertices[mesh.faces[:, 1]] - a, mesh.vertices[mesh.faces[:, 2]] - a)
    good = (normal != 0).any(axis=1)
    if not good.any():
        raise _error(
            "mesh_degenerate",
            f"all {len(good):,} triangles of {path.name} have no area",
            path,
            fix="export the mesh again; its vertices lie in one point or on lines",
        )
    faces, face_rgb, face_texture = mesh.faces, mesh.face_rgb, mesh.face_texture
    if not good.all():
        warnings.append(f"left out {int((~good).sum()):,} triangles without area")
        faces = faces[good]
        face_rgb = None if face_rgb is None else face_rgb[good]
        face_texture = None if face_texture is None else face_texture[good]
    used = np.zeros(len(mesh.vertices), np.bool_)
    used[faces] = True
    per_vertex = {name: getattr(mesh, name) for name in ("vertices", "vertex_normals", "vertex_rgb", "uv")}
    if not used.all():
        warnings.append(f"left out {int((~used).sum()):,} vertices that belong to no triangle")
        faces = (np.cumsum(used) - 1)[faces]
        per_vertex = {name: None if values is None else values[used] for name, values in per_vertex.items()}
    return dataclasses.replace(
        mesh,
        faces=faces,
        face_rgb=face_rgb,
        face_texture=face_texture,
        warnings=(*mesh.warnings, *warnings),
        **per_vertex,
    )


def _error(code: str, message: str, path: Path, *, fix: str | None = None) -> InputError:
    return InputError(
        message,
        code=code,
        field="mesh",
        value=path.name,
        expected=f"a triangle mesh: {', '.join(EXTENSIONS)}",
        fix=fix or "open the file in a mesh viewer and export it again",
    )
