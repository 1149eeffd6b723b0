"""How large files would be once decoded, read from their headers alone: bombs are refused before they go off.

Only formats that can promise much in few bytes are looked into: pictures, PLY and STL. An OBJ's or glTF's size on disk,
which is bounded by its upload, bounds what comes out of it; everything runs under the job's memory limit anyway.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import BinaryIO

from gnomon.errors import InputError
from gnomon.formats import ply

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
STL_HEADER_BYTES = 84
STL_FACE_BYTES = 50


def check(name: str, stream: BinaryIO, size_bytes: int, *, field: str, most_pixels: int, most_triangles: int) -> None:
    """Refuse a file whose header promises too much. A header that cannot be read is the task's reader's business.

    Raises:
        InputError: code `too_many_pixels` or `too_many_triangles`.
    """
    suffix = Path(name).suffix.lower()
    if suffix in PICTURES:
        pixels = picture_pixels(stream)
        if pixels is not None and pixels > most_pixels:
            raise _too_large("too_many_pixels", field, name, pixels, most_pixels, "pixels")
    elif suffix in (".ply", ".stl"):
        rows = ply_rows(stream) if suffix == ".ply" else stl_faces(stream, size_bytes)
        if rows is not None and rows > most_triangles:
            raise _too_large("too_many_triangles", field, name, rows, most_triangles, "triangles or vertices")


def check_file(path: Path, *, field: str, most_pixels: int, most_triangles: int) -> None:
    """`check` of a file on disk."""
    with path.open("rb") as stream:
        size_bytes = path.stat().st_size
        check(path.name, stream, size_bytes, field=field, most_pixels=most_pixels, most_triangles=most_triangles)


def picture_pixels(stream: BinaryIO) -> int | None:
    """Width times height of a picture; None where the header is no picture's."""
    start = stream.read(24)
    if start[:8] == PNG_MAGIC and len(start) == 24:
        width, height = struct.unpack(">II", start[16:24])
        return width * height
    from PIL import Image

    stream.seek(0)
    try:
        with warnings.catch_warnings():
            # Pillow's own limit is a fixed one; ours is a setting.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(stream) as picture:
                return picture.width * picture.height
    except Image.DecompressionBombError:
        return 2 * (Image.MAX_IMAGE_PIXELS or 0)
    except (OSError, ValueError, SyntaxError):
        return None


def ply_rows(stream: BinaryIO) -> int | None:
    """The rows of the largest element that a PLY's header promises; None where it is no PLY's."""
    try:
        header = ply.read_header(stream.read(ply.MAX_HEADER_BYTES))
    except (ply.PlyError, ValueError):
        return None
    return max((element.count for element in header.elements), default=0)


def stl_faces(stream: BinaryIO, size_bytes: int) -> int | None:
    """The triangles of a binary STL: its count, where the file is as long as that says; None for a text."""
    start = stream.read(STL_HEADER_BYTES)
    if len(start) < STL_HEADER_BYTES:
        return None
    (faces,) = struct.unpack("<I", start[80:84])
    return faces if STL_HEADER_BYTES + faces * STL_FACE_BYTES == size_bytes else None


def _too_large(code: str, field: str, name: str, count: int, most: int, what: str) -> InputError:
    return InputError(
        f"{name} has {count:,} {what}; the server takes {most:,}",
        code=code,
        field=field,
        value=count,
        expected=f"at most {most:,} {what}",
        fix="make it smaller, or start the server with a larger "
        + ("--max-pixels" if code == "too_many_pixels" else "--max-triangles"),
    )
