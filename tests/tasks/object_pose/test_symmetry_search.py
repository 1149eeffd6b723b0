"""Symmetries found in meshes are the true ones: all of them, no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from known_objects import moved, pose
from meshes import cube, icosphere

from gnomon.geometry import se3
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.symmetry import Axis, Symmetries
from gnomon.tasks.object_pose.prepare import prepare
from gnomon.tasks.synthetic.parts import arc, box, cylinder, joined, prism, tube
from gnomon.tasks.synthetic.parts import moved as placed
from gnomon.tasks.synthetic.shapes import make_shape

FAR_FRAME = pose((0.8, -0.5, 1.9), (0.2, -0.3, 0.15))


def found_in(mesh: Mesh) -> tuple[Symmetries, float]:
    """The symmetries that `prepare` finds, in the mesh's frame, and the diameter."""
    model = prepare(mesh)
    return model.symmetries, model.diameter_m


def in_frame(symmetries: Symmetries, T: np.ndarray) -> Symmetries:
    """The symmetries of an object that T has moved."""
    axes = (Axis(T[:3, :3] @ a.direction, se3.apply(T, a.offset_m[None])[0]) for a in symmetries.continuous)
    return Symmetries(T @ symmetries.discrete @ se3.inverse(T), tuple(axes))


def differ(T: np.ndarray, other: np.ndarray, mesh: Mesh, d: float) -> bool:
    """By more than 2 degrees, or more than 2 % of the diameter at the object."""
    centre = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0))[None] / 2
    apart = np.linalg.norm(se3.apply(T, centre) - se3.apply(other, centre))
    return bool(apart > 0.02 * d or np.degrees(se3.geodesic_angle(T[:3, :3], other[:3, :3])) > 2)


def assert_same_motions(found: np.ndarray, true: np.ndarray, mesh: Mesh, d: float) -> None:
    assert len(found) == len(true)
    for T in true:
        assert sum(not differ(T, other, mesh, d) for other in found) == 1
    for T in found:
        assert any(not differ(T, other, mesh, d) for other in true)


def assert_same_axis(found: Axis, true: Axis, d: float) -> None:
    assert abs(found.direction @ true.direction) > np.cos(np.radians(2))
    assert np.linalg.norm(np.cross(found.offset_m - true.offset_m, true.direction)) < 0.02 * d


@pytest.mark.parametrize("name", ["box", "hex_nut", "textured_box", "mug"])
def test_finite_groups(name: str) -> None:
    shape = make_shape(name)
    mesh = moved(shape.mesh, FAR_FRAME)
    found_symmetries, d = found_in(mesh)
    assert found_symmetries.continuous == ()
    true = in_frame(shape.symmetries, FAR_FRAME).discrete
    assert_same_motions(found_symmetries.discrete, true, mesh, d)


@pytest.mark.parametrize("name", ["bottle", "dumbbell"])
def test_things_off_the_lathe(name: str) -> None:
    shape = make_shape(name)
    found_symmetries, d = found_in(moved(shape.mesh, FAR_FRAME))
    (true,) = in_frame(shape.symmetries, FAR_FRAME).continuous
    (found,) = found_symmetries.continuous
    assert_same_axis(found, true, d)
    # One half turn that swaps the ends stands for all.
    assert len(found_symmetries.discrete) == len(shape.symmetries.discrete)
    for T in found_symmetries.discrete:
        assert T[:3, :3] @ true.direction @ true.direction < -np.cos(np.radians(2))
        assert np.linalg.norm(np.cross(se3.apply(T, true.offset_m[None])[0] - true.offset_m, true.direction)) < 0.004


@pytest.mark.slow
def test_a_ball_turns_about_three_axes() -> None:
    found_symmetries, _ = found_in(moved(icosphere(3, 0.05), FAR_FRAME))
    axes = found_symmetries.continuous
    directions = np.array([axis.direction for axis in axes])
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-9)
    for axis in axes:
        aside = np.cross(FAR_FRAME[:3, 3] - axis.offset_m, axis.direction)
        assert np.linalg.norm(aside) < 0.002


