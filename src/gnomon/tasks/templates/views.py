"""Where the template cameras stand: the directions of an icosphere, in the order that SAM-6D numbers them.

Files written for SAM-6D are matched to these poses by number alone, so the order is part of the format. It
comes from sorting the vertices of an icosphere by a z that carries rounding noise: rings of equal height follow
each other from the south pole up, and within a ring the order has no rule. `_ORDER_IN_RINGS` records it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from gnomon.errors import InputError

Level = Literal[0, 1, 2]

VIEW_COUNTS: dict[int, int] = {0: 42, 1: 162, 2: 642}

MAX_POSES = 10_000

FILE_RADIUS = 1000.0
"""Translation length in a pose file that stands for the radius of the built-in views."""

# For each ring of the finest sphere, south to north, the place of every vertex when its ring is sorted by azimuth;
# one character per vertex (0-9, A-Z, a-d). The coarser spheres are subsets and keep this order.
_ORDER_IN_RINGS = (
    "031042143203104272816309543104241320271863095431042721863095427631809543104214320271863095463271"
    "809543104227186309542718630954726318095431042143202718630954721863095472631809543104227185463092"
    "718630954726318095463721809541432027185463097218639054310426372180954271854630927185463096372180"
    "9546318720954TSRQPONMLKJIHGFEDCBA9876543210dcbaZYXWVU0954276318095463271854180963725418096372095"
    "463271803214095418632754180963722043109546327180954683172095418632754180963720321409546318270954"
    "186372095418632720431032140954631872095418632709541863720321409546327180954186372204310321409546"
    "318270954186372032140954186327204310321409541863720321420431032140"
)
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcd"


def view_poses(level: Level) -> Float[np.ndarray, "N 4 4"]:
    """Camera poses `T_obj_cam` on the unit sphere, all looking at the object's origin.

    Level 0, 1 and 2 have 42, 162 and 642 views. Axes are OpenCV's (x right, y down, z into the scene) and
    the image's up is the object's +z, so far as the direction allows.
    """
    if level not in VIEW_COUNTS:
        raise InputError(
            f"there is no view level {level}",
            code="bad_view_level",
            field="level",
            value=level,
            expected="0 (42 views), 1 (162 views) or 2 (642 views)",
        )
    points = _icosphere(3)
    by_number = points[_sam6d_order(points)]
    coarse = {_key(point) for point in _icosphere(level + 1)}
    return _look_at_origin(np.array([point for point in by_number if _key(point) in coarse]))


def load_poses(path: str | Path) -> Float[np.ndarray, "N 4 4"]:
    """Read a user's camera poses: an .npy of N x 4 x 4 `T_obj_cam` with OpenCV axes, as in SAM-6D's files.

    A translation of 1000 in the file stands for the radius of the built-in views, so translations come back
    divided by 1000. Raises InputError: poses_unreadable, poses_bad_shape, poses_not_rigid.
    """
    path = Path(path)
    T_obj_cam = _read_array(path)
    _check_rigid(T_obj_cam, path.name)
    T_obj_cam[:, :3, 3] /= FILE_RADIUS
    return T_obj_cam


def _read_array(path: Path) -> Float[np.ndarray, "N 4 4"]:
    # The header is looked at first (mmap), so that a small file cannot announce a huge array.
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _pose_error("poses_unreadable", f"{path.name} cannot be read as .npy: {error}", path.name) from error
    if isinstance(stored, np.lib.npyio.NpzFile):
        stored.close()
    if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "fiu":
        raise _pose_error("poses_unreadable", f"{path.name} does not hold one array of numbers", path.name)
    if stored.ndim != 3 or stored.shape[1:] != (4, 4) or not 1 <= len(stored) <= MAX_POSES:
        message = f"{path.name} has shape {'x'.join(map(str, stored.shape)) or 'scalar'}"
        raise _pose_error("poses_bad_shape", message, path.name)
    return np.array(stored, dtype=np.float64)


def _check_rigid(T_obj_cam: Float[np.ndarray, "N 4 4"], name: str) -> None:
    R = T_obj_cam[:, :3, :3]
    with np.errstate(invalid="ignore", over="ignore"):
        orthogonal = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2)) < 1e-3
        right_handed = np.linalg.det(R) > 0
        last_row = np.abs(T_obj_cam[:, 3] - (0.0, 0.0, 0.0, 1.0)).max(axis=1) < 1e-6
    rigid = orthogonal & right_handed & last_row & np.isfinite(T_obj_cam).all(axis=(1, 2))
    if not rigid.all():
        first = int(np.argmin(rigid))
        message = f"{int((~rigid).sum())} of {len(rigid)} poses in {name} are not rigid motions, first no. {first}"
        raise _pose_error("poses_not_rigid", message, name)


def _pose_error(code: str, message: str, name: str) -> InputError:
    return InputError(
        message,
        code=code,
        field="camera_poses",
        value=name,
        expected=f"an .npy array of N x 4 x 4 camera-to-object poses, N <= {MAX_POSES}",
        fix="save the poses with numpy.save: OpenCV axes, rotation matrices, translations of length 1000",
    )


def _icosphere(level: int) -> Float[np.ndarray, "N 3"]:
    """Unit vertices of an icosahedron with vertices at both poles, each edge halved `level` times."""
    # Only +, -, *, / and sqrt: the same bits on every machine.
    s5 = math.sqrt(5.0)
    cos72, sin72 = (s5 - 1) / 4, math.sqrt(10 + 2 * s5) / 4
    cos144, sin144 = -(s5 + 1) / 4, math.sqrt(10 - 2 * s5) / 4
    circle = [(1.0, 0.0), (cos72, sin72), (cos144, sin144), (cos144, -sin144), (cos72, -sin72)]
    south = [(-2 / s5 * x, -2 / s5 * y, -1 / s5) for x, y in circle]
    north = [(2 / s5 * x, 2 / s5 * y, 1 / s5) for x, y in circle]
    points = np.array([(0.0, 0.0, -1.0), *south, *north, (0.0, 0.0, 1.0)])
    for step in range(level):
        gap = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
        i, j = np.nonzero(np.triu(gap < 1.3 / 2**step, 1))
        middle = points[i] + points[j]
        points = np.vstack([points, middle / np.sqrt((middle**2).sum(axis=1, keepdims=True))])
    return points


def _sam6d_order(points: Float[np.ndarray, "N 3"]) -> list[int]:
    azimuth_deg = np.round(np.degrees(np.arctan2(points[:, 1], points[:, 0])), 3) % 360
    rings: dict[float, list[int]] = {}
    for index in np.lexsort((azimuth_deg, np.round(points[:, 2], 5))):
        rings.setdefault(round(float(points[index, 2]), 5) + 0.0, []).append(int(index))
    code = iter("".join(_ORDER_IN_RINGS))
    return [ring[_DIGITS.index(next(code))] for ring in rings.values() for _ in ring]


def _key(point: Float[np.ndarray, " 3"]) -> tuple[int, int, int]:
    x, y, z = np.round(point * 1e6).astype(int)
    return x, y, z


def _look_at_origin(directions: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 4 4"]:
    T_obj_cam = np.tile(np.eye(4), (len(directions), 1, 1))
    for T, d in zip(T_obj_cam, directions, strict=True):
        T[:3, 3] = d
        if abs(d[2]) > 1 - 1e-9:
            # At the poles "up" has no meaning; these are SAM-6D's two rotations.
            T[:3, :3] = np.diag((-1.0, -1.0, 1.0) if d[2] < 0 else (1.0, -1.0, -1.0))
            continue
        across = math.sqrt(d[0] * d[0] + d[1] * d[1])
        x = np.array((-d[1] / across, d[0] / across, 0.0))
        y = np.array((d[2] * x[1], -d[2] * x[0], d[1] * x[0] - d[0] * x[1]))
        T[:3, :3] = np.column_stack((x, y, -d))
    return T_obj_cam
