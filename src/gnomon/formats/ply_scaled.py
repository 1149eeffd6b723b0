"""A PLY file with its vertices scaled, and everything else in it byte for byte as it was.

Colours, normals, texture coordinates and whatever else a program put into the file stay, which reading it as a mesh
and writing that would not promise.
"""

from __future__ import annotations

import re

import numpy as np

from gnomon.formats import ply

_AXES = ("x", "y", "z")
_MOST_VERTEX_BYTES = 4096
"""No program writes wider rows; a header that announces them is damaged."""


def scaled_ply(data: bytes, factor: float) -> bytes:
    """The file with x, y and z of every vertex times `factor`. Raises PlyError."""
    header = ply.read_header(data[: ply.MAX_HEADER_BYTES])
    vertex = next((element for element in header.elements if element.name == "vertex"), None)
    if vertex is None or not set(_AXES) <= {column.name for column in vertex.properties}:
        raise ply.PlyError("vertices have no x, y, z")
    before = header.elements[: header.elements.index(vertex)]
    if any(column.count_type is not None for element in (*before, vertex) for column in element.properties):
        raise ply.PlyError("there are lists before the vertices or in them")
    if header.format == "ascii":
        return _scaled_text(data, header, vertex, sum(element.count for element in before), factor)
    return _scaled_binary(data, header, vertex, before, factor)


def _scaled_binary(
    data: bytes, header: ply.Header, vertex: ply.Element, before: tuple[ply.Element, ...], factor: float
) -> bytes:
    order = "<" if header.format == "binary_little_endian" else ">"
    stored = _row(vertex, order)
    start = header.length + sum(element.count * _row(element, order).itemsize for element in before)
    end = start + vertex.count * stored.itemsize
    if end > len(data):
        raise ply.PlyError("the data of element 'vertex' ends early")
    rows = np.frombuffer(data, stored, vertex.count, start)
    # Whole numbers of millimetres are fractions in metres.
    scaled = np.empty(
        vertex.count, [(c.name, order + ("f4" if c.name in _AXES and c.type[0] != "f" else c.type))
                       for c in vertex.properties],
    )  # fmt: skip
    for column in vertex.properties:
        scaled[column.name] = rows[column.name] * factor if column.name in _AXES else rows[column.name]
    return b"".join((_header_text(data, header), data[header.length : start], scaled.tobytes(), data[end:]))


def _row(element: ply.Element, order: str) -> np.dtype:
    try:
        row = np.dtype([(column.name, order + column.type) for column in element.properties])
    except ValueError as error:
        raise ply.PlyError(f"the properties of {element.name!r} are not unique") from error
    if not 0 < row.itemsize <= _MOST_VERTEX_BYTES:
        raise ply.PlyError(f"the rows of {element.name!r} have {row.itemsize} bytes")
    return row


def _scaled_text(data: bytes, header: ply.Header, vertex: ply.Element, skipped: int, factor: float) -> bytes:
    lines = data[header.length :].split(b"\n")
    rows = lines[skipped : skipped + vertex.count]
    if len(rows) < vertex.count:
        raise ply.PlyError("the data of element 'vertex' ends early")
    places = [next(i for i, c in enumerate(vertex.properties) if c.name == axis) for axis in _AXES]
    for number, row in enumerate(rows, start=skipped):
        words = row.split()
        if len(words) != len(vertex.properties):
            raise ply.PlyError(f"vertex {number - skipped} has {len(words)} values, not {len(vertex.properties)}")
        for place in places:
            words[place] = b"%.9g" % (_number(words[place]) * factor)
        lines[number] = b" ".join(words)
    return _header_text(data, header) + b"\n".join(lines)


def _number(word: bytes) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise ply.PlyError(f"{word[:20]!r} is no number") from error


def _header_text(data: bytes, header: ply.Header) -> bytes:
    """The header, its coordinates declared as floating point if they were whole numbers."""
    before, _, after = data[: header.length].partition(b"element vertex")
    for axis in _AXES:
        pattern = rb"(\n\s*property\s+)(?!float|double)\w+(\s+" + axis.encode() + rb"[ \t\r]*\n)"
        after = re.sub(pattern, rb"\1float\2", after, count=1)
    return before + b"element vertex" + after
