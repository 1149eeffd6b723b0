"""OBJ, STL and glTF through trimesh: every body of the scene in its place, as one Mesh."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from gnomon.geometry.mesh import Mesh
from gnomon.geometry.surface import linear_to_srgb_bytes, srgb_to_linear
from gnomon.geometry.weld import weld

if TYPE_CHECKING:
    import trimesh

_PLACEHOLDER_SIZE = (2, 2)
"""trimesh gives a picture of this size to materials that have none."""

_GREY = 0.8


@dataclass(frozen=True)
class _Body:
    """One geometry of the scene with one kind of colour; at most one of the last four is set."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    normals: Float[np.ndarray, "V 3"] | None
    vertex_rgb: UInt8[np.ndarray, "V 3"] | None = None
    face_rgb: UInt8[np.ndarray, "F 3"] | None = None
    uniform_rgb: UInt8[np.ndarray, " 3"] | None = None
    texture: tuple[Float[np.ndarray, "V 2"], UInt8[np.ndarray, "H W 3"]] | None = None


def scene_to_mesh(path: Path) -> Mesh:
    """Read `path` with trimesh. Raises whatever trimesh raises for damaged files."""
    import trimesh

    with warnings.catch_warnings():
        # Odd values in a file are found by our own checks, with a message for the user.
        warnings.simplefilter("ignore")
        scene = trimesh.load_scene(path, process=False)
        linear_colours = path.suffix.lower() in (".glb", ".gltf")
        bodies = [
            _body(scene.geometry[name], transform, linear_colours)
            for transform, name in (scene.graph[node] for node in sorted(scene.graph.nodes_geometry))
            if hasattr(scene.geometry[name], "vertices")
        ]
    mesh = _join([body for body in bodies if len(body.vertices)])
    return _welded(mesh) if path.suffix.lower() == ".stl" else mesh


def _body(geometry: Any, transform: Float[np.ndarray, "4 4"], linear_colours: bool) -> _Body:
    """Place one geometry and find its colour. Point clouds become bodies without faces."""
    R, t = transform[:3, :3], transform[:3, 3]
    vertices = np.asarray(geometry.vertices, np.float64)
    faces = np.asarray(getattr(geometry, "faces", np.zeros((0, 3))), np.int64)
    normals = None
    if "vertex_normals" in geometry._cache and len(faces):
        # Only normals that the file has; asking for the property would compute them.
        normals = np.asarray(geometry.vertex_normals) @ np.linalg.inv(R)
    if not np.array_equal(transform, np.eye(4)):
        vertices = vertices @ R.T + t
        if np.linalg.det(R) < 0:
            faces = faces[:, ::-1]
    colour = _colour(geometry, linear_colours) if len(faces) else {}
    return _Body(vertices, faces, normals, **colour)


def _colour(geometry: trimesh.Trimesh, linear_colours: bool) -> dict[str, Any]:
    visual: Any = geometry.visual
    if visual.kind == "vertex":
        rgb = np.asarray(visual.vertex_colors)[:, :3].astype(np.uint8)
        return {"vertex_rgb": linear_to_srgb_bytes(rgb / 255) if linear_colours else rgb}
    if visual.kind == "face":
        return {"face_rgb": np.asarray(visual.face_colors)[:, :3].astype(np.uint8)}
    if visual.kind == "texture":
        return _material_colour(visual)
    return {}


def _material_colour(visual: Any) -> dict[str, Any]:
    """Picture or plain colour of a material; factors are linear, pictures sRGB."""
    material = visual.material
    picture = getattr(material, "baseColorTexture", None)
    factor = getattr(material, "baseColorFactor", None)
    if picture is None and hasattr(material, "image"):
        picture = material.image
        factor = None if picture is not None else material.kwargs.get("kd", None)
        if picture is not None and picture.size == _PLACEHOLDER_SIZE and not material.kwargs:
            return {}
    linear = _factor(factor)
    if picture is None or visual.uv is None:
        return {} if linear is None else {"uniform_rgb": linear_to_srgb_bytes(linear)}
    rgb = np.array(picture.convert("RGB"))
    if linear is not None and (linear < 1).any():
        tables = np.stack([linear_to_srgb_bytes(srgb_to_linear() * f) for f in linear])
        rgb = np.stack([tables[channel][rgb[..., channel]] for channel in range(3)], axis=-1)
    return {"texture": (np.asarray(visual.uv, np.float64), rgb)}


