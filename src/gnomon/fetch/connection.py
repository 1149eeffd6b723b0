"""One GET request, through redirects, over connections to checked addresses only."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gnomon.errors import InputError
from gnomon.fetch.addresses import Resolver, checked_addresses
from gnomon.fetch.names import parse_url, public_form

if TYPE_CHECKING:
    import httpx2

MAX_REDIRECTS = 5
MAX_ADDRESSES = 4
"""So many of a host's addresses are tried before the attempt counts as failed."""

CONNECT_TIMEOUT_S = 10.0

REDIRECT_STATUS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Rules:
    """What every request of one fetch abides by; `field` is the request's field that errors name."""

    field: str
    timeout_s: float
    allow_private: bool
    resolve: Resolver
    cancelled: Callable[[], None]


@dataclass(frozen=True)
class Answer:
    """A server's answer that is no redirect; `chunks` are the bytes of the body as they arrive."""

    url: httpx2.URL
    status: int
    headers: Mapping[str, str]
    chunks: Iterable[bytes]


class Interrupted(Exception):
    """The transfer broke for a reason that may pass by itself. `wait_s`: the server asked for this pause."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@contextmanager
def get(url: httpx2.URL, headers: Mapping[str, str], rules: Rules) -> Iterator[Answer]:
    """Ask for `url`, following redirects by hand so that each hop is checked like the first.

    Raises:
        InputError: A hop has a wrong scheme or a private address, there are too many, or a host is unknown or
            cannot prove its name (codes `url_scheme`, `url_private`, `url_failed`).
        Interrupted: No answer in time, or the connection broke; also while `chunks` are read.
    """
    import httpx2

    try:
        for _ in range(MAX_REDIRECTS + 1):
            rules.cancelled()
            with _exchange(url, headers, rules) as response:
                following = _redirect_target(url, response, rules.field)
                if following is None:
                    yield Answer(url, response.status_code, response.headers, _body(response))
                    return
            url = following
    except httpx2.TransportError as error:
        raise _explained(error, url, rules) from None
    raise failure(f"{public_form(url)} is one redirect too many ({MAX_REDIRECTS} are followed)", url, rules.field)


def failure(message: str, url: httpx2.URL, field: str, *, code: str = "url_failed") -> InputError:
    """The error for a URL that gives no file."""
    return InputError(f"{field}: {message}", code=code, field=field, value=public_form(url))


@contextmanager
def _exchange(url: httpx2.URL, headers: Mapping[str, str], rules: Rules) -> Iterator[httpx2.Response]:
    addresses = _addresses(url, rules)
    with ExitStack() as stack:
        yield _first_answer(url, headers, addresses, rules.timeout_s, stack)


def _addresses(url: httpx2.URL, rules: Rules) -> list[str]:
    host = url.raw_host.decode("ascii")
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = checked_addresses(
            host, port, resolve=rules.resolve, allow_private=rules.allow_private, field=rules.field
        )
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            raise Interrupted(f"the name {host} cannot be looked up at the moment") from None
        raise failure(f"no host called {host} is known", url, rules.field) from None
    return found[:MAX_ADDRESSES]


def _first_answer(
    url: httpx2.URL, headers: Mapping[str, str], addresses: list[str], timeout_s: float, stack: ExitStack
) -> httpx2.Response:
    """Send the request to the first address that accepts a connection; `stack` closes what was opened."""
    import httpx2

    problem: httpx2.TransportError = httpx2.ConnectError("the host has no address")
    for address in addresses:
        # A transport of its own for every exchange: pooled by address, one could serve another host's name. Used
        # without a client, it also has no log of URLs, no cookies and no proxies.
        transport = stack.enter_context(httpx2.HTTPTransport(verify=tls_context(url)))
        try:
            response = transport.handle_request(request_to(url, address, headers, timeout_s))
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            problem = error
            continue
        stack.callback(response.close)
        return response
    raise problem


def request_to(
    url: httpx2.URL, address: str, headers: Mapping[str, str], timeout_s: float, body: bytes | None = None
) -> httpx2.Request:
    """A request that goes to `address`, and for the server and its certificate is one to the URL's host.

    A GET, or with a `body` a POST.
    """
    import httpx2

    host = url.raw_host.decode("ascii")
    timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
    extensions: dict[str, object] = {"timeout": timeout.as_dict()}
    if host != address:
        extensions["sni_hostname"] = host.rstrip(".")
    return httpx2.Request(
        "GET" if body is None else "POST",
        url.copy_with(host=address, userinfo=b"", fragment=None),
        headers={"Host": url.netloc.decode("ascii"), **_credentials(url), **headers},
        content=body,
        extensions=extensions,
    )


def _credentials(url: httpx2.URL) -> dict[str, str]:
    if not url.userinfo:
        return {}
    token = base64.b64encode(f"{url.username}:{url.password}".encode()).decode("ascii")
    return {"Authorization": f"Basic {token}"}


def tls_context(url: httpx2.URL) -> ssl.SSLContext:
    """What a connection to the URL is secured with: the root certificates of this machine."""
    import httpx2

    if url.scheme == "https":
        return httpx2.create_ssl_context()
    # Plain http needs none, but the transport would load every root certificate to be ready for it.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _redirect_target(url: httpx2.URL, response: httpx2.Response, field: str) -> httpx2.URL | None:
    location = response.headers.get("location")
    if response.status_code not in REDIRECT_STATUS or location is None:
        return None
    import httpx2

    try:
        target = parse_url(str(url.join(location)), field)
    except httpx2.InvalidURL:
        raise failure(f"{public_form(url)} redirects to an invalid URL", url, field) from None
    is_same_origin = (target.scheme, target.netloc) == (url.scheme, url.netloc)
    return target.copy_with(userinfo=url.userinfo) if is_same_origin and not target.userinfo else target


def _body(response: httpx2.Response) -> Iterable[bytes]:
    # The raw stream: what was asked for without compression must not be unpacked on the way either.
    stream = response.stream
    if not isinstance(stream, Iterable):
        raise TypeError(f"a response body of {type(stream).__name__} cannot be read")
    return stream


def _explained(error: httpx2.TransportError, url: httpx2.URL, rules: Rules) -> InputError | Interrupted:
    import httpx2

    host = url.host
    refused = certificate_error(error)
    if refused is not None:
        reason = refused.verify_message or "it is not valid"
        return failure(f"the certificate of {host} is refused: {reason}", url, rules.field)
    if isinstance(error, httpx2.ConnectTimeout):
        return Interrupted(f"{host} did not accept a connection in time")
    if isinstance(error, httpx2.TimeoutException):
        return Interrupted(f"{host} sent nothing for {rules.timeout_s:g} s")
    if isinstance(error, httpx2.ConnectError):
        return Interrupted(f"no connection to {host}: {error}")
    return Interrupted(f"the connection to {host} broke: {error}")


def certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The refusal of a certificate that is behind another error, if one is."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None
