"""The body of a request to the old pose API: taken apart, decoded, and checked as far as headers go.

Nothing is decoded into pixels or triangles here. The job does that, and its errors come back to the client too.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, get_args

from gnomon.formats import ply
from gnomon.formats.ply_scaled import scaled_ply
from gnomon.geometry.units import METRES_PER_UNIT, Unit
from gnomon.server.facades.pose_api_json import Document, JsonError, decode_base64
from gnomon.server.settings import ServerSettings
from gnomon.tasks.object_pose.spec import MOST_FRAMES

MOST_NAME_BYTES = 200
FIELDS = ("camera_matrix", "images", "mask", "mesh")
NOT_FIELDS = "Invalid fields"
NOT_MATRIX_OR_IMAGE = "Invalid matrix or image"
NOT_MESH_OR_MASK = "Invalid mesh or mask"
NOT_BASE64_IMAGES = "Invalid b64 images"

_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_GREY = 0


class PoseApiRefusal(Exception):
    """An answer of the old API that is no success: its status, and its two texts."""

    def __init__(self, status: int, error: str, details: str, **fields: Any) -> None:
        super().__init__(details)
        self.status = status
        self.error = error
        self.details = details
        self.fields = fields


@dataclass(frozen=True)
class PoseFrame:
    """One of `images`: its name without .png, and its two PNG files."""

    name: str
    rgb: bytes
    depth: bytes


@dataclass(frozen=True)
class PoseBody:
    """A request whose parts are there and fit together, as far as their headers tell."""

    K: list[list[float]]
    """The numbers as the client wrote them, whole ones whole."""
    frames: list[PoseFrame]
    """In the client's order; the mask belongs to the first."""
    mask: bytes
    mesh: bytes
    """As sent, in `mesh_unit`."""
    mesh_m: bytes
    """The same in metres."""
    mesh_unit: Unit


@dataclass(frozen=True)
class _Png:
    width: int
    height: int
    bits: int
    colour_type: int


def read_body(body: bytes, settings: ServerSettings) -> PoseBody:
    """Raises PoseApiRefusal with the statuses that clients of the old API know."""
    document, record = _record(body)
    absent = [name for name in FIELDS if record.get(name) is None]
    if absent:
        raise PoseApiRefusal(400, NOT_FIELDS, f"missing: {', '.join(absent)}")
    unit = record.get("mesh_unit", "mm")
    if unit not in get_args(Unit):
        raise PoseApiRefusal(400, NOT_FIELDS, f"mesh_unit is {unit!r:.50}, not one of {', '.join(get_args(Unit))}")
    _, matrix = _unpacked(document, record["camera_matrix"], "camera_matrix")
    inner, images = _unpacked(document, record["images"], "images")
    K = _matrix(matrix)
    entries = _entries(images, inner, settings)
    refusal = settings.pose_api_base64_status
    frames = [_frame(inner, entry, number, name, refusal) for number, (name, entry) in enumerate(entries)]
    try:
        mask = decode_base64(_base64_text(document, record["mask"], "mask"))
        mesh = decode_base64(_base64_text(document, record["mesh"], "mesh"))
    except ValueError:
        details = "At least one of the mesh or mask image is invalid for b64 decode"
        raise PoseApiRefusal(refusal, NOT_MESH_OR_MASK, details) from None
    _check_pictures(frames, mask, settings.max_pixels)
    return PoseBody(K, frames, mask, mesh, _in_metres(mesh, unit, settings.max_triangles), unit)


def _record(body: bytes) -> tuple[Document, dict[str, Any]]:
    """The JSON object of a body, which may also be a JSON text that holds it."""
    try:
        document = Document(body)
    except JsonError as error:
        raise PoseApiRefusal(401, "Invalid or empty JSON!", str(error)) from None
    if isinstance(document.value, str):
        try:
            document = Document(document.text(document.value))
        except JsonError as error:
            raise PoseApiRefusal(401, "Invalid JSON format!", str(error)) from None
    if not isinstance(document.value, dict) or not document.value:
        raise PoseApiRefusal(401, "Invalid or empty JSON!", f"an object with {', '.join(FIELDS)} is expected")
    return document, document.value


def _unpacked(document: Document, value: Any, name: str) -> tuple[Document, Any]:
    """A field, which may be JSON in a text as forms have it."""
    if not isinstance(value, str):
        return document, value
    try:
        inner = Document(document.text(value))
    except JsonError as error:
        raise PoseApiRefusal(402, "Invalid JSON format!", f"{name}: {error}") from None
    return inner, inner.value


def _base64_text(document: Document, value: Any, name: str) -> bytes:
    """The base64 of a field, which may stand in quotes of its own."""
    if not isinstance(value, str):
        raise PoseApiRefusal(400, NOT_FIELDS, f"{name} is no text")
    try:
        text = document.text(value)
        if text.startswith(b'"'):
            inner = Document(text)
            return inner.text(inner.value) if isinstance(inner.value, str) else text
        return text
    except JsonError as error:
        raise PoseApiRefusal(402, "Invalid JSON format!", f"{name}: {error}") from None