def test_colours_break_symmetries() -> None:
    plain = cube(0.1)
    assert len(found_in(plain)[0].discrete) == 23
    # Two opposite sides are black: the turns of a square prism are left.
    outward = np.round(
        np.cross(*(plain.vertices[plain.faces[:, k]] - plain.vertices[plain.faces[:, 0]] for k in (1, 2))), 6
    )
    caps = outward[:, 2] != 0
    rgb = np.where(caps[:, None], 0, 230).astype(np.uint8) * np.ones(3, np.uint8)
    assert len(found_in(replace(plain, face_rgb=rgb))[0].discrete) == 7


def test_a_stud_breaks_symmetries() -> None:
    studded = joined(box((0.12, 0.06, 0.02)), placed(cylinder(0.01, 0.02), (0, 0, 0.015)))
    (only,) = found_in(studded)[0].discrete
    assert np.degrees(se3.geodesic_angle(only[:3, :3], np.diag([-1.0, -1, 1]))) < 2


def test_a_bend_is_symmetric_whichever_way_it_lies() -> None:
    bend = moved(tube(arc(0.05, -45, 45, 24, axes="xz"), 0.012), FAR_FRAME)
    true = (FAR_FRAME @ np.diag([1.0, -1, -1, 1]) @ se3.inverse(FAR_FRAME))[None]
    found_symmetries, d = found_in(bend)
    assert_same_motions(found_symmetries.discrete, true, bend, d)


def test_given_symmetries_are_taken_as_they_are() -> None:
    mesh = moved(make_shape("bracket").mesh, FAR_FRAME)
    model = prepare(mesh, symmetries=Symmetries.none())
    assert model.symmetries.is_trivial and model.symmetry_R.shape == (1, 3, 3)
    given = in_frame(make_shape("bottle").symmetries, FAR_FRAME)
    model = prepare(mesh, symmetries=given)
    assert model.symmetries is given
    # About the centre, identity first, in steps of ten degrees at most.
    np.testing.assert_allclose(model.symmetry_R[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(model.symmetry_t[0], 0, atol=1e-12)
    assert len(model.symmetry_R) >= 36
    for R, t, T in zip(model.symmetry_R, model.symmetry_t, given.transforms(2 * np.pi * 0.5 / 36), strict=True):
        point = np.array([[0.01, 0.02, -0.03]])
        np.testing.assert_allclose(point @ R.T + t + model.centre, se3.apply(T, point + model.centre), atol=1e-12)


@pytest.mark.parametrize(("lobes", "centre"), [(11, True), (14, True), (7, False)])
def test_near_symmetries_are_found_whatever_their_number(lobes: int, centre: bool) -> None:
    """A lobed disc whose one small hole, off the middle, is all that tells its lobes apart."""
    angle = np.linspace(0, 2 * np.pi, 24 * lobes, endpoint=False)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    hole = 0.004 * around[:: 2 * lobes] + np.array([0.03, 0.0])
    holes = [hole, 0.008 * around[:: 2 * lobes]] if centre else [hole]
    disc = prism((0.05 + 0.004 * np.cos(lobes * angle))[:, None] * around, 0.012, holes)
    # A hub on one side: it cannot lie upside down.
    model = prepare(joined(disc, placed(cylinder(0.02, 0.012), (0, 0, 0.012))) if not centre else disc)
    turns = model.near_symmetry_R[model.near_symmetry_R[:, 2, 2] > 0.9]
    found = np.sort(np.degrees(np.arctan2(turns[:, 1, 0], turns[:, 0, 0])) % 360)
    assert np.abs(found - 360 / lobes * np.arange(1, lobes)).max() < 1.0
    assert len(model.symmetries.discrete) <= 1


def test_a_whole_gear_has_as_many_symmetries_as_teeth() -> None:
    tooth = np.arange(36)
    around = np.stack([np.cos(np.pi / 18 * tooth), np.sin(np.pi / 18 * tooth)], axis=-1)
    gear = prism(np.where(tooth % 2 == 0, 0.05, 0.042)[:, None] * around, 0.02)
    found, _ = found_in(joined(gear, placed(cylinder(0.02, 0.012), (0, 0, 0.016))))
    assert found.continuous == ()
    angles = np.sort(np.degrees(np.arctan2(found.discrete[:, 1, 0], found.discrete[:, 0, 0])) % 360)
    assert len(angles) == 17
    assert np.abs(angles - 20 * np.arange(1, 18)).max() < 1.0
