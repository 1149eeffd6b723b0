"""Meshes from files: PLY, OBJ with materials and textures, STL, GLB. Axes and unit stay those of the file."""

from __future__ import annotations

import warnings
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.errors import InputError
from gnomon.formats.mesh_colours import Part, join_parts, part_of
from gnomon.formats.mesh_header import companions, count_faces
from gnomon.geometry.mesh import Mesh

if TYPE_CHECKING:
    import trimesh

SUFFIXES = (".ply", ".obj", ".stl", ".glb")
MAX_TRIANGLES = 5_000_000
MAX_BYTES = 2 * 1024**3

__all__ = ["MAX_TRIANGLES", "SUFFIXES", "companions", "load_mesh"]


def load_mesh(path: Path | str, *, max_triangles: int = MAX_TRIANGLES, max_bytes: int = MAX_BYTES) -> Mesh:
    """Read a mesh with its colours; several bodies become one mesh, polygons become triangles.

    Raises:
        InputError: codes mesh_not_found, mesh_format, mesh_unreadable, mesh_empty, mesh_no_faces,
            mesh_not_finite, mesh_degenerate, mesh_too_large.
    """
    path = Path(path)
    _check_file(path, max_triangles, max_bytes)
    loaded = _load(path)
    parts = _parts(loaded, _brings_picture(path))
    _check_content(parts, path)
    mesh = join_parts(parts, warnings=_absent_companions(path), merge=path.suffix.lower() == ".stl")
    if len(mesh.faces) > max_triangles:
        raise _too_large(path, len(mesh.faces), max_triangles)
    return _without_degenerate(mesh, path)


def _check_file(path: Path, max_triangles: int, max_bytes: int) -> None:
    if not path.is_file():
        raise _error(path, "mesh_not_found", f"{path} does not exist or is not a file", expected="a mesh file")
    if path.suffix.lower() not in SUFFIXES:
        raise _error(
            path,
            "mesh_format",
            f"{path.name} is of no known mesh format",
            expected="a file ending in " + ", ".join(SUFFIXES),
            fix="convert it, for example with Blender or MeshLab",
        )
    size = path.stat().st_size
    if size == 0:
        raise _error(path, "mesh_empty", f"{path.name} has no bytes", expected="a mesh with vertices and faces")
    if size > max_bytes:
        raise _error(path, "mesh_too_large", f"{path.name} has {size / 1e9:.2f} GB; {max_bytes / 1e9:.2f} GB are read")
    # Counted before decoding, so that a file of a billion triangles costs nothing.
    faces = count_faces(path)
    if faces is not None and faces > max_triangles:
        raise _too_large(path, faces, max_triangles)


def _load(path: Path) -> trimesh.Trimesh | trimesh.Scene | Any:
    import trimesh

    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            # What the reader's arithmetic says about odd values is checked and put in words below.
            warnings.simplefilter("ignore")
            return trimesh.load(
                stream,
                file_type=path.suffix[1:].lower(),
                resolver=_resolver(path.parent),
                process=False,
                maintain_order=True,
            )
    except PermissionError as error:
        raise _error(path, "mesh_unreadable", f"{path.name} cannot be read: {error.strerror}") from None
    except MemoryError:
        raise
    except Exception as error:
        # Readers of damaged files fail in every way there is; all of them mean the same to the user.
        raise _error(
            path,
            "mesh_unreadable",
            f"{path.name} is not a valid {path.suffix[1:].upper()} file ({type(error).__name__}: {error})",
            expected="a complete, undamaged file",
            fix="open it in Blender or MeshLab and export it again",
        ) from None


def _resolver(folder: Path) -> Any:
    """Gives the reader the files beside the mesh and no others."""
    from trimesh.resolvers import FilePathResolver

    class Confined(FilePathResolver):
        def get(self, name: str) -> bytes:
            pure = PurePosixPath(str(name).strip().replace("\\", "/"))
            path = folder / pure
            if pure.is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
                raise FileNotFoundError(name)
            return path.read_bytes()

    return Confined(str(folder))


