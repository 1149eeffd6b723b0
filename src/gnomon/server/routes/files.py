"""/v1/files: send files before a job is submitted. Bodies go to the disk as they come, never whole into memory."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import anyio
from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from gnomon.errors import InputError
from gnomon.inputs import CHUNK_BYTES
from gnomon.server import problem
from gnomon.server.access import require
from gnomon.server.receiving import FileState, Upload, UploadLimit
from gnomon.server.uploads import STATUSES, UploadStore

problem.add_statuses(STATUSES)

PROGRESS_BYTES = 4096
"""So much has to come in each `read_timeout_s`; a byte now and then does not keep a request open."""
CLIENT_GONE = 400
"""For the server's own log: nobody is there to read the answer."""

_RANGE = re.compile(r"bytes (?:([0-9]{1,15})-([0-9]{1,15})|\*)/([0-9]{1,15})")

Returned = TypeVar("Returned")


class FileView(BaseModel):
    """What is there of a file."""

    sha256: str
    size: int | None = Field(description="bytes of the whole file; null until it is complete")
    complete: bool = Field(description="whether jobs can use it")
    offset: int = Field(description="bytes that have arrived; the next byte to send")


@dataclass(frozen=True)
class Span:
    """Which bytes a request brings: from `start` (None: all, anew), `length` of them where known, of `total`."""

    start: int | None
    length: int | None
    total: int | None


def _store(request: Request) -> UploadStore:
    return request.app.state.service.uploads


Store = Annotated[UploadStore, Depends(_store)]
Sha256 = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="of the whole file, in lower-case hexadecimal")]

_OFFSET = {"Upload-Offset": {"description": "bytes that have arrived", "schema": {"type": "integer"}}}
_COMPLETE = {"Upload-Complete": {"description": "?1 when whole, ?0 otherwise", "schema": {"type": "string"}}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_RANGE_HEADER = {
    "parameters": [
        {
            "name": "Content-Range",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "pattern": r"^bytes ([0-9]{1,15}-[0-9]{1,15}|\*)/[0-9]{1,15}$"},
            "description": "bytes FIRST-LAST/TOTAL, to go on with a file; bytes */TOTAL when there is no byte left",
        }
    ]
}


