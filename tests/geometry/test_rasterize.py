"""The z-buffer against exact geometry and against what must never happen: gaps."""

from __future__ import annotations

import meshes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.geometry import rasterize
from gnomon.geometry.drawable import make_drawable
from gnomon.geometry.mesh import Mesh

SIZE = 96
F = 110.0
CENTRE = (SIZE - 1) / 2


def look_at(eye: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R_cam_obj and t of a camera at `eye` that looks at `target`."""
    z = target - eye
    z = z / np.linalg.norm(z)
    helper = np.array((0.0, 0, 1)) if abs(z[2]) < 0.9 else np.array((0.0, 1, 0))
    x = np.cross(z, helper)
    x /= np.linalg.norm(x)
    R = np.stack((x, np.cross(z, x), z))
    return R, -R @ eye


def draw(mesh: Mesh, R: np.ndarray, t: np.ndarray, *, cull: bool = True, near: float = 0.01) -> tuple:
    """Depth (inf where empty) and face of the mesh (-1 where empty) at each sample."""
    drawable = make_drawable(mesh)
    K = np.array([[F, 0, CENTRE], [0, F, CENTRE], [0, 0, 1]])
    t = t + R @ drawable.origin
    to_lattice = K @ np.column_stack((R, t))
    buffer = rasterize.make_buffer(SIZE, SIZE)
    box = np.array([SIZE, SIZE, -1, -1])
    rasterize.draw(
        drawable.cluster_xyz, drawable.cluster_start, drawable.corners, drawable.bounds, to_lattice, -R.T @ t,
        cull and drawable.closed, near, 1000.0, SIZE, SIZE, buffer, box,
    )  # fmt: skip
    seen = buffer[:, :SIZE] > 0
    bits = (buffer[:, :SIZE] >> 32).astype(np.int32)
    with np.errstate(divide="ignore"):
        depth = 1 / bits.view(np.float32).astype(np.float64)
    face = np.where(
        seen, drawable.face_order[(rasterize.FACE_MASK - (buffer[:, :SIZE] & rasterize.FACE_MASK)) * seen], -1
    )
    inside = np.argwhere(seen)
    if len(inside):
        assert box[1] <= inside[:, 0].min() and inside[:, 0].max() <= box[3]
        assert box[0] <= inside[:, 1].min() and inside[:, 1].max() <= box[2]
    return depth, face


def rays(R: np.ndarray) -> np.ndarray:
    """Directions with depth 1 in the object's axes, one per sample."""
    y, x = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    in_camera = np.stack(((x - CENTRE) / F, (y - CENTRE) / F, np.ones_like(x, float)), -1)
    return in_camera @ R


def cube_depth(R: np.ndarray, t: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact depth of an axis-parallel cube about the origin (slabs), and how clearly each ray hits or misses."""
    eye, d = -R.T @ t, rays(R)
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (-side / 2 - eye) / d, (side / 2 - eye) / d
    enter, leave = np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)
    return np.where(enter <= leave, enter, np.inf), np.abs(leave - enter)


eyes = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.3)


@settings(max_examples=40, deadline=None)
@given(eyes, st.floats(2.0, 5.0))
def test_a_cube_is_exact(eye: tuple[float, float, float], distance: float) -> None:
    R, t = look_at(np.array(eye) / np.linalg.norm(eye) * distance, np.zeros(3))
    depth, _ = draw(meshes.cube(), R, t)
    exact, margin = cube_depth(R, t, 1.0)
    clear = margin > 1e-6
    assert np.array_equal(np.isfinite(depth)[clear], np.isfinite(exact)[clear])
    both = np.isfinite(depth) & np.isfinite(exact)
    np.testing.assert_allclose(depth[both], exact[both], rtol=3e-7)


def test_a_fine_sphere_is_as_large_as_the_true_one() -> None:
    R, t = look_at(np.array((1.0, -2.0, 1.5)), np.zeros(3))
    depth, _ = draw(meshes.icosphere(6, radius=0.6), R, t)
    eye, d = -R.T @ t, rays(R)
    along, square = (d @ -eye), (d * d).sum(-1)
    nearest = np.sqrt(np.maximum(eye @ eye - along**2 / square, 0))
    # The faces of the icosphere lie at most 0.0003 under the sphere.
    assert np.isfinite(depth)[nearest < 0.5996].all()
    assert not np.isfinite(depth)[nearest > 0.6].any()
    inside = nearest < 0.55
    along, square = along[inside], square[inside]
    exact = (along - np.sqrt(along**2 - square * (eye @ eye - 0.36))) / square
    assert np.abs(depth[inside] - exact).max() < 2e-3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), eyes, st.sampled_from([2, 3, 4]))
def test_closed_bodies_have_no_holes(seed: int, eye: tuple[float, float, float], level: int) -> None:
    """Without culling a gap would show the far side; with culling it would show nothing."""
    mesh = meshes.bumpy(seed, level)
    R, t = look_at(np.array(eye) / np.linalg.norm(eye) * 3.5, np.zeros(3))
    culled, face_culled = draw(mesh, R, t)
    whole, face_whole = draw(mesh, R, t, cull=False)
    assert np.array_equal(np.isfinite(culled), np.isfinite(whole))
    # The bodies are star-shaped: whatever lies in front faces the camera, but for ties on silhouettes.
    assert (face_culled != face_whole).sum() <= 2


def test_samples_on_shared_edges_and_corners_are_covered() -> None:
    """A grid whose vertices fall exactly on samples: every sample inside is seen once."""
    n = 24
    y, x = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    vertices = np.stack(((x - n / 2 + 0.5) * 2 / F, (y - n / 2 + 0.5) * 2 / F, np.ones_like(x, float)), -1).reshape(
        -1, 3
    )
    a = (y * (n + 1) + x)[:-1, :-1].reshape(-1)
    faces = np.concatenate((np.column_stack((a, a + 1, a + n + 2)), np.column_stack((a, a + n + 2, a + n + 1))))
    _, face = draw(Mesh(vertices=vertices, faces=faces), np.eye(3), np.zeros(3))
    seen = np.argwhere(face >= 0)
    low, high = seen.min(axis=0), seen.max(axis=0)
    assert (face[low[0] : high[0] + 1, low[1] : high[1] + 1] >= 0).all()
    assert (high - low + 1).min() >= 2 * n


def test_a_plane_through_the_camera_needs_no_clipping() -> None:
    """A floor that reaches behind the camera, as two huge triangles."""
    floor = np.array([(-50.0, 0.5, -50), (50, 0.5, -50), (50, 0.5, 50), (-50, 0.5, 50)])
    depth, face = draw(Mesh(vertices=floor, faces=np.array([(0, 1, 2), (0, 2, 3)])), np.eye(3), np.zeros(3), near=0.1)
    y, _x = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    with np.errstate(divide="ignore"):
        exact = 0.5 * F / (y - CENTRE)
    inside = (exact > 0) & (exact < 49.9)
    assert (face >= 0)[inside].all() and not (face >= 0)[~inside & (exact < 0)].any()
    np.testing.assert_allclose(depth[inside], exact[inside], rtol=1e-5)


def test_nothing_nearer_than_the_near_plane_is_drawn() -> None:
    R, t = look_at(np.array((0.0, 0, -0.05)), np.array((0, 0, 1.0)))
    depth, _ = draw(meshes.icosphere(3), R, t, cull=False, near=0.2)
    assert np.isfinite(depth).all()
    assert depth.min() >= 0.2


def test_the_camera_may_be_inside() -> None:
    depth, _ = draw(meshes.cube(2.0), np.eye(3), np.zeros(3), cull=False)
    np.testing.assert_allclose(depth, 1.0, rtol=1e-6)


@pytest.mark.parametrize("behind", [True, False])
def test_what_is_out_of_sight_is_not_drawn(behind: bool) -> None:
    t = np.array((0, 0, -3.0)) if behind else np.array((9.0, 0, 3))
    depth, _ = draw(meshes.cube(), np.eye(3), t)
    assert not np.isfinite(depth).any()


def test_order_of_triangles_does_not_matter() -> None:
    mesh = meshes.bumpy(3)
    R, t = look_at(np.array((2.0, 2, 2)), np.zeros(3))
    shuffled = np.random.default_rng(0).permutation(len(mesh.faces))
    depth, face = draw(mesh, R, t)
    depth2, face2 = draw(Mesh(vertices=mesh.vertices, faces=mesh.faces[shuffled]), R, t)
    assert np.array_equal(depth, depth2)
    assert np.array_equal(face[face >= 0], shuffled[face2[face2 >= 0]])
