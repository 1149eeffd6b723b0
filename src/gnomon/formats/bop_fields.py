"""JSON files of the BOP format: bounded reading, and errors that name the file and the field."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from gnomon.errors import InputError, NotFound
from gnomon.geometry import se3

MAX_JSON_BYTES = 1_000_000_000

ROUNDING = 1e-2
"""How far from orthonormal a rotation may be: some files carry three digits."""


def read_json(path: Path) -> Any:
    """The file's content. Raises InputError (`bop_not_found`, `bop_unreadable`)."""
    if not path.is_file():
        raise not_found(path)
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise unreadable(path, f"it has {size:,} bytes; the limit is {MAX_JSON_BYTES:,}")
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, str(error)) from error


def by_id(value: Any, path: Path, field: str = "the file") -> dict[int, Any]:
    """An object whose keys are ids."""
    if not isinstance(value, dict):
        raise invalid(path, field, value, "an object keyed by ids")
    return {whole_number(key, path, f"key {key!r} of {field}", from_text=True): entry for key, entry in value.items()}


def whole_number(value: Any, path: Path, field: str, *, from_text: bool = False) -> int:
    """An id or a count, 0 or more."""
    if from_text and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise invalid(path, field, value, "a whole number, 0 or more")
    return value


def number(value: Any, path: Path, field: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise invalid(path, field, value, "a finite number")
    return float(value)


def numbers(value: Any, count: int, path: Path, field: str) -> Float64[np.ndarray, " count"]:
    """So many finite numbers; nested rows are taken as well."""
    try:
        array = np.array(value, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if len(array) != count or not np.isfinite(array).all():
        raise invalid(path, field, value, f"{count} finite numbers")
    return array


def pose(R: Any, t_mm: Any, path: Path, field_R: str, field_t: str) -> Float64[np.ndarray, "4 4"]:
    """`T_cam_obj` in metres, from a rotation row by row and a translation in millimetres.

    The rotation stays as it is in the file, so that errors come out as other programs compute them.
    """
    T = se3.se3(numbers(R, 9, path, field_R).reshape(3, 3), numbers(t_mm, 3, path, field_t) * 0.001)
    if not se3.is_rigid(T, atol=ROUNDING):
        raise invalid(path, field_R, R, "a rotation matrix")
    return T


def not_found(path: Path, what: str = "file") -> NotFound:
    return NotFound(f"there is no {what} {path}", code="bop_not_found", value=path, fix="check the path")


def unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} cannot be read: {why}", code="bop_unreadable", value=path, fix="download or write the file again"
    )


def invalid(path: Path, field: str, value: Any, expected: str) -> InputError:
    return InputError(
        f"{path}: {field} is not {expected}", code="bop_invalid", field=field, value=value, expected=expected
    )
