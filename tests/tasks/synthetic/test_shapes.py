"""Shapes: closed, of sensible size, and with exactly the symmetries that they state."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from gnomon.errors import InputError
from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.symmetry import Symmetries
from gnomon.geometry.view import ViewMesh, draw_view, prepare_view
from gnomon.tasks.synthetic.real_shapes import REAL, real_shape
from gnomon.tasks.synthetic.shapes import REPORTING, TUNING, Shape, make_shape

CAMERA = Camera(fx=400.0, fy=400.0, cx=79.5, cy=79.5, width=160, height=160)


def unlikeness(prepared: ViewMesh, diameter_m: float, S: np.ndarray) -> float:
    """Largest share of pixels, over a few views, that see another depth or colour after the motion S.

    A pixel counts only where no neighbour sees the same, so that outlines may be off by one.
    """
    around = np.ones((3, 3), np.uint8)
    worst = 0.0
    for seed in range(4):
        R = se3.so3_exp(np.random.default_rng(seed).normal(size=3) * 2)
        T = se3.se3(R, np.array([0, 0, 2.8 * diameter_m]) - R @ prepared.drawable.origin)
        first, second = (draw_view(prepared, pose, CAMERA) for pose in (T, T @ S))
        seen = (first.depth_m > 0) | (second.depth_m > 0)
        different = np.zeros(seen.shape, bool)
        assert first.rgb is not None and second.rgb is not None
        for a, b, slack in ((first.depth_m, second.depth_m, 0.006 * diameter_m), (first.rgb, second.rgb, 40)):
            low, high = cv2.erode(b, around).astype(float) - slack, cv2.dilate(b, around).astype(float) + slack
            off = (a < low) | (a > high)
            different |= off.reshape(*seen.shape, -1).any(axis=-1)
        worst = max(worst, different.sum() / seen.sum())
    return worst


def motion(axis: np.ndarray, angle_deg: float, centre: np.ndarray) -> np.ndarray:
    R = se3.so3_exp(np.asarray(axis, float) / np.linalg.norm(axis) * np.radians(angle_deg))
    return se3.se3(R, centre - R @ centre)


def principal_axes(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre of area, second moments in ascending order and their axes: what every symmetry must leave alone."""
    corners = mesh.vertices[mesh.faces].astype(float)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    centre = (area[:, None] * corners.mean(axis=1)).sum(axis=0) / area.sum()
    middles = (corners + np.roll(corners, 1, axis=1)) / 2 - centre
    moments = np.einsum("f,fki,fkj->ij", area / 3, middles, middles) / area.sum()
    values, vectors = np.linalg.eigh(moments)
    return centre, values, vectors.T


def candidates(mesh: Mesh) -> list[np.ndarray]:
    """Motions among which a symmetry must be, if there is one: about principal axes through the centre of area.

    With two equal moments also turns of other orders about the third axis, and half turns about the axes of the
    mesh's own frame and their diagonals, as designed things have them.
    """
    centre, values, axes = principal_axes(mesh)
    found = [motion(axis, 180, centre) for axis in axes]
    for single, pair in ((0, (1, 2)), (2, (0, 1))):
        if values[pair[1]] - values[pair[0]] < 0.02 * values[2]:
            found += [motion(axes[single], 360 / order, centre) for order in range(3, 17)]
            diagonals = itertools.product((-1, 0, 1), repeat=3)
            found += [motion(np.array(d), 180, centre) for d in diagonals if d > (0, 0, 0)]
            found += [motion(axis, 90, centre) for axis in np.eye(3)]
    return found


def states(symmetries: Symmetries, S: np.ndarray) -> bool:
    """Whether S is among the symmetries: same rotation; that the centre agrees follows."""
    listed = symmetries.transforms(0.005)[:, :3, :3]
    # Candidates are not exact: moments of a mesh with few sections have axes that are a little off.
    return bool((se3.geodesic_angle(listed, S[:3, :3]) < np.radians(2)).any())


def check_symmetries(shape: Shape) -> None:
    prepared, diameter_m = prepare_view(shape.mesh), shape.mesh.diameter
    listed = shape.symmetries.transforms(0.4)[1:]
    for S in listed:
        assert se3.is_rigid(S)
        assert unlikeness(prepared, diameter_m, S) < 0.004, S
    for S in candidates(shape.mesh):
        if not states(shape.symmetries, S):
            assert unlikeness(prepared, diameter_m, S) > 0.01, S


@pytest.mark.parametrize("name", TUNING + REPORTING)
def test_symmetries_are_those_that_there_are(name: str) -> None:
    check_symmetries(make_shape(name))


@pytest.mark.parametrize("name", TUNING + REPORTING)
def test_shapes_are_closed_and_of_the_size_of_things_on_a_table(name: str) -> None:
    shape = make_shape(name)
    assert 0.04 < shape.mesh.diameter < 0.35
    assert prepare_view(shape.mesh).drawable.closed
    assert len(shape.mesh.faces) < 20_000
    assert np.array_equal(make_shape(name).mesh.vertices, shape.mesh.vertices)


def test_there_are_enough_kinds_and_none_is_in_both_lists() -> None:
    assert len(TUNING) >= 20
    assert len(REPORTING) >= 16
    assert not set(TUNING) & set(REPORTING)


def test_a_shape_that_does_not_exist() -> None:
    with pytest.raises(InputError, match="no synthetic shape"):
        make_shape("teaspoon")


def test_the_cube_has_its_23_turns_and_the_nut_its_11() -> None:
    for name, count in (("cube", 23), ("hex_nut", 11), ("box", 3), ("stool", 2)):
        symmetries = make_shape(name).symmetries
        assert len(symmetries.discrete) == count
        R = symmetries.transforms()[:, :3, :3]
        assert len(np.unique(np.round(R, 6), axis=0)) == count + 1


@pytest.mark.parametrize("name", REAL)
def test_real_objects(name: str, shared_data: Path) -> None:
    shape = real_shape(shared_data / "meshes", name)
    assert 0.05 < shape.mesh.diameter < 0.35
    prepared, diameter_m = prepare_view(shape.mesh), shape.mesh.diameter
    for S in shape.symmetries.transforms(0.4)[1:]:
        # A can has a tab.
        assert unlikeness(prepared, diameter_m, S) < 0.05
    centre, _, axes = principal_axes(shape.mesh)
    for axis in axes:
        S = motion(axis, 180, centre)
        assert states(shape.symmetries, S) or unlikeness(prepared, diameter_m, S) > 0.1


def test_a_real_object_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no real shape"):
        real_shape(tmp_path, "teaspoon")
    with pytest.raises(InputError) as caught:
        real_shape(tmp_path, "bunny")
    assert caught.value.code == "mesh_not_found"
