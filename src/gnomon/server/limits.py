"""ASGI middleware that bounds what a client may do to one request: its size, and how long it may dawdle."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gnomon.errors import GnomonError, InputError, LimitError
from gnomon.server import problem


class BodyLimit:
    """Refuses bodies that are too large before they are read, and clients that stop in the middle.

    Paths under `streamed` are left alone: their routes write to disk as they read, with bounds of their own.
    `answer` turns an error into the app's own kind of answer; `remedy` is what helps against too large bodies.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        most_bytes: int,
        read_timeout_s: float,
        streamed: tuple[str, ...] = (),
        answer: Callable[[GnomonError], Response] = problem.answer,
        remedy: str = "send files by PUT /v1/files/SHA256, or start the server with a larger --max-body-mb",
    ) -> None:
        self._app = app
        self._answer = answer
        self._remedy = remedy
        self._most_bytes = most_bytes
        self._read_timeout_s = read_timeout_s
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._streamed):
            await self._app(scope, receive, send)
            return
        stated = Headers(scope=scope).get("content-length", "")
        if stated.isdigit() and int(stated) > self._most_bytes:
            await self._answer(self._too_large())(scope, receive, send)
            return
        started = False
        seen = 0
        complete = False

        async def bounded_receive() -> Message:
            nonlocal seen, complete
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._read_timeout_s)
            except TimeoutError:
                raise _Refused(_stalled(self._read_timeout_s)) from None
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > self._most_bytes:
                raise _Refused(self._too_large())
            return message

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, bounded_receive, noting_send)
        except _Refused as refused:
            if not started:
                response = self._answer(refused.error)
                # What the client still sends is not read any more.
                response.headers["Connection"] = "close"
                await response(scope, receive, send)

    def _too_large(self) -> InputError:
        return InputError(
            "the body is larger than the server takes",
            code="body_too_large",
            field="body",
            expected=f"at most {self._most_bytes / 1e6:g} MB",
            fix=self._remedy,
        )


class _Refused(Exception):
    """Ends a request from within its `receive`; not a GnomonError, so that no handler below answers first."""

    def __init__(self, error: InputError | LimitError) -> None:
        super().__init__(error.message)
        self.error = error


def _stalled(timeout_s: float) -> LimitError:
    return LimitError(
        f"the client sent nothing for {timeout_s:g} s in the middle of a request",
        code="body_stalled",
        fix="send it again",
    )


class Answered:
    """Counts answers by the hundreds of their status."""

    def __init__(self, app: ASGIApp, counts: Counter[int]) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._counts[message["status"] // 100] += 1
            await send(message)

        await self._app(scope, receive, counting_send if scope["type"] == "http" else send)
