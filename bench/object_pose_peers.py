"""Other ways to an object's pose from depth and a mask: Open3D's FPFH + RANSAC + ICP, and small_gicp from many starts.

    pip install open3d small_gicp

Both are given what such pipelines need and no more: points of the mask without strays, points and outward normals
of the mesh's surface, lengths in units of the object's diameter. Parameters were tried on TUNING shapes. `--tuning`
of object_pose.py shows what they do there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import object_pose_measures as measures

from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.mesh import Mesh

PACKAGES = {"Open3D FPFH + RANSAC + ICP": "open3d", "small_gicp, 250 starts": "small_gicp"}

Answer = tuple[np.ndarray, float]
"""T_cam_obj and a score: the share of the scene's points near the model's surface."""

Estimator = Callable[[np.ndarray, np.ndarray, Camera], Answer]
"""From depth_m, mask and camera."""

_MODEL_POINTS = 6000


def why_not(name: str) -> str:
    """What is to be installed for a peer, or nothing."""
    package = PACKAGES[name]
    return "" if importlib.util.find_spec(package) else f"not installed: pip install {package}"


def build(name: str, mesh: Mesh, diameter_m: float) -> Estimator:
    """A peer ready for one object: what it does once per mesh."""
    kind = Open3d if PACKAGES[name] == "open3d" else SmallGicp
    return kind(mesh, diameter_m)


class _Scaled:
    """Lengths in units of the diameter, the model about the middle of its box, the scene about its points' median."""

    def __init__(self, mesh: Mesh, diameter_m: float) -> None:
        self.diameter_m = diameter_m
        used = mesh.vertices[np.unique(mesh.faces)]
        self.middle = (used.min(axis=0) + used.max(axis=0)) / 2
        points, self.normals = measures.surface_samples(mesh, _MODEL_POINTS)
        self.points = (points - self.middle) / diameter_m

    def scene_points(self, depth_m: np.ndarray, mask: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Points of the mask not farther from their median than the object's size allows, and that median in metres."""
        rows, columns = np.nonzero(mask & (depth_m > 0))
        points = camera.unproject(np.column_stack([columns, rows]).astype(np.float64), depth_m[rows, columns])
        points = np.asarray(points, np.float64)
        median = np.median(points, axis=0)
        near = np.linalg.norm(points - median, axis=-1) < 0.8 * self.diameter_m
        points = points[near]
        if len(points) > 4000:
            points = points[np.random.default_rng(0).choice(len(points), 4000, replace=False)]
        return (points - median) / self.diameter_m, median

    def pose(self, T_scene_model: np.ndarray, median: np.ndarray) -> np.ndarray:
        """T_cam_obj in metres of a pose between the scaled clouds."""
        R = se3.nearest_rotation(T_scene_model[:3, :3])
        return se3.se3(R, T_scene_model[:3, 3] * self.diameter_m + median - R @ self.middle)


class Open3d(_Scaled):
    """Features of points in cells of 4 % of the diameter, 100,000 samples of three matches, then point-to-plane ICP."""

    CELL = 0.04
    FINE_CELL = 0.015
    FEATURE_RADIUS = 0.28
    REACH = 0.06

    def __init__(self, mesh: Mesh, diameter_m: float) -> None:
        super().__init__(mesh, diameter_m)
        self.model = self._cloud(self.points)
        self.model.normals = _open3d().utility.Vector3dVector(self.normals)
        self.coarse = self.model.voxel_down_sample(self.CELL)
        self.features = self._features(self.coarse)

    def __call__(self, depth_m: np.ndarray, mask: np.ndarray, camera: Camera) -> Answer:
        o3d = _open3d()
        registration = o3d.pipelines.registration
        o3d.utility.random.seed(0)
        points, median = self.scene_points(depth_m, mask, camera)
        cloud = self._cloud(points)
        cloud.estimate_normals(o3d.geometry.KDTreeSearchParamHybrid(0.06, 30))
        cloud.orient_normals_towards_camera_location(-median / self.diameter_m)
        fine, coarse = cloud.voxel_down_sample(self.FINE_CELL), cloud.voxel_down_sample(self.CELL)
        if len(coarse.points) < 4:
            return self.pose(np.eye(4), median), 0.0
        found = registration.registration_ransac_based_on_feature_matching(
            coarse, self.coarse, self._features(coarse), self.features, False, self.REACH,
            registration.TransformationEstimationPointToPoint(False), 3,
            [
                registration.CorrespondenceCheckerBasedOnEdgeLength(0.8),
                registration.CorrespondenceCheckerBasedOnDistance(self.REACH),
            ],
            registration.RANSACConvergenceCriteria(100_000, 0.999),
        )  # fmt: skip
        T_model_scene = found.transformation
        method = registration.TransformationEstimationPointToPlane()
        for reach in (0.05, 0.025):
            criteria = registration.ICPConvergenceCriteria(max_iteration=30)
            found = registration.registration_icp(fine, self.model, reach, T_model_scene, method, criteria)
            T_model_scene = found.transformation
        return self.pose(se3.inverse(np.array(T_model_scene)), median), float(found.fitness)

    def _cloud(self, points: np.ndarray) -> Any:
        o3d = _open3d()
        return o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))

    def _features(self, cloud: Any) -> Any:
        o3d = _open3d()
        search = o3d.geometry.KDTreeSearchParamHybrid(self.FEATURE_RADIUS, 200)
        return o3d.pipelines.registration.compute_fpfh_feature(cloud, search)


