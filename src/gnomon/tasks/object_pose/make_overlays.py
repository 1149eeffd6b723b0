"""The overlays of all frames, and the video of them, several frames at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from gnomon.context import Context
from gnomon.errors import InputError
from gnomon.geometry.mesh import Mesh
from gnomon.tasks.object_pose.frames import Frame
from gnomon.tasks.object_pose.overlay import Drawn, OverlayMesh, draw_overlay, note_text, prepare_overlay, write_jpeg
from gnomon.tasks.object_pose.spec import FrameResult, ObjectPose, ObjectPoseResult
from gnomon.tasks.object_pose.video import Video

FOLDER = "overlay"
VIDEO = "overlay.webm"


@dataclass
class DrawnFiles:
    """What was drawn; names are relative to the results."""

    overlays: dict[int, str] = field(default_factory=dict)
    """By the frame's index."""
    video: str | None = None
    warnings: list[str] = field(default_factory=list)


def draw_all(
    spec: ObjectPose, context: Context, frames: list[Frame], meshes: dict[int, Mesh], result: ObjectPoseResult
) -> DrawnFiles:
    """Write overlay/<frame>.jpg for every frame that can be read, and overlay.webm where there are several."""
    files = DrawnFiles()
    wants_video = spec.video and len(frames) > 1
    if not (spec.overlay or wants_video):
        return files
    painter = Painter(meshes, frames, result)
    if spec.overlay:
        (context.out / FOLDER).mkdir(exist_ok=True)
    with Video(context.out / VIDEO, spec.fps) as video:
        for done, (frame, picture) in enumerate(painter.pictures(context.cpus), start=1):
            context.check_cancelled()
            if picture is not None:
                if spec.overlay:
                    files.overlays[frame.index] = f"{FOLDER}/{frame.name}.jpg"
                    write_jpeg(context.out / files.overlays[frame.index], picture)
                if wants_video:
                    video.add(picture)
            context.progress(done, len(frames), "frame")
    if video.problem is not None:
        files.warnings.append(video.problem)
    if (context.out / VIDEO).is_file():
        files.video = VIDEO
    return files


class Painter:
    """Draws the poses of each frame into its colour picture."""

    def __init__(self, meshes: dict[int, Mesh], frames: list[Frame], result: ObjectPoseResult) -> None:
        self.frames = frames
        self.result = result
        prepared: dict[int, OverlayMesh] = {index: prepare_overlay(mesh) for index, mesh in meshes.items()}
        self._meshes = {
            item.name: (colour, prepared[item.mesh_index])
            for colour, item in enumerate(result.objects)
            if item.mesh_index in prepared
        }

    def pictures(self, threads: int) -> Iterator[tuple[Frame, UInt8[np.ndarray, "H W 3"] | None]]:
        """Frames in order, None for one that cannot be read; a bounded number is drawn ahead."""
        pending: deque[tuple[Frame, Future[UInt8[np.ndarray, "H W 3"] | None]]] = deque()
        with ThreadPoolExecutor(max(threads, 1), thread_name_prefix="draw") as pool:
            try:
                for frame, found in zip(self.frames, self.result.frames, strict=True):
                    pending.append((frame, pool.submit(self._draw, frame, found)))
                    if len(pending) > 2 * max(threads, 1):
                        first, future = pending.popleft()
                        yield first, future.result()
                while pending:
                    first, future = pending.popleft()
                    yield first, future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _draw(self, frame: Frame, found: FrameResult) -> UInt8[np.ndarray, "H W 3"] | None:
        try:
            loaded = frame.load()
        except InputError:
            return None
        picture = draw_overlay(loaded.rgb, loaded.camera, self._poses(found))
        failed = [entry.object for entry in found.objects if entry.state == "failed"]
        note_text(picture, " ".join([frame.name, *(f"[{name} failed]" for name in failed)]))
        return picture

    def _poses(self, found: FrameResult) -> list[Drawn]:
        drawn = []
        for entry in found.objects:
            if entry.pose is None or entry.object not in self._meshes:
                continue
            colour, mesh = self._meshes[entry.object]
            lost = entry.state == "lost"
            label = f"{entry.object} lost" if lost else f"{entry.object} {entry.score:.2f}"
            if entry.ambiguous and not lost:
                label += " ?"
            drawn.append(Drawn(mesh, entry.pose, label, colour, lost))
        return drawn