def _factor(value: Any) -> Float[np.ndarray, " 3"] | None:
    """Linear red, green, blue as fractions, from a material's fractions or bytes."""
    if value is None or np.size(value) < 3:
        return None
    rgb = np.asarray(value)[:3]
    fractions = rgb / 255 if rgb.dtype.kind in "ui" else rgb.astype(np.float64)
    return np.clip(fractions, 0, 1)


def _join(bodies: list[_Body]) -> Mesh:
    """One mesh from all bodies. Where kinds of colour mix, plain colours are handed down to vertices or faces."""
    if not bodies:
        return Mesh(vertices=np.zeros((0, 3)), faces=np.zeros((0, 3), np.int64))
    if any(body.vertex_rgb is not None for body in bodies):
        bodies = [_painted(body) for body in bodies]
    first = np.cumsum([0, *(len(body.vertices) for body in bodies)])
    faces = np.concatenate([body.faces + at for body, at in zip(bodies, first, strict=False)])
    vertices = np.concatenate([body.vertices for body in bodies])
    textures = tuple(body.texture[1] for body in bodies if body.texture is not None)
    numbers = iter(range(len(textures)))
    face_texture = [np.full(len(b.faces), -1 if b.texture is None else next(numbers), np.int32) for b in bodies]
    uv = [np.zeros((len(b.vertices), 2)) if b.texture is None else b.texture[0] for b in bodies]
    all_normals = all(body.normals is not None for body in bodies)
    return Mesh(
        vertices=vertices,
        faces=faces,
        vertex_normals=np.concatenate([b.normals for b in bodies if b.normals is not None]) if all_normals else None,
        vertex_rgb=_joined([body.vertex_rgb for body in bodies]),
        face_rgb=_joined([_face_rgb(body) for body in bodies]) if _has_face_colour(bodies) else None,
        uv=np.concatenate(uv) if textures else None,
        face_texture=np.concatenate(face_texture) if textures else None,
        textures=textures,
    )


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    given = [part for part in parts if part is not None]
    return np.concatenate(given) if len(given) == len(parts) else None


def _has_face_colour(bodies: list[_Body]) -> bool:
    return any(body.face_rgb is not None or body.uniform_rgb is not None for body in bodies)


def _face_rgb(body: _Body) -> UInt8[np.ndarray, "F 3"]:
    if body.face_rgb is not None:
        return body.face_rgb
    rgb = linear_to_srgb_bytes(np.full(3, _GREY)) if body.uniform_rgb is None else body.uniform_rgb
    return np.tile(rgb, (len(body.faces), 1))


def _painted(body: _Body) -> _Body:
    """The same body with colours at its vertices; those of faces only where the vertices can be split."""
    if body.vertex_rgb is not None:
        return body
    if body.face_rgb is None:
        rgb = np.tile(_face_rgb(body)[:1], (len(body.vertices), 1))
        return _Body(body.vertices, body.faces, body.normals, vertex_rgb=rgb, texture=body.texture)
    corner = body.faces.reshape(-1)
    normals = None if body.normals is None else body.normals[corner]
    faces = np.arange(len(corner)).reshape(-1, 3)
    return _Body(body.vertices[corner], faces, normals, vertex_rgb=np.repeat(body.face_rgb, 3, axis=0))


def _welded(mesh: Mesh) -> Mesh:
    """STL has no shared vertices: unite those in the same place. Face colours stay, normals are the triangles'."""
    place, first = weld(mesh.vertices)
    return Mesh(vertices=mesh.vertices[first], faces=place[mesh.faces], face_rgb=mesh.face_rgb)
