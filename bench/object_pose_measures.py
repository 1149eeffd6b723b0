"""What the benchmarks of object poses share: errors of one estimate, their summary, sampled surfaces, the machine."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gnomon.evaluation import pose_errors
from gnomon.evaluation.recall import FRACTIONS, PIXELS, REFERENCE_WIDTH_PX
from gnomon.formats.bop_models import diameter
from gnomon.geometry.camera import Camera
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.symmetry import Symmetries

SURFACE_POINTS = 2000


@dataclass(frozen=True)
class Errors:
    """Of one estimate; lengths as shares of the object's diameter."""

    add: float
    adds: float
    mssd: float
    mspd_px: float
    """In a picture 640 pixels wide."""


@dataclass(frozen=True, eq=False)
class Ruler:
    """What errors of one object are measured with."""

    vertices: np.ndarray
    """For MSSD and MSPD, whose largest distances are at vertices."""
    surface: np.ndarray
    """For ADD and ADD-S."""
    transforms: np.ndarray
    diameter_m: float

    def errors(self, T_est: np.ndarray, T_true: np.ndarray, camera: Camera) -> Errors:
        """All errors of an estimate of one object in one picture."""
        d = self.diameter_m
        mspd = pose_errors.mspd(T_est, T_true, self.vertices, self.transforms, camera)
        return Errors(
            add=pose_errors.add(T_est, T_true, self.surface) / d,
            adds=pose_errors.adds(T_est, T_true, self.surface) / d,
            mssd=pose_errors.mssd(T_est, T_true, self.vertices, self.transforms) / d,
            mspd_px=mspd * REFERENCE_WIDTH_PX / camera.width,
        )


def ruler(mesh: Mesh, symmetries: Symmetries) -> Ruler:
    """For a mesh in metres whose vertices may be few and far apart: ADD-S takes points spread over the surface."""
    vertices = np.ascontiguousarray(np.unique(mesh.vertices[np.unique(mesh.faces)], axis=0), np.float64)
    points, _ = surface_samples(mesh, SURFACE_POINTS)
    return Ruler(vertices, points, symmetries.transforms(), diameter(vertices))


def surface_samples(mesh: Mesh, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points spread evenly over a surface, and their normals as the triangles wind."""
    rng = np.random.default_rng(seed)
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice_area = np.linalg.norm(cross, axis=-1)
    # One sample in each of `count` equal shares of the area.
    at = (np.arange(count) + rng.random(count)) / count
    face = np.searchsorted(np.cumsum(twice_area) / twice_area.sum(), at).clip(max=len(corners) - 1)
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = corners[face].transpose(1, 0, 2)
    points = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    return points, cross[face] / np.maximum(twice_area[face], 1e-30)[:, None]


def summary(errors: Sequence[Errors]) -> dict[str, float]:
    """Recalls and average recalls of one object."""
    if not errors:
        return {}
    adds, mssd, mspd = (np.array([getattr(e, name) for e in errors]) for name in ("adds", "mssd", "mspd_px"))
    return {
        "mssd5": float(np.mean(mssd < 0.05)),
        "mssd10": float(np.mean(mssd < 0.10)),
        "mssd20": float(np.mean(mssd < 0.20)),
        "adds5": float(np.mean(adds < 0.05)),
        "adds10": float(np.mean(adds < 0.10)),
        "ar_mssd": float(np.mean([np.mean(mssd < limit) for limit in FRACTIONS])),
        "ar_mspd": float(np.mean([np.mean(mspd < limit) for limit in PIXELS])),
    }


def as_json(errors: Errors) -> dict[str, float | None]:
    """Rounded; what is not finite becomes null."""
    return {name: round(value, 5) if np.isfinite(value) else None for name, value in asdict(errors).items()}


def mean_of(rows: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """The mean of each entry over the objects that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    found: dict[str, float | None] = {}
    for name in names:
        values = [value for row in rows if (value := row.get(name)) is not None]
        found[name] = statistics.fmean(values) if values else None
    return found


def one_thread_each() -> None:
    """Tell OpenMP and BLAS to use one thread; to be called before the packages that read it are imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def machine() -> str:
    """Processor, number of cores, load and Python of this computer."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