def _matrix(value: Any) -> list[list[float]]:
    rows = value if isinstance(value, list) and len(value) == 3 else []
    if not all(isinstance(row, list) and len(row) == 3 and all(map(_is_finite, row)) for row in rows) or not rows:
        raise PoseApiRefusal(400, NOT_MATRIX_OR_IMAGE, "camera_matrix: 3 rows of 3 finite numbers are expected")
    return rows


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _entries(images: Any, document: Document, settings: ServerSettings) -> list[tuple[str, dict[str, Any]]]:
    """Name and record of each image. Names become files, so nothing else than plain new names is taken."""
    if not isinstance(images, list):
        raise PoseApiRefusal(400, NOT_FIELDS, "images is no list")
    if not images:
        raise PoseApiRefusal(400, NOT_MATRIX_OR_IMAGE, "images is empty")
    most = min(MOST_FRAMES, settings.max_files // 2)
    if len(images) > most:
        raise PoseApiRefusal(400, NOT_MATRIX_OR_IMAGE, f"{len(images)} images, where at most {most} are taken")
    found: list[tuple[str, dict[str, Any]]] = []
    taken: set[str] = set()
    for number, item in enumerate(images):
        _, entry = _unpacked(document, item, f"images[{number}]")
        if not isinstance(entry, dict):
            raise PoseApiRefusal(400, NOT_FIELDS, f"images[{number}] is no object")
        absent = [name for name in ("filename", "rgb", "depth") if entry.get(name) is None]
        if absent:
            raise PoseApiRefusal(400, NOT_FIELDS, f"images[{number}] has no {' and no '.join(absent)}")
        name = _file_name(entry["filename"], number)
        if name.casefold() in taken:
            raise PoseApiRefusal(400, NOT_FIELDS, f"images[{number}].filename: {name!r} is there twice")
        taken.add(name.casefold())
        found.append((name, entry))
    return found


def _file_name(value: Any, number: int) -> str:
    where = f"images[{number}].filename"
    if not isinstance(value, str):
        raise PoseApiRefusal(400, NOT_FIELDS, f"{where} is no text")
    name = value[:-4] if value.lower().endswith(".png") else value
    # Of a name that is all dots, some systems make the folder itself or the one above.
    plain = name.isprintable() and not set(name) & set("/\\:") and name.strip(". ") != ""
    if not plain or len(name.encode("utf-8", "surrogatepass")) > MOST_NAME_BYTES:
        raise PoseApiRefusal(
            400, NOT_FIELDS, f"{where}: {value!r:.60} is not taken; a plain file name without folders is expected"
        )
    return name


def _frame(document: Document, entry: dict[str, Any], number: int, name: str, refusal: int) -> PoseFrame:
    texts = [_base64_text(document, entry[kind], f"images[{number}].{kind}") for kind in ("rgb", "depth")]
    try:
        return PoseFrame(name, *map(decode_base64, texts))
    except ValueError:
        raise PoseApiRefusal(refusal, NOT_BASE64_IMAGES, f"images[{number}] failed validation") from None


def _check_pictures(frames: list[PoseFrame], mask: bytes, most_pixels: int) -> None:
    first = _png(frames[0].rgb, NOT_MATRIX_OR_IMAGE, "images[0].rgb", most_pixels)
    for number, frame in enumerate(frames):
        depth = _png(frame.depth, NOT_MATRIX_OR_IMAGE, f"images[{number}].depth", most_pixels)
        if (depth.bits, depth.colour_type) != (16, _GREY):
            raise PoseApiRefusal(
                400,
                NOT_MATRIX_OR_IMAGE,
                f"images[{number}].depth: one channel of 16 bits is expected, millimetres as whole numbers",
            )
        rgb = _png(frame.rgb, NOT_MATRIX_OR_IMAGE, f"images[{number}].rgb", most_pixels)
        for kind, picture in (("rgb", rgb), ("depth", depth)):
            _check_size(picture, first, NOT_MATRIX_OR_IMAGE, f"images[{number}].{kind}")
    _check_size(_png(mask, NOT_MESH_OR_MASK, "mask", most_pixels), first, NOT_MESH_OR_MASK, "mask")


def _png(data: bytes, error: str, what: str, most_pixels: int) -> _Png:
    """What the header says. Raises PoseApiRefusal."""
    if not data.startswith(_PNG_START) or len(data) < 26:
        raise PoseApiRefusal(400, error, f"{what} is no PNG")
    found = _Png(*struct.unpack_from(">IIBB", data, len(_PNG_START)))
    if found.width * found.height == 0 or found.width * found.height > most_pixels:
        raise PoseApiRefusal(
            400, error, f"{what} has {found.width} x {found.height} pixels; at most {most_pixels:,} are taken"
        )
    return found


def _check_size(picture: _Png, first: _Png, error: str, what: str) -> None:
    if (picture.width, picture.height) != (first.width, first.height):
        raise PoseApiRefusal(
            400,
            error,
            f"{what} has {picture.width} x {picture.height} pixels, images[0].rgb {first.width} x {first.height}",
        )


def _in_metres(mesh: bytes, unit: Unit, most_triangles: int) -> bytes:
    try:
        header = ply.read_header(mesh[: ply.MAX_HEADER_BYTES])
        for element in ("vertex", "face"):
            if header.count(element) > most_triangles:
                raise ply.PlyError(f"{header.count(element):,} of {element}, where {most_triangles:,} are taken")
        return scaled_ply(mesh, METRES_PER_UNIT[unit])
    except ValueError as error:
        raise PoseApiRefusal(400, NOT_MESH_OR_MASK, f"mesh is no PLY that can be used: {error}") from None
