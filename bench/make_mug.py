"""Make src/gnomon/data/mug.ply, the object of the demo: a glazed mug with a handle and a spoon, in millimetres.

    python bench/make_mug.py src/gnomon/data/mug.ply

Three closed bodies of revolution and sweeps with colours at their vertices. No random numbers: the same file again.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np

CREAM = np.array((0.93, 0.88, 0.77))
TEAL = np.array((0.05, 0.42, 0.45))
DEEP = np.array((0.02, 0.20, 0.30))
CORAL = np.array((0.90, 0.36, 0.24))
GOLD = np.array((0.96, 0.72, 0.18))
STEEL = np.array((0.72, 0.74, 0.78))


def smoothstep(x: np.ndarray | float, low: float, high: float) -> np.ndarray:
    t = np.clip((np.asarray(x) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return a + (b - a) * np.asarray(share)[..., None]


def spaced(points: np.ndarray, count: int) -> np.ndarray:
    """`count` points at equal distances along a polyline."""
    along = np.concatenate(([0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))))
    at = np.linspace(0, along[-1], count)
    return np.column_stack([np.interp(at, along, points[:, k]) for k in range(points.shape[1])])


def bezier(*points: tuple[float, ...], count: int = 200) -> np.ndarray:
    """A Bezier curve of any degree by de Casteljau's rule."""
    t = np.linspace(0, 1, count)[:, None]
    level = [np.tile(np.array(point, float), (count, 1)) for point in points]
    while len(level) > 1:
        level = [(1 - t) * a + t * b for a, b in itertools.pairwise(level)]
    return level[0]


