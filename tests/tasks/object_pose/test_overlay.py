"""What object-pose draws: outlines where the object is, a video that can be played, curves with gaps."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from gnomon.formats.mesh_file import load_mesh
from gnomon.geometry.view import prepare_view
from gnomon.tasks.object_pose import demo
from gnomon.tasks.object_pose.overlay import LOST_RGB, PALETTE, Drawn, draw_overlay, prepare_overlay
from gnomon.tasks.object_pose.plot import Series, line_plot
from gnomon.tasks.object_pose.video import Video


@pytest.fixture(scope="module")
def scene():
    mesh = load_mesh(demo.mug_file()).scaled(0.001)
    return demo.draw_frame(prepare_view(mesh), mesh, 3), prepare_overlay(mesh)


def pixels_of(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(picture.astype(int) - colour).max(axis=-1) < 30).nonzero()


def test_the_outline_runs_along_the_edge_of_the_object(scene):
    frame, mesh = scene
    drawn = draw_overlay(frame.rgb, demo.CAMERA, [Drawn(mesh, frame.T_cam_obj, "", 0, False)])
    rows, columns = pixels_of(drawn, PALETTE[0])
    inside = frame.mask
    edge = np.zeros_like(inside)
    for step in (-1, 1):
        edge |= inside & ~np.roll(inside, step, axis=0)
        edge |= inside & ~np.roll(inside, step, axis=1)
    at = np.argwhere(edge)
    far = [np.abs(at - point).max(axis=1).min() for point in zip(rows, columns, strict=True)]
    assert len(rows) > 200 and max(far) <= 3
    assert not np.shares_memory(drawn, frame.rgb)


def test_what_is_lost_is_red_and_has_no_axes(scene):
    frame, mesh = scene
    good = draw_overlay(frame.rgb, demo.CAMERA, [Drawn(mesh, frame.T_cam_obj, "", 0, False)])
    lost = draw_overlay(frame.rgb, demo.CAMERA, [Drawn(mesh, frame.T_cam_obj, "lost", 0, True)])
    assert len(pixels_of(lost, LOST_RGB)[0]) > 100 and len(pixels_of(lost, PALETTE[0])[0]) == 0
    blue = (60, 110, 255)
    assert len(pixels_of(good, blue)[0]) > 50 and len(pixels_of(lost, blue)[0]) == 0


@pytest.mark.parametrize("shift", [(0, 0, -5), (3, 0, 0), (0.3, 0.2, 0), (0, 0, -0.56)])
def test_poses_behind_or_beside_the_camera_are_no_trouble(scene, shift: tuple[float, float, float]):
    frame, mesh = scene
    T = frame.T_cam_obj.copy()
    T[:3, 3] += shift
    draw_overlay(frame.rgb, demo.CAMERA, [Drawn(mesh, T, "a very long name for an object " * 4, 2, False)])


def test_axes_of_a_mesh_far_from_its_origin_are_on_the_mesh():
    mesh = load_mesh(demo.mug_file()).scaled(0.001)
    moved = prepare_overlay(type(mesh)(vertices=mesh.vertices + 3, faces=mesh.faces))
    np.testing.assert_allclose(moved.centre, prepare_overlay(mesh).centre + 3, atol=0.1)


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (300, 2400)])
def test_a_video_has_all_its_frames(tmp_path: Path, size: tuple[int, int]):
    import cv2

    with Video(tmp_path / "a.webm", 12.0) as video:
        for i in range(9):
            video.add(np.full((*size, 3), (20 * i, 0, 255 - 20 * i), np.uint8))
    assert video.problem is None and [path.name for path in tmp_path.iterdir()] == ["a.webm"]
    head = (tmp_path / "a.webm").read_bytes()[:600]
    assert head.startswith(b"\x1aE\xdf\xa3") and b"webm" in head and b"V_VP8" in head
    stored = cv2.VideoCapture(str(tmp_path / "a.webm"))
    pictures = []
    while (got := stored.read())[0]:
        pictures.append(got[1])
    assert len(pictures) == 9 and stored.get(cv2.CAP_PROP_FPS) == pytest.approx(12, abs=0.1)
    assert max(pictures[0].shape) <= 1920
    # RGB in, BGR in OpenCV's hands: red grows, blue shrinks.
    assert pictures[8][..., 2].mean() > 120 > pictures[0][..., 2].mean()


def test_a_video_that_is_interrupted_leaves_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="stop"), Video(tmp_path / "a.webm", 12.0) as video:
        video.add(np.zeros((48, 64, 3), np.uint8))
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_another_size_are_fitted(tmp_path: Path):
    with Video(tmp_path / "a.webm", 12.0) as video:
        video.add(np.zeros((48, 64, 3), np.uint8))
        video.add(np.zeros((96, 128, 3), np.uint8))
    assert (tmp_path / "a.webm").is_file()


def svg_of(text: str) -> ET.Element:
    found = re.search(r"<svg.*</svg>", text, re.DOTALL)
    assert found is not None
    return ET.fromstring(found[0])


def test_curves_have_gaps_where_nothing_is_known():
    nan = float("nan")
    svg = svg_of(line_plot("a <b>", [Series("x&y", range(7), [1, 2, nan, 3, nan, 4, 5])]))
    lines = [line.attrib["points"] for line in svg.iter("polyline")]
    assert [len(points.split()) for points in lines] == [2, 2]
    assert len(list(svg.iter("circle"))) == 1
    xs = [float(point.split(",")[0]) for line in lines for point in line.split()]
    assert min(xs) >= 0 and max(xs) <= 900 and xs == sorted(xs)


def test_curves_of_every_range():
    for values in ([0.0, 0.0], [1e-9, 2e-9], [-1e6, 1e6], [5.0]):
        svg_of(line_plot("t", [Series("s", range(len(values)), values)]))
    assert line_plot("t", [Series("s", range(2), [float("nan")] * 2)]) == ""
    assert len(line_plot("t", [Series("s", range(20_000), [0.5] * 20_000)])) < 60_000
