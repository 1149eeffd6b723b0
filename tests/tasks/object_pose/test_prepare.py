"""Preparing a mesh: kept by content, mended when damaged, refused when empty, and light without looking different."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from known_objects import moved, pose, prepared, trial_of
from meshes import bumpy, cube, icosphere

from gnomon.errors import InputError
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.symmetry import Axis, Symmetries
from gnomon.geometry.view import draw_view, prepare_view
from gnomon.tasks.object_pose.estimate import estimate
from gnomon.tasks.object_pose.methods.render_compare import model as build_model
from gnomon.tasks.object_pose.methods.render_compare.views import view_camera, view_poses
from gnomon.tasks.object_pose.prepare import PoseModel, prepare
from gnomon.tasks.synthetic.shapes import make_shape


def assert_same(first: PoseModel, second: PoseModel) -> None:
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if field.name == "symmetries":
            assert np.array_equal(a.discrete, b.discrete) and len(a.continuous) == len(b.continuous)
            for one, other in zip(a.continuous, b.continuous, strict=True):
                assert np.array_equal(one.direction, other.direction) and np.array_equal(one.offset_m, other.offset_m)
        elif isinstance(a, tuple) and hasattr(a, "_fields"):
            for name in a._fields:
                x, y = getattr(a, name), getattr(b, name)
                assert type(x) is type(y) and np.array_equal(x, y), name
                if isinstance(x, np.ndarray):
                    assert x.dtype == y.dtype and x.flags.c_contiguous == y.flags.c_contiguous, name
        else:
            assert np.array_equal(a, b), field.name


@pytest.mark.parametrize("name", ["textured_can", "bottle", "box"])
def test_a_kept_model_is_the_same_and_gives_the_same_poses(name: str, tmp_path: Path) -> None:
    shape = make_shape(name)
    made = prepare(shape.mesh, symmetries=shape.symmetries, cache=tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 1
    kept = prepare(shape.mesh, symmetries=shape.symmetries, cache=tmp_path)
    assert kept is not made
    assert_same(made, kept)
    trial = trial_of(name, 1)
    poses = [estimate(model, trial.rgb, trial.depth_m, trial.mask, trial.camera) for model in (made, kept)]
    assert np.array_equal(poses[0].T_cam_obj, poses[1].T_cam_obj) and poses[0].score == poses[1].score


def test_a_kept_model_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = make_shape("bracket")
    made = prepare(shape.mesh, symmetries=shape.symmetries, cache=tmp_path / "not" / "yet there")
    monkeypatch.setattr(build_model, "build", None)
    assert_same(made, prepare(shape.mesh, symmetries=shape.symmetries, cache=tmp_path / "not" / "yet there"))


# NumPy leaves the handle of a truncated file to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["empty", "half", "another file", "a byte"])
def test_a_damaged_file_is_made_anew(damage: str, tmp_path: Path) -> None:
    shape = make_shape("bracket")
    made = prepare(shape.mesh, symmetries=shape.symmetries, cache=tmp_path)
    (file,) = tmp_path.glob("*.npz")
    whole = file.read_bytes()
    spoilt = bytearray(whole)
    spoilt[len(whole) // 3] ^= 0xFF
    file.write_bytes(
        {"empty": b"", "half": whole[: len(whole) // 2], "another file": b"PK no", "a byte": spoilt}[damage]
    )
    assert_same(made, prepare(shape.mesh, symmetries=shape.symmetries, cache=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    with np.load(file) as stored:
        assert "centre" in stored.files


def test_an_array_file_without_a_models_fields_is_made_anew(tmp_path: Path) -> None:
    shape = make_shape("bracket")
    made = prepare(shape.mesh, symmetries=shape.symmetries, cache=tmp_path)
    (file,) = tmp_path.glob("*.npz")
    np.savez(file, centre=np.zeros(3))
    assert_same(made, prepare(shape.mesh, symmetries=shape.symmetries, cache=tmp_path))


def test_whatever_changes_the_model_has_an_entry_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    any_model = prepared("bracket")
    monkeypatch.setattr(build_model, "build", lambda mesh, symmetries: any_model)
    mesh = cube(0.1)
    red = np.full((8, 3), (255, 0, 0), np.uint8)
    dark = replace(mesh, vertex_rgb=red // 2)
    turn = Symmetries(pose((0, 0, np.pi), (0, 0, 0))[None])
    axis = Symmetries(np.empty((0, 4, 4)), (Axis(np.array([0.0, 0, 1]), np.zeros(3)),))
    shifted = Symmetries(np.empty((0, 4, 4)), (Axis(np.array([0.0, 0, 1]), np.array([0.01, 0, 0])),))
    given = [Symmetries.none(), turn, axis, shifted]
    for symmetries in given:
        prepare(mesh, symmetries=symmetries, cache=tmp_path)
    for other in (replace(mesh, vertex_rgb=red), dark, moved(mesh, pose((0, 0, 0), (0.1, 0, 0)))):
        prepare(other, symmetries=Symmetries.none(), cache=tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == len(given) + 3
    flat = replace(mesh, vertices=mesh.vertices * (1, 0.7, 0.4))
    for symmetries in ("auto", Symmetries.none()):
        prepare(flat, symmetries=symmetries, cache=tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == len(given) + 5


def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    shape = make_shape("bracket")
    in_the_way = tmp_path / "a file"
    in_the_way.write_text("not a folder")
    assert prepare(shape.mesh, symmetries=shape.symmetries, cache=in_the_way).diameter_m > 0
    assert in_the_way.read_text() == "not a folder"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_does_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        shape = make_shape("bracket")
        assert prepare(shape.mesh, symmetries=shape.symmetries, cache=folder).diameter_m > 0
        assert not list(folder.iterdir())
    finally:
        folder.chmod(0o700)


def test_meshes_without_triangles_or_extent_are_refused() -> None:
    mesh = cube(0.1)
    broken = mesh.vertices.copy()
    broken[3, 1] = np.nan
    for bad, code in (
        (replace(mesh, faces=mesh.faces[:0]), "mesh_empty"),
        (mesh.scaled(0.0), "mesh_too_small"),
        (mesh.scaled(1e-4), "mesh_too_small"),
        (replace(mesh, vertices=broken), "mesh_too_small"),
    ):
        with pytest.raises(InputError) as refusal:
            prepare(bad)
        assert refusal.value.code == code and refusal.value.field == "mesh"


def test_vertices_of_no_triangle_do_not_count() -> None:
    mesh, plain = make_shape("bracket").mesh, prepared("bracket")
    stray = np.concatenate([mesh.vertices, [[5.0, 5.0, 5.0]]])
    model = prepare(replace(mesh, vertices=stray), symmetries=Symmetries.none())
    assert model.diameter_m == plain.diameter_m
    np.testing.assert_array_equal(model.centre, plain.centre)


def test_diameter_and_centre_are_those_of_the_surface() -> None:
    mesh = moved(bumpy(3), pose((0.3, 0.2, 1.0), (0.5, -0.2, 0.1)))
    model = prepare(mesh, symmetries=Symmetries.none())
    apart = np.linalg.norm(mesh.vertices[:, None] - mesh.vertices[None], axis=-1).max()
    assert model.diameter_m == pytest.approx(apart, rel=1e-3)
    np.testing.assert_allclose(model.centre, (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2, atol=1e-9)
    distances = np.linalg.norm(model.marks[:, None] + model.centre - mesh.vertices[None], axis=-1).min(axis=1)
    assert distances.max() < 0.02 * model.diameter_m


def differing(model: PoseModel, mesh: Mesh) -> float:
    """Share of the mesh's pixels, from a dozen sides, where the light mesh's depth is off by over 2 % of d."""
    exact = prepare_view(moved(mesh, pose((0, 0, 0), tuple(-model.centre))))
    light = prepare_view(Mesh(model.shape.vertices.T.astype(np.float64), model.shape.faces))
    T_views = view_poses(13, 4 * model.diameter_m)
    camera = view_camera(80)
    wrong = seen = 0
    for T in T_views:
        a, b = (draw_view(one, T, camera, colour=False).depth_m for one in (exact, light))
        wrong += int((np.abs(a - b) > 0.02 * model.diameter_m).sum())
        seen += int((a > 0).sum())
    return wrong / seen


def test_a_fine_mesh_becomes_light_without_looking_different() -> None:
    mesh = bumpy(7, level=6).scaled(0.08)
    assert len(mesh.faces) > 30_000
    model = prepare(mesh, symmetries=Symmetries.none())
    assert model.shape.faces.shape[0] <= 4000 and model.warnings == ()
    assert model.shape.closed and differing(model, mesh) < 0.03


def test_a_mug_keeps_its_bottom_and_its_thin_wall() -> None:
    mesh = make_shape("mug").mesh
    model = prepared("mug")
    assert model.shape.faces.shape[0] < len(mesh.faces)
    assert differing(model, mesh) < 0.03
    # Straight into the opening: the inner bottom, 9.5 cm below the rim.
    T = pose((np.pi, 0, 0), (0, 0, 0.6))
    light = Mesh(model.shape.vertices.T.astype(np.float64) + model.centre, model.shape.faces)
    camera = view_camera(80)
    middle = draw_view(prepare_view(light), T, camera, colour=False).depth_m[40, 40]
    assert middle == pytest.approx(0.595, abs=0.003)


def test_points_lie_on_the_surface_and_face_the_viewer() -> None:
    mesh = icosphere(3, 0.05)
    T_views, camera = view_poses(build_model.N_VIEWS, 0.6), view_camera(96)
    points = build_model._points([draw_view(prepare_view(mesh), T, camera) for T in T_views], T_views, camera)
    assert np.isfinite(points.points).all() and len(points.points) == build_model.N_VIEWS
    radius = np.linalg.norm(points.points, axis=1)
    assert radius.min() > 0.048 and radius.max() < 0.0502
    towards = -points.R_cam_obj[:, 2]
    assert (np.einsum("vj,vjn->vn", towards, points.normals) > 0).all()
    assert (np.einsum("vjn,vjn->vn", points.points / radius[:, None], points.normals) > 0.97).all()


def test_colour_counts_only_where_it_varies() -> None:
    plain = cube(0.1)
    one = replace(plain, vertex_rgb=np.full((8, 3), (200, 40, 40), np.uint8))
    faces = np.repeat(np.random.default_rng(0).integers(0, 256, (6, 3)), 2, axis=0).astype(np.uint8)
    many = replace(plain, face_rgb=faces)
    T_views, camera = view_poses(20, 1.0), view_camera(64)
    views = [[draw_view(prepare_view(mesh), T, camera) for T in T_views] for mesh in (plain, one, many)]
    assert [build_model._is_textured(sides) for sides in views] == [False, False, True]
