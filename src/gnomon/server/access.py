"""Who is calling, what they may do, and which web pages may call at all.

On loopback everybody on the machine is trusted and nobody needs a token; what is not trusted there is a web page
that the user happens to look at, so `Guard` looks at the Host and Origin of every request. Everywhere else a caller
shows a token: `Depends(require("read"))`.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gnomon.errors import AccessError, GnomonError, InputError, MissingError
from gnomon.server import problem
from gnomon.server.tokens import SCOPES, TokenStore

LOCAL = "local"
"""The owner of jobs that were asked for without a token."""

STATUSES = {
    "token_missing": 401,
    "token_invalid": 401,
    "token_expired": 401,
    "scope_missing": 403,
    "origin_refused": 403,
    "host_refused": 421,
    "too_many_failures": 429,
    "tokens_unreadable": 503,
}
problem.add_statuses(STATUSES)

MOST_FAILURES = 20
FAILURE_WINDOW_S = 60.0
MOST_ADDRESSES = 4096

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS = {"http": 80, "https": 443}
AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="A token made by `gnomon tokens create`.")


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request: `owner` is put down with the jobs; `scopes` include those that they imply."""

    owner: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def sees(self, owner: str | None) -> bool:
        """Whether a job of `owner` is this caller's business; a job without one was made by a command."""
        return self.may("admin") or self.owner == (owner or LOCAL)


class FailedTries:
    """Counts wrong tokens by address, for the last minute, of a bounded number of addresses."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, address: str) -> float | None:
        """Count one more; where there were too many, the seconds until the next one is answered as usual."""
        now = self._clock()
        key = _neighbourhood(address)
        with self._lock:
            times = self._times.setdefault(key, deque(maxlen=MOST_FAILURES))
            self._times.move_to_end(key)
            while len(self._times) > MOST_ADDRESSES:
                self._times.popitem(last=False)
            if len(times) == MOST_FAILURES and (wait_s := times[0] + FAILURE_WINDOW_S - now) > 0:
                return wait_s
            times.append(now)
            return None


@dataclass(frozen=True)
class AccessPolicy:
    """The rules of one server; they stand in `app.state.access`.

    `hosts` are names, beside loopback's own, under which a server without tokens may be called. `cors_origins` are
    `scheme://host[:port]` of pages that may call it; `*`, all pages, only where tokens are required.

    Raises InputError `field_invalid` for an origin or a host that is not one.
    """

    required: bool
    store: TokenStore
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    failures: FailedTries = field(default_factory=FailedTries)

    def __post_init__(self) -> None:
        for host in self.hosts:
            authority = _authority(host.lower())
            if authority is None or authority[1] is not None:
                raise _invalid("hosts", host, "a host name without a port, such as vision.example.org")
        for origin in self.cors_origins:
            if origin == "*" and self.required:
                continue
            if _origin(origin) is None or origin != origin.lower():
                raise _invalid("cors_origins", origin, "an origin such as https://app.example.org, in small letters")

    def knows_host(self, headers: list[str]) -> bool:
        """Whether the values of a request's Host header, one is allowed, name this machine and not some web site."""
        authority = _authority(headers[0].lower()) if len(headers) == 1 else None
        if authority is None:
            return False
        host = authority[0]
        # Somebody's DNS can make any name point here, but no DNS is asked for an address.
        return host == "localhost" or _is_loopback(host) or host in (own.lower() for own in self.hosts)

    def knows_origin(self, origin: str, hosts: list[str]) -> bool:
        """Whether a page of this origin is the server's own or was allowed."""
        if origin in self.cors_origins or "*" in self.cors_origins:
            return True
        page = _origin(origin)
        server = _authority(hosts[0].lower()) if len(hosts) == 1 else None
        if page is None or server is None:
            return False
        # Behind a proxy that ends TLS the page says https and the server only sees http: the page's scheme counts.
        scheme, host, port = page
        return (host, port or DEFAULT_PORTS[scheme]) == (server[0], server[1] or DEFAULT_PORTS[scheme])


def caller(request: Request) -> Caller:
    """Who sent this request.

    Raises AccessError: `token_missing`, `token_invalid`, `token_expired`, or `too_many_failures`.
    """
    policy: AccessPolicy = request.app.state.access
    if not policy.required:
        return Caller(LOCAL, frozenset(SCOPES))
    values = request.headers.getlist("authorization")
    scheme, _, text = values[0].strip().partition(" ") if values else ("", "", "")
    if scheme.lower() != "bearer":
        raise AccessError(
            "this server wants a token",
            code="token_missing",
            expected="the header Authorization: Bearer gnm_...",
            fix="gnomon tokens create NAME, on the server's machine, makes one",
            headers={"WWW-Authenticate": "Bearer"},
        )
    try:
        token = policy.store.authenticate(text.strip()) if len(values) == 1 else None
    except AccessError as error:
        error.headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise
    if token is None:
        raise _failure(policy, request)
    return Caller(token.id, token.rights)


