"""The files of a template set, exactly as SAM-6D's readers want them.

    templates/rgb_0.png     8-bit RGB (RGBA when transparent)
    templates/mask_0.png    8-bit grey, 255 on the object, 0 elsewhere
    templates/xyz_0.npy     float16 (H, W, 3), object coordinates in the mesh's unit, -1 elsewhere
    depth/depth_0.npy       float32 (H, W), in the mesh's unit, 0 elsewhere          with depth
    normals/normal_0.npy    float16 (H, W, 3), unit vectors in the object's frame    with normals
    templates.npz | .h5     all of it in one file                                    with a bundle

Consumers count the .npy files of templates/ to learn the number of views, so no other array is ever put there.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from gnomon.formats.png import write_png
from gnomon.tasks.templates.bundle import Bundle
from gnomon.tasks.templates.scene import TemplateView


def write_view(templates: Path, extras: Path, index: int, view: TemplateView) -> None:
    """Write the files of one view: pictures and coordinates into `templates`, further maps beside it in `extras`."""
    write_png(templates / f"rgb_{index}.png", view.rgb)
    write_png(templates / f"mask_{index}.png", view.mask)
    np.save(templates / f"xyz_{index}.npy", view.xyz)
    if view.depth is not None:
        np.save(extras / "depth" / f"depth_{index}.npy", view.depth)
    if view.normal is not None:
        np.save(extras / "normals" / f"normal_{index}.npy", view.normal)


class ViewWriter:
    """Writes views in the background while others are drawn; leaving the block waits for the last one."""

    def __init__(
        self, templates: Path, extras: Path, *, depth: bool, normals: bool, bundle: str, count: int, threads: int
    ) -> None:
        self._templates = templates
        self._extras = extras
        for wanted, name in ((depth, "depth"), (normals, "normals")):
            if wanted:
                (extras / name).mkdir(exist_ok=True)
        self._bundle = Bundle(extras, bundle, count)
        self._pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="write")
        self._pending: deque[Future[None]] = deque()
        self._most_pending = 2 * max(threads, 1)

    def write(self, index: int, view: TemplateView) -> None:
        """Hand a view over; blocks while too many wait, so that memory stays bounded.

        Raises the OSError of an earlier view that could not be written.
        """
        while len(self._pending) >= self._most_pending:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(write_view, self._templates, self._extras, index, view))
        self._bundle.add(index, view)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            for future in self._pending:
                future.result()
            self._bundle.close()
        else:
            self._bundle.discard()