def _problems(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    """Descriptions of error answers by status, as `_404="..."`."""
    content = {problem.MEDIA_TYPE: {"schema": problem.Problem.model_json_schema()}}
    return {int(status[1:]): {"description": text, "content": content} for status, text in descriptions.items()}


_REFUSALS = _problems(
    _401="no token, or a wrong one",
    _403="the token lacks the scope submit",
    _408="nothing came for too long; what arrived is kept if the hash was said",
    _413="larger than the server takes",
    _415="a form, or a compressed body",
    _422="the hash is no sha256, or not that of the file",
    _429="too many uploads at once; see Retry-After",
    _507="no space for it",
)

router = APIRouter(prefix="/v1/files", tags=["files"], dependencies=[Depends(require("submit"))])


@router.put(
    "/{sha256}",
    summary="Send a file, or go on with one",
    response_model=FileView,
    responses={
        200: {"description": "it was there already; the body was not needed"},
        201: {"model": FileView, "description": "it is whole now"},
        202: {"model": FileView, "description": "these bytes have arrived, others are missing", "headers": _OFFSET},
        **_problems(_400="a malformed Content-Range", _409="another byte is the next one, or another request sends it"),
        **_REFUSALS,
    },
    openapi_extra=_BODY | _RANGE_HEADER,
)
async def put_file(sha256: Sha256, request: Request, store: Store) -> Response:
    _check_media(request)
    span = _span(request)
    store.check_size(max(span.total or 0, span.length or 0))
    upload = await _on_disk(store, lambda: store.begin(sha256, start=span.start, length=span.length))
    if upload is None:
        return _view(await _on_disk(store, lambda: store.state(sha256)), 200)
    try:
        if not await _receive(upload, request, store, span.length):
            return Response(status_code=CLIENT_GONE)
        if span.total is not None and upload.offset < span.total:
            return _view(FileState(sha256, upload.offset, False), 202)
        state, _ = await _on_disk(store, upload.finish)
        return _view(state, 201)
    finally:
        upload.close()


@router.post(
    "",
    summary="Send a file whose hash is not known",
    status_code=201,
    response_model=FileView,
    responses={201: {"description": "it is whole now, or was there before"}, **_REFUSALS},
    openapi_extra=_BODY,
)
async def post_file(request: Request, store: Store) -> Response:
    _check_media(request)
    length = _content_length(request)
    upload = await _on_disk(store, lambda: store.begin(None, length=length))
    assert upload is not None, "a file without a name cannot be there already"
    try:
        if not await _receive(upload, request, store, length):
            return Response(status_code=CLIENT_GONE)
        state, _ = await _on_disk(store, upload.finish)
        return _view(state, 201)
    finally:
        upload.close()


@router.head(
    "/{sha256}",
    summary="How much of a file is there",
    response_class=Response,
    responses={
        200: {"description": "some or all of it", "headers": _OFFSET | _COMPLETE},
        **_problems(_401="no token", _403="no scope submit", _404="nothing of it", _422="no sha256"),
    },
)
async def head_file(sha256: Sha256, store: Store) -> Response:
    state = await _on_disk(store, lambda: store.state(sha256))
    headers = {"Upload-Offset": str(state.offset), "Upload-Complete": "?1" if state.complete else "?0"}
    if state.complete:
        headers["Content-Length"] = str(state.offset)
    return Response(headers=headers)


@router.get(
    "/{sha256}",
    summary="What is there of a file",
    response_model=FileView,
    responses=_problems(_401="no token", _403="no scope submit", _404="nothing of it", _422="no sha256"),
)
async def get_file(sha256: Sha256, store: Store) -> Response:
    return _view(await _on_disk(store, lambda: store.state(sha256)), 200)


async def _receive(upload: Upload, request: Request, store: UploadStore, length: int | None) -> bool:
    """Write the body to the disk, in large pieces; False when the client went away before its end.

    Raises:
        UploadLimit: code `upload_stalled`.
        InputError: code `upload_range`, for more bytes than Content-Range said; `upload_too_large`.
        MissingError: code `uploads_full` or `disk_full`.
    """
    pieces: list[bytes] = []
    waiting = came = 0
    try:
        async for piece in _timely(request.stream(), store.read_timeout_s):
            pieces.append(piece)
            waiting, came = waiting + len(piece), came + len(piece)
            if length is not None and came > length:
                raise _bad_range(request, "more bytes came than Content-Range says")
            if waiting >= CHUNK_BYTES:
                data = b"".join(pieces)
                pieces, waiting = [], 0
                await _on_disk(store, lambda data=data: upload.write(data))
    except (ClientDisconnect, UploadLimit) as error:
        await _on_disk(store, lambda: upload.write(b"".join(pieces)))
        if isinstance(error, UploadLimit):
            raise
        return False
    await _on_disk(store, lambda: upload.write(b"".join(pieces)))
    return True


async def _timely(stream: AsyncIterator[bytes], timeout_s: float) -> AsyncIterator[bytes]:
    """The stream's pieces, as long as they keep coming."""
    deadline, came = time.monotonic() + timeout_s, 0
    while True:
        try:
            with anyio.fail_after(deadline - time.monotonic()):
                piece = await anext(stream, None)
        except TimeoutError:
            raise UploadLimit(
                f"less than {PROGRESS_BYTES} bytes came in {timeout_s:g} s",
                code="upload_stalled",
                field="body",
                fix="HEAD the file to see how much has arrived, and go on from there",
                # The rest of the body may still come, and must not be taken for the next request.
                headers={"Connection": "close"},
            ) from None
        if piece is None:
            return
        came += len(piece)
        if came >= PROGRESS_BYTES:
            deadline, came = time.monotonic() + timeout_s, 0
        paused_at = time.monotonic()
        yield piece
        # Time that the disk took is not the client's.
        deadline += time.monotonic() - paused_at


async def _on_disk(store: UploadStore, work: Callable[[], Returned]) -> Returned:
    return await to_thread.run_sync(work, limiter=store.disk_threads)


def _check_media(request: Request) -> None:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if media.startswith("multipart/") or encoding not in ("", "identity"):
        is_form = media.startswith("multipart/")
        raise InputError(
            "forms are not taken; send the bytes of one file as the body" if is_form else "send the file uncompressed",
            code="media_type",
            field="Content-Type" if is_form else "Content-Encoding",
            value=media if is_form else encoding,
            expected="the bytes of the file as they are",
            fix=f"curl -X POST -T FILE {request.url.replace(path='/v1/files', query='')}",
        )


def _content_length(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _span(request: Request) -> Span:
    """Which bytes the headers announce."""
    text = request.headers.get("content-range")
    length = _content_length(request)
    if text is None:
        return Span(None, length, length)
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise _bad_range(request, "this is no range of bytes")
    total = int(match[3])
    first, last = (total, total - 1) if match[1] is None else (int(match[1]), int(match[2]))
    if match[1] is not None and not first <= last < total:
        raise _bad_range(request, "the range does not lie in the file")
    if length is not None and length != last + 1 - first:
        raise _bad_range(request, f"the range has {last + 1 - first} bytes and the body {length}")
    return Span(first, last + 1 - first, total)


def _bad_range(request: Request, why: str) -> InputError:
    return InputError(
        why,
        code="upload_range",
        field="Content-Range",
        value=request.headers.get("content-range"),
        expected="bytes FIRST-LAST/TOTAL, with LAST below TOTAL and as many bytes in the body",
    )


def _view(state: FileState, status: int) -> JSONResponse:
    view = FileView(sha256=state.sha256, size=state.size, complete=state.complete, offset=state.offset)
    headers = {
        "Location": f"/v1/files/{state.sha256}",
        "Upload-Offset": str(state.offset),
        "Upload-Complete": "?1" if state.complete else "?0",
    }
    return JSONResponse(view.model_dump(), status, headers)
