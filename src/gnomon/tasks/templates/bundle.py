"""All views of a set in one file, for programs that would rather open one than 126."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from gnomon.errors import MissingError
from gnomon.tasks.templates.scene import TemplateView

LAYERS = ("rgb", "mask", "xyz", "depth", "normal")


class Bundle:
    """Collects views and writes templates.npz or templates.h5; with kind "none" it does nothing.

    Arrays have the view as first axis and the dtypes of the single files: rgb (N, H, W, C) uint8, mask (N, H, W)
    uint8, xyz (N, H, W, 3) float16, and where asked for depth (N, H, W) float32 and normal (N, H, W, 3) float16.

    Raises:
        MissingError: code `not_installed`, when HDF5 is asked for and h5py is absent.
    """

    def __init__(self, folder: Path, kind: str, count: int) -> None:
        self._kind = kind
        self._count = count
        self._path = folder / ("templates.npz" if kind == "npz" else "templates.h5")
        self._layers: dict[str, Any] = {}
        self._file: Any = _open_hdf5(self._path) if kind == "hdf5" else None

    def add(self, index: int, view: TemplateView) -> None:
        if self._kind == "none":
            return
        for name in LAYERS:
            layer = getattr(view, name)
            if layer is not None:
                if name not in self._layers:
                    self._layers[name] = self._make_layer(name, layer)
                self._layers[name][index] = layer

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        elif self._kind == "npz":
            np.savez_compressed(self._path, **self._layers)

    def discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._path.unlink(missing_ok=True)

    def _make_layer(self, name: str, layer: np.ndarray) -> Any:
        shape = (self._count, *layer.shape)
        if self._file is None:
            return np.zeros(shape, layer.dtype)
        # Times are left out so that the same set gives the same bytes.
        return self._file.create_dataset(
            name,
            shape,
            layer.dtype,
            chunks=(1, *layer.shape),
            compression="gzip",
            compression_opts=1,
            track_times=False,
        )


def _open_hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingError(
            "an HDF5 bundle needs the Python package h5py",
            field="bundle",
            value="hdf5",
            fix='pip install "gnomon[hdf5]", or use --bundle npz',
        ) from None
    return h5py.File(path, "w")
