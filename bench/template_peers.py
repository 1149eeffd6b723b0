"""Other engines that draw the same templates: embree, OpenGL in software, pyrender, Blender.

Each makes the same three maps from the same poses: 8-bit sRGB with the lamp and the ambient light of
`gnomon.tasks.templates.scene`, a mask, and float16 coordinates in the mesh's own unit. (pyrender has neither our
lamp nor coordinates: its picture is its own, and the coordinates are computed from its depth.) They sample each
pixel once, in its centre, except Blender.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gnomon import paths
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.surface import SRGB_STEPS, linear_to_srgb, srgb_to_linear
from gnomon.tasks.templates import scene
from gnomon.tasks.templates.scene import RenderOptions, TemplateView

Views = Iterator[TemplateView]
SIZE = 512
GREY_LINEAR = 0.8


def embree(mesh: Mesh, T_obj_cam: np.ndarray) -> Views:
    """One ray through each pixel's centre (one thread), the maps by NumPy."""
    from embreex import mesh_construction, rtcore_scene

    faces = mesh.faces.astype(np.int32)
    vertices = mesh.vertices.astype(np.float32)
    tracer = rtcore_scene.EmbreeScene()
    mesh_construction.TriangleMesh(tracer, vertices[faces])
    albedo, normals, scale = _albedo(mesh), _normals(vertices, faces), scene.scene_scale(mesh, True)
    rays_cam = _rays()
    for T in T_obj_cam:
        centre = (T[:3, 3] * scene.CAMERA_RADIUS / scale).astype(np.float32)
        rays = _turned(rays_cam, T)
        hit = tracer.run(np.broadcast_to(centre, rays.shape).copy(), rays, output=1)
        inside = np.flatnonzero(hit["primID"] >= 0)
        triangle = hit["primID"][inside]
        points = centre + hit["tfar"][inside, None] * rays[inside]
        u, v = hit["u"][inside, None], hit["v"][inside, None]
        corners = albedo[faces[triangle]]
        colour = corners[:, 0] * (1 - u - v) + corners[:, 1] * u + corners[:, 2] * v
        lamp = centre * (scene.LIGHT_RADIUS / scene.CAMERA_RADIUS)
        yield _view(inside, points, _lit(colour, normals[triangle], points, lamp, scale))


VERTEX_SHADER = """
#version 330
uniform mat4 clip_obj;
in vec3 position; in vec3 albedo;
out vec3 point; out vec3 colour;
void main() { gl_Position = clip_obj * vec4(position, 1.0); point = position; colour = albedo; }
"""
FRAGMENT_SHADER = """
#version 330
uniform vec3 lamp; uniform float strength; uniform float ambient;
in vec3 point; in vec3 colour;
layout(location = 0) out vec4 rgb; layout(location = 1) out vec4 xyz;
void main() {
    vec3 to_lamp = lamp - point;
    float d2 = dot(to_lamp, to_lamp);
    float cosine = abs(dot(normalize(cross(dFdx(point), dFdy(point))), to_lamp)) * inversesqrt(d2);
    vec3 light = clamp(colour * (ambient + strength * cosine / d2), 0.0, 1.0);
    rgb = vec4(mix(12.92 * light, 1.055 * pow(light, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, light)), 1.0);
    xyz = vec4(point, 1.0);
}
"""


def opengl(mesh: Mesh, T_obj_cam: np.ndarray) -> Views:
    """OpenGL through EGL: in software (llvmpipe, several threads) on a machine without a GPU."""
    import moderngl

    context = moderngl.create_context(standalone=True, backend="egl")
    program = context.program(VERTEX_SHADER, FRAGMENT_SHADER)
    corners = np.hstack([mesh.vertices.astype(np.float32), _albedo(mesh)])
    array = context.vertex_array(
        program,
        [(context.buffer(corners.tobytes()), "3f 3f", "position", "albedo")],
        context.buffer(mesh.faces.astype(np.int32).tobytes()),
    )
    colour, coordinates = context.texture((SIZE, SIZE), 4), context.texture((SIZE, SIZE), 4, dtype="f4")
    target = context.framebuffer([colour, coordinates], context.depth_renderbuffer((SIZE, SIZE)))
    target.use()
    context.enable(moderngl.DEPTH_TEST)
    scale = scene.scene_scale(mesh, True)
    program["strength"], program["ambient"] = scene.light_strength() / scale**2, scene.AMBIENT_LINEAR
    world = _srgb(np.array(scene.BACKGROUND_LINEAR))
    for T in T_obj_cam:
        target.clear()
        centre = T[:3, 3] * scene.CAMERA_RADIUS / scale
        program["clip_obj"].write(_clip_matrix(T[:3, :3], centre, scale).T.astype(np.float32).tobytes())
        program["lamp"] = tuple(centre * (scene.LIGHT_RADIUS / scene.CAMERA_RADIUS))
        array.render()
        rgba = np.frombuffer(target.read(components=4, attachment=0), np.uint8).reshape(SIZE, SIZE, 4)
        xyz = np.frombuffer(target.read(components=4, attachment=1, dtype="f4"), np.float32)
        xyz = xyz.reshape(SIZE, SIZE, 4)
        inside = xyz[..., 3:] > 0
        yield TemplateView(
            rgb=np.where(inside, rgba[..., :3], world),
            mask=(inside[..., 0] * np.uint8(255)),
            xyz=np.where(inside, xyz[..., :3], np.float32(-1)).astype(np.float16),
        )
    context.release()


