"""/v1/jobs/{id}/events and /logs: what a job's worker says, at once, by server-sent events, long poll or stream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel

from gnomon.api import Job
from gnomon.errors import InputError
from gnomon.events import EventReader
from gnomon.job import State
from gnomon.server.problem import refusals
from gnomon.server.routes.jobs import MOST_WAIT_S, Here, Reader

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["events and logs"])

POLL_S = 0.1
KEEP_ALIVE_S = 15.0
LOG_CHUNK_BYTES = 1 << 20


class EventBatch(BaseModel):
    """Events since a cursor. Ask again with `after` = `cursor`; when `final`, nothing more comes."""

    events: list[dict[str, Any]]
    cursor: str
    state: State
    final: bool


class Cursor:
    """A place in the events of all attempts: ATTEMPT.BYTE_OFFSET. It is the SSE event id, too."""

    def __init__(self, text: str) -> None:
        attempt, _, offset = text.partition(".")
        if not (attempt.isdigit() and offset.isdigit() and len(text) < 40):
            raise InputError(
                f"{text!r} is no cursor",
                code="cursor_invalid",
                field="after",
                value=text,
                expected="the cursor of an answer, or 0.0 for the start",
            )
        self.attempt, self.offset = int(attempt), int(offset)

    def __str__(self) -> str:
        return f"{self.attempt}.{self.offset}"

    def read(self, job: Job) -> list[dict[str, Any]]:
        """The events behind the cursor, which is moved on."""
        found: list[dict[str, Any]] = []
        for attempt in job.directory.attempts():
            if attempt.number < self.attempt:
                continue
            if attempt.number > self.attempt:
                self.attempt, self.offset = attempt.number, 0
            reader = EventReader(attempt.events, self.offset)
            found.extend({"attempt": attempt.number, **event} for event in reader.new())
            self.offset = reader.offset
        return found


EVENT_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "model": EventBatch,
        "content": {"text/event-stream": {}},
        "description": "a batch of events, or a stream of them for Accept: text/event-stream",
    }
}


@router.get("/events", responses=refusals(404, 422) | EVENT_ANSWER)
async def events(
    job_id: str,
    request: Request,
    service: Here,
    caller: Reader,
    after: Annotated[str, Query(max_length=40, description="cursor of the batch before")] = "0.0",
    wait_s: Annotated[float, Query(ge=0, le=MOST_WAIT_S, description="how long to wait for the next event")] = 0.0,
    accept: Annotated[str, Header(max_length=1000)] = "",
    last_event_id: Annotated[str | None, Header(max_length=40)] = None,
) -> Response:
    """A job's events: a batch (long poll with `wait_s`), or with Accept: text/event-stream a stream until it ends."""
    job = await service.in_thread(service.job, job_id, caller)
    if "text/event-stream" in accept:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        stream = _stream(job, Cursor(last_event_id or after), request)
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
    cursor = Cursor(after)
    deadline = time.monotonic() + wait_s
    while True:
        batch = await service.in_thread(_batch, job, cursor)
        if batch.events or batch.final or time.monotonic() >= deadline:
            return Response(batch.model_dump_json(), media_type="application/json")
        await asyncio.sleep(POLL_S)


async def _stream(job: Job, cursor: Cursor, request: Request) -> AsyncIterator[str]:
    """Server-sent events: one for each event of the job, `state` when that changes, `end` at the end."""
    state: State | None = None
    said_at = time.monotonic()
    while not request.app.state.service.is_closing:
        batch = await asyncio.to_thread(_batch, job, cursor)
        for number, event in enumerate(batch.events, 1):
            # A client that comes back goes on behind the last whole batch it got.
            mark = f"id: {batch.cursor}\n" if number == len(batch.events) else ""
            yield f"{mark}event: {event['event']}\ndata: {json.dumps(event)}\n\n"
            said_at = time.monotonic()
        if batch.state != state:
            state, said_at = batch.state, time.monotonic()
            data = json.dumps({"state": state.value, "final": batch.final})
            yield f"event: job\ndata: {data}\n\n"
        if batch.final:
            yield f"id: {batch.cursor}\nevent: end\ndata: {json.dumps({'state': batch.state.value})}\n\n"
            return
        if time.monotonic() - said_at > KEEP_ALIVE_S:
            said_at = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(POLL_S)


def _batch(job: Job, cursor: Cursor) -> EventBatch:
    # The state is read first: events that are written in between belong to a state that is not final yet.
    status = job.status()
    found = cursor.read(job)
    final = status.state.is_final and not job.is_owed_a_retry(status)
    return EventBatch(events=found, cursor=str(cursor), state=status.state, final=final)


LOG_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {}}, "description": "the log from `offset`; Gnomon-Log-Offset is the next offset"}
}


@router.get("/logs", response_class=PlainTextResponse, responses=refusals(404, 422) | LOG_ANSWER)
async def logs(
    job_id: str,
    request: Request,
    service: Here,
    caller: Reader,
    attempt: Annotated[int | None, Query(ge=1, le=9999, description="which attempt; without it the newest")] = None,
    offset: Annotated[int, Query(ge=0, lt=2**63, description="first byte")] = 0,
    follow: Annotated[bool, Query(description="go on until the job ends")] = False,
) -> Response:
    """What a job's worker printed."""
    job = await service.in_thread(service.job, job_id, caller)
    if follow:
        return StreamingResponse(_follow(job, attempt, offset, request), media_type="text/plain; charset=utf-8")
    text, number = await service.in_thread(_read_log, job, attempt, offset)
    headers = {"Gnomon-Log-Offset": str(offset + len(text)), "Gnomon-Log-Attempt": str(number)}
    return Response(text, media_type="text/plain; charset=utf-8", headers=headers)


async def _follow(job: Job, attempt: int | None, offset: int, request: Request) -> AsyncIterator[bytes]:
    shown = attempt
    while not request.app.state.service.is_closing:
        status = await asyncio.to_thread(job.status)
        final = status.state.is_final and not job.is_owed_a_retry(status)
        text, number = await asyncio.to_thread(_read_log, job, attempt, offset)
        if shown is not None and number != shown:
            # A newer attempt has a log of its own.
            offset = 0
            text, number = await asyncio.to_thread(_read_log, job, attempt, offset)
        shown = number
        offset += len(text)
        if text:
            yield text
        elif final:
            return
        else:
            await asyncio.sleep(POLL_S)


def _read_log(job: Job, number: int | None, offset: int) -> tuple[bytes, int]:
    """At most a chunk of the log, and the attempt it is of (0: there is none yet)."""
    found = job.directory.attempt(number) if number is not None else job.directory.newest_attempt()
    if found is None:
        return b"", 0
    try:
        with found.log.open("rb") as stream:
            stream.seek(offset)
            return stream.read(LOG_CHUNK_BYTES), found.number
    except FileNotFoundError:
        return b"", found.number
