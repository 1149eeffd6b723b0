"""The other files that a mesh file needs: material libraries and textures, found by reading its text."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from gnomon.formats.ply import MAX_HEADER_BYTES

_log = logging.getLogger(__name__)

_MAP_KEYS = re.compile(r"^\s*(map_\w+|bump|disp|decal|refl|norm)\s+(.+?)\s*$", re.IGNORECASE)
_MAP_OPTION = re.compile(
    r"-(?:blendu|blendv|cc|clamp|imfchan|texres|bm|boost|type)\s+\S+\s+|-(?:mm)\s+\S+\s+\S+\s+"
    r"|-(?:[ost])(?:\s+[-+.\deE]+){1,3}\s+",
    re.IGNORECASE,
)


def companions(path: str | Path) -> list[str]:
    """Names, relative to the mesh's folder, of the files it refers to, whether they exist or not.

    Reads `mtllib` and texture maps (OBJ and MTL), `comment TextureFile` (PLY) and `uri` (glTF). Names that are
    absolute or lead out of the folder are left out with a warning in the log. The maps of a material library are
    known only where the library itself is there.
    """
    path = Path(path)
    return [name for name in dict.fromkeys(_referred(path)) if _is_inside(name, path)]


def missing_companions(path: str | Path) -> list[str]:
    """Names that the file refers to but that cannot be used: not there, or outside its folder."""
    path = Path(path)
    usable = [name for name in companions(path) if (path.parent / name).is_file()]
    return [name for name in dict.fromkeys(_referred(path)) if name not in usable]


def _referred(path: Path) -> Iterator[str]:
    if not path.is_file():
        return
    suffix = path.suffix.lower()
    if suffix == ".obj":
        for library in _obj_libraries(path):
            yield library
            if _is_inside(library, path):
                yield from _relative_to(PurePosixPath(library).parent, _mtl_maps(path.parent / library))
    elif suffix == ".ply":
        with path.open("rb") as file:
            head = file.read(MAX_HEADER_BYTES).split(b"end_header", 1)[0].decode("latin-1")
        for line in head.splitlines():
            if line.strip().startswith("comment TextureFile"):
                yield _clean(line.split("TextureFile", 1)[1])
    elif suffix == ".gltf":
        yield from _gltf_uris(path)


def _obj_libraries(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for line in file:
            if line.startswith(b"mtllib"):
                text = line[6:].decode("utf-8", "replace")
                # The name may hold blanks; several names in one line are allowed too. The file system decides.
                whole = _clean(text)
                names = [_clean(word) for word in text.split()]
                several = len(names) > 1 and not (path.parent / whole).is_file()
                yield from names if several and whole.lower().count(".mtl") > 1 else [whole]


def _mtl_maps(path: Path) -> Iterator[str]:
    if not path.is_file():
        return
    for line in path.read_text("utf-8", "replace").splitlines():
        match = _MAP_KEYS.match(line)
        if match:
            yield _clean(_MAP_OPTION.sub("", match.group(2) + " "))


def _gltf_uris(path: Path) -> Iterator[str]:
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return
    if not isinstance(document, dict):
        return
    for part in [*document.get("buffers", ()), *document.get("images", ())]:
        uri = part.get("uri") if isinstance(part, dict) else None
        if isinstance(uri, str) and not uri.startswith("data:"):
            yield _clean(unquote(uri))


def _relative_to(folder: PurePosixPath, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        inside = not PurePosixPath(name).is_absolute() and not PureWindowsPath(name).is_absolute()
        yield str(folder / name) if inside else name


def _clean(name: str) -> str:
    return name.strip().strip('"').replace("\\", "/").removeprefix("./")


def _is_inside(name: str, mesh: Path) -> bool:
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or "://" in name
    if not name or absolute or ".." in PurePosixPath(name).parts or "\0" in name:
        _log.warning("%s refers to %r, which is not in its folder; left out", mesh.name, name)
        return False
    folder = mesh.parent.resolve()
    if not (folder / name).resolve().is_relative_to(folder):
        _log.warning("%s refers to %r, a link that leads out of its folder; left out", mesh.name, name)
        return False
    return True
