"""A client's CAD file and poses, copied with all they refer to into a private folder, within bounds."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from gnomon.errors import InputError
from gnomon.formats.mesh_companions import companions
from gnomon.formats.mesh_file import check_announced
from gnomon.inputs import CHUNK_BYTES, disk_error
from gnomon.server.facades.render_paths import Place, Roots

CAD_SUFFIXES = (".ply", ".obj", ".stl")

SEARCHED_SUFFIXES = (".obj", ".ply", ".stl")
"""Tried in this order where the path given has none of the known endings."""

MOST_BYTES = 2 * 1024**3
MOST_POSE_BYTES = 10_000_000
MOST_COMPANIONS = 1000


@dataclass
class Staged:
    """Where the copies lie, and the sha256 of each."""

    folder: Path
    mesh: Path
    camera_poses: Path | None = None
    hashes: dict[Path, str] = field(default_factory=dict)


def stage(roots: Roots, cad_path: str, camera_poses_path: str | None, folder: Path, max_triangles: int) -> Staged:
    """Copy what a render needs into `folder`, an existing private one.

    Raises:
        InputError: codes `mesh_not_found`, `mesh_too_large`, `mesh_unreadable`, `poses_unreadable`,
            `path_outside_roots`, `field_invalid`.
    """
    source, place = find_cad(roots, cad_path)
    copies = _Copies(folder)
    mesh_folder = folder / "mesh"
    staged = Staged(folder, mesh_folder / Path(source).name, hashes=copies.hashes)
    try:
        copies.add(place, staged.mesh)
    except OSError as error:
        raise _not_found(cad_path, error.strerror or str(error)) from error
    check_announced(staged.mesh, max_triangles=max_triangles, max_bytes=MOST_BYTES)
    _stage_companions(roots, Path(source).parent, staged.mesh, copies)
    if camera_poses_path is not None:
        staged.camera_poses = folder / "poses.npy"
        _stage_poses(roots, camera_poses_path, staged.camera_poses, copies)
    return staged


def find_cad(roots: Roots, text: str) -> tuple[str, Place]:
    """The CAD file's path as the client wrote it, or the same stem with another ending; and where it lies.

    Raises:
        InputError: code `mesh_not_found`, and what `Roots.locate` raises.
    """
    suffix = Path(text).suffix
    stem = text.removesuffix(suffix)
    candidates = [text] if suffix.lower() in CAD_SUFFIXES else [stem + ending for ending in SEARCHED_SUFFIXES]
    # The path itself is judged first, so that nobody learns by its error what lies outside.
    roots.locate(text, "cad_path")
    for candidate in candidates:
        place = roots.locate(candidate, "cad_path")
        with contextlib.suppress(PermissionError):
            if place.path.is_file():
                return candidate, place
    raise _not_found(text, "there is no such file")


class _Copies:
    """Copies files within one budget of bytes, and notes their hashes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes: dict[Path, str] = {}
        self._left = MOST_BYTES

    def add(self, place: Place, target: Path, most_bytes: int = MOST_BYTES) -> None:
        """Raises InputError `input_too_large`; OSError when the file cannot be opened."""
        descriptor = place.open_file()
        most = min(self._left, most_bytes)
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with os.fdopen(descriptor, "rb") as reader:
            if os.fstat(descriptor).st_size > most:
                raise _too_large(place, most)
            try:
                with target.open("wb") as writer:
                    while chunk := reader.read(CHUNK_BYTES):
                        size += len(chunk)
                        # It may grow while it is read.
                        if size > most:
                            raise _too_large(place, most)
                        digest.update(chunk)
                        writer.write(chunk)
            except OSError as error:
                raise disk_error(error, target) from error
        self._left -= size
        self.hashes[target] = digest.hexdigest()


def _stage_companions(roots: Roots, beside: Path, mesh: Path, copies: _Copies) -> None:
    """Material files and textures; one that is missing or out of reach is left out, as everywhere in gnomon."""
    tried: set[str] = set()
    # A companion can name further ones: an OBJ its materials, these their pictures.
    while wanted := set(companions(mesh)) - tried:
        for name in sorted(wanted)[:MOST_COMPANIONS]:
            target = mesh.parent / name
            if target in copies.hashes:
                continue
            try:
                place = roots.locate(str(beside / name), "cad_path")
                copies.add(place, target)
            except OSError:
                continue
            except InputError as error:
                if error.code != "path_outside_roots":
                    raise
        tried |= wanted


def _stage_poses(roots: Roots, text: str, target: Path, copies: _Copies) -> None:
    place = roots.locate(text, "camera_poses_path")
    try:
        copies.add(place, target, MOST_POSE_BYTES)
    except OSError as error:
        raise InputError(
            f"the camera poses {text} cannot be read: {error.strerror or error}",
            code="poses_unreadable",
            field="camera_poses_path",
            value=text,
            expected="an .npy array of N x 4 x 4 camera-to-object poses",
        ) from error


def _not_found(text: str, why: str) -> InputError:
    return InputError(
        f"{text}: {why}",
        code="mesh_not_found",
        field="cad_path",
        value=text,
        expected="a file in .ply, .obj or .stl format that the server can read",
        fix="check the path on the server, and the rights of the file",
    )


def _too_large(place: Place, most: int) -> InputError:
    return InputError(
        f"{place.path.name} is larger than {most:,} bytes",
        code="input_too_large",
        field="cad_path",
        value=place.path.name,
        expected=f"at most {most:,} bytes with all files it refers to",
    )
