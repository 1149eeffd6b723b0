"""Overlays of a sequence as a WebM video that browsers play."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from jaxtyping import UInt8

CODEC = "VP80"
MOST_SIDE = 1920


class Video:
    """Takes pictures one by one. The file appears, whole, when the block ends well.

    All pictures get the size of the first; VP8 wants even sides, so a last odd row or column is left out.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.stem}.part{path.suffix}")
        self._fps = fps
        self._writer: Any = None
        self._size = (0, 0)
        self.problem: str | None = None
        """Why there is no video, if there is none."""

    def add(self, rgb: UInt8[np.ndarray, "H W 3"]) -> None:
        if self.problem is not None:
            return
        import cv2

        if self._writer is None:
            self._open(rgb.shape[1], rgb.shape[0])
        if self._writer is None:
            return
        if (rgb.shape[1] // 2 * 2, rgb.shape[0] // 2 * 2) == self._size:
            fitted = rgb[: self._size[1], : self._size[0]]
        else:
            fitted = cv2.resize(rgb, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(np.ascontiguousarray(fitted[..., ::-1]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if kind is None and self._draft.is_file() and self._draft.stat().st_size > 0:
            self._draft.replace(self._path)
        else:
            self._draft.unlink(missing_ok=True)

    def _open(self, width: int, height: int) -> None:
        import cv2

        scale = min(1.0, MOST_SIDE / max(width, height))
        self._size = (max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2))
        writer = cv2.VideoWriter(
            str(self._draft), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*CODEC), self._fps, self._size
        )
        if not writer.isOpened():
            self.problem = "no video was made: this OpenCV has no VP8 encoder"
            return
        self._writer = writer
