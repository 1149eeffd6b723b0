"""Views at a pose, against rays through every pixel and against planes and spheres known exactly."""

from __future__ import annotations

import threading
from dataclasses import replace

import meshes
import numpy as np
import pytest

from gnomon.errors import InputError
from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.surface import linear_to_srgb_bytes, srgb_to_linear
from gnomon.geometry.view import View, draw_view, prepare_view

CAMERA = Camera(fx=91.0, fy=97.5, cx=33.25, cy=21.75, width=70, height=50)


def pose(seed: int, t_m: tuple[float, float, float]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return se3.se3(se3.so3_exp(rng.normal(size=3)), np.array(t_m))


def twin(mesh: Mesh, T_cam_obj: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest triangle on every ray by Moeller and Trumbore: depth (inf), face (-1), how close a call it was."""
    corners = se3.apply(T_cam_obj, mesh.vertices)[mesh.faces]
    a, e1, e2 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    d = camera.rays().reshape(-1, 1, 3)
    p = np.cross(d, e2)
    with np.errstate(divide="ignore", invalid="ignore"):
        inv = 1 / (p * e1).sum(-1)
        u = -(p * a).sum(-1) * inv
        q = np.cross(-a, e1)
        v = (d * q).sum(-1) * inv
        depth = (q * e2).sum(-1) * inv
    margin = np.minimum(np.minimum(u, v), 1 - u - v)
    hit = np.where((margin >= 0) & (depth >= 0.01), depth, np.inf)
    face = np.where(np.isfinite(hit.min(-1)), hit.argmin(-1), -1)
    in_front = depth >= 0.01
    close = np.where(in_front, np.abs(margin), np.inf).min(-1)
    shape = (camera.height, camera.width)
    return hit.min(-1).reshape(shape), face.reshape(shape), close.reshape(shape)


@pytest.mark.parametrize(
    "t_m",
    [(0, 0, 3.0), (1.2, 0.1, 2.6), (-0.9, -0.8, 2.4), (0.2, 0, 0.6), (0, 0.1, -0.2), (0.1, 0, 0)],
    ids=["whole", "right border", "corner", "near", "around the camera", "camera inside"],
)
@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_rays(seed: int, t_m: tuple[float, float, float]) -> None:
    mesh, T = meshes.bumpy(seed, 2), pose(seed, t_m)
    view = draw_view(prepare_view(mesh), T, CAMERA)
    depth, face, close = twin(mesh, T, CAMERA)
    clear = close > 1e-4
    assert clear.mean() > 0.9
    assert np.array_equal((view.depth_m > 0)[clear], np.isfinite(depth)[clear])
    assert np.array_equal(view.face[clear], face[clear])
    seen = clear & (face >= 0)
    np.testing.assert_allclose(view.depth_m[seen], depth[seen], rtol=2e-5)
    corners = se3.apply(T, mesh.vertices)[mesh.faces[face[seen]]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    normal *= -np.sign((normal * CAMERA.rays()[seen]).sum(-1, keepdims=True))
    np.testing.assert_allclose(view.normal_cam[seen], normal, atol=2e-5)


def test_empty_pixels_hold_nothing() -> None:
    view = draw_view(prepare_view(meshes.cube(0.2)), pose(0, (0, 0, 1.0)), CAMERA)
    empty = view.face < 0
    assert 0 < empty.sum() < empty.size
    assert view.rgb is not None
    assert not view.depth_m[empty].any() and not view.normal_cam[empty].any() and not view.rgb[empty].any()
    assert (view.depth_m[~empty] > 0).all() and view.rgb[~empty].all()
    np.testing.assert_allclose(np.linalg.norm(view.normal_cam[~empty], axis=-1), 1, atol=1e-6)


def test_a_plane_is_exact() -> None:
    """z = 1.5 + 0.3 x - 0.2 y, over the whole picture."""
    x, y = np.array([-9.0, 9, 9, -9]), np.array([-9.0, -9, 9, 9])
    plane = np.stack((x, y, 1.5 + 0.3 * x - 0.2 * y), -1)
    plane_mesh = Mesh(vertices=plane, faces=np.array([(0, 1, 2), (0, 2, 3)]))
    view = draw_view(prepare_view(plane_mesh), np.eye(4), CAMERA)
    normal = np.array([0.3, -0.2, -1])
    rays = CAMERA.rays()
    np.testing.assert_allclose(view.depth_m, -1.5 / (rays @ normal), rtol=2e-6)
    unit = np.broadcast_to(normal / np.linalg.norm(normal), view.normal_cam.shape)
    np.testing.assert_allclose(view.normal_cam, unit, atol=1e-6)


@pytest.mark.parametrize("smooth", [True, False])
def test_a_sphere_and_its_normals(smooth: bool) -> None:
    ball = meshes.icosphere(5, radius=0.3)
    if smooth:
        # Of another length and turned inwards: both must not matter.
        ball = replace(ball, vertex_normals=-2 * ball.vertices)
    T = pose(4, (0.1, -0.05, 1.2))
    view = draw_view(prepare_view(ball), T, CAMERA)
    points = CAMERA.rays() * view.depth_m[..., None]
    seen = view.depth_m > 0
    radial = (points - T[:3, 3])[seen]
    np.testing.assert_allclose(np.linalg.norm(radial, axis=-1), 0.3, atol=1e-3)
    # Towards the rim interpolated normals may turn away and are replaced by the triangle's own.
    np.testing.assert_allclose(view.normal_cam[seen], radial / 0.3, atol=0.006 if smooth else 0.06)
    assert ((view.normal_cam * points).sum(-1)[seen] < 0).all()


def test_limits_of_depth() -> None:
    prepared = prepare_view(meshes.icosphere(3, radius=0.5))
    T = pose(0, (0, 0, 2.0))
    front = draw_view(prepared, T, CAMERA, far_m=1.7).depth_m
    assert front.max() <= 1.7 and front.any()
    back = draw_view(prepared, T, CAMERA, near_m=2.0).depth_m
    assert back.any() and back[back > 0].min() >= 2.0
    assert not draw_view(prepared, pose(0, (0, 0, -2.0)), CAMERA).depth_m.any()


def colours(view: View) -> np.ndarray:
    assert view.rgb is not None
    return view.rgb


def test_colour_of_vertices_faces_textures_and_none() -> None:
    square = Mesh(
        vertices=np.array([(-0.2, -0.2, 1.0), (0.2, -0.2, 1), (0.2, 0.2, 1), (-0.2, 0.2, 1)]),
        faces=np.array([(0, 1, 2), (0, 2, 3)]),
    )
    grey = draw_view(prepare_view(square), np.eye(4), CAMERA)
    seen = grey.face >= 0
    assert np.unique(colours(grey)[seen]).tolist() == [linear_to_srgb_bytes(np.array(0.8))]
    flat = draw_view(
        prepare_view(replace(square, face_rgb=np.array([(9, 50, 200), (255, 0, 3)], np.uint8))), np.eye(4), CAMERA
    )
    assert np.array_equal(colours(flat)[seen], np.array([(9, 50, 200), (255, 0, 3)])[flat.face[seen]])
    # Linear in x and in linear light from black to white.
    ramp = np.array([0, 255, 255, 0], np.uint8)[:, None].repeat(3, axis=1)
    painted = draw_view(prepare_view(replace(square, vertex_rgb=ramp)), np.eye(4), CAMERA)
    x = CAMERA.rays()[seen][:, 0]
    shade = srgb_to_linear()[colours(painted)[seen]]
    np.testing.assert_allclose(shade, ((x + 0.2) / 0.4)[:, None].repeat(3, axis=1), atol=0.006)
    # The upper half of the texture is the side of v = 1.
    texture = np.zeros((8, 2, 3), np.uint8)
    texture[:4], texture[4:] = (200, 10, 10), (10, 10, 200)
    uv = np.array([(0.0, 1), (1, 1), (1, 0), (0, 0)])
    skin = replace(square, uv=uv, face_texture=np.zeros(2, int), textures=(texture,))
    textured = colours(draw_view(prepare_view(skin), np.eye(4), CAMERA))
    y = CAMERA.rays()[..., 1]
    for centre, texel in ((-0.1, texture[0, 0]), (0.1, texture[4, 0])):
        rows = textured[seen & (np.abs(y - centre) < 0.02)]
        assert len(rows) and (rows == texel).all()


def test_colour_can_be_left_out() -> None:
    prepared = prepare_view(meshes.cube(0.2))
    with_colour, without = (draw_view(prepared, pose(0, (0, 0, 1.0)), CAMERA, colour=c) for c in (True, False))
    assert without.rgb is None
    assert np.array_equal(with_colour.depth_m, without.depth_m)


def test_a_crop_is_a_part_of_the_picture() -> None:
    prepared, T = prepare_view(meshes.bumpy(1, 3)), pose(1, (0.3, 0, 2.5))
    whole = draw_view(prepared, T, CAMERA)
    part = draw_view(prepared, T, CAMERA.cropped(13, 7, 30, 22))
    np.testing.assert_allclose(part.depth_m, whole.depth_m[7:29, 13:43], rtol=1e-6)
    assert (part.face != whole.face[7:29, 13:43]).sum() <= 1


def test_views_leave_nothing_behind_whatever_the_sizes_and_threads() -> None:
    prepared = prepare_view(meshes.bumpy(2, 3))
    cameras = [CAMERA.cropped(0, 0, width, height) for width, height in ((70, 50), (33, 41), (67, 9), (71, 50))]
    T = pose(2, (0.6, 0, 2.2))
    alone = [draw_view(prepared, T, camera) for camera in cameras]
    different = []

    def again() -> None:
        for _ in range(5):
            for camera, first in zip(cameras, alone, strict=True):
                view = draw_view(prepared, T, camera)
                if not (np.array_equal(view.depth_m, first.depth_m) and np.array_equal(view.face, first.face)):
                    different.append(camera)

    threads = [threading.Thread(target=again) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert different == []


def test_far_from_the_files_origin() -> None:
    mesh, shift = meshes.bumpy(0, 3), np.array([400.0, -250, 90])
    T = pose(3, (0, 0, 3.0))
    there = T.copy()
    there[:3, 3] -= T[:3, :3] @ shift
    here = draw_view(prepare_view(mesh), T, CAMERA)
    away = draw_view(prepare_view(replace(mesh, vertices=mesh.vertices + shift)), there, CAMERA)
    np.testing.assert_allclose(away.depth_m, here.depth_m, rtol=1e-5)


def test_a_pose_that_is_not_finite_is_refused() -> None:
    T = np.eye(4)
    T[0, 3] = np.nan
    with pytest.raises(InputError) as caught:
        draw_view(prepare_view(meshes.cube()), T, CAMERA)
    assert caught.value.code == "poses_not_rigid"