class SmallGicp(_Scaled):
    """ICP from 250 rotations, evenly spread; those that explain most points are refined, and the best is taken."""

    STARTS = 250
    REFINED = 12
    CELL = 0.1
    FINE_CELL = 0.025

    def __init__(self, mesh: Mesh, diameter_m: float) -> None:
        super().__init__(mesh, diameter_m)
        import small_gicp

        self.target, self.tree = small_gicp.preprocess_points(self.points, self.FINE_CELL, 10, 1)
        self.rotations = spread_rotations(self.STARTS)

    def __call__(self, depth_m: np.ndarray, mask: np.ndarray, camera: Camera) -> Answer:
        import small_gicp

        points, median = self.scene_points(depth_m, mask, camera)
        coarse, _ = small_gicp.preprocess_points(points, self.CELL, 10, 1)
        fine, _ = small_gicp.preprocess_points(points, self.FINE_CELL, 10, 1)
        starts = self._starts(points.mean(axis=0), median)
        tried = [self._align(coarse, T, "ICP", 0.3, 8) for T in starts]
        tried = [self._align(coarse, T, "PLANE_ICP", 0.12, 8) for T, _ in tried]
        tried.sort(key=lambda pair: -self._explained(coarse, pair[0], 0.05))
        best = (np.eye(4), -1.0)
        for T, _ in tried[: self.REFINED]:
            T, _ = self._align(fine, T, "GICP", 0.08, 20)
            score = self._explained(fine, T, 0.02)
            if score > best[1]:
                best = (T, score)
        return self.pose(se3.inverse(best[0]), median), best[1]

    def _starts(self, centroid: np.ndarray, median: np.ndarray) -> list[np.ndarray]:
        """T_model_scene of each rotation, the scene's centroid on that of the side that would be seen."""
        towards_eye = -median / np.linalg.norm(median)
        found = []
        for R in self.rotations:  # of the model in the scene
            facing = self.normals @ (R.T @ towards_eye) > 0.1
            seen = self.points[facing] if facing.any() else self.points
            found.append(se3.inverse(se3.se3(R, centroid - R @ seen.mean(axis=0))))
        return found

    def _align(self, source: Any, T: np.ndarray, kind: str, reach: float, iterations: int) -> tuple[np.ndarray, int]:
        import small_gicp

        found = small_gicp.align(
            self.target, source, self.tree, T, registration_type=kind, max_correspondence_distance=reach,
            num_threads=1, max_iterations=iterations,
        )  # fmt: skip
        return np.array(found.T_target_source), int(found.num_inliers)

    def _explained(self, source: Any, T: np.ndarray, reach: float) -> float:
        """The share of the scene's points near the model, nearer ones counting more."""
        points = source.points()[:, :3] @ T[:3, :3].T + T[:3, 3]
        _, squared = self.tree.batch_nearest_neighbor_search(points, 1)
        return float(np.maximum(0.0, 1.0 - np.asarray(squared) / reach**2).mean())


def spread_rotations(count: int) -> np.ndarray:
    """Rotations spread evenly: super-Fibonacci spirals (Alexa, CVPR 2022)."""
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    alpha, beta = 2 * np.pi * s / np.sqrt(2.0), 2 * np.pi * s / 1.533751168755204288118041
    quaternions = [inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)]
    return se3.rotation_from_quat(np.column_stack(quaternions))


def _open3d() -> Any:
    import open3d

    return open3d
