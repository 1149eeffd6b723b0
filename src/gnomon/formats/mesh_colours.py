"""Bodies as a mesh reader gives them, brought into our own terms and joined into one mesh."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.errors import InputError
from gnomon.geometry.mesh import Mesh

if TYPE_CHECKING:
    import trimesh

MAX_TEXTURE_PIXELS = 64_000_000
NEUTRAL_RGB = 231
"""The sRGB value of the linear grey 0.8 that parts without any colour get beside coloured ones."""


@dataclass
class Part:
    """One body: its surface and the colour it brings, if any."""

    vertices: np.ndarray
    faces: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    vertex_normals: np.ndarray | None = None
    vertex_rgb: np.ndarray | None = None
    face_rgb: np.ndarray | None = None
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None
    warnings: tuple[str, ...] = ()


def part_of(body: trimesh.Trimesh, transform: np.ndarray | None, with_picture: bool) -> Part:
    """Take a body out of its reader; `transform` (4x4) leads from its axes to the file's."""
    # The reader keeps normals of the file in its cache; asking for the property would compute some.
    has_normals = "vertex_normals" in body._cache
    part = Part(
        vertices=np.array(body.vertices, np.float64),
        faces=np.array(body.faces, np.int64).reshape(-1, 3),
        vertex_normals=np.array(body.vertex_normals, np.float64) if has_normals and len(body.faces) else None,
    )
    if transform is not None and not np.allclose(transform, np.eye(4)):
        _move(part, np.asarray(transform, np.float64))
    _add_colours(part, body.visual, with_picture)
    return part


def join_parts(parts: list[Part], *, warnings: tuple[str, ...], merge: bool) -> Mesh:
    """One mesh of all parts. With `merge` equal corners become one vertex, as formats without indices need it."""
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    vertices = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=False)])
    if merge:
        vertices, inverse = _merge_equal(vertices)
        faces = inverse[faces]
    textures = [part.texture for part in parts if part.texture is not None]
    return Mesh(
        vertices=vertices,
        faces=faces.astype(np.int32),
        vertex_normals=_joined(parts, "vertex_normals") if not merge else None,
        vertex_rgb=_joined_vertex_rgb(parts) if not merge else None,
        face_rgb=_joined_face_rgb(parts),
        uv=_joined_uv(parts) if textures else None,
        face_texture=_face_texture(parts) if textures else None,
        textures=tuple(textures),
        warnings=warnings + tuple(text for part in parts for text in part.warnings),
    )


def _move(part: Part, transform: np.ndarray) -> None:
    part.vertices = part.vertices @ transform[:3, :3].T + transform[:3, 3]
    if part.vertex_normals is not None:
        moved = part.vertex_normals @ np.linalg.inv(transform[:3, :3])
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        part.vertex_normals = np.divide(moved, lengths, out=np.zeros_like(moved), where=lengths > 0)
    if np.linalg.det(transform[:3, :3]) < 0:
        # A mirror turns the faces inside out.
        part.faces = part.faces[:, ::-1]


def _add_colours(part: Part, visual: Any, with_picture: bool) -> None:
    if visual.kind == "vertex":
        part.vertex_rgb = np.array(visual.vertex_colors, np.uint8)[:, :3]
    elif visual.kind == "face":
        part.face_rgb = np.array(visual.face_colors, np.uint8)[:, :3]
    elif visual.kind == "texture":
        _add_material(part, visual, with_picture)


def _add_material(part: Part, visual: Any, with_picture: bool) -> None:
    material = visual.material
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    factor = _linear_factor(material)
    if image is not None and visual.uv is not None and with_picture:
        part.uv = np.array(visual.uv, np.float64)[:, :2]
        part.texture = _tinted(_pixels(image), factor)
    elif factor is not None:
        part.face_rgb = np.tile(_to_srgb8(factor), (len(part.faces), 1))
    elif visual.uv is not None:
        part.warnings = ("it has texture coordinates but no picture; it is drawn in grey",)


