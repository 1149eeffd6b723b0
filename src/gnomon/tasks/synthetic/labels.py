"""Printed surfaces: pictures such as those on cans and boxes, and bodies that carry them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from gnomon.geometry.mesh import Mesh
from gnomon.tasks.synthetic.parts import Rgb

_WORDS = ("CRISP", "mild", "No 7", "FRESH", "oats", "250 g", "GOLD", "extra", "Nord", "B12")
_METAL: Rgb = (190, 192, 196)


def label(seed: int, width: int, height: int, *, patches: int = 24) -> UInt8[np.ndarray, "height width 3"]:
    """A label with bars, discs and words in colours of its own."""
    import cv2

    rng = np.random.default_rng([seed, width, height])
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = rng.integers(60, 256, 3)
    short = min(width, height)
    for kind in rng.permutation(np.arange(patches) % 3):
        rgb = tuple(int(value) for value in rng.integers(0, 256, 3))
        x, y = int(rng.integers(width)), int(rng.integers(height))
        size = int(rng.uniform(0.06, 0.25) * short) + 1
        if kind == 0:
            cv2.circle(picture, (x, y), size, rgb, -1, cv2.LINE_AA)
        elif kind == 1:
            cv2.rectangle(picture, (x, y), (x + size * 2, y + size // 2), rgb, -1)
        else:
            word = _WORDS[rng.integers(len(_WORDS))]
            cv2.putText(picture, word, (x - size, y), cv2.FONT_HERSHEY_DUPLEX, size / 25, rgb, 2, cv2.LINE_AA)
    return picture


def labelled_can(radius_m: float, height_m: float, seed: int, sections: int = 64) -> Mesh:
    """A cylinder along z about the origin with a label all around and metal ends."""
    # The seam has two vertices in each place: modulo makes them the same to the last bit, so that the can is closed.
    angle = 2 * np.pi * (np.arange(sections + 1) % sections) / sections
    ring = np.stack((radius_m * np.cos(angle), radius_m * np.sin(angle)), axis=-1)
    ends = [np.column_stack((ring, np.full(sections + 1, side * height_m / 2))) for side in (-1, 1)]
    centres = np.array([(0, 0, -height_m / 2), (0, 0, height_m / 2)])
    low = np.arange(sections)
    high = low + sections + 1
    bottom, top = np.full(sections, 2 * sections + 2), np.full(sections, 2 * sections + 3)
    faces = [(low, low + 1, high + 1), (low, high + 1, high), (low + 1, low, bottom), (high, high + 1, top)]
    u = np.tile(np.arange(sections + 1) / sections, 2)
    # Half a texel is kept from the rims, where the texture would repeat.
    v = np.repeat([0.01, 0.99], sections + 1)
    return Mesh(
        vertices=np.concatenate((*ends, centres)),
        faces=np.concatenate([np.stack(face, axis=-1) for face in faces]),
        face_rgb=np.tile(np.array(_METAL, np.uint8), (4 * sections, 1)),
        uv=np.column_stack((np.append(u, (0, 0)), np.append(v, (0, 0)))),
        face_texture=np.repeat([0, 0, -1, -1], sections),
        textures=(label(seed, 512, 256, patches=45),),
    )


def box_sides(size_m: tuple[float, float, float]) -> list[tuple[Float[np.ndarray, " 3"], ...]]:
    """For each of the six sides: its lower left corner, and the vectors along its width and height."""
    half = np.array(size_m) / 2
    sides = []
    for axis in range(3):
        across, up = (axis + 1) % 3, (axis + 2) % 3
        for sign in (1, -1):
            right, high, corner = np.zeros(3), np.zeros(3), -half
            right[across], high[up] = sign * 2 * half[across], 2 * half[up]
            corner = np.where(np.arange(3) == axis, sign * half, -half)
            corner[across] = -sign * half[across]
            sides.append((corner, right, high))
    return sides


def labelled_box(size_m: tuple[float, float, float], pictures: list[UInt8[np.ndarray, "_ _ 3"]]) -> Mesh:
    """A box about the origin with a picture on each side, in the order +x, -x, +y, -y, +z, -z."""
    corner_uv = np.array([(0.005, 0.005), (0.995, 0.005), (0.995, 0.995), (0.005, 0.995)])
    vertices = [
        corner + uv[0].round() * right + uv[1].round() * high
        for corner, right, high in box_sides(size_m)
        for uv in corner_uv
    ]
    first = 4 * np.arange(6)[:, None]
    faces = (first + np.array([0, 1, 2, 0, 2, 3])).reshape(-1, 3)
    return Mesh(
        vertices=np.array(vertices),
        faces=faces,
        uv=np.tile(corner_uv, (6, 1)),
        face_texture=np.repeat(np.arange(6), 2),
        textures=tuple(pictures),
    )


def speckled_box(size_m: tuple[float, float, float], seed: int, grain_m: float = 0.0025) -> Mesh:
    """A box about the origin, its six labels as colours of the vertices of a fine grid."""
    vertices, faces, colours = [], [], []
    for side, (corner, right, high) in enumerate(box_sides(size_m)):
        columns, rows = (round(float(np.linalg.norm(edge)) / grain_m) for edge in (right, high))
        u, v = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
        start = sum(len(part) for part in vertices)
        at = start + np.arange(u.size).reshape(u.shape)
        a, b, c, d = at[:-1, :-1], at[:-1, 1:], at[1:, 1:], at[1:, :-1]
        faces.append(np.stack((a, b, c, a, c, d), axis=-1).reshape(-1, 3))
        vertices.append(corner + u.reshape(-1, 1) * right + v.reshape(-1, 1) * high)
        colours.append(label(seed + side, columns + 1, rows + 1)[::-1].reshape(-1, 3))
    return Mesh(vertices=np.concatenate(vertices), faces=np.concatenate(faces), vertex_rgb=np.concatenate(colours))
