"""Symmetries of an object: the rigid motions after which it looks the same.

They are stated as in the BOP challenge (Hodan et al., "BOP Challenge 2020 on 6D Object Localization", ECCVW 2020,
section 2.3; file models_info.json of its data sets): a list of discrete motions and a list of axes of continuous
rotation, both in the object's own frame. The true pose `T_cam_obj` and `T_cam_obj @ S` show the same picture for
every symmetry S.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from gnomon.errors import InputError
from gnomon.geometry import se3

MOST_DISCRETE = 1000
"""A list with more motions than this is refused; the richest finite group of rotations in use has 60."""

MOST_AXES = 16

_ROUNDING = 1e-3
"""How far from rigid a motion may be: files carry few digits."""


@dataclass(frozen=True, eq=False)
class Axis:
    """An axis about which the object may turn by any angle."""

    direction: Float64[np.ndarray, "3"]
    """Of unit length, object frame."""
    offset_m: Float64[np.ndarray, "3"]
    """A point on the axis, metres, object frame."""

    def rotation(self, angle_rad: float) -> Float64[np.ndarray, "4 4"]:
        """The turn by an angle about this axis."""
        R = se3.so3_exp(self.direction * angle_rad)
        return se3.se3(R, self.offset_m - R @ self.offset_m)


@dataclass(frozen=True, eq=False)
class Symmetries:
    """The symmetries of one object, in its own frame and in metres."""

    discrete: Float64[np.ndarray, "N 4 4"]
    """Rigid motions without the identity. As in BOP the list is to hold every one of them, not generators."""
    continuous: tuple[Axis, ...] = ()

    @classmethod
    def none(cls) -> Symmetries:
        """Of an object without symmetries."""
        return cls(np.empty((0, 4, 4)))

    @classmethod
    def from_bop(cls, entry: dict[str, Any], unit_m: float = 0.001) -> Symmetries:
        """Read one object's entry of models_info.json; other keys of the entry are ignored.

        Args:
            entry: May hold `symmetries_discrete`, a list of 4x4 matrices as 16 numbers row by row, and
                `symmetries_continuous`, a list of {"axis": three numbers, "offset": three numbers}.
            unit_m: The file's unit of length in metres; BOP writes millimetres.

        Raises:
            InputError: A field has another shape, or a matrix is no rigid motion (code `symmetries_invalid`).
        """
        motions = [
            _motion(numbers, f"symmetries_discrete[{i}]", unit_m)
            for i, numbers in enumerate(_list(entry, "symmetries_discrete", MOST_DISCRETE))
        ]
        axes = [
            _axis(record, f"symmetries_continuous[{i}]", unit_m)
            for i, record in enumerate(_list(entry, "symmetries_continuous", MOST_AXES))
        ]
        moving = [T for T in motions if not np.allclose(T, np.eye(4), rtol=0, atol=1e-9)]
        return cls(np.array(moving, np.float64).reshape(-1, 4, 4), tuple(axes))

    def to_bop(self, unit_m: float = 0.001) -> dict[str, Any]:
        """The entries for models_info.json, lengths in units of `unit_m` metres; empty without symmetries."""
        entry: dict[str, Any] = {}
        if len(self.discrete):
            motions = self.discrete.copy()
            motions[:, :3, 3] /= unit_m
            entry["symmetries_discrete"] = [T.reshape(-1).tolist() for T in motions]
        if self.continuous:
            entry["symmetries_continuous"] = [
                {"axis": axis.direction.tolist(), "offset": (axis.offset_m / unit_m).tolist()}
                for axis in self.continuous
            ]
        return entry

    @property
    def is_trivial(self) -> bool:
        """Whether the object has no symmetry but the identity."""
        return len(self.discrete) == 0 and not self.continuous

    def transforms(self, max_step: float = 0.01) -> Float64[np.ndarray, "M 4 4"]:
        """All symmetries as motions in metres, the identity first, axes sampled in equal steps.

        The order and number are those of `get_symmetry_transformations` of bop_toolkit: every discrete motion
        followed by every sampled rotation. Several axes are taken one at a time, not combined with each other.

        Args:
            max_step: Most that the vertex farthest from an axis moves between two samples, as a fraction of the
                object's diameter. The circle of that vertex is at most pi diameters long, which makes
                ceil(pi / max_step) rotations; the 0.01 of BOP makes 315.
        """
        if not 0 < max_step <= math.pi:
            raise ValueError(f"max_step is {max_step}, not above 0 and at most pi")
        discrete = np.concatenate([np.eye(4)[None], self.discrete])
        if not self.continuous:
            return discrete
        count = math.ceil(math.pi / max_step)
        rotations = np.stack([axis.rotation(2 * math.pi * i / count) for axis in self.continuous for i in range(count)])
        return (rotations[None] @ discrete[:, None]).reshape(-1, 4, 4)


def _list(entry: dict[str, Any], field: str, most: int) -> list[Any]:
    entries = entry.get(field, [])
    if not isinstance(entries, list) or len(entries) > most:
        shown = f"{len(entries)} entries" if isinstance(entries, list) else entries
        raise _invalid(field, shown, f"a list of at most {most} entries")
    return entries


def _motion(numbers: Any, field: str, unit_m: float) -> Float64[np.ndarray, "4 4"]:
    T = _numbers(numbers, 16, field).reshape(4, 4)
    if not se3.is_rigid(T, atol=_ROUNDING):
        raise _invalid(field, numbers, "a rotation and a translation, with the last row 0 0 0 1")
    T[:3, 3] *= unit_m
    return T


def _axis(record: Any, field: str, unit_m: float) -> Axis:
    if not isinstance(record, dict):
        raise _invalid(field, record, 'an object with "axis" and "offset"')
    direction = _numbers(record.get("axis"), 3, f"{field}.axis")
    length = np.linalg.norm(direction)
    if not length > 0:
        raise _invalid(f"{field}.axis", record.get("axis"), "a direction that is not zero")
    offset = _numbers(record.get("offset", [0.0, 0.0, 0.0]), 3, f"{field}.offset")
    return Axis(direction / length, offset * unit_m)


def _numbers(value: Any, count: int, field: str) -> Float64[np.ndarray, " count"]:
    """A flat list of so many finite numbers; nested rows are taken as well."""
    try:
        flat = np.array(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        flat = np.empty(0)
    if len(flat) != count or not np.isfinite(flat).all():
        raise _invalid(field, value, f"{count} finite numbers")
    return flat


def _invalid(field: str, value: object, expected: str) -> InputError:
    return InputError(
        f"{field} of the object's symmetries is not {expected}",
        code="symmetries_invalid",
        field=field,
        value=value,
        expected=expected,
        fix="write symmetries as models_info.json of the BOP data sets does",
    )