def _linear_factor(material: Any) -> np.ndarray | None:
    """The material's linear colour (3,), if the file states one. MTL's Kd and glTF's factor are both linear."""
    stated = getattr(material, "baseColorFactor", None)
    if stated is None:
        stated = (getattr(material, "kwargs", None) or {}).get("Kd", (getattr(material, "kwargs", None) or {}).get("kd"))
        if stated is None:
            return None
        return np.clip(np.asarray(stated, np.float64)[:3], 0, 1)
    stated = np.asarray(stated)
    scale = 255.0 if stated.dtype.kind in "iu" else 1.0
    return np.clip(stated[:3].astype(np.float64) / scale, 0, 1)


def _pixels(image: Any) -> np.ndarray:
    width, height = image.size
    if width * height > MAX_TEXTURE_PIXELS:
        raise InputError(
            f"a texture of {width} x {height} pixels is too large",
            code="texture_too_large",
            field="mesh",
            value=f"{width} x {height}",
            expected=f"at most {MAX_TEXTURE_PIXELS:,} pixels",
            fix="scale the picture down; templates show a few hundred pixels of it",
        )
    return np.asarray(image.convert("RGB"), np.uint8)


def _tinted(pixels: np.ndarray, factor: np.ndarray | None) -> np.ndarray:
    if factor is None or np.allclose(factor, 1):
        return pixels
    table = np.stack([_to_srgb8(_from_srgb8(np.arange(256)) * channel) for channel in factor])
    return np.stack([table[channel][pixels[..., channel]] for channel in range(3)], axis=-1)


def _from_srgb8(value: np.ndarray) -> np.ndarray:
    scaled = value / 255.0
    return np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)


def _to_srgb8(linear: np.ndarray) -> np.ndarray:
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255).astype(np.uint8)


def _merge_equal(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Adding zero turns -0.0 into 0.0, which are equal numbers with different bytes.
    rows = np.ascontiguousarray(vertices + 0.0).view(np.dtype((np.void, vertices.dtype.itemsize * 3))).ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    return vertices[first], inverse.reshape(-1)


def _joined(parts: list[Part], name: str) -> np.ndarray | None:
    arrays = [getattr(part, name) for part in parts if len(part.vertices)]
    return np.concatenate(arrays) if all(array is not None for array in arrays) else None


def _joined_vertex_rgb(parts: list[Part]) -> np.ndarray | None:
    """Vertex colours of all parts, when any has some and none needs a colour of its faces instead."""
    if all(part.vertex_rgb is None for part in parts) or any(part.face_rgb is not None for part in parts):
        return None
    grey = [np.full((len(part.vertices), 3), NEUTRAL_RGB, np.uint8) for part in parts]
    return np.concatenate([grey[i] if p.vertex_rgb is None else p.vertex_rgb for i, p in enumerate(parts)])


def _joined_face_rgb(parts: list[Part]) -> np.ndarray | None:
    if all(part.face_rgb is None for part in parts):
        return None
    colours = []
    for part in parts:
        if part.face_rgb is not None:
            colours.append(part.face_rgb)
        elif part.vertex_rgb is not None:
            corners = part.vertex_rgb[part.faces].astype(np.uint16)
            colours.append((corners.sum(axis=1) // 3).astype(np.uint8))
        else:
            colours.append(np.full((len(part.faces), 3), NEUTRAL_RGB, np.uint8))
    return np.concatenate(colours)


def _joined_uv(parts: list[Part]) -> np.ndarray:
    return np.concatenate([np.zeros((len(p.vertices), 2)) if p.uv is None else p.uv for p in parts])


def _face_texture(parts: list[Part]) -> np.ndarray:
    """The texture of each face; parts without one have -1."""
    numbers, next_number = [], 0
    for part in parts:
        number = next_number if part.texture is not None else -1
        next_number += part.texture is not None
        numbers.append(np.full(len(part.faces), number, np.int32))
    return np.concatenate(numbers)
