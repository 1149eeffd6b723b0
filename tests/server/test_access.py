"""Who gets in, over real sockets: tokens and scopes, strange Hosts and Origins, CORS, too many wrong tokens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
import uvicorn
import waiting
from fastapi import Depends, FastAPI, Request
from fastapi.responses import StreamingResponse

from gnomon.errors import InputError, MissingError
from gnomon.server import access, problem
from gnomon.server.access import AccessPolicy, Caller, FailedTries, Guard, check_exposed, needs_tokens, require
from gnomon.server.tokens import TokenStore

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def small_app(policy: AccessPolicy) -> FastAPI:
    app = FastAPI()
    app.state.access = policy
    app.state.chunks = []
    app.state.go_on = asyncio.Event()
    problem.install(app)
    app.add_middleware(Guard, policy=policy)

    def show(caller: Caller) -> dict[str, Any]:
        return {"owner": caller.owner, "scopes": sorted(caller.scopes)}

    @app.api_route("/read", methods=METHODS)
    def read(caller: Annotated[Caller, Depends(require("read"))]) -> dict[str, Any]:
        return show(caller)

    @app.api_route("/submit", methods=METHODS)
    def submit(caller: Annotated[Caller, Depends(require("submit"))]) -> dict[str, Any]:
        return show(caller)

    @app.api_route("/admin", methods=METHODS)
    def admin(caller: Annotated[Caller, Depends(require("admin"))]) -> dict[str, Any]:
        return show(caller)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def chunks():
            yield b"first"
            await app.state.go_on.wait()
            yield b"second"

        return StreamingResponse(chunks(), media_type="text/event-stream")

    @app.post("/go-on")
    async def go_on() -> None:
        app.state.go_on.set()

    @app.post("/upload")
    async def upload(request: Request) -> int:
        async for chunk in request.stream():
            app.state.chunks.append(chunk)
        return sum(len(chunk) for chunk in app.state.chunks)

    return app


@dataclass
class Served:
    app: FastAPI
    port: int
    store: TokenStore
    client: httpx2.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, headers: Any = None, **options: Any) -> httpx2.Response:
        return self.client.request(method, self.url + path, headers=headers, **options)

    def code(self, method: str, path: str, headers: Any = None) -> tuple[int, str | None]:
        """Status and error code of an answer; every error must be a problem document."""
        answer = self.ask(method, path, headers)
        if answer.is_success:
            return answer.status_code, None
        assert answer.headers["content-type"] == problem.MEDIA_TYPE
        assert answer.json()["status"] == answer.status_code
        return answer.status_code, answer.json()["code"]

    def raw(self, text: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(text)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@contextlib.contextmanager
def served(home: Path, *, required: bool, **rules: Any) -> Iterator[Served]:
    store = TokenStore(home)
    app = small_app(AccessPolicy(required=required, store=store, **rules))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            waiting.until(lambda: server.started, "the server's start")
            with httpx2.Client(timeout=30, trust_env=False) as client:
                yield Served(app, listener.getsockname()[1], store, client)
        finally:
            server.should_exit = True
            thread.join(60)


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """On loopback, without tokens."""
    with served(tmp_path_factory.mktemp("open"), required=False, hosts=("vision.example.org",)) as running:
        yield running


@pytest.fixture
def closed_server(own_places: Path) -> Iterator[Served]:
    """With tokens."""
    with served(own_places, required=True) as running:
        yield running


def bearer(text: str | bytes) -> dict[str, Any]:
    return {"Authorization": b"Bearer " + text if isinstance(text, bytes) else f"Bearer {text}"}


# Tokens and scopes


def test_without_tokens_everybody_is_the_local_user(open_server: Served):
    for path in ("/read", "/submit", "/admin"):
        answer = open_server.ask("POST", path, bearer("nonsense"))
        assert answer.json() == {"owner": "local", "scopes": ["admin", "read", "submit"]}


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("read", {"/read"}), ("submit", {"/read", "/submit"}), ("admin", {"/read", "/submit", "/admin"})],
)
def test_a_token_opens_what_its_scope_says(closed_server: Served, scope: str, allowed: set[str]):
    token, text = closed_server.store.create("ci", [scope])
    for path in ("/read", "/submit", "/admin"):
        answer = closed_server.ask("GET", path, bearer(text))
        if path in allowed:
            assert answer.json()["owner"] == token.id
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
            assert f'scope="{path[1:]}"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic dXNlcjpwYXNz",
        "Token {text}",
        "{text}",
        "Bearer{text}",
        "Digest Bearer {text}",
        b"\xff\xfe",
    ],
)
def test_no_bearer_token_is_a_missing_one(closed_server: Served, authorization: str | bytes | None):
    _, text = closed_server.store.create("ci", ["admin"])
    headers = {}
    if authorization is not None:
        headers = {
            "Authorization": authorization.format(text=text) if isinstance(authorization, str) else authorization
        }
    answer = closed_server.ask("GET", "/read", headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_the_scheme_is_read_in_any_case_and_with_more_spaces(closed_server: Served):
    _, text = closed_server.store.create("ci", ["read"])
    for value in (f"bearer {text}", f"BEARER   {text}"):
        assert closed_server.ask("GET", "/read", {"Authorization": value}).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        "gnm_",
        "nonsense",
        "{text}a",
        "{text} {text}",
        "{text},{text}",
        '"{text}"',
        "gnm_aaaaaaaa_" + "a" * 43,
        "a" * 30_000,
        b"gnm_\xc3\xa9\xff",
        "../../tokens.json",
        "' or 1=1 --",
    ],
)
def test_wrong_tokens_are_refused_and_not_repeated(closed_server: Served, wrong: str | bytes):
    _, text = closed_server.store.create("ci", ["admin"])
    value = wrong.format(text=text) if isinstance(wrong, str) else wrong
    answer = closed_server.ask("GET", "/read", bearer(value))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert text not in answer.text and "a" * 100 not in answer.text


def test_bearer_of_nothing_is_a_wrong_token(closed_server: Served):
    assert closed_server.code("GET", "/read", {"Authorization": "Bearer"}) == (401, "token_invalid")


def test_two_authorizations_are_none(closed_server: Served):
    _, text = closed_server.store.create("ci", ["admin"])
    headers = [("Authorization", f"Bearer {text}"), ("Authorization", "Bearer nonsense")]
    assert closed_server.code("GET", "/read", headers) == (401, "token_invalid")
    assert closed_server.code("GET", "/read", headers[::-1]) == (401, "token_invalid")


def test_a_token_in_the_address_or_a_cookie_counts_for_nothing(closed_server: Served):
    _, text = closed_server.store.create("ci", ["admin"])
    for query in (f"?token={text}", f"?access_token={text}", f"?authorization=Bearer%20{text}"):
        assert closed_server.code("GET", f"/read{query}") == (401, "token_missing")
    assert closed_server.code("GET", "/read", {"Cookie": f"token={text}; authorization={text}"})[0] == 401


def test_revoked_and_expired_tokens_are_refused(closed_server: Served, own_places: Path):
    _, text = closed_server.store.create("ci", ["admin"])
    assert closed_server.code("GET", "/read", bearer(text)) == (200, None)
    TokenStore(own_places).revoke("ci")
    assert closed_server.code("GET", "/read", bearer(text)) == (401, "token_invalid")
    _, old = TokenStore(own_places, clock=lambda: 1.0).create("old", ["admin"], expires_in_s=60)
    answer = closed_server.ask("GET", "/read", bearer(old))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_a_damaged_file_of_tokens_lets_nobody_in(closed_server: Served, own_places: Path):
    _, text = closed_server.store.create("ci", ["admin"])
    (own_places / "server" / "tokens.json").write_text("{")
    assert closed_server.code("GET", "/read", bearer(text)) == (503, "tokens_unreadable")


def test_the_docs_offer_a_field_for_the_token():
    app = FastAPI()
    app.add_api_route("/read", require("read"), methods=["GET"], response_model=None)
    document = app.openapi()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["paths"]["/read"]["get"]["security"] == [{"token": []}]
    assert "parameters" not in document["paths"]["/read"]["get"]


def test_an_unknown_scope_is_a_mistake_of_the_programmer():
    with pytest.raises(ValueError, match="root"):
        require("root")


def test_callers_see_their_own_jobs():
    one = Caller("abcd1234", frozenset({"read", "submit"}))
    assert one.sees("abcd1234") and not one.sees("local") and not one.sees("efgh5678") and not one.sees(None)
    assert Caller("abcd1234", frozenset({"admin", "read", "submit"})).sees("local")
    assert Caller("local", frozenset({"read"})).sees(None)


# Too many wrong tokens


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_many_wrong_tokens_are_slowed_down_and_right_ones_are_not(own_places: Path):
    clock = Clock()
    with served(own_places, required=True, failures=FailedTries(clock)) as server:
        _, text = server.store.create("ci", ["read"])
        for _ in range(access.MOST_FAILURES):
            assert server.code("GET", "/read", bearer("nonsense")) == (401, "token_invalid")
            clock.now += 1
        answer = server.ask("GET", "/read", bearer("nonsense"))
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_failures")
        assert answer.headers["retry-after"] == "40"
        assert server.code("GET", "/read", bearer(text)) == (200, None)
        assert server.code("GET", "/read") == (401, "token_missing")
        # Somebody at another address has not failed yet.
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address="127.0.0.2")) as elsewhere:
            assert elsewhere.get(f"{server.url}/read", headers=bearer("nonsense")).status_code == 401
        clock.now += 40
        assert server.code("GET", "/read", bearer("nonsense")) == (401, "token_invalid")
        assert server.code("GET", "/read", bearer("nonsense")) == (429, "too_many_failures")


def test_requests_without_a_token_are_no_failures(closed_server: Served):
    for _ in range(access.MOST_FAILURES + 5):
        assert closed_server.code("GET", "/read") == (401, "token_missing")
    assert closed_server.code("GET", "/read", bearer("nonsense")) == (401, "token_invalid")


def test_the_table_of_failures_is_bounded_and_forgets_the_oldest():
    failures = FailedTries(Clock())
    for _ in range(access.MOST_FAILURES):
        assert failures.add("10.0.0.1") is None
    assert failures.add("10.0.0.1") is not None
    for number in range(access.MOST_ADDRESSES):
        failures.add(f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert failures.add("10.0.0.1") is None, "forgotten"
    assert failures.add("11.0.15.255") is None


def test_an_ipv6_network_counts_as_one_address():
    failures = FailedTries(Clock())
    for number in range(access.MOST_FAILURES):
        assert failures.add(f"2001:db8::{number:x}") is None
    assert failures.add("2001:db8::ffff:1") is not None
    assert failures.add("2001:db8:0:1::1") is None
    for number in range(access.MOST_FAILURES):
        assert failures.add(f"::ffff:10.0.0.{number}") is None
    assert failures.add("::ffff:10.0.0.200") is None, "IPv4 in IPv6 clothes: each address for itself"


# Host: names that lead here


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:{port}",
        "LocalHost:1234",
        "127.0.0.1",
        "127.0.0.1:{port}",
        "127.1.2.3:{port}",
        "[::1]",
        "[::1]:{port}",
        "vision.example.org",
        "Vision.Example.org:443",
    ],
)
def test_own_names_are_answered(open_server: Served, host: str):
    headers = {"Host": host.format(port=open_server.port)}
    assert open_server.code("GET", "/read", headers) == (200, None)
    assert open_server.code("POST", "/submit", headers) == (200, None)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        "evil.example.com:{port}",
        "localhost.evil.example.com",
        "127.0.0.1.nip.io",
        "xvision.example.org",
        "sub.vision.example.org",
        "localhost@evil.example.com",
        "evil.example.com@localhost",
        "localhost:80:80",
        "localhost:port",
        "localhost/",
        "localhost, evil.example.com",
        "0.0.0.0",
        "192.168.1.5",
        "[::2]",
        "[::1",
        "::1",
        "127.1",
        "2130706433",
        "",
    ],
)
def test_other_names_are_refused_where_no_token_is_asked_for(open_server: Served, host: str):
    for method in ("GET", "POST", "OPTIONS"):
        assert open_server.code(method, "/read", {"Host": host.format(port=open_server.port)}) == (421, "host_refused")


def test_no_host_is_refused(open_server: Served):
    assert open_server.raw(b"GET /read HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 421 ")
    two = b"GET /read HTTP/1.1\r\nHost: localhost\r\nHost: evil.example.com\r\nConnection: close\r\n\r\n"
    assert open_server.raw(two).split()[1] in (b"400", b"421")


def test_with_tokens_any_name_will_do(closed_server: Served):
    _, text = closed_server.store.create("ci", ["read"])
    assert closed_server.code("GET", "/read", bearer(text) | {"Host": "gpu7.example.org"}) == (200, None)


# Origin: pages that call


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example.com",
        "https://evil.example.com",
        "null",
        "",
        "http://localhost:1",
        "http://127.0.0.1",
        "http://127.0.0.1:{port}.evil.example.com",
        "http://127.0.0.1:{port}/",
        "http://evil@127.0.0.1:{port}",
        "file://",
        "chrome-extension://127.0.0.1:{port}",
        "127.0.0.1:{port}",
    ],
)
def test_pages_of_others_may_change_nothing(open_server: Served, origin: str):
    headers = {"Origin": origin.format(port=open_server.port)}
    for method in ("POST", "PUT", "PATCH", "DELETE", "QUERY"):
        assert open_server.code(method, "/submit", headers) == (403, "origin_refused")
    assert open_server.code("GET", "/submit", headers) == (200, None), "reading is for CORS to forbid, in the browser"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
def test_the_servers_own_pages_may(open_server: Served, name: str):
    host = f"{name}:{open_server.port}"
    assert open_server.code("POST", "/submit", {"Host": host, "Origin": f"http://{host}"}) == (200, None)


def test_a_page_behind_a_proxy_with_tls_is_the_servers_own(open_server: Served):
    page = {"Origin": "https://vision.example.org"}
    assert open_server.code("POST", "/submit", page | {"Host": "vision.example.org"}) == (200, None)
    assert open_server.code("POST", "/submit", page | {"Host": "vision.example.org:443"}) == (200, None)
    assert open_server.code("POST", "/submit", page | {"Host": "vision.example.org:8443"}) == (403, "origin_refused")


def test_with_tokens_the_page_counts_too(closed_server: Served):
    _, text = closed_server.store.create("ci", ["admin"])
    headers = bearer(text) | {"Origin": "http://evil.example.com"}
    assert closed_server.code("POST", "/submit", headers) == (403, "origin_refused")


def test_one_good_origin_does_not_excuse_another(open_server: Served):
    headers = [("Origin", open_server.url), ("Origin", "http://evil.example.com")]
    assert open_server.code("POST", "/submit", headers) == (403, "origin_refused")


# CORS

APP = "https://app.example.org"


def preflight(server: Served, origin: str) -> httpx2.Response:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,idempotency-key"}
    return server.ask("OPTIONS", "/submit", asked | {"Origin": origin})


def test_cors_is_off(open_server: Served):
    answers = [preflight(open_server, APP), open_server.ask("GET", "/read", {"Origin": APP})]
    assert [answer.status_code for answer in answers] == [405, 200]
    assert not any(name.startswith("access-control") for answer in answers for name in answer.headers)


def test_listed_origins_may_call_and_read(own_places: Path):
    with served(own_places, required=True, cors_origins=(APP,)) as server:
        _, text = server.store.create("ci", ["submit"])
        asked = preflight(server, APP)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == APP
        assert "idempotency-key" in asked.headers["access-control-allow-headers"]
        done = server.ask("POST", "/submit", bearer(text) | {"Origin": APP})
        assert (done.status_code, done.headers["access-control-allow-origin"]) == (200, APP)
        refused = server.ask("POST", "/submit", {"Origin": APP})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, APP), (
            "errors are readable"
        )
        assert "access-control-allow-credentials" not in {*asked.headers, *done.headers}


@pytest.mark.parametrize("origin", ["https://evil.example.com", "http://app.example.org", f"{APP}:8443", "null"])
def test_origins_that_are_not_listed_get_no_headers(own_places: Path, origin: str):
    with served(own_places, required=False, cors_origins=(APP,)) as server:
        asked = preflight(server, origin)
        assert asked.status_code == 400
        read = server.ask("GET", "/read", {"Origin": origin})
        changed = server.ask("POST", "/submit", {"Origin": origin})
        assert changed.status_code == 403
        assert all("access-control-allow-origin" not in answer.headers for answer in (asked, read, changed))


def test_all_origins_only_where_tokens_are_asked_for(own_places: Path):
    with served(own_places, required=True, cors_origins=("*",)) as server:
        _, text = server.store.create("ci", ["submit"])
        done = server.ask("POST", "/submit", bearer(text) | {"Origin": "https://any.example.com"})
        assert (done.status_code, done.headers["access-control-allow-origin"]) == (200, "*")
    with pytest.raises(InputError) as caught:
        AccessPolicy(required=False, store=TokenStore(own_places), cors_origins=("*",))
    assert caught.value.field == "cors_origins"


@pytest.mark.parametrize(
    "origin", ["null", "app.example.org", f"{APP}/", "ftp://x", "https://", "https://App.example.org", "*"]
)
def test_what_is_no_origin_is_refused(own_places: Path, origin: str):
    with pytest.raises(InputError) as caught:
        AccessPolicy(required=False, store=TokenStore(own_places), cors_origins=(origin,))
    assert (caught.value.code, caught.value.field) == ("field_invalid", "cors_origins")


@pytest.mark.parametrize("host", ["", "a:80", "a/b", "http://a", "*", "a b"])
def test_what_is_no_host_is_refused(own_places: Path, host: str):
    with pytest.raises(InputError) as caught:
        AccessPolicy(required=False, store=TokenStore(own_places), hosts=(host,))
    assert (caught.value.code, caught.value.field) == ("field_invalid", "hosts")


# Bodies pass through piece by piece


@pytest.mark.parametrize("cors_origins", [(), (APP,)])
def test_answers_are_not_held_back(own_places: Path, cors_origins: tuple[str, ...]):
    with (
        served(own_places, required=False, cors_origins=cors_origins) as server,
        server.client.stream("GET", f"{server.url}/stream", headers={"Origin": APP}) as answer,
    ):
        pieces = answer.iter_raw()
        assert next(pieces) == b"first"
        assert server.ask("POST", "/go-on").status_code == 200
        assert b"".join(pieces) == b"second"


def test_uploads_are_not_held_back(open_server: Served):
    def pieces() -> Iterator[bytes]:
        yield b"one"
        waiting.until(lambda: open_server.app.state.chunks, "the first piece")
        yield b"three"

    assert open_server.ask("POST", "/upload", content=pieces()).json() == 8


# Where to listen


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.53", "localhost", "LOCALHOST", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_loopback_needs_no_tokens(host: str, own_places: Path):
    assert not needs_tokens(host)
    check_exposed(host, TokenStore(own_places))


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.5", "10.0.0.1", "::ffff:10.0.0.1", "gpu7", "localhost.example.org"]
)
def test_everything_else_needs_one_that_is_active(host: str, own_places: Path):
    store = TokenStore(own_places)
    assert needs_tokens(host)

    def refused() -> bool:
        with pytest.raises(MissingError) as caught:
            check_exposed(host, store)
        assert "gnomon tokens create" in (caught.value.fix or "")
        return caught.value.code == "tokens_needed"

    assert refused()
    TokenStore(own_places, clock=lambda: 1.0).create("old", ["admin"], expires_in_s=1)
    assert refused()
    store.create("ci", ["read"])
    check_exposed(host, store)
    store.revoke("ci")
    assert refused()


def test_answers_are_json_that_names_no_token(closed_server: Served):
    _, text = closed_server.store.create("ci", ["read"])
    body = closed_server.ask("GET", "/admin", bearer(text)).text
    assert json.loads(body)["code"] == "scope_missing"
    assert text not in body and text.split("_")[2] not in body
