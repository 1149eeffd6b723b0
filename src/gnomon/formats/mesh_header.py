"""What can be learnt from a mesh file without decoding it: its number of triangles, and the files it refers to."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path, PurePosixPath

_HEADER_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 24
_STL_HEADER_BYTES = 84
_STL_FACET_BYTES = 50
_MTL_PICTURES = ("map_kd", "map_ka", "map_ks", "map_d", "map_bump", "bump", "norm")
_GLB_MAGIC = b"glTF"
_GLTF_TRIANGLES = 4


def count_faces(path: Path) -> int | None:
    """The number of faces the file announces (PLY, binary STL, GLB) or lists (OBJ, ASCII STL); None if unreadable.

    Polygons count as one face here, so the triangles can be more.
    """
    suffix = path.suffix.lower()
    counters = {".ply": _faces_of_ply, ".stl": _faces_of_stl, ".obj": _faces_of_obj, ".glb": _faces_of_glb}
    return counters[suffix](path)


def companions(path: Path) -> list[str]:
    """Files an OBJ or PLY needs beside it (materials, and the pictures these name), relative to its folder.

    Names that lead out of the folder are left out: nothing there belongs to the mesh.
    """
    suffix = path.suffix.lower()
    if suffix == ".obj":
        materials = _safe(_names_after(path, ("mtllib",)))
        pictures = [
            str(PurePosixPath(material).parent / picture)
            for material in materials
            for picture in _names_after(path.parent / material, _MTL_PICTURES, skip_options=True)
        ]
        return list(dict.fromkeys(materials + _safe(pictures)))
    if suffix == ".ply":
        found = re.findall(r"^comment\s+TextureFile\s+(.+?)\s*$", _ply_header(path), re.MULTILINE | re.IGNORECASE)
        return _safe(found)
    return []


def _faces_of_ply(path: Path) -> int | None:
    match = re.search(r"^element\s+face\s+(\d+)\s*$", _ply_header(path), re.MULTILINE)
    return int(match[1]) if match else None


def _ply_header(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(_HEADER_BYTES)
    end = head.find(b"end_header")
    return head[: end if end >= 0 else 0].decode("latin-1").replace("\r", "")


def _faces_of_stl(path: Path) -> int | None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_STL_HEADER_BYTES)
    if len(head) == _STL_HEADER_BYTES:
        (count,) = struct.unpack("<I", head[80:])
        if size == _STL_HEADER_BYTES + count * _STL_FACET_BYTES:
            return count
    return _count_in_file(path, b"endfacet")


def _faces_of_obj(path: Path) -> int:
    return _count_in_file(path, b"\nf ") + _count_in_file(path, b"\nf\t")


def _count_in_file(path: Path, word: bytes) -> int:
    total, tail = 0, b"\n"
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            total += (tail + chunk).count(word)
            # A word that straddles two chunks is found in the next round; the overlap is too short for a whole one.
            tail = chunk[-(len(word) - 1) :]
    return total


def _faces_of_glb(path: Path) -> int | None:
    with path.open("rb") as stream:
        head = stream.read(20)
        if len(head) < 20 or head[:4] != _GLB_MAGIC:
            return None
        (length,) = struct.unpack("<I", head[12:16])
        text = stream.read(min(length, 1 << 26))
    try:
        scene = json.loads(text)
        accessors = scene.get("accessors", [])
        total = 0
        for mesh in scene.get("meshes", []):
            for primitive in mesh["primitives"]:
                if primitive.get("mode", _GLTF_TRIANGLES) >= _GLTF_TRIANGLES:
                    corners = primitive.get("indices", primitive["attributes"]["POSITION"])
                    total += accessors[corners]["count"] // 3
        return total
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _names_after(path: Path, keywords: tuple[str, ...], *, skip_options: bool = False) -> list[str]:
    """File names that follow one of the keywords at the beginning of a line."""
    names = []
    try:
        with path.open("rb") as stream:
            for line in stream:
                # Vertices and faces are most of an OBJ; they are passed over without decoding.
                if line[:2] in (b"v ", b"f ", b"vn", b"vt"):
                    continue
                word, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
                if word.lower() in keywords and rest.strip():
                    names.append(_without_options(rest.strip()) if skip_options else rest.strip())
    except OSError:
        return []
    return names


def _without_options(text: str) -> str:
    """`-s 1 1 1 skin.png` -> `skin.png`: options of MTL maps start with a dash, their values are numbers or on/off."""
    words = text.split(" ")
    while words and (words[0].startswith("-") or re.fullmatch(r"[-+.\deE]+|on|off", words[0])):
        words.pop(0)
    return " ".join(words)


def _safe(names: list[str]) -> list[str]:
    kept = []
    for name in names:
        pure = PurePosixPath(name.replace("\\", "/"))
        if name and not pure.is_absolute() and ".." not in pure.parts and ":" not in pure.parts[0]:
            kept.append(str(pure))
    return kept
