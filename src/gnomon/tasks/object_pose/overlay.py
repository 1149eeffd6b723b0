"""Poses drawn into a picture: the outline of the mesh, its axes, its name and score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from gnomon.geometry.camera import Camera
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.view import ViewMesh, draw_view, prepare_view

# Distinct also for most colour-blind people, and rare in photographs. RGB.
PALETTE = ((0, 229, 255), (255, 0, 200), (255, 196, 0), (120, 255, 60), (150, 130, 255), (255, 128, 60))
LOST_RGB = (255, 32, 32)
AXES_RGB = ((255, 40, 40), (40, 220, 40), (60, 110, 255))
AXIS_LENGTH = 0.6
"""In diameters of the object."""
NEAR_M = 0.005
DASH_PX = 8.0
JPEG_QUALITY = 92
FINE = 3
"""Bits behind the point of the coordinates that are drawn."""


@dataclass(frozen=True)
class OverlayMesh:
    """A mesh made ready to be drawn into pictures."""

    view: ViewMesh
    centre: Float64[np.ndarray, "3"]
    """Where the axes are drawn: the mesh's origin, or the middle of its box where the origin lies outside."""
    diameter_m: float


@dataclass(frozen=True)
class Drawn:
    """One pose to draw."""

    mesh: OverlayMesh
    T_cam_obj: Float64[np.ndarray, "4 4"]
    label: str
    colour: int
    """Index into the palette."""
    lost: bool


def prepare_overlay(mesh: Mesh) -> OverlayMesh:
    """From a mesh with its vertices in metres."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    inside = bool(((low <= 0) & (high >= 0)).all())
    centre = np.zeros(3) if inside else np.asarray((low + high) / 2, np.float64)
    return OverlayMesh(prepare_view(mesh), centre, mesh.diameter)


def draw_overlay(rgb: UInt8[np.ndarray, "H W 3"], camera: Camera, poses: list[Drawn]) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the picture with all poses in it; what is lost is dashed and red, and has no axes."""
    picture = np.ascontiguousarray(rgb).copy()
    thickness = max(2, round(min(camera.width, camera.height) / 300))
    for pose in poses:
        mask = draw_view(pose.mesh.view, pose.T_cam_obj, camera, near_m=NEAR_M, colour=False).depth_m > 0
        colour = LOST_RGB if pose.lost else PALETTE[pose.colour % len(PALETTE)]
        _outline(picture, mask, colour, thickness, dashed=pose.lost)
        if not pose.lost:
            _axes(picture, camera, pose, thickness)
        _label(picture, mask, pose.label, colour)
    return picture


def note_text(picture: UInt8[np.ndarray, "H W 3"], text: str) -> None:
    """Write a line into the top left corner."""
    _text(picture, text, (0, 0), (255, 255, 255))


def write_jpeg(path: Path, rgb: UInt8[np.ndarray, "H W 3"]) -> None:
    import cv2

    done, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise OSError(f"{path.name} could not be encoded")
    path.write_bytes(data.tobytes())


def _outline(
    picture: UInt8[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
    colour: tuple[int, int, int],
    thickness: int,
    *,
    dashed: bool,
) -> None:
    import cv2

    if not mask.any():
        return
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for width, ink in ((thickness + 1, (0, 0, 0)), (thickness, colour)):
        for contour in contours:
            if dashed:
                _dashed(picture, contour[:, 0], ink, width)
            else:
                cv2.polylines(picture, [contour], True, ink, width, cv2.LINE_AA)


def _dashed(picture: UInt8[np.ndarray, "H W 3"], points: Any, ink: tuple[int, int, int], width: int) -> None:
    """Every second stretch of a contour, a dash long."""
    import cv2

    steps = np.hypot(*np.diff(points, axis=0, append=points[:1]).T)
    along = np.concatenate([[0.0], np.cumsum(steps)[:-1]])
    dash = (along / (DASH_PX + 2 * width)).astype(int)
    for number in range(0, int(dash[-1]) + 1, 2):
        stretch = points[dash == number]
        if len(stretch) > 1:
            cv2.polylines(picture, [stretch.reshape(-1, 1, 2)], False, ink, width, cv2.LINE_AA)


def _axes(picture: UInt8[np.ndarray, "H W 3"], camera: Camera, pose: Drawn, thickness: int) -> None:
    import cv2

    length = AXIS_LENGTH * pose.mesh.diameter_m
    ends = pose.mesh.centre + np.vstack([np.zeros(3), np.eye(3) * length])
    ends_cam = ends @ pose.T_cam_obj[:3, :3].T + pose.T_cam_obj[:3, 3]
    if not (ends_cam[:, 2] > NEAR_M).all():
        return
    pixels = camera.project(ends_cam)
    if not (np.abs(pixels) < 1e5).all():
        return
    corners = np.round(pixels * (1 << FINE)).astype(int)
    # The farthest axis first, so that nearer ones cover it.
    for axis in np.argsort(-ends_cam[1:, 2]):
        start, end = corners[0].tolist(), corners[axis + 1].tolist()
        cv2.line(picture, start, end, (0, 0, 0), thickness + 2, cv2.LINE_AA, FINE)
        cv2.line(picture, start, end, AXES_RGB[axis], thickness, cv2.LINE_AA, FINE)


def _label(
    picture: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"], text: str, colour: tuple[int, int, int]
) -> None:
    """Below the object, where axes rarely are; above it where there is no room."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        _text(picture, text, (0, picture.shape[0]), colour)
        return
    line = 2 * _text_px(picture)
    below = int(rows[-1]) + line
    _text(picture, text, (int(columns[0]), below if below < picture.shape[0] else int(rows[0]) - 4), colour)


def _text_px(picture: UInt8[np.ndarray, "H W 3"]) -> int:
    """Height of a capital letter."""
    return max(9, round(min(picture.shape[:2]) / 40))


def _text(picture: UInt8[np.ndarray, "H W 3"], text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """A line on a dark ground, its lower left corner near `at` but inside the picture."""
    import cv2

    plain = text.encode("ascii", "replace").decode()
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, _text_px(picture) / 22
    (width, height), below = cv2.getTextSize(plain, font, scale, 1)
    x = max(0, min(at[0], picture.shape[1] - width - 6))
    y = max(height + 4, min(at[1], picture.shape[0] - below - 2))
    ground = picture[y - height - 4 : y + below + 2, x : x + width + 6]
    ground[:] = ground // 4
    cv2.putText(picture, plain, (x + 3, y), font, scale, colour, 1, cv2.LINE_AA)
