"""PLY, ASCII and binary: the parts that make a coloured triangle mesh."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip

_FACE_LISTS = ("vertex_indices", "vertex_index")

MAX_HEADER_BYTES = 65536


class PlyError(ValueError):
    """The bytes are not the PLY that the header promises."""


@dataclass(frozen=True)
class Property:
    """One column: a scalar, or with `count_type` a list."""

    name: str
    type: str
    count_type: str | None = None


@dataclass(frozen=True)
class Element:
    """One table of the file."""

    name: str
    count: int
    properties: tuple[Property, ...]


@dataclass(frozen=True)
class Header:
    """What stands before the data."""

    format: str
    """ascii, binary_little_endian or binary_big_endian."""
    elements: tuple[Element, ...]
    textures: tuple[str, ...]
    """File names from `comment TextureFile`."""
    length: int
    """Bytes up to the data."""

    def count(self, name: str) -> int:
        """Rows of the element, 0 if the file has none."""
        return next((element.count for element in self.elements if element.name == name), 0)


@dataclass
class Table:
    """Columns of one element; lists as (values row after row, first value of each row and one past the last)."""

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    lists: dict[str, tuple[np.ndarray, Int[np.ndarray, " rows+1"]]] = field(default_factory=dict)


def read_header(start: bytes) -> Header:
    """Parse the header from the first bytes of a file (MAX_HEADER_BYTES are enough). Raises PlyError."""
    end = start.find(b"end_header")
    if not start.startswith(b"ply") or end < 0:
        raise PlyError("no PLY header")
    newline = start.find(b"\n", end)
    length = newline + 1 if newline >= 0 else len(start)
    file_format, textures = "", []
    elements: list[Element] = []
    for line in start[:end].decode("latin-1").splitlines():
        words = line.split()
        match words:
            case ["format", file_format, *_]:
                pass
            case ["comment", "TextureFile", *_]:
                textures.append(line.split("TextureFile", 1)[1].strip())
            case ["element", name, count] if count.isdigit():
                elements.append(Element(name, int(count), ()))
            case ["property", *rest] if elements:
                last = elements[-1]
                elements[-1] = Element(last.name, last.count, (*last.properties, _property(rest)))
            case ["element", *_] | ["property", *_]:
                raise PlyError(f"cannot understand the header line {line!r}")
    if file_format not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise PlyError(f"unknown PLY format {file_format!r}")
    return Header(file_format, tuple(elements), tuple(textures), length)


def _property(words: list[str]) -> Property:
    match words:
        case ["list", count_type, kind, name] if count_type in _TYPES and kind in _TYPES:
            return Property(name, _TYPES[kind], _TYPES[count_type])
        case [kind, name] if kind in _TYPES:
            return Property(name, _TYPES[kind])
    raise PlyError(f"cannot understand the property {' '.join(words)!r}")


def read_tables(data: bytes, header: Header) -> dict[str, Table]:
    """Decode the vertex and face elements of a whole file. Raises PlyError."""
    if header.format == "ascii":
        return _read_ascii(data, header)
    return _read_binary(data, header, "<" if header.format == "binary_little_endian" else ">")


def _read_ascii(data: bytes, header: Header) -> dict[str, Table]:
    with warnings.catch_warnings():
        # Words that are no numbers end the parsing with a DeprecationWarning; the count below notices.
        warnings.simplefilter("ignore", DeprecationWarning)
        numbers = np.fromstring(data[header.length :], sep=" ")  # pyright: ignore[reportCallIssue, reportArgumentType]
    tables: dict[str, Table] = {}
    at = 0
    for element in header.elements:
        table, at = _ascii_table(numbers, at, element)
        tables[element.name] = table
        if {"vertex", "face"} <= tables.keys():
            break
    return tables


def _ascii_table(numbers: np.ndarray, at: int, element: Element) -> tuple[Table, int]:
    """One element from the stream of numbers; rows of equal length at once, others one by one."""
    table = Table()
    if element.count == 0:
        return table, at
    widths = _row_widths(numbers, at, element)
    width = int(widths.sum())
    rows = numbers[at : at + width * element.count]
    if len(rows) == width * element.count:
        rows = rows.reshape(element.count, width)
        if _same_widths(rows, element, widths):
            _split_columns(rows, element, widths, table)
            return table, at + rows.size
    return _ascii_rows(numbers, at, element)


def _row_widths(numbers: np.ndarray, at: int, element: Element) -> Int[np.ndarray, " n"]:
    """Numbers that each property takes in the element's first row, a list's length included."""
    widths = []
    for column in element.properties:
        if at >= len(numbers):
            raise PlyError(f"the data of element {element.name!r} is missing")
        widths.append(1 if column.count_type is None else 1 + int(numbers[at]))
        at += widths[-1]
    return np.array(widths)


def _same_widths(rows: np.ndarray, element: Element, widths: Int[np.ndarray, " n"]) -> bool:
    starts = np.cumsum(widths) - widths
    pairs = zip(element.properties, starts, widths, strict=True)
    return all(c.count_type is None or bool((rows[:, s] == w - 1).all()) for c, s, w in pairs)


def _split_columns(rows: np.ndarray, element: Element, widths: Int[np.ndarray, " n"], table: Table) -> None:
    starts = np.cumsum(widths) - widths
    for column, start, width in zip(element.properties, starts, widths, strict=True):
        if column.count_type is None:
            table.columns[column.name] = rows[:, start]
        else:
            values = rows[:, start + 1 : start + width].reshape(-1)
            table.lists[column.name] = (values, np.arange(len(rows) + 1) * (width - 1))


def _ascii_rows(numbers: np.ndarray, at: int, element: Element) -> tuple[Table, int]:
    """Rows of different lengths: only faces have them, so only the columns that faces need are kept."""
    lists: dict[str, list[np.ndarray]] = {c.name: [] for c in element.properties if c.count_type is not None}
    scalars: dict[str, list[float]] = {c.name: [] for c in element.properties if c.count_type is None}
    for _ in range(element.count):
        for column in element.properties:
            length = 1
            if column.count_type is not None and at < len(numbers):
                length = int(numbers[at])
                at += 1
            if length < 0 or at + length > len(numbers):
                raise PlyError(f"the data of element {element.name!r} ends early or holds a word that is no number")
            if column.count_type is not None:
                lists[column.name].append(numbers[at : at + length])
            else:
                scalars[column.name].append(float(numbers[at]))
            at += length
    table = Table({name: np.array(values) for name, values in scalars.items()})
    for name, parts in lists.items():
        table.lists[name] = (np.concatenate(parts), np.cumsum([0, *map(len, parts)]))
    return table, at


def _read_binary(data: bytes, header: Header, order: str) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    at = header.length
    for element in header.elements:
        table, at = _binary_table(data, at, element, order)
        tables[element.name] = table
        if {"vertex", "face"} <= tables.keys():
            break
    return tables


def _binary_table(data: bytes, at: int, element: Element, order: str) -> tuple[Table, int]:
    """One element; a guess that all lists are as long as in the first row is tried before going row by row."""
    table = Table()
    if element.count == 0:
        return table, at
    fields: list[tuple] = []
    offset = at
    for column in element.properties:
        if column.count_type is None:
            fields.append((column.name, order + column.type))
            offset += np.dtype(column.type).itemsize
            continue
        length = _list_length(data, offset, order + column.count_type, element)
        fields.append((column.name + " length", order + column.count_type))
        fields.append((column.name, order + column.type, (length,)))
        offset += np.dtype(column.count_type).itemsize + length * np.dtype(column.type).itemsize
    dtype = np.dtype(fields)
    if at + dtype.itemsize * element.count <= len(data):
        rows = np.frombuffer(data, dtype, element.count, at)
        lists = [column for column in element.properties if column.count_type is not None]
        if all((rows[c.name + " length"] == rows[c.name].shape[1]).all() for c in lists):
            for column in element.properties:
                values = rows[column.name]
                if column.count_type is None:
                    table.columns[column.name] = values
                else:
                    starts = np.arange(element.count + 1) * values.shape[1]
                    table.lists[column.name] = (values.reshape(-1), starts)
            return table, at + dtype.itemsize * element.count
    return _binary_rows(data, at, element, order)


def _binary_rows(data: bytes, at: int, element: Element, order: str) -> tuple[Table, int]:
    lists: dict[str, list[np.ndarray]] = {c.name: [] for c in element.properties if c.count_type is not None}
    scalars: dict[str, list[np.ndarray]] = {c.name: [] for c in element.properties if c.count_type is None}
    for _ in range(element.count):
        for column in element.properties:
            length = 1
            if column.count_type is not None:
                length = _list_length(data, at, order + column.count_type, element)
                at += np.dtype(column.count_type).itemsize
            size = length * np.dtype(column.type).itemsize
            if at + size > len(data):
                raise PlyError(f"the data of element {element.name!r} ends early")
            values = np.frombuffer(data, order + column.type, length, at)
            (scalars if column.count_type is None else lists)[column.name].append(values)
            at += size
    table = Table({name: np.concatenate(values) for name, values in scalars.items()})
    for name, parts in lists.items():
        table.lists[name] = (np.concatenate(parts), np.cumsum([0, *map(len, parts)]))
    return table, at


def _list_length(data: bytes, at: int, dtype: str, element: Element) -> int:
    if at + np.dtype(dtype).itemsize > len(data):
        raise PlyError(f"the data of element {element.name!r} ends early")
    length = int(np.frombuffer(data, dtype, 1, at)[0])
    if length < 0:
        raise PlyError(f"a list of negative length in element {element.name!r}")
    return length


def face_corners(table: Table) -> tuple[Int[np.ndarray, "F 3"], Int[np.ndarray, " F"], Int[np.ndarray, "F 3"]]:
    """Triangles of the face element: vertex indices, the row each came from, and where its corners lie in the list.

    Polygons become fans around their first corner. Lists of fewer than three corners are left out.
    """
    name = next((name for name in _FACE_LISTS if name in table.lists), None)
    if name is None:
        none = np.zeros((0, 3), np.int64)
        return none, none[:, 0], none
    values, starts = table.lists[name]
    per_row = np.maximum(np.diff(starts) - 2, 0)
    row = np.repeat(np.arange(len(per_row)), per_row)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(per_row) - per_row, per_row)
    first = starts[:-1][row]
    places = np.stack((first, first + nth + 1, first + nth + 2), axis=1)
    return values[places].astype(np.int64), row, places
