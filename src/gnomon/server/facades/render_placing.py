"""Templates from a job's results to the folder that a client of the Render Server named.

A folder that is new appears in one step with all its files. One that exists gets each file whole, by a rename. Only
files of these names are ever replaced, and only files that an earlier delivery lists are ever removed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnomon import atomic
from gnomon.errors import MethodError
from gnomon.inputs import CHUNK_BYTES
from gnomon.server.facades.render_paths import FILE, FOLDER, Place, Roots

TEMPLATE_FILE = re.compile(r"(rgb_\d+\.png|mask_\d+\.png|xyz_\d+\.npy)")

SIDECAR = "gnomon_templates.json"
"""Lies in the output folder: the set's cameras, poses and units, and which files are ours."""

MOST_SIDECAR_BYTES = 64_000_000

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


@dataclass(frozen=True)
class Placed:
    """How many views were put into place, and what a consumer should know about the folder."""

    views: int
    warnings: tuple[str, ...]


def place_templates(results: Path, roots: Roots, output_dir: str, *, direct: bool, order_id: str) -> Placed:
    """Put the views of a job's results into place. Doing it again gives the same.

    Raises:
        InputError: code `path_outside_roots`, if a link leads out by now.
        MethodError: code `views_missing`, if the results are not complete.
        OSError: the folder cannot be written.
    """
    manifest = atomic.read_json(results / "templates.json") or {}
    names = sorted(path.name for path in (results / "templates").iterdir() if TEMPLATE_FILE.fullmatch(path.name))
    views = _count_views(names, manifest.get("views", 0))
    draft = f".gnomon-render-{order_id}.part"
    with roots.locate(output_dir, "output_dir").folder(create=True) as folder:
        _remove_draft(folder, draft)
        try:
            os.mkdir(draft, dir_fd=folder)
            with _opened(draft, folder) as inside:
                for name in names:
                    _copy(results / "templates" / name, name, inside)
            prefix = "" if direct else "templates/"
            earlier = _own_files(folder)
            record = manifest | {"files": sorted({*earlier, *(prefix + name for name in names)})}
            _write_sidecar(folder, record)
            stale = [name.removeprefix(prefix) for name in earlier if name.startswith(prefix)]
            stale = [name for name in stale if TEMPLATE_FILE.fullmatch(name) and name not in names]
            target = _put(folder, draft, names, stale, roots, output_dir, direct=direct)
            kept = set(earlier) - {prefix + name for name in stale}
            _write_sidecar(folder, manifest | {"files": sorted({*kept, *(prefix + name for name in names)})})
        finally:
            _remove_draft(folder, draft)
    return Placed(views, _warnings(target, names))


def prepare_folder(roots: Roots, output_dir: str) -> None:
    """Make the output folder and find out whether files can be put into it.

    Raises InputError as `Roots.locate` does, and OSError.
    """
    probe = f".gnomon-render-{secrets.token_hex(8)}.part"
    with roots.locate(output_dir, "output_dir").folder(create=True) as folder:
        os.mkdir(probe, dir_fd=folder)
        os.rmdir(probe, dir_fd=folder)


def _put(
    folder: int, draft: str, names: list[str], stale: list[str], roots: Roots, output_dir: str, *, direct: bool
) -> Place:
    """Move the draft's files to where they belong; return that place."""
    place = roots.locate(output_dir if direct else f"{output_dir}/templates", "output_dir")
    if not direct:
        try:
            # Takes the place of nothing, or of an empty folder; anything else is an error.
            os.rename(draft, "templates", src_dir_fd=folder, dst_dir_fd=folder)
            return place
        except OSError as error:
            if error.errno not in TAKEN:
                raise
    with _opened(draft, folder) as inside, place.folder() as target:
        for name in stale:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=target)
        for name in names:
            os.rename(name, name, src_dir_fd=inside, dst_dir_fd=target)
    return place


def _count_views(names: list[str], expected: int) -> int:
    """How many views have their three files; consumers want all of them, numbered from 0."""
    complete = {f"{kind}_{index}{ending}" for index in range(expected)
                for kind, ending in (("rgb", ".png"), ("mask", ".png"), ("xyz", ".npy"))}  # fmt: skip
    if not expected or complete != set(names):
        raise MethodError(
            f"the results hold {len(names)} template files; {3 * expected} were expected", code="views_missing"
        )
    return expected


def _warnings(target: Place, names: list[str]) -> tuple[str, ...]:
    with target.folder() as folder, os.scandir(folder) as entries:
        others = [entry.name for entry in entries if entry.name.endswith(".npy") and entry.name not in names]
    if not others:
        return ()
    return (
        f"{len(others)} other .npy files lie in {target.path}, the first is {min(others)}: consumers that count "
        "them take them for views; they are not gnomon's, so they were left there",
    )


@contextlib.contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    descriptor = os.open(name, FOLDER, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy(source: Path, name: str, folder: int) -> None:
    descriptor = os.open(name, NEW_FILE, 0o666, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as writer, source.open("rb") as reader:
        shutil.copyfileobj(reader, writer, CHUNK_BYTES)


def _own_files(folder: int) -> list[str]:
    """What earlier deliveries into this folder put there, by the list they left."""
    try:
        descriptor = os.open(SIDECAR, FILE, dir_fd=folder)
    except OSError:
        return []
    with os.fdopen(descriptor, "rb") as reader:
        try:
            record: Any = json.loads(reader.read(MOST_SIDECAR_BYTES))
        except ValueError:
            return []
    files = record.get("files") if isinstance(record, dict) else None
    return [name for name in files if isinstance(name, str)] if isinstance(files, list) else []


def _write_sidecar(folder: int, record: dict[str, Any]) -> None:
    temporary = f".gnomon-render-{secrets.token_hex(8)}.tmp"
    descriptor = os.open(temporary, NEW_FILE, 0o666, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as writer:
            writer.write(atomic.to_json(record))
            writer.flush()
            os.fsync(writer.fileno())
        os.rename(temporary, SIDECAR, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _remove_draft(folder: int, draft: str) -> None:
    shutil.rmtree(draft, ignore_errors=True, dir_fd=folder)
