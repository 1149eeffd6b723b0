"""The order and the rotations of the view poses, and files of users' poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gnomon.errors import InputError
from gnomon.tasks.templates.views import load_poses, view_poses

# Directions of the 42 views in SAM-6D's file, some of each ring.
DIRECTIONS = {
    0: (0, 0, -1),
    1: (-0.162456, -0.499995, -0.850654),
    4: (0.425323, -0.309011, -0.850654),
    5: (-0.525730, 0, -0.850652),
    6: (0.262869, 0.809012, -0.525738),
    10: (0.850648, 0, -0.525736),
    13: (0.723607, 0.525725, -0.447220),
    15: (-0.894426, 0, -0.447216),
    16: (-0.587786, -0.809017, 0),
    19: (-0.587786, 0.809017, 0),
    20: (0, 1, 0),
    25: (0, -1, 0),
    26: (0.894426, 0, 0.447216),
    30: (0.276388, -0.850649, 0.447220),
    31: (-0.850648, 0, 0.525736),
    35: (-0.262869, 0.809012, 0.525738),
    36: (0.525730, 0, 0.850652),
    40: (0.162456, -0.499995, 0.850654),
    41: (0, 0, 1),
}

IN_FINEST = [
    0, 46, 47, 48, 49, 50, 141, 142, 143, 144, 145, 176, 177, 178, 179, 180, 304, 308, 312, 316, 320, 324, 328, 332,
    336, 340, 461, 462, 463, 464, 465, 496, 497, 498, 499, 500, 591, 592, 593, 594, 595, 641,
]  # fmt: skip


@pytest.mark.parametrize(("level", "count"), [(0, 42), (1, 162), (2, 642)])
def test_poses_look_at_the_origin_from_the_unit_sphere(level: int, count: int) -> None:
    T = view_poses(level)
    assert T.shape == (count, 4, 4)
    np.testing.assert_allclose(np.linalg.norm(T[:, :3, 3], axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(T[:, :3, 2], -T[:, :3, 3], atol=1e-12)
    np.testing.assert_allclose(
        T[:, :3, :3] @ T[:, :3, :3].transpose(0, 2, 1), np.tile(np.eye(3), (count, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(T[:, :3, :3]), 1)
    # Up in the picture (-y of the camera) is up in the object, but at the poles.
    assert (T[1:-1, 2, 1] < 0).all()
    assert (np.diff(T[:, 2, 3]) > -1e-9).all()
    assert len({tuple(np.round(d, 6)) for d in T[:, :3, 3]}) == count


def test_the_order_of_42_is_that_of_the_format() -> None:
    directions = view_poses(0)[:, :3, 3]
    for index, expected in DIRECTIONS.items():
        np.testing.assert_allclose(directions[index], expected, atol=1e-4)


def test_the_poles_have_their_own_rotations() -> None:
    T = view_poses(0)
    np.testing.assert_array_equal(T[0, :3, :3], np.diag((-1, -1, 1)))
    np.testing.assert_array_equal(T[41, :3, :3], np.diag((1, -1, -1)))


def test_the_coarse_views_lie_at_known_places_of_the_finest() -> None:
    np.testing.assert_allclose(view_poses(2)[IN_FINEST], view_poses(0), atol=1e-12)


def test_the_reference_file_is_reproduced(shared_data: Path) -> None:
    file = shared_data / "meshes" / "coke_sam6d_templates" / "cam_poses_level0.npy"
    if not file.is_file():
        pytest.skip("the reference poses are not on this machine")
    np.testing.assert_allclose(load_poses(file), view_poses(0), atol=1e-4)


def test_unknown_levels_are_refused() -> None:
    with pytest.raises(InputError, match="no view level 3"):
        view_poses(3)  # type: ignore[arg-type]


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_poses(path)
    assert caught.value.field == "camera_poses"
    return caught.value.code


def saved(tmp_path: Path, array: np.ndarray) -> Path:
    np.save(tmp_path / "poses.npy", array, allow_pickle=True)
    return tmp_path / "poses.npy"


def test_poses_of_a_file_are_scaled_to_the_unit_sphere(tmp_path: Path) -> None:
    T = view_poses(0).astype(np.float32)
    T[:, :3, 3] *= 1000
    np.testing.assert_allclose(load_poses(saved(tmp_path, T)), view_poses(0), atol=1e-6)


def test_files_that_are_no_arrays_of_numbers_are_unreadable(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.npy") == "poses_unreadable"
    (tmp_path / "text.npy").write_text("1 2 3")
    assert refused(tmp_path / "text.npy") == "poses_unreadable"
    assert refused(saved(tmp_path, np.array([{"a": 1}], dtype=object))) == "poses_unreadable"
    assert refused(saved(tmp_path, np.array(["a"]))) == "poses_unreadable"
    np.savez(tmp_path / "many.npz", a=np.eye(4))
    assert refused(tmp_path / "many.npz") == "poses_unreadable"
    whole = saved(tmp_path, view_poses(0)).read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:500])
    assert refused(tmp_path / "cut.npy") == "poses_unreadable"


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 4), (5, 3, 4), (10_001, 4, 4), (2, 2, 4, 4), ()])
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert refused(saved(tmp_path, np.zeros(shape))) == "poses_bad_shape"


@pytest.mark.parametrize("damage", ["scale", "mirror", "shear", "nan", "last row"])
def test_poses_that_are_no_rigid_motions_are_refused(tmp_path: Path, damage: str) -> None:
    T = view_poses(0)
    match damage:
        case "scale":
            T[3, :3, :3] *= 1.1
        case "mirror":
            T[3, :3, 0] *= -1
        case "shear":
            T[3, 0, 1] += 0.1
        case "nan":
            T[3, 0, 3] = np.nan
        case "last row":
            T[3, 3, 0] = 1
    assert refused(saved(tmp_path, T)) == "poses_not_rigid"