def _brings_picture(path: Path) -> bool:
    """Whether a texture the reader shows can be real: without a picture file it makes one up."""
    pictures = [name for name in companions(path) if not name.lower().endswith(".mtl")]
    return path.suffix.lower() == ".glb" or any((path.parent / name).is_file() for name in pictures)


def _parts(loaded: Any, with_picture: bool) -> list[Part]:
    """Every body of the file in the file's own axes, transforms of a scene applied."""
    import trimesh

    if isinstance(loaded, trimesh.Trimesh):
        return [part_of(loaded, None, with_picture)]
    if isinstance(loaded, trimesh.Scene):
        nodes = [(loaded.graph[node]) for node in loaded.graph.nodes_geometry]
        bodies = [(T, loaded.geometry[name]) for T, name in nodes]
        return [part_of(body, T, with_picture) for T, body in bodies if isinstance(body, trimesh.Trimesh)]
    vertices = getattr(loaded, "vertices", None)
    # A point cloud: vertices that no face connects.
    return [Part(vertices=np.asarray(vertices, np.float64))] if vertices is not None else []


def _check_content(parts: list[Part], path: Path) -> None:
    if sum(len(part.vertices) for part in parts) == 0:
        raise _error(path, "mesh_empty", f"{path.name} has no vertices", expected="a mesh with vertices and faces")
    if sum(len(part.faces) for part in parts) == 0:
        raise _error(
            path,
            "mesh_no_faces",
            f"{path.name} has vertices but no faces; it is a point cloud",
            expected="triangles",
            fix="make a surface of it first, for example with MeshLab's screened Poisson reconstruction",
        )
    for part in parts:
        finite = np.isfinite(part.vertices).all(axis=1)
        if not finite.all():
            first = int(np.flatnonzero(~finite)[0])
            raise _error(
                path,
                "mesh_not_finite",
                f"{path.name}: {int((~finite).sum())} vertices are NaN or infinite, the first is number {first}",
                expected="finite coordinates",
                fix="remove these vertices, or export the mesh again",
            )
        if len(part.faces) and (part.faces.min() < 0 or part.faces.max() >= len(part.vertices)):
            raise _error(
                path,
                "mesh_unreadable",
                f"{path.name}: a face names vertex {int(part.faces.max())} of {len(part.vertices)}",
                expected="faces of existing vertices",
                fix="export the mesh again",
            )


def _without_degenerate(mesh: Mesh, path: Path) -> Mesh:
    """Drop triangles without area; they cannot be seen, and no normal can be made for them."""
    corners = mesh.vertices[mesh.faces]
    doubled_area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    # Relative to the mesh's size: thin slivers of a large part are real, rounding noise is not.
    seen = doubled_area > 1e-14 * max(mesh.diameter, np.finfo(float).tiny) ** 2
    if not seen.any():
        raise _error(
            path,
            "mesh_degenerate",
            f"{path.name}: none of its {len(seen):,} triangles has an area",
            expected="a surface",
            fix="check the export; all vertices may lie in one point or on one line",
        )
    dropped = int((~seen).sum())
    return mesh if dropped == 0 else mesh.select_faces(seen, f"{dropped:,} triangles without area were left out")


def _absent_companions(path: Path) -> tuple[str, ...]:
    absent = [name for name in companions(path) if not (path.parent / name).is_file()]
    return tuple(f"{name} is missing; the parts it colours are drawn without it" for name in absent)


def _too_large(path: Path, count: int, limit: int) -> InputError:
    return _error(
        path,
        "mesh_too_large",
        f"{path.name} has {count:,} triangles",
        expected=f"at most {limit:,}",
        fix="decimate it; templates of 512 pixels show no more than some 100,000 triangles",
    )


def _error(path: Path, code: str, message: str, expected: str | None = None, fix: str | None = None) -> InputError:
    return InputError(message, code=code, field="mesh", value=path.name, expected=expected, fix=fix)