def pyrender(mesh: Mesh, T_obj_cam: np.ndarray) -> Views:
    """pyrender through EGL."""
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    import pyrender as engine
    import trimesh

    scale = scene.scene_scale(mesh, True)
    rgb = mesh.vertex_rgb if mesh.vertex_rgb is not None else np.full((len(mesh.vertices), 3), 230, np.uint8)
    shape = trimesh.Trimesh(mesh.vertices * scale, mesh.faces, vertex_colors=rgb, process=False)
    stage = engine.Scene(ambient_light=[scene.AMBIENT_LINEAR] * 3, bg_color=[scene.BACKGROUND_LINEAR] * 3)
    stage.add(engine.Mesh.from_trimesh(shape, smooth=False))
    K = scene.camera_matrix(SIZE)
    focal, middle = K[0, 0], SIZE / 2
    camera = stage.add(engine.IntrinsicsCamera(focal, focal, middle, middle, znear=1.0, zfar=3.0))
    lamp = stage.add(engine.PointLight(intensity=60.0))
    renderer = engine.OffscreenRenderer(SIZE, SIZE)
    rays = _rays().reshape(SIZE, SIZE, 3)
    for T in T_obj_cam:
        pose = T.copy()
        pose[:3, 3] *= scene.CAMERA_RADIUS
        stage.set_pose(camera, pose @ np.diag([1.0, -1.0, -1.0, 1.0]))
        behind = np.eye(4)
        behind[:3, 3] = T[:3, 3] * scene.LIGHT_RADIUS
        stage.set_pose(lamp, behind)
        picture, depth = renderer.render(stage)
        inside = depth > 0
        xyz = _turned(rays * depth[..., None], pose) + pose[:3, 3].astype(np.float32)
        xyz = np.where(inside[..., None], xyz / np.float32(scale), np.float32(-1))
        yield TemplateView(rgb=picture, mask=inside * np.uint8(255), xyz=xyz.astype(np.float16))
    renderer.delete()


def cycles(mesh: Mesh, T_obj_cam: np.ndarray, *, threads: int) -> Views:
    """Our method `blender`: Blender's path tracer with 50 samples, our masks and coordinates."""
    from gnomon.tasks.templates.methods import blender

    with tempfile.TemporaryDirectory() as name:
        drawn = blender.render(
            mesh, T_obj_cam, RenderOptions(), threads=threads, workdir=Path(name), cache_root=paths.cache_dir()
        )
        for _, view in drawn:
            yield view


def _albedo(mesh: Mesh) -> np.ndarray:
    if mesh.vertex_rgb is None:
        return np.full((len(mesh.vertices), 3), GREY_LINEAR, np.float32)
    return srgb_to_linear()[mesh.vertex_rgb]


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)


def _rays() -> np.ndarray:
    """Directions with z = 1 through the centres of all pixels, row by row, in the camera's axes."""
    K = scene.camera_matrix(SIZE)
    v, u = np.mgrid[0:SIZE, 0:SIZE].reshape(2, -1)
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    return np.column_stack([x, y, np.ones(len(u))]).astype(np.float32)


def _turned(vectors: np.ndarray, T: np.ndarray) -> np.ndarray:
    # Not a matrix product: on so thin a matrix BLAS wakes all its threads and burns their time waiting.
    return np.einsum("...k,jk->...j", vectors, T[:3, :3].astype(np.float32))


def _clip_matrix(R_obj_cam: np.ndarray, centre: np.ndarray, scale: float) -> np.ndarray:
    """Object to OpenGL clip space; the picture's top row becomes OpenGL's first row, so nothing is flipped later."""
    K = scene.camera_matrix(SIZE)
    T_cam_obj = np.eye(4)
    T_cam_obj[:3, :3] = R_obj_cam.T
    T_cam_obj[:3, 3] = -R_obj_cam.T @ centre
    near, far = 1.0 / scale, 3.0 / scale
    projection = np.zeros((4, 4))
    projection[0, 0] = projection[1, 1] = 2 * K[0, 0] / SIZE
    projection[:2, 2] = (2 * K[:2, 2] + 1) / SIZE - 1
    projection[2, 2:] = (far + near) / (far - near), -2 * far * near / (far - near)
    projection[3, 2] = 1.0
    return projection @ T_cam_obj


def _lit(colour: np.ndarray, normals: np.ndarray, points: np.ndarray, lamp: np.ndarray, scale: float) -> np.ndarray:
    to_lamp = lamp - points
    d2 = np.einsum("nk,nk->n", to_lamp, to_lamp)
    cosine = np.abs(np.einsum("nk,nk->n", normals, to_lamp)) / np.sqrt(d2)
    light = scene.AMBIENT_LINEAR + np.float32(scene.light_strength() / scale**2) * cosine / d2
    return _srgb(colour * light[:, None])


def _srgb(linear: np.ndarray) -> np.ndarray:
    return linear_to_srgb()[(np.clip(linear, 0, 1) * SRGB_STEPS + 0.5).astype(np.int32)]


def _view(inside: np.ndarray, points: np.ndarray, rgb: np.ndarray) -> TemplateView:
    """The maps of a picture from the values at its pixels `inside`, numbered row by row."""
    pictures = (
        np.full((SIZE * SIZE, 3), _srgb(np.array(scene.BACKGROUND_LINEAR))),
        np.zeros(SIZE * SIZE, np.uint8),
        np.full((SIZE * SIZE, 3), np.float16(-1)),
    )
    for picture, values in zip(pictures, (rgb, np.uint8(255), points), strict=True):
        picture[inside] = values
    colour, mask, xyz = pictures
    square = (SIZE, SIZE)
    return TemplateView(colour.reshape(*square, 3), mask.reshape(square), xyz.reshape(*square, 3))
