"""Length units of mesh files, and a check that a stated unit is believable.

Mesh files rarely say their unit. The user states one, and a wrong statement usually shows as an object the
size of a grain of dust or of a stadium, which is what `check_size` looks for.
"""

from __future__ import annotations

import math
from typing import Literal, get_args, overload

import numpy as np
from jaxtyping import Float

from gnomon.errors import InputError

Unit = Literal["mm", "cm", "m", "inch"]

METRES_PER_UNIT: dict[Unit, float] = {"mm": 0.001, "cm": 0.01, "m": 1.0, "inch": 0.0254}

SMALLEST_DIAMETER_M = 0.001
"""Below a millimetre no camera at arm's length resolves an object."""

LARGEST_DIAMETER_M = 20.0
"""Beyond a lorry's length the model is far likelier to be in another unit."""


@overload
def to_metres(value: float, unit: Unit) -> float: ...
@overload
def to_metres(value: np.ndarray, unit: Unit) -> np.ndarray: ...
def to_metres(value: float | Float[np.ndarray, "*any"], unit: Unit) -> float | Float[np.ndarray, "*any"]:
    """Convert a length, or an array of lengths, from `unit` to metres."""
    return value * METRES_PER_UNIT[unit]


def check_size(
    diameter: float,
    unit: Unit,
    *,
    field: str = "mesh_unit",
    name: str,
) -> None:
    """Refuse a mesh whose stated unit makes it implausibly small or large.

    Args:
        diameter: Length of the bounding box's diagonal, in the mesh's own unit.
        unit: What the user says that unit is.
        field: The request's field that holds the unit; the command-line flag is named after it.
        name: What to call the mesh in the message, usually its file name.

    Raises:
        InputError: The diameter lies outside 1 mm to 20 m (code `unit_implausible`); the message names every
            unit in which it would not.
    """
    diameter_m = to_metres(diameter, unit)
    if _is_plausible(diameter_m):
        return
    candidates = [other for other in get_args(Unit) if _is_plausible(to_metres(diameter, other))]
    range_text = f"{_length(SMALLEST_DIAMETER_M)} to {_length(LARGEST_DIAMETER_M)} across"
    flag = "--" + field.replace("_", "-")
    raise InputError(
        f'{name} would be {_length(diameter_m)} across ({diameter:g} in unit "{unit}"): ' + _question(candidates),
        code="unit_implausible",
        field=field,
        value=unit,
        expected="; ".join([range_text, *(_reading(diameter, other) for other in candidates)]),
        fix=" or ".join([*(f"{flag} {other}" for other in candidates), "--allow-any-size"]),
    )


def _is_plausible(diameter_m: float) -> bool:
    # Written so that NaN is implausible.
    return SMALLEST_DIAMETER_M <= diameter_m <= LARGEST_DIAMETER_M


def _question(candidates: list[Unit]) -> str:
    if not candidates:
        return "that is implausible in every unit"
    *first, last = [f'"{unit}"' for unit in candidates]
    return f"did you mean {', '.join(first)} or {last}?" if first else f"did you mean {last}?"


def _reading(diameter: float, unit: Unit) -> str:
    return f'"{unit}" would make it {_length(to_metres(diameter, unit))}'


def _length(length_m: float) -> str:
    """Three digits, in metres from one metre up and in millimetres below: 128 m, 12.5 mm."""
    if math.isfinite(length_m) and abs(length_m) < 1:
        return f"{length_m * 1000:.3g} mm"
    return f"{length_m:.3g} m" if abs(length_m) < 1000 else f"{length_m:.0f} m"
