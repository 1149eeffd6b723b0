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
        self.most_bytes = most_bytes
        self.read_timeout_s = read_timeout_s
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._streamed):
            await self._app(scope, receive, send)
            return
        stated = Headers(scope=scope).get("content-length", "")
        if stated.isdigit() and int(stated) > self.most_bytes:
            await self._answer(self.too_large())(scope, receive, send)
            return
        exchange = _Exchange(self, receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            # What the app says to a body that was cut off under its hands does not matter.
            if exchange.refusal is None:
                raise
        if exchange.refusal is not None and not exchange.is_answered:
            response = self._answer(exchange.refusal)
            # What the client still sends is not read any more.
            response.headers["Connection"] = "close"
            await response(scope, receive, send)

    def too_large(self) -> InputError:
        return InputError(
            "the body is larger than the server takes",
            code="body_too_large",
            field="body",
            expected=f"at most {self.most_bytes / 1e6:g} MB",
            fix=self._remedy,
        )


class _Exchange:
    """One request on its way through: its body is counted, and cut off when it goes too far."""

    def __init__(self, limit: BodyLimit, receive: Receive, send: Send) -> None:
        self._limit = limit
        self._receive = receive
        self._send = send
        self._seen_bytes = 0
        self._is_complete = False
        self.is_answered = False
        self.refusal: GnomonError | None = None

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()
        if self.refusal is not None:
            return {"type": "http.disconnect"}
        try:
            message = await asyncio.wait_for(self._receive(), self._limit.read_timeout_s)
        except TimeoutError:
            return self._refuse(_stalled(self._limit.read_timeout_s))
        self._seen_bytes += len(message.get("body", b""))
        if self._seen_bytes > self._limit.most_bytes:
            return self._refuse(self._limit.too_large())
        self._is_complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if self.refusal is None or self.is_answered:
            self.is_answered = True
            await self._send(message)

    def _refuse(self, error: GnomonError) -> Message:
        """For the app the client is gone; what it answers to that goes nowhere."""
        self.refusal = error
        return {"type": "http.disconnect"}


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
