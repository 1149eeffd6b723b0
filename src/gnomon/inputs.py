"""Inputs: from whatever the user named to files under a job's inputs/, by one mechanism for every task.

At submission local files (and file:// URLs) are copied and hashed; http(s) URLs stay URLs. The worker fetches those
in its staging state, through `gnomon.fetch`, and hashes everything again so that a changed file is noticed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import url2pathname

from gnomon.errors import InputError, MissingError
from gnomon.job import JobDir
from gnomon.request import InputFile, Request
from gnomon.tasks.spec import Input, TaskSpec, input_fields

CHUNK_BYTES = 1 << 20
FETCH_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Collected:
    """What a request says about its inputs, and what only the worker may know."""

    params: dict[str, Any]
    """The spec's values with names under inputs/ for paths and URLs."""
    files: tuple[InputFile, ...]
    urls: dict[str, str]
    """The complete URL of each remote input by its name; passwords and signatures in them are secrets."""


def collect(spec: TaskSpec, folder: Path, known: Mapping[Path, str] | None = None) -> Collected:
    """Copy the spec's local inputs into `folder`, and note where the others come from.

    `known` has the sha256 of files that never change any more: they are linked, not copied and hashed again.

    Raises:
        InputError: a file is missing, unreadable, too large or of an unknown kind.
    """
    params = spec.model_dump(mode="json")
    files: list[InputFile] = []
    urls: dict[str, str] = {}
    for field, marker, is_list in input_fields(type(spec)):
        value = getattr(spec, field)
        if value is None:
            continue
        sources = list(value) if is_list else [value]
        if is_list and not sources:
            raise InputError(f"{field} is empty", code="field_missing", field=field, expected="at least one file")
        names = []
        for index, source in enumerate(sources):
            slot = f"{field}/{index:04d}" if is_list else field
            added = _collect_one(field, marker, source, slot, folder, known or {})
            names.append(added[0].name)
            files.extend(added)
            if added[0].url is not None:
                urls[added[0].name] = source
        params[field] = names if is_list else names[0]
    return Collected(params, tuple(files), urls)


def stage(
    request: Request,
    spec: type[TaskSpec],
    job: JobDir,
    *,
    progress: Callable[[int, int], None],
    cancelled: Callable[[], None],
) -> tuple[InputFile, ...]:
    """Fetch what is still a URL and check every hash. Returns the complete list, hashes included.

    Raises:
        InputError: a URL is refused or does not answer with the expected file, or a file was changed.
    """
    markers = {field: marker for field, marker, _ in input_fields(spec)}
    urls = job.private_urls()
    staged: list[InputFile] = []
    for index, file in enumerate(request.inputs):
        cancelled()
        path = input_path(job.inputs, file.name)
        marker = markers[file.name.split("/")[0]]
        if file.url is None:
            staged.append(_verify(file, path))
        else:
            if not path.parent.exists():
                _fetch(urls[file.name], file, marker, request, path.parent, cancelled)
            staged.extend(_fetched_files(file, path))
        progress(index + 1, len(request.inputs))
    job.forget_private_urls()
    return tuple(staged)


