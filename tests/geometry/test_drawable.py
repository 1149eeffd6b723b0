"""Preparation of meshes: orientation, welding, clusters, half floats."""

from __future__ import annotations

from dataclasses import replace

import meshes
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gnomon.geometry.drawable import CLUSTER_SIZE, make_drawable
from gnomon.geometry.half import half_bits
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.orientation import outward_flips
from gnomon.geometry.surface import linear_to_srgb, srgb_to_linear
from gnomon.geometry.weld import weld


def flips(mesh: Mesh) -> np.ndarray | None:
    return outward_flips(mesh.vertices, mesh.faces)


def test_closed_bodies_wound_outwards_need_no_flip() -> None:
    for mesh in (meshes.cube(), meshes.torus(), meshes.bumpy(1)):
        found = flips(mesh)
        assert found is not None and not found.any()


def test_an_inside_out_body_is_flipped_whole() -> None:
    both = meshes.joined(meshes.torus(), meshes.turned_inside_out(meshes.cube(0.2)))
    found = flips(both)
    assert found is not None
    assert not found[: len(meshes.torus().faces)].any() and found[len(meshes.torus().faces) :].all()


def test_bodies_whose_triangles_share_no_vertices_are_turned_the_same_way() -> None:
    """As STL files have them, and seams of textures."""
    for mesh in (meshes.cube(), meshes.torus(), meshes.bumpy(3)):
        for faces, turned in ((mesh.faces, False), (mesh.faces[:, ::-1], True)):
            soup = Mesh(vertices=mesh.vertices[faces].reshape(-1, 3), faces=np.arange(3 * len(faces)).reshape(-1, 3))
            found = flips(soup)
            assert found is not None and (found == turned).all()


def test_single_wrong_triangles_are_found() -> None:
    mesh = meshes.bumpy(2)
    faces = mesh.faces.copy()
    wrong = np.array((5, 77, 300))
    faces[wrong] = faces[wrong][:, ::-1]
    found = flips(replace(mesh, faces=faces))
    assert found is not None
    assert np.array_equal(np.flatnonzero(found), wrong)


def test_open_and_branching_surfaces_are_not_closed() -> None:
    cube = meshes.cube()
    assert flips(replace(cube, faces=cube.faces[:-1])) is None
    fin = replace(cube, vertices=np.vstack((cube.vertices, (3, 3, 3))), faces=np.vstack((cube.faces, (0, 1, 8))))
    assert flips(fin) is None


def test_a_moebius_band_closed_to_a_klein_bottle_cannot_be_oriented() -> None:
    n, m = 8, 6
    i, j = np.meshgrid(np.arange(n), np.arange(m), indexing="ij")
    # One direction closes with a twist.
    wrap = np.where(i + 1 == n, (-j) % m, j)
    wrap1 = np.where(i + 1 == n, (-(j + 1)) % m, (j + 1) % m)
    a, b = i * m + j, (i + 1) % n * m + wrap
    c, d = (i + 1) % n * m + wrap1, i * m + (j + 1) % m
    faces = np.concatenate((np.stack((a, b, c), -1).reshape(-1, 3), np.stack((a, c, d), -1).reshape(-1, 3)))
    assert flips(Mesh(vertices=np.random.default_rng(0).random((n * m, 3)), faces=faces)) is None


def test_a_seam_does_not_open_a_surface() -> None:
    cube = meshes.cube()
    split = Mesh(vertices=cube.vertices[cube.faces.reshape(-1)], faces=np.arange(36).reshape(-1, 3))
    found = flips(split)
    assert found is not None and not found.any()


@given(arrays(np.int64, st.tuples(st.integers(1, 60), st.just(3)), elements=st.integers(0, 2)))
def test_weld_unites_equal_vertices_only(points: np.ndarray) -> None:
    vertices = points * 0.1 * np.array((1, -1, 1))
    place, first = weld(vertices)
    assert np.array_equal(vertices[first][place], vertices)
    assert len(first) == len(np.unique(points, axis=0))
    assert (np.diff(first) > 0).all()


def test_clusters_hold_every_triangle_once() -> None:
    mesh = meshes.torus(n=40, m=20)
    drawable = make_drawable(mesh)
    assert sorted(drawable.face_order) == list(range(len(mesh.faces)))
    cluster = np.arange(len(mesh.faces)) // CLUSTER_SIZE
    columns = drawable.corners.T.astype(int) + drawable.cluster_start[cluster][:, None]
    placed = drawable.cluster_xyz.T[columns] + drawable.origin
    np.testing.assert_allclose(placed, mesh.vertices[drawable.faces], atol=1e-6)
    centre = drawable.bounds[cluster, :3]
    reach = np.linalg.norm(drawable.cluster_xyz.T[columns] - centre[:, None], axis=2)
    assert (reach <= drawable.bounds[cluster, 3][:, None]).all()


def test_offsets_far_from_zero_keep_their_digits() -> None:
    far = meshes.cube(1.0, centre=(5e6, -3e6, 1e6))
    drawable = make_drawable(far)
    np.testing.assert_allclose(drawable.cluster_xyz.max(axis=1) - drawable.cluster_xyz.min(axis=1), 1.0, rtol=1e-6)


@numba.njit
def _halves(values: np.ndarray, out: np.ndarray) -> None:
    for i in range(values.shape[0]):
        out[i] = half_bits(values[i])


def test_half_bits_rounds_as_numpy() -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    random = np.random.default_rng(0)
    between = random.choice(halves[:-1], 200_000) * random.uniform(0.999, 1.001, 200_000).astype(np.float32)
    ties = (halves[:-1].astype(np.float64) + halves[1:]) / 2
    values = np.concatenate((halves, between[np.abs(between) < 65504], ties.astype(np.float32)))
    values = np.concatenate((values, -values)).astype(np.float32)
    out = np.zeros(len(values), np.uint16)
    _halves(values, out)
    assert np.array_equal(out, values.astype(np.float16).view(np.uint16))


def test_srgb_tables_are_each_others_inverse() -> None:
    steps = len(linear_to_srgb()) - 1
    back = linear_to_srgb()[np.round(srgb_to_linear() * steps).astype(int)]
    assert np.array_equal(back, np.arange(256))
    assert linear_to_srgb()[round(0.05 * steps)] == pytest.approx(63)
