"""Meshes for tests, made from scratch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gnomon.geometry.mesh import Mesh


def cube(side: float = 1.0, centre: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    """An axis-parallel cube, wound outwards."""
    corners = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))])
    return Mesh(vertices=corners * side + np.array(centre), faces=faces)


def icosphere(level: int, radius: float = 1.0) -> Mesh:
    """A subdivided octahedron with all vertices on the sphere, wound outwards."""
    vertices = [(1.0, 0, 0), (-1.0, 0, 0), (0, 1.0, 0), (0, -1.0, 0), (0, 0, 1.0), (0, 0, -1.0)]
    faces = [(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)]
    for _ in range(level):
        middle: dict[tuple[int, int], int] = {}

        def between(i: int, j: int, middle: dict[tuple[int, int], int] = middle) -> int:
            key = (min(i, j), max(i, j))
            if key not in middle:
                point = np.add(vertices[i], vertices[j])
                middle[key] = len(vertices)
                vertices.append(tuple(point / np.linalg.norm(point)))
            return middle[key]

        finer = []
        for a, b, c in faces:
            ab, bc, ca = between(a, b), between(b, c), between(c, a)
            finer += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = finer
    return Mesh(vertices=np.array(vertices) * radius, faces=np.array(faces))


def torus(major: float = 1.0, minor: float = 0.35, n: int = 24, m: int = 12) -> Mesh:
    u, v = np.meshgrid(np.arange(n) * 2 * np.pi / n, np.arange(m) * 2 * np.pi / m, indexing="ij")
    ring = major + minor * np.cos(v)
    vertices = np.stack((ring * np.cos(u), ring * np.sin(u), minor * np.sin(v)), -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(n), np.arange(m), indexing="ij")
    a, b = i * m + j, (i + 1) % n * m + j
    c, d = (i + 1) % n * m + (j + 1) % m, i * m + (j + 1) % m
    faces = np.concatenate((np.stack((a, b, c), -1).reshape(-1, 3), np.stack((a, c, d), -1).reshape(-1, 3)))
    return Mesh(vertices=vertices, faces=faces)


def sheet(width: float, height: float, thickness: float) -> Mesh:
    """A closed flat box."""
    return replace(cube(), vertices=cube().vertices * (width, height, thickness))


def joined(*meshes: Mesh) -> Mesh:
    first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + at for mesh, at in zip(meshes, first, strict=False)]
    return Mesh(vertices=np.concatenate([mesh.vertices for mesh in meshes]), faces=np.concatenate(faces))


def bumpy(seed: int, level: int = 3, amount: float = 0.3) -> Mesh:
    """A closed random body."""
    mesh = icosphere(level)
    random = np.random.default_rng(seed)
    waves = random.normal(size=(6, 3)) * 3
    bumps = np.sin(mesh.vertices @ waves.T + random.uniform(0, 6, 6)).mean(axis=1)
    stretch = random.uniform(0.4, 1.2, 3)
    return replace(mesh, vertices=mesh.vertices * (1 + amount * bumps[:, None]) * stretch)


def coloured(mesh: Mesh, seed: int = 0) -> Mesh:
    random = np.random.default_rng(seed)
    return replace(mesh, vertex_rgb=random.integers(0, 256, (len(mesh.vertices), 3)).astype(np.uint8))


def turned_inside_out(mesh: Mesh) -> Mesh:
    return replace(mesh, faces=mesh.faces[:, ::-1].copy())


def textured(mesh: Mesh, seed: int = 0) -> Mesh:
    """A small random picture on every triangle, with coordinates that leave 0..1."""
    random = np.random.default_rng(seed)
    return replace(
        mesh,
        uv=random.uniform(-1.5, 2.5, (len(mesh.vertices), 2)),
        face_texture=np.where(np.arange(len(mesh.faces)) % 3 == 0, -1, np.arange(len(mesh.faces)) % 2),
        textures=(
            random.integers(0, 256, (4, 6, 3)).astype(np.uint8),
            random.integers(0, 256, (3, 3, 3)).astype(np.uint8),
        ),
    )


def turned(mesh: Mesh, angles: tuple[float, float, float]) -> Mesh:
    """The mesh turned about x, then y, then z."""
    R = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[j, i], step[i, j] = np.sin(angle), -np.sin(angle)
        R = step @ R
    normals = None if mesh.vertex_normals is None else mesh.vertex_normals @ R.T
    return replace(mesh, vertices=mesh.vertices @ R.T, vertex_normals=normals)
