"""A triangle mesh with whatever colour its file had, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8


@dataclass(frozen=True)
class Mesh:
    """Triangles in the unit and axes of the file they came from.

    Colour, in order of preference: `textures` with `uv` where `face_texture >= 0`, then `vertex_rgb`, then
    `face_rgb`; a mesh with none of them is drawn in a neutral grey. Colours are 8-bit sRGB.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    vertex_normals: Float[np.ndarray, "V 3"] | None = None
    vertex_rgb: UInt8[np.ndarray, "V 3"] | None = None
    face_rgb: UInt8[np.ndarray, "F 3"] | None = None
    uv: Float[np.ndarray, "V 2"] | None = None
    """Texture coordinates, v up (v = 0 is the bottom row of the picture)."""
    face_texture: Int[np.ndarray, " F"] | None = None
    """Index into `textures` for each face, or -1 for an untextured face."""
    textures: tuple[UInt8[np.ndarray, "H W 3"], ...] = ()
    warnings: tuple[str, ...] = field(default=())
    """What the reader had to mend or leave out, in words for the user."""

    @property
    def diameter(self) -> float:
        """Length of the bounding box's diagonal, in the mesh's own unit."""
        return float(np.linalg.norm(self.vertices.max(axis=0) - self.vertices.min(axis=0)))

    def scaled(self, factor: float) -> Mesh:
        """The mesh with its vertices multiplied by `factor`, for instance from millimetres to metres."""
        return replace(self, vertices=self.vertices * factor)

    def select_faces(self, keep: Bool[np.ndarray, " F"], warning: str) -> Mesh:
        """The mesh with some of its faces, and a warning that says why; vertices stay as they are."""
        return replace(
            self,
            faces=self.faces[keep],
            face_rgb=self.face_rgb[keep] if self.face_rgb is not None else None,
            face_texture=self.face_texture[keep] if self.face_texture is not None else None,
            warnings=(*self.warnings, warning),
        )