@functools.cache
def require(scope: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency for FastAPI, `Depends(require("read"))`, whose value is the Caller.

    It raises what `caller` raises, and AccessError `scope_missing`.
    """
    if scope not in SCOPES:
        raise ValueError(f"there is no scope {scope!r}")

    async def allowed(request: Request, _shown_in_docs: Annotated[object, Security(BEARER)]) -> Caller:
        found = caller(request)
        if not found.may(scope):
            raise AccessError(
                f"this token has no right to {scope}",
                code="scope_missing",
                expected=f"a token with scope {scope}",
                fix=f"gnomon tokens create NAME --scope {scope}",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            )
        return found

    return allowed


def needs_tokens(host: str) -> bool:
    """Whether listening on this address lets others than this machine's users in."""
    bare = host.strip().lower()
    return not (bare == "localhost" or _is_loopback(bare))


def check_exposed(host: str, store: TokenStore) -> None:
    """Refuse to listen off loopback while nobody could get in: MissingError `tokens_needed`."""
    if needs_tokens(host) and not store.has_active():
        raise MissingError(
            f"a server on {host} can be reached from other machines, so it wants tokens, and there are none",
            code="tokens_needed",
            field="--host",
            value=host,
            expected="at least one active token, or an address of this machine alone such as 127.0.0.1",
            fix="gnomon tokens create NAME --scope submit",
        )


class Guard:
    """ASGI middleware that keeps strange web pages away, and the only one that speaks CORS.

    Without tokens a request's Host must be this machine's, which stops DNS rebinding. A request that changes
    something may not come from a page of another origin. `answer` turns an error into the app's own kind of answer.
    """

    def __init__(
        self, app: ASGIApp, policy: AccessPolicy, answer: Callable[[GnomonError], Response] = problem.answer
    ) -> None:
        self._policy = policy
        self._answer = answer
        self._app = app
        if policy.cors_origins:
            # Without credentials: a token is put into a header by the page itself, cookies mean nothing here.
            self._app = CORSMiddleware(
                app,
                allow_origins=policy.cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["*"],
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await self._answer(refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> AccessError | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if not self._policy.required and not self._policy.knows_host(hosts):
            return AccessError(
                "a server without tokens answers only to this machine's own names",
                code="host_refused",
                field="Host",
                value=", ".join(hosts),
                expected="localhost, 127.0.0.1 or [::1]",
                fix="call it so, or start it with --allow-host NAME",
            )
        if scope["method"] in SAFE_METHODS:
            return None
        for origin in headers.getlist("origin"):
            if not self._policy.knows_origin(origin, hosts):
                return AccessError(
                    "a web page of another origin may not change anything here",
                    code="origin_refused",
                    field="Origin",
                    value=origin,
                    fix="start the server with --cors-origin ORIGIN, if the page is yours",
                )
        return None


def _failure(policy: AccessPolicy, request: Request) -> AccessError:
    # A right token always gets in. A secret of 256 bits cannot be guessed at any rate, while locking out an address
    # would let one stranger lock out everybody who comes through the same proxy.
    wait_s = policy.failures.add(request.client.host if request.client else "")
    if wait_s is not None:
        return AccessError(
            f"more than {MOST_FAILURES} wrong tokens in {FAILURE_WINDOW_S:.0f} s from this address",
            code="too_many_failures",
            retry_after_s=wait_s,
            fix="check the token, then try again later",
        )
    return AccessError(
        "this token does not exist, or it was revoked",
        code="token_invalid",
        fix="check it; gnomon tokens list, on the server's machine, shows those there are",
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )


def _neighbourhood(address: str) -> str:
    """What counts as one address: an IPv6 client owns at least a /64 and may change within it at will."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _authority(text: str) -> tuple[str, int | None] | None:
    """Host and port of `host[:port]` in small letters; None for anything else."""
    match = AUTHORITY.fullmatch(text)
    return None if match is None else (match[1], int(match[2]) if match[2] else None)


def _origin(text: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port of an http(s) origin; None for anything else, also for `null`."""
    scheme, separator, rest = text.lower().partition("://")
    authority = _authority(rest)
    if not separator or scheme not in DEFAULT_PORTS or authority is None:
        return None
    return scheme, *authority


def _invalid(name: str, value: str, expected: str) -> InputError:
    return InputError(f"{value!r} is none of {name}", code="field_invalid", field=name, value=value, expected=expected)
