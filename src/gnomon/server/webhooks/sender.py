"""One POST to a receiver: signed, to a checked address, bounded in time and size, without following redirects."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gnomon import __version__
from gnomon.errors import InputError
from gnomon.fetch.addresses import Resolver, checked_addresses, resolve_by_system
from gnomon.fetch.connection import MAX_ADDRESSES, REDIRECT_STATUS, certificate_error, request_to, tls_context
from gnomon.fetch.names import parse_url
from gnomon.server.webhooks.schedule import retry_after_s

if TYPE_CHECKING:
    import httpx2

TIMEOUT_S = 15.0
"""For everything from the look-up of the name to the end of the answer."""

MAX_ANSWER_BYTES = 4096
MAX_ANSWER_CHARACTERS = 500

GONE = 410


@dataclass(frozen=True)
class Outcome:
    """How a sending went; `problem` is None when the receiver took the message."""

    status: int | None = None
    problem: str | None = None
    answer: str | None = None
    retry_after_s: float | None = None
    is_hopeless: bool = False
    """Sending the same again will not help."""


class Sender:
    """Sends messages; keeps what is costly to make: threads for look-ups, the root certificates."""

    def __init__(
        self, *, allow_private: bool, resolve: Resolver = resolve_by_system, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.allow_private = allow_private
        self.timeout_s = timeout_s
        self._resolve = resolve
        # Of its own, so that look-ups which hang take no thread from others. Idle threads do not exist yet.
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="webhook-names")
        self._contexts: dict[str, ssl.SSLContext] = {}

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def send(self, url_text: str, message: str, body: str, secret: str, now: float) -> Outcome:
        """POST `body` to a receiver. Whatever goes wrong is told in the outcome.

        Args:
            message: The id that the receiver knows the message by.
            now: Unix seconds, for the signature.
        """
        import httpx2

        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"gnomon/{__version__}",
            "Accept-Encoding": "identity",
            **signature_headers(message, body, secret, now),
        }
        url = parse_url(url_text, "webhook")
        deadline = asyncio.get_running_loop().time() + self.timeout_s
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout_at(deadline):
                    addresses = await self._addresses(url)
                    response = await self._first_answer(url, addresses, headers, body.encode(), stack)
                answer = await _beginning(response, deadline)
        except TimeoutError:
            return Outcome(problem=f"{url.host} did not answer within {self.timeout_s:g} s")
        except InputError:
            # The name may belong to our own network, so which address it has is not told.
            problem = f"{url.host} is inside a private network; the server does not send webhooks there"
            return Outcome(problem=problem, is_hopeless=True)
        except (httpx2.TransportError, OSError, UnicodeError) as error:
            return Outcome(problem=_explained(error, url.host))
        return _judged(response, answer, now)

    async def _addresses(self, url: httpx2.URL) -> list[str]:
        host = url.raw_host.decode("ascii")
        port = url.port or (443 if url.scheme == "https" else 80)

        def look_up() -> list[str]:
            return checked_addresses(
                host, port, resolve=self._resolve, allow_private=self.allow_private, field="webhook"
            )

        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return found[:MAX_ADDRESSES]

    async def _first_answer(
        self, url: httpx2.URL, addresses: list[str], headers: dict[str, str], body: bytes, stack: AsyncExitStack
    ) -> httpx2.Response:
        """Send the request to the first address that accepts a connection; `stack` closes what was opened."""
        import httpx2

        problem: httpx2.TransportError = httpx2.ConnectError("the host has no address")
        for address in addresses:
            # One transport for one exchange, without a client: no pool, cookies, proxies or log of URLs.
            transport = httpx2.AsyncHTTPTransport(verify=await self._context(url))
            await stack.enter_async_context(transport)
            try:
                response = await transport.handle_async_request(request_to(url, address, headers, self.timeout_s, body))
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                problem = error
                continue
            stack.push_async_callback(response.aclose)
            return response
        raise problem

    async def _context(self, url: httpx2.URL) -> ssl.SSLContext:
        if url.scheme not in self._contexts:
            loop = asyncio.get_running_loop()
            self._contexts[url.scheme] = await loop.run_in_executor(self._threads, tls_context, url)
        return self._contexts[url.scheme]


def signature_headers(message: str, body: str, secret: str, now: float) -> dict[str, str]:
    """The three headers of Standard Webhooks."""
    from standardwebhooks import Webhook

    signature = Webhook(secret).sign(message, datetime.fromtimestamp(now, UTC), body)
    return {"webhook-id": message, "webhook-timestamp": str(int(now)), "webhook-signature": signature}


async def _beginning(response: httpx2.Response, deadline: float) -> str:
    """How the answer's body begins, as one line that is safe to print; the status counts without it."""
    import httpx2

    received = b""
    with contextlib.suppress(TimeoutError, httpx2.TransportError):
        async with asyncio.timeout_at(deadline):
            async for chunk in response.stream:  # pyright: ignore[reportGeneralTypeIssues]
                received += chunk
                if len(received) >= MAX_ANSWER_BYTES:
                    break
    text = received[:MAX_ANSWER_BYTES].decode("utf-8", errors="replace")
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_ANSWER_CHARACTERS].strip()


def _judged(response: httpx2.Response, answer: str, now: float) -> Outcome:
    status = response.status_code
    said = answer or None
    if 200 <= status < 300:
        return Outcome(status, answer=said)
    if status == GONE:
        return Outcome(status, "the receiver says that it is gone for good", said, is_hopeless=True)
    if status in REDIRECT_STATUS:
        problem = f"the receiver answered with a redirect ({status}), and those are not followed; give its new URL"
    else:
        problem = f"the receiver answered {status}"
    return Outcome(status, problem, said, retry_after_s(response.headers.get("retry-after"), now))


def _explained(error: Exception, host: str) -> str:
    import httpx2

    refused = certificate_error(error)
    if refused is not None:
        return f"the certificate of {host} is refused: {refused.verify_message or 'it is not valid'}"
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"no host called {host} is known"
    if isinstance(error, httpx2.TimeoutException):
        return f"{host} did not answer in time"
    if isinstance(error, httpx2.ConnectError):
        return f"no connection to {host}: {error}"
    return f"the connection to {host} broke: {error}"
