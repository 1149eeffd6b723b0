"""Make a mesh ready for `estimate` and `Tracker`, once: the result is kept on disk by the mesh's content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np

from gnomon.errors import InputError
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.symmetry import Axis, Symmetries
from gnomon.tasks.object_pose.methods.render_compare import model as build_model
from gnomon.tasks.object_pose.methods.render_compare.model import PointModel, PoseModel, Shape

__all__ = ["PoseModel", "prepare"]

MODEL_VERSION = 4
"""Counted up whenever the same mesh gives another model, so that models of older code are not used."""

SMALLEST_DIAMETER_M = 1e-4


def prepare(
    mesh: Mesh,
    *,
    symmetries: Symmetries | Literal["auto"] = "auto",
    cache: Path | None = None,
    threads: int = 1,
) -> PoseModel:
    """Everything about an object that does not depend on a picture.

    Args:
        mesh: Vertices in metres (`Mesh.scaled(0.001)` for a file in millimetres).
        symmetries: In the mesh's frame; "auto" finds them from form and colour. `Symmetries.none()` for an object
            whose sides differ in a way the mesh does not show.
        cache: A folder for prepared models; None prepares anew (0.5 to 3 s).
        threads: How many threads may work.

    Raises:
        InputError: code `mesh_empty` without triangles, `mesh_too_small` when all of it is one point.
    """
    del threads
    _check(mesh)
    entry = cache / f"{_key(mesh, symmetries)}.npz" if cache is not None else None
    if entry is not None:
        known = _read(entry)
        if known is not None:
            return known
    model = build_model.build(mesh, None if isinstance(symmetries, str) else symmetries)
    if entry is not None:
        _write(entry, model)
    return model


def _check(mesh: Mesh) -> None:
    if len(mesh.faces) == 0:
        raise InputError(
            "the mesh has no triangles", code="mesh_empty", field="mesh", expected="a surface of at least one triangle"
        )
    used = mesh.vertices[np.unique(mesh.faces)]
    extent_m = float(np.linalg.norm(used.max(axis=0) - used.min(axis=0)))
    if not np.isfinite(used).all() or extent_m < SMALLEST_DIAMETER_M:
        raise InputError(
            f"the mesh is {extent_m:g} m across",
            code="mesh_too_small",
            field="mesh",
            value=extent_m,
            expected=f"finite vertices in metres, at least {SMALLEST_DIAMETER_M:g} m across",
            fix="check the mesh's unit",
        )


def _key(mesh: Mesh, symmetries: Symmetries | Literal["auto"]) -> str:
    digest = hashlib.sha256(f"object-pose model {MODEL_VERSION}".encode())
    arrays = [mesh.vertices, mesh.faces, mesh.vertex_normals, mesh.vertex_rgb, mesh.face_rgb, mesh.uv]
    arrays += [mesh.face_texture, *mesh.textures]
    if isinstance(symmetries, Symmetries):
        arrays += [symmetries.discrete]
        arrays += [part for axis in symmetries.continuous for part in (axis.direction, axis.offset_m)]
    for array in arrays:
        if array is None:
            digest.update(b"none")
        else:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(b"auto" if isinstance(symmetries, str) else b"given")
    return digest.hexdigest()


def _write(entry: Path, model: PoseModel) -> None:
    """Store by a temporary name and a rename; a cache that cannot be written is no reason to fail."""
    arrays: dict[str, np.ndarray] = {
        "centre": model.centre,
        "diameter_m": np.array(model.diameter_m),
        "textured": np.array(model.textured),
        "symmetry_R": model.symmetry_R,
        "symmetry_t": model.symmetry_t,
        "near_symmetry_R": model.near_symmetry_R,
        "near_symmetry_t": model.near_symmetry_t,
        "marks": model.marks,
        "warnings": np.array(model.warnings, dtype=str),
        "discrete": model.symmetries.discrete,
        "axes": np.array([[*axis.direction, *axis.offset_m] for axis in model.symmetries.continuous]).reshape(-1, 6),
    }
    arrays |= {f"points.{name}": np.asarray(value) for name, value in model.points._asdict().items()}
    arrays |= {f"shape.{name}": np.asarray(value) for name, value in model.shape._asdict().items()}
    draft = entry.with_name(f".{entry.stem}-{secrets.token_hex(4)}.part")
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            draft.replace(entry)
        finally:
            draft.unlink(missing_ok=True)


def _read(entry: Path) -> PoseModel | None:
    """The stored model; None, and to be made anew, when it is absent or damaged."""
    try:
        with entry.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        with contextlib.suppress(OSError):
            os.utime(entry)
        axes = tuple(Axis(row[:3].copy(), row[3:].copy()) for row in stored["axes"])
        points = {name: stored[f"points.{name}"] for name in PointModel._fields}
        shape = {name: stored[f"shape.{name}"] for name in Shape._fields}
        for name in ("mean_square_radius", "cells_per_m"):
            shape[name] = float(shape[name])
        shape["closed"] = bool(shape["closed"])
        return PoseModel(
            centre=stored["centre"],
            diameter_m=float(stored["diameter_m"]),
            symmetries=Symmetries(stored["discrete"], axes),
            textured=bool(stored["textured"]),
            points=PointModel(**points),
            shape=Shape(**shape),
            symmetry_R=stored["symmetry_R"],
            symmetry_t=stored["symmetry_t"],
            near_symmetry_R=stored["near_symmetry_R"],
            near_symmetry_t=stored["near_symmetry_t"],
            marks=stored["marks"],
            warnings=tuple(str(text) for text in stored["warnings"]),
        )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