def input_path(folder: Path, name: str) -> Path:
    """The path of an input by its name, which may not leave the folder."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
        raise InputError(f"{name!r} is no name of an input", code="input_name_unsafe", field="inputs", value=name)
    return folder.joinpath(*parts)


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def safe_name(name: str) -> str:
    """A file name that is the same on every system: letters, digits, dot, dash and underscore."""
    cleaned = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip("._") or "file"
    return cleaned[-120:]


def _collect_one(
    field: str, marker: Input, source: str, slot: str, folder: Path, known: Mapping[Path, str]
) -> list[InputFile]:
    scheme = urlsplit(source).scheme.lower()
    if scheme in ("http", "https"):
        from gnomon.fetch.names import file_name_of, parse_url, public_form

        shown = public_form(parse_url(source, field))
        name = safe_name(file_name_of(source))
        _check_suffix(field, marker, name)
        return [InputFile(name=f"{slot}/{name}", url=shown)]
    if scheme not in ("", "file") and len(scheme) > 1:
        raise InputError(
            f"{field}: no way to read {scheme}:// inputs",
            code="url_scheme",
            field=field,
            value=source,
            expected="a path, or a file://, http:// or https:// URL",
        )
    path = Path(url2pathname(urlsplit(source).path)) if scheme == "file" else Path(source).expanduser()
    _check_local(field, marker, path)
    # The main file keeps its name, because companions may be found by it; slashes and the like cannot be in it.
    added = [_take(path, f"{slot}/{path.name}", folder, field, known)]
    for companion in marker.companions(path) if marker.companions else []:
        beside = path.parent / companion
        if beside.is_file():
            added.append(_take(beside, f"{slot}/{PurePosixPath(companion)}", folder, field, known))
    return added


def _check_local(field: str, marker: Input, path: Path) -> None:
    if not path.exists():
        raise InputError(
            f"{path} does not exist",
            code="input_not_found",
            field=field,
            value=str(path),
            expected="a file that can be read",
            fix="check the path; it is taken relative to the folder you are in",
        )
    if not path.is_file():
        raise InputError(f"{path} is not a file", code="input_not_a_file", field=field, value=str(path))
    _check_suffix(field, marker, path.name)
    size = path.stat().st_size
    if size > marker.max_bytes:
        raise InputError(
            f"{path.name} has {size / 1e9:.2f} GB; at most {marker.max_bytes / 1e9:.2f} GB are taken",
            code="input_too_large",
            field=field,
            value=size,
        )


def _check_suffix(field: str, marker: Input, name: str) -> None:
    if marker.suffixes and not name.lower().endswith(marker.suffixes):
        raise InputError(
            f"{name} has no known ending",
            code="input_format",
            field=field,
            value=name,
            expected="a file ending in " + ", ".join(marker.suffixes),
        )


def _take(source: Path, name: str, folder: Path, field: str, known: Mapping[Path, str]) -> InputFile:
    """Copy a file into the job; a link does where its content is known and will stay as it is."""
    target = input_path(folder, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source in known:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return InputFile(name=name, sha256=known[source], size=target.stat().st_size)
    return _copy(source, target, name, field)


def _copy(source: Path, target: Path, name: str, field: str) -> InputFile:
    digest = hashlib.sha256()
    size = 0
    try:
        with source.open("rb") as reader, target.open("wb") as writer:
            while chunk := reader.read(CHUNK_BYTES):
                digest.update(chunk)
                writer.write(chunk)
                size += len(chunk)
    except PermissionError as error:
        raise InputError(
            f"{source} cannot be read: {error.strerror}",
            code="input_unreadable",
            field=field,
            value=str(source),
        ) from None
    except OSError as error:
        raise disk_error(error, target) from error
    return InputFile(name=name, sha256=digest.hexdigest(), size=size)


def _fetch(
    url: str, file: InputFile, marker: Input, request: Request, folder: Path, cancelled: Callable[[], None]
) -> None:
    """Fetch a file and its companions into a folder that appears only when all of them are there."""
    from gnomon.fetch import fetch_url

    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)

    def get(source: str, name: str) -> None:
        target = input_path(draft, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch_url(
            source,
            target,
            max_bytes=marker.max_bytes,
            timeout_s=FETCH_TIMEOUT_S,
            allow_private=request.allow_private_urls,
            progress=None,
            cancelled=cancelled,
            field=file.name.split("/")[0],
        )

    main = PurePosixPath(file.name).name
    try:
        get(url, main)
    except InputError as error:
        if error.code == "url_private":
            error.fix = "if you trust it, submit again with --allow-private-urls"
        raise
    # A companion can name further ones: an OBJ its materials, these their pictures.
    tried: set[str] = set()
    while wanted := set(marker.companions(draft / main) if marker.companions else []) - tried:
        for companion in sorted(wanted):
            _get_companion(get, urljoin(url, quote(companion)), companion)
        tried |= wanted
    draft.rename(folder)


def _get_companion(get: Callable[[str, str], None], source: str, name: str) -> None:
    """A missing companion is the reader's business: it draws the mesh without and says so.

    A signature that holds for the mesh alone makes its companions look forbidden, which is the same.
    """
    try:
        get(source, name)
    except InputError as error:
        if error.code not in ("url_not_found", "url_denied"):
            raise


def _fetched_files(file: InputFile, path: Path) -> list[InputFile]:
    """The main file, then what came with it, with their hashes."""
    slot = str(PurePosixPath(file.name).parent)
    others = sorted(p for p in path.parent.rglob("*") if p.is_file() and p != path)
    names = [f"{slot}/{other.relative_to(path.parent).as_posix()}" for other in others]
    return [_verify(file, path), *(_verify(InputFile(name=n), o) for n, o in zip(names, others, strict=True))]


def _verify(file: InputFile, path: Path) -> InputFile:
    if not path.is_file():
        raise InputError(f"input {file.name} is gone from the job's folder", code="input_missing", field="inputs")
    digest = sha256_of(path)
    if file.sha256 is not None and digest != file.sha256:
        raise InputError(
            f"input {file.name} was changed after the job was submitted",
            code="input_hash_mismatch",
            field="inputs",
        )
    return file.model_copy(update={"sha256": digest, "size": path.stat().st_size})


def disk_error(error: OSError, path: Path) -> Exception:
    """The error to raise for a failed write: a full disk gets a name, the rest stays what it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(next(parent for parent in path.parents if parent.exists())).free
        return MissingError(
            f"no space left on the disk that holds {path.parent} ({free / 1e6:.0f} MB free)",
            code="disk_full",
            fix="free some space, or move gnomon's data with GNOMON_HOME; then gnomon retry",
        )
    return error
