"""A real receiver of webhooks on loopback, and jobs to tell it of."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

from gnomon.job import Reason, State
from gnomon.status import Status

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Message:
    """What came in."""

    path: str
    headers: dict[str, str]
    body: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def is_signed_with(self, secret: str) -> bool:
        """The library's own check, without the one of the time, which the tests' clock would not pass."""
        at = datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)
        return Webhook(secret).sign(self.id, at, self.body) == self.headers["webhook-signature"]


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, entry in ({"Content_Length": str(len(body))} | headers).items():
            request.send_header(name.replace("_", "-"), entry)
        request.end_headers()
        request.wfile.write(body)

    return answer


class Receiver:
    """Gives its `answers` one after the other, then 204."""

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.messages: list[Message] = []
        self.released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                sent = self.rfile.read(length)
                if len(sent) < length:
                    # The sender was killed in the middle: that was no message.
                    return
                body = sent.decode()
                headers = {name.lower(): entry for name, entry in self.headers.items()}
                receiver.messages.append(Message(self.path, headers, body))
                (receiver.answers.pop(0) if receiver.answers else status(204))(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.handle_error = lambda request, client_address: None  # senders that hang up are part of the tests
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def hangs(self, request: BaseHTTPRequestHandler) -> None:
        """An answer that does not come before the receiver is closed."""
        self.released.wait()

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


ROW = {"task": "templates", "method": "raster", "label": "mugs", "created_at": "2026-03-01T11:59:40.000Z", "cost": 0.25}


def job_id(number: int) -> str:
    return f"01hxy2qk4m8v{number:04d}"


def ended(number: int = 0, state: State = State.SUCCEEDED, *, at: float = 1_772_366_400.0, attempt: int = 1) -> Status:
    """The status of a job that ran for ten seconds and ended."""
    error = {"code": "mesh_empty", "message": "mug.ply has no vertices"} if state is State.FAILED else None
    reason = {State.FAILED: Reason.BAD_INPUT, State.CANCELLED: Reason.CANCELLED_BY_USER}.get(state)
    return Status(
        id=job_id(number),
        state=state,
        reason=reason,
        error=error,
        attempt=attempt,
        started_at=at - 10.0,
        ended_at=at,
    )
