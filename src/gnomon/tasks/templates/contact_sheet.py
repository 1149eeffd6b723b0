"""One picture of all views in a grid, each with its number: the quickest way to see whether a set is right."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from gnomon.formats.png import write_png
from gnomon.tasks.templates.scene import TemplateView

CELL = 128
"""Width and height of a thumbnail in pixels."""
MOST_CELLS = 168
"""Of larger sets an even selection is shown."""


class ContactSheet:
    """Collects thumbnails as views come in, in any order."""

    def __init__(self, count: int) -> None:
        self._stride = max(1, math.ceil(count / MOST_CELLS))
        cells = math.ceil(count / self._stride)
        self._columns = _columns(cells)
        rows = math.ceil(cells / self._columns)
        self._sheet = np.full((rows * CELL, self._columns * CELL, 3), 255, np.uint8)

    def add(self, index: int, view: TemplateView) -> None:
        if index % self._stride:
            return
        row, column = divmod(index // self._stride, self._columns)
        cell = self._sheet[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
        cell[:] = _thumbnail(view.rgb)
        _write_number(cell, index)

    def save(self, path: Path) -> None:
        write_png(path, self._sheet)


def _columns(cells: int) -> int:
    """About as wide as high, or a little wider where that leaves fewer empty cells."""
    side = max(1, math.ceil(math.sqrt(cells)))
    return min(range(side, side + 5), key=lambda columns: (-cells % columns, columns))


def _thumbnail(rgb: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "128 128 3"]:
    """Average over blocks where the sizes divide, nearest pixels else; transparent pictures go on white."""
    size = rgb.shape[0]
    if rgb.shape[2] == 4:
        alpha = rgb[..., 3:].astype(np.float32) / 255
        rgb = (rgb[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    if size % CELL == 0:
        block = size // CELL
        # Rows first, which are contiguous in memory; a sum over an axis would walk pixel by pixel.
        rows = rgb.reshape(CELL, block, size, 3)
        summed = _add([rows[:, i] for i in range(block)]).reshape(CELL, CELL, block, 3)
        total = _add([summed[:, :, i] for i in range(block)])
        return (total // (block * block)).astype(np.uint8)
    nearest = (np.arange(CELL) * size // CELL).clip(0, size - 1)
    return rgb[nearest][:, nearest]


def _add(layers: list[np.ndarray]) -> np.ndarray:
    """Their sum in 32 bits, which blocks of any size fit into."""
    total = layers[0].astype(np.uint32)
    for layer in layers[1:]:
        total += layer
    return total


def _write_number(cell: UInt8[np.ndarray, "128 128 3"], number: int) -> None:
    from PIL import Image, ImageDraw

    label = Image.new("L", (8 * len(str(number)) + 4, 14), 0)
    ImageDraw.Draw(label).text((2, 1), str(number), fill=255)
    ink: Float32[np.ndarray, "h w 1"] = np.asarray(label, np.float32)[..., None] / 255
    corner = cell[: ink.shape[0], : ink.shape[1]]
    corner[:] = (corner * (1 - ink) + 255 * ink).astype(np.uint8)
