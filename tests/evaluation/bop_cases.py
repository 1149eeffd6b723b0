"""Seeded inputs on which gnomon's metrics and those of bop_toolkit are compared. Millimetres, as bop_toolkit has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SEEDS = range(20)
MATCH_SEEDS = range(12)
DELTA_MM = 15.0
SYMMETRY_STEP = 0.05
WIDTH, HEIGHT = 80, 60
ALL_THRESHOLDS = (0.1, 0.3, 0.5, 0.8)


@dataclass(frozen=True)
class Case:
    """One object at an estimated and a true pose."""

    points: np.ndarray
    T_est: np.ndarray
    T_gt: np.ndarray
    K: np.ndarray
    info: dict[str, Any]
    """As an entry of models_info.json."""
    depth_est: np.ndarray
    depth_gt: np.ndarray
    depth_measured: np.ndarray


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis / np.linalg.norm(axis)
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


def make_case(seed: int) -> Case:
    rng = np.random.default_rng(1000 + seed)
    half_mm = rng.uniform(20, 60, 3)
    points = rng.uniform(-1, 1, (400, 3)) * half_mm
    info = {"diameter": float(2 * np.linalg.norm(half_mm)), **symmetries(seed, rng)}
    T_gt = np.eye(4)
    T_gt[:3, :3] = rotation(rng.normal(size=3), rng.uniform(0, np.pi))
    T_gt[:3, 3] = rng.uniform([-80, -60, 500], [80, 60, 900])
    size = 10.0 ** rng.uniform(-3, 0)
    T_est = T_gt.copy()
    T_est[:3, :3] = T_gt[:3, :3] @ rotation(rng.normal(size=3), size * 3)
    T_est[:3, 3] += rng.normal(size=3) * size * 60
    if seed % 3 == 2 and "symmetries_discrete" in info:
        T_est = T_est @ np.reshape(info["symmetries_discrete"][0], (4, 4))
    K = np.array([[rng.uniform(80, 110), 0, 39.5], [0, rng.uniform(80, 110), 29.1], [0, 0, 1]])
    depth_est, depth_gt = (ball_depth(K, T[:3, 3], float(half_mm.max())) for T in (T_est, T_gt))
    return Case(points, T_est, T_gt, K, info, depth_est, depth_gt, measured(K, depth_gt, rng))


def symmetries(seed: int, rng: np.random.Generator) -> dict[str, Any]:
    turn = np.eye(4)
    turn[:3, :3] = rotation(np.array([0, 0, 1.0]), np.pi)
    turn[:3, 3] = [3.0, -2.0, 0]
    quarter = np.eye(4)
    quarter[:3, :3] = rotation(rng.normal(size=3), np.pi / 2)
    discrete = [turn.reshape(-1).tolist(), quarter.reshape(-1).tolist()]
    axis = {"axis": [0.0, 0.6, 0.8], "offset": [1.0, -4.0, 2.0]}
    other = {"axis": [1.0, 0.0, 0.0], "offset": [0.0, 0.0, 0.0]}
    return [
        {},
        {"symmetries_discrete": discrete[:1]},
        {"symmetries_continuous": [axis]},
        {"symmetries_discrete": discrete, "symmetries_continuous": [axis]},
        {"symmetries_discrete": discrete[:1], "symmetries_continuous": [axis, other]},
    ][seed % 5]


def ball_depth(K: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Depth along z of a ball, 0 beside it; stands in for a drawn model."""
    u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(u.shape)], axis=-1)
    a, b = (rays**2).sum(-1), rays @ centre
    inside = b**2 - a * (centre @ centre - radius**2)
    return np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, 0.0)


def measured(K: np.ndarray, depth_gt: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The true ball with noise before a wall, partly behind a board, with pixels that have no measurement."""
    depth = np.where(depth_gt > 0, depth_gt, 1100.0) + rng.normal(size=depth_gt.shape) * 4
    board = int(rng.integers(0, WIDTH - 15))
    depth[:, board : board + 15] = np.minimum(depth[:, board : board + 15], 450.0)
    depth[rng.random(depth.shape) < 0.1] = 0
    return depth


def make_match_case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors (estimates, truths), scores of the estimates (some equal), and which truths count."""
    rng = np.random.default_rng(2000 + seed)
    shape = int(rng.integers(0, 6)), int(rng.integers(1, 5))
    errors = np.round(rng.random(shape), 1 if seed % 2 else 6)
    scores = np.round(rng.random(shape[0]), 1)
    return errors, scores, rng.random(shape[1]) < 0.8
