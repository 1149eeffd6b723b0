"""Object models of a BOP data set: models/obj_000005.ply and models_info.json, both in millimetres."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from gnomon.formats import bop_fields as fields
from gnomon.formats.mesh_file import load_mesh
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.symmetry import Symmetries

INFO = "models_info.json"
FOLDERS = ("models_eval", "models")
"""Where a data set keeps its models, the folder that is meant for evaluation first."""

_NAME = re.compile(r"obj_(\d{1,9})\.ply")
_UNIT_M = 0.001


@dataclass(frozen=True, eq=False)
class BopModel:
    """One object; its mesh is read when it is asked for."""

    obj_id: int
    path: Path
    diameter_m: float
    """Largest distance of two vertices, as the data set states it or else as computed."""
    symmetries: Symmetries
    has_info: bool
    """Whether models_info.json knows the object; without it no symmetry is known."""

    def mesh(self) -> Mesh:
        """In metres."""
        return load_mesh(self.path).scaled(_UNIT_M)


def read_models(folder: str | Path) -> dict[int, BopModel]:
    """The models of a folder by object id.

    Raises:
        InputError: There is no such folder or no model in it (`bop_not_found`), models_info.json is damaged
            (`bop_unreadable`, `bop_invalid`, `symmetries_invalid`), or a mesh is (`mesh_...`).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise fields.not_found(folder, "folder")
    paths = {int(match[1]): path for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))}
    if not paths:
        raise fields.not_found(folder / "obj_000001.ply", "model such as")
    info = folder / INFO
    entries = fields.by_id(fields.read_json(info), info) if info.is_file() else {}
    return {obj_id: _model(obj_id, path, entries.get(obj_id), info) for obj_id, path in sorted(paths.items())}


def find_models(scene_or_split: str | Path) -> Path | None:
    """The folder of models that belongs to a scene or a split: in it, beside it, or beside the split it is in."""
    start = Path(scene_or_split).resolve()
    places = [place / name for place in (start, *start.parents[:2]) for name in FOLDERS]
    return next((place for place in places if place.is_dir()), None)


def diameter(points: Float[np.ndarray, "P 3"]) -> float:
    """The largest distance of any two points, in their unit."""
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = np.linalg.norm(points - middle, axis=1)
    order = np.argsort(-radius)
    points, radius = points[order], radius[order]
    best = 0.0
    for point, r in zip(points, radius, strict=True):
        # Points are sorted by their distance from the middle: nothing beyond these can be far enough apart.
        if r + radius[0] <= best:
            break
        partners = points[: np.searchsorted(-radius, r - best, side="right")]
        best = max(best, float(np.linalg.norm(partners - point, axis=1).max(initial=0.0)))
    return best


def _model(obj_id: int, path: Path, entry: object, info: Path) -> BopModel:
    if entry is None:
        size_m = diameter(load_mesh(path).vertices) * _UNIT_M
        return BopModel(obj_id, path, size_m, Symmetries.none(), has_info=False)
    if not isinstance(entry, dict):
        raise fields.invalid(info, str(obj_id), entry, "an object with a diameter")
    size_mm = fields.number(entry.get("diameter"), info, f"{obj_id}.diameter")
    if size_mm <= 0:
        raise fields.invalid(info, f"{obj_id}.diameter", size_mm, "a length above 0")
    return BopModel(obj_id, path, size_mm * _UNIT_M, Symmetries.from_bop(entry, _UNIT_M), has_info=True)