def stitched(rings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A closed tube: rings (R, N, 3), ended by a point at the mean of the first and of the last ring."""
    n_rings, n = rings.shape[:2]
    vertices = np.concatenate((rings.reshape(-1, 3), rings[:1].mean(axis=1), rings[-1:].mean(axis=1)))
    ring, k = np.meshgrid(np.arange(n_rings - 1), np.arange(n), indexing="ij")
    a, b = ring * n + k, ring * n + (k + 1) % n
    sides = np.concatenate((np.stack((a, b, b + n), -1).reshape(-1, 3), np.stack((a, b + n, a + n), -1).reshape(-1, 3)))
    k = np.arange(n)
    low = np.column_stack(((k + 1) % n, k, np.full(n, n_rings * n)))
    last = (n_rings - 1) * n
    high = np.column_stack((last + k, last + (k + 1) % n, np.full(n, n_rings * n + 1)))
    return vertices, np.concatenate((sides, low, high))


def lathe(profile: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn a profile of (radius, z) around z."""
    angle = np.arange(n) * (2 * np.pi / n)
    r, z = profile[:, :1], profile[:, 1:]
    return stitched(np.stack((r * np.cos(angle), r * np.sin(angle), z + 0 * angle), axis=-1))


def sweep(path: np.ndarray, width: np.ndarray, height: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """An ellipse along a path in a plane of constant y: `width` across the plane, `height` within it."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    across = np.array((0.0, 1.0, 0.0))
    normal = np.cross(tangent, across)
    angle = np.arange(n) * (2 * np.pi / n)
    rings = (
        path[:, None]
        + np.cos(angle)[None, :, None] * width[:, None, None] * across
        + np.sin(angle)[None, :, None] * height[:, None, None] * normal[:, None]
    )
    return stitched(rings[:, ::-1])


def body() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    outer = np.vstack((
        bezier((1.5, 1.2), (20, 1.2), (24, 0.0), count=40),
        bezier((24, 0.0), (28, 0), (31, 3), (33, 9)),
        bezier((33, 9), (40, 32), (36, 60), (40, 92)),
        bezier((40, 92), (40.4, 95.5), (36.6, 95.5), (36.4, 92), count=60),
        bezier((36.4, 92), (32.4, 60), (36, 34), (30, 12)),
        bezier((30, 12), (27, 5.5), (20, 5), (1.5, 5), count=60),
    ))  # fmt: skip
    profile = spaced(outer, 78)
    vertices, faces = lathe(profile, 96)
    angle = np.arctan2(vertices[:, 1], vertices[:, 0])
    z = vertices[:, 2]
    radius = np.hypot(vertices[:, 0], vertices[:, 1])
    # On the inside the wall is four millimetres nearer to the axis: cream.
    wall = np.interp(z, (0, 9, 20, 35, 60, 92), (30, 33, 35.7, 37.2, 37.6, 40))
    inside = smoothstep(wall - radius, 1.2, 2.4) * smoothstep(z, 3, 5)
    drip = 34 + 7 * np.sin(3 * angle + 0.6) + 5 * np.sin(5 * angle + 2.0) + 3 * np.sin(8 * angle)
    colour = mix(DEEP, TEAL, smoothstep(z, 5, 95))
    colour = mix(np.broadcast_to(CREAM, colour.shape), colour, smoothstep(z - drip, -2.5, 2.5))
    # A sun on one side: it tells left from right.
    turned = (angle - np.deg2rad(-70) + np.pi) % (2 * np.pi) - np.pi
    from_sun = np.hypot(turned * 38, z - 62)
    rays = 3.2 * np.cos(10 * np.arctan2(z - 62, turned * 38))
    colour = mix(colour, np.broadcast_to(GOLD, colour.shape), 1 - smoothstep(from_sun - rays, 12.5, 15))
    colour = mix(colour, np.broadcast_to(CORAL, colour.shape), 1 - smoothstep(from_sun, 7, 9))
    colour = mix(colour, np.broadcast_to(CREAM, colour.shape), inside)
    rim = smoothstep(z, 92.2, 93.4)
    return vertices, faces, mix(colour, np.broadcast_to(CORAL, colour.shape), rim)


def handle() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    path = bezier((39.4, 80), (62, 90), (78, 62), (66, 34), (54, 20), (35.8, 27))
    path = spaced(np.column_stack((path[:, 0], 0 * path[:, 0], path[:, 1])), 46)
    t = np.linspace(0, 1, len(path))
    swell = 1 + 0.35 * (2 * t - 1) ** 4
    vertices, faces = sweep(path, 7.2 * swell, 4.2 * swell, 24)
    share = smoothstep(vertices[:, 2], 25, 85)
    return vertices, faces, mix(np.broadcast_to(CORAL * 0.85, vertices.shape), CORAL * np.ones_like(vertices), share)


def spoon() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    path = spaced(bezier((14, 0, 9), (-2, 0, 50), (-22, 0, 84), (-44, 0, 128)), 44)
    t = np.linspace(0, 1, len(path))
    end = smoothstep(t, 0.72, 0.9) * np.sqrt(np.clip(1 - (np.clip(t - 0.88, 0, 1) / 0.1201) ** 3, 0.0, 1))
    width = 2.0 * np.sqrt(np.clip(t / 0.02, 0.15, 1)) + 5.0 * end
    width = np.where(t > 0.9, np.maximum(width - 2.0 * smoothstep(t, 0.93, 1.0), 0.6), width)
    vertices, faces = sweep(path, width, np.where(t > 0.97, 1.6 * np.sqrt(np.clip((1.02 - t) / 0.05, 0, 1)), 1.6), 20)
    turn = np.deg2rad(35)
    R = np.array(((np.cos(turn), -np.sin(turn), 0), (np.sin(turn), np.cos(turn), 0), (0, 0, 1)))
    along = (vertices[:, 2] - 9) / 119
    colour = mix(np.broadcast_to(STEEL, vertices.shape), GOLD * np.ones_like(vertices), smoothstep(along, 0.8, 0.86))
    return vertices @ R.T, faces, colour


def main(path: Path) -> None:
    parts = [body(), handle(), spoon()]
    first = np.cumsum([0, *(len(part[0]) for part in parts)])
    vertices = np.concatenate([part[0] for part in parts])
    faces = np.concatenate([part[1] + at for part, at in zip(parts, first, strict=False)])
    colours = np.concatenate([part[2] for part in parts])
    # The middle of the object is the file's origin, as poses are easiest to read that way.
    vertices -= (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    vertex = np.zeros(len(vertices), [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    vertex["xyz"], vertex["rgb"] = np.round(vertices, 4), np.round(colours * 255)
    face = np.zeros(len(faces), [("n", "u1"), ("v", "<i4", 3)])
    face["n"], face["v"] = 3, faces
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment gnomon demo mug, millimetres, MIT licence\n"
        f"element vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    path.write_bytes(header.encode() + vertex.tobytes() + face.tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
