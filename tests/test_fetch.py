"""Fetching over real sockets on loopback. Nothing here resolves a name by the system or leaves this machine."""

import base64
import hashlib
import logging
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gnomon.errors import Cancelled, InputError
from gnomon.fetch import Fetched, addresses, fetch_url, file_name_of
from gnomon.fetch.connection import Interrupted
from gnomon.fetch.download import LONGEST_PAUSE_S, PAUSES_S, SLOWEST_BYTES_PER_S, Pace

BODY = bytes(range(256)) * 1000
BODY_SHA256 = hashlib.sha256(BODY).hexdigest()

Route = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A real HTTP server; tests set `routes[path]` and read `requests`, the (path, headers) that came in."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Route] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path, {key.lower(): entry for key, entry in self.headers.items()}))
                server.routes[self.path.partition("?")[0]](self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.handle_error = lambda request, client_address: None  # clients that hang up are part of the tests
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def url(self, path: str = "/mug.ply", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def other_server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def sends(body: bytes = BODY, status: int = 200, length: int | None = -1, **headers: str) -> Route:
    """A route that answers with `body`; `length` overrides Content-Length, None leaves it out."""

    def route(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        if length is not None:
            request.send_header("Content-Length", str(len(body) if length == -1 else length))
        for key, entry in headers.items():
            request.send_header(key.replace("_", "-"), entry)
        request.end_headers()
        request.wfile.write(body)

    return route


def redirects(target: str, status: int = 302) -> Route:
    return sends(b"", status, Location=target)


def in_turn(*routes: Route) -> Route:
    remaining = list(routes)
    return lambda request: remaining.pop(0)(request)


def fetch(url: str, folder: Path, **options) -> Fetched:
    defaults = {"max_bytes": 10_000_000, "timeout_s": 5.0, "allow_private": True, "pause": lambda _s: None}
    return fetch_url(url, folder / "mug.ply", **(defaults | options))


def refused(url: str, folder: Path, **options) -> InputError:
    """The error of a fetch that must fail and leave nothing behind."""
    before = sorted(folder.iterdir())
    with pytest.raises(InputError) as caught:
        fetch(url, folder, **options)
    assert sorted(folder.iterdir()) == before
    assert caught.value.field == options.get("field", "url")
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "inputs"
    path.mkdir()
    return path


# --- the plain case


def test_fetches_a_file(server, folder):
    server.routes["/mug.ply"] = sends(Content_Type="model/ply", Content_Disposition='attachment; filename="cup.ply"')
    seen = []
    fetched = fetch(server.url(), folder, progress=lambda done, total: seen.append((done, total)))
    assert fetched == Fetched(BODY_SHA256, len(BODY), "model/ply", server.url(), "cup.ply")
    assert (folder / "mug.ply").read_bytes() == BODY
    assert [path.name for path in folder.iterdir()] == ["mug.ply"]
    assert seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)
    assert server.requests[0][1]["accept-encoding"] == "identity"


def test_an_existing_file_is_replaced_only_by_a_whole_one(server, folder):
    (folder / "mug.ply").write_bytes(b"old")
    server.routes["/mug.ply"] = in_turn(sends(status=404), sends())
    refused(server.url(), folder)
    assert (folder / "mug.ply").read_bytes() == b"old"
    fetch(server.url(), folder)
    assert (folder / "mug.ply").read_bytes() == BODY


def test_a_body_of_unknown_length_is_taken(server, folder):
    server.routes["/mug.ply"] = sends(length=None)
    seen = []
    assert fetch(server.url(), folder, progress=lambda _done, total: seen.append(total)).sha256 == BODY_SHA256
    assert set(seen) == {None}


def test_an_empty_file_is_a_file(server, folder):
    server.routes["/mug.ply"] = sends(b"")
    assert fetch(server.url(), folder).size == 0
    assert (folder / "mug.ply").read_bytes() == b""


def test_proxies_of_the_environment_are_not_asked(server, folder, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.routes["/mug.ply"] = sends()
    assert fetch(server.url(), folder).sha256 == BODY_SHA256


# --- answers that are no file


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "url_not_found"),
        (410, "url_not_found"),
        (401, "url_denied"),
        (403, "url_denied"),
        (400, "url_failed"),
        (204, "url_failed"),
        (206, "url_failed"),
        (304, "url_failed"),
    ],
)
def test_a_final_answer_is_not_asked_for_again(server, folder, status, code):
    server.routes["/mug.ply"] = sends(b"", status, length=None if status in (204, 304) else 0)
    error = refused(server.url("/mug.ply?signature=abc"), folder, field="mesh")
    assert error.code == code
    assert error.value == server.url("/mug.ply?...")
    assert len(server.requests) == 1


def test_a_body_that_was_compressed_unasked_is_refused(server, folder):
    server.routes["/mug.ply"] = sends(Content_Encoding="gzip")
    assert "compressed (gzip)" in refused(server.url(), folder).message


def test_a_stored_archive_labelled_as_encoding_keeps_its_bytes(server, folder):
    server.routes["/scene.tar.gz"] = sends(Content_Encoding="gzip")
    assert fetch(server.url("/scene.tar.gz"), folder).sha256 == BODY_SHA256


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/a", "gopher://x/", "mug.ply", "//x/y"])
def test_other_schemes_are_refused(folder, url):
    assert refused(url, folder).code == "url_scheme"


@pytest.mark.parametrize(
    "url", ["http://", "http:///mug.ply", "http://host:99999/", "http://host:0/", "http://host:s3cret/", "http://a\nb/"]
)
def test_what_is_no_url_is_refused(folder, url):
    error = refused(url, folder)
    assert error.code == "url_invalid"
    assert "s3cret" not in error.describe()


def test_an_unknown_host_says_so(folder):
    def unknown(host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    error = refused("http://nowhere.example/mug.ply", folder, resolve=unknown)
    assert error.code == "url_failed"
    assert "no host called nowhere.example" in error.message


# --- retries


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_trouble_is_waited_for(server, folder, status):
    waited = []
    server.routes["/mug.ply"] = in_turn(sends(b"", status), sends(b"", status), sends())
    assert fetch(server.url(), folder, pause=waited.append).sha256 == BODY_SHA256
    assert sum(waited) == PAUSES_S[0] + PAUSES_S[1]


def test_attempts_are_bounded(server, folder):
    waited = []
    server.routes["/mug.ply"] = sends(b"", 503)
    error = refused(server.url(), folder, pause=waited.append)
    assert error.code == "url_failed"
    assert "answers 503 (5 attempts)" in error.message
    assert len(server.requests) == len(PAUSES_S) + 1 == 5
    assert sum(waited) == sum(PAUSES_S)


@pytest.mark.parametrize(("asked", "waits_s"), [("3", 3.0), ("86400", LONGEST_PAUSE_S), ("soon", PAUSES_S[0])])
def test_the_servers_own_pause_is_kept_within_reason(server, folder, asked, waits_s):
    waited = []
    server.routes["/mug.ply"] = in_turn(sends(b"", 503, Retry_After=asked), sends())
    fetch(server.url(), folder, pause=waited.append)
    assert sum(waited) == waits_s


def test_a_name_that_cannot_be_looked_up_now_is_tried_again(server, folder):
    answers = [socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), ["127.0.0.1"]]

    def resolve(_host: str, _port: int) -> list[str]:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    server.routes["/mug.ply"] = sends()
    assert fetch(server.url(host="models.example"), folder, resolve=resolve).sha256 == BODY_SHA256


def test_a_refused_connection_is_reported(folder):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = refused(f"http://127.0.0.1:{unused.getsockname()[1]}/mug.ply", folder)
    assert error.code == "url_failed"
    assert "no connection to 127.0.0.1" in error.message


def test_the_next_address_is_tried_when_one_refuses(server, folder):
    server.routes["/mug.ply"] = sends()
    # Nothing listens on ::1 at the server's port, or there is no ::1: either way the next one answers.
    fetched = fetch(server.url(host="models.example"), folder, resolve=lambda *_: ["::1", "127.0.0.1"])
    assert fetched.sha256 == BODY_SHA256


def test_a_silent_server_times_out(server, folder):
    server.routes["/mug.ply"] = lambda _request: server.released.wait()
    error = refused(server.url(), folder, timeout_s=0.05)
    assert error.code == "url_failed"
    assert "sent nothing for 0.05 s" in error.message


def test_a_server_that_falls_silent_in_the_body_times_out(server, folder):
    def stalls(request: BaseHTTPRequestHandler) -> None:
        sends(BODY[:100], length=len(BODY))(request)
        server.released.wait()

    server.routes["/mug.ply"] = stalls
    assert "sent nothing for 0.05 s" in refused(server.url(), folder, timeout_s=0.05).message


def test_a_trickle_is_noticed_and_a_steady_flow_is_not():
    now_s = [0.0]
    pace = Pace(window_s=10.0, clock=lambda: now_s[0])

    def flow(bytes_per_s: int, seconds: int) -> None:
        for _ in range(seconds):
            now_s[0] += 1
            pace.advance(bytes_per_s)

    flow(SLOWEST_BYTES_PER_S, seconds=40)
    flow(1, seconds=9)
    with pytest.raises(Interrupted, match="only 10 bytes came in 10 s"):
        flow(1, seconds=1)


# --- resuming


def serves_ranges(body: bytes, etag: str, break_at: list[int]) -> Route:
    """A server that knows Range and If-Range and breaks off at the given absolute offsets, one for each request."""

    def route(request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        start = 0
        if wanted is not None and request.headers.get("If-Range") == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            request.send_response(200)
        end = break_at.pop(0) if break_at else len(body)
        request.send_header("ETag", etag)
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        request.wfile.write(body[start:end])

    return route


def ranges_asked(server: Server) -> list[str | None]:
    return [headers.get("range") for _path, headers in server.requests]


def test_a_broken_transfer_goes_on_where_it_stopped(server, folder):
    server.routes["/mug.ply"] = serves_ranges(BODY, '"v1"', break_at=[1000, 150_000])
    seen = []
    fetched = fetch(server.url(), folder, progress=lambda done, total: seen.append((done, total)))
    assert (fetched.sha256, fetched.size) == (BODY_SHA256, len(BODY))
    assert (folder / "mug.ply").read_bytes() == BODY
    assert ranges_asked(server) == [None, "bytes=1000-", "bytes=150000-"]
    assert seen == sorted(seen)
    assert seen[-1] == (len(BODY), len(BODY))


@pytest.mark.parametrize("new_body", [BODY[::-1], b"shorter than what had come"])
def test_a_file_that_changed_in_between_is_fetched_anew(server, folder, new_body):
    server.routes["/mug.ply"] = in_turn(
        serves_ranges(BODY, '"v1"', break_at=[1000]), serves_ranges(new_body, '"v2"', break_at=[])
    )
    assert fetch(server.url(), folder).sha256 == hashlib.sha256(new_body).hexdigest()
    assert (folder / "mug.ply").read_bytes() == new_body
    assert ranges_asked(server) == [None, "bytes=1000-"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"ETag": '"v2"', "Content_Range": f"bytes 1000-{len(BODY) - 1}/{len(BODY)}"},
        {"Content_Range": f"bytes 1000-{len(BODY) - 1}/{len(BODY)}"},
        {"ETag": '"v1"', "Content_Range": f"bytes 999-{len(BODY) - 1}/{len(BODY)}"},
        {"ETag": '"v1"', "Content_Range": f"bytes 1000-{len(BODY)}/{len(BODY) + 1}"},
        {"ETag": '"v1"'},
    ],
)
def test_a_rest_that_does_not_fit_is_thrown_away(server, folder, wrong):
    server.routes["/mug.ply"] = in_turn(
        serves_ranges(BODY, '"v1"', break_at=[1000]), sends(b"x" * (len(BODY) - 1000), 206, **wrong), sends()
    )
    assert fetch(server.url(), folder).sha256 == BODY_SHA256
    assert ranges_asked(server) == [None, "bytes=1000-", None]


def test_a_server_that_cannot_resume_sends_the_whole_file(server, folder):
    server.routes["/mug.ply"] = in_turn(serves_ranges(BODY, '"v1"', break_at=[1000]), sends(b"", 416), sends())
    assert fetch(server.url(), folder).sha256 == BODY_SHA256


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"v1"'}])
def test_without_a_strong_etag_the_transfer_starts_over(server, folder, headers):
    server.routes["/mug.ply"] = in_turn(sends(BODY[:1000], length=len(BODY), **headers), sends(**headers))
    assert fetch(server.url(), folder).sha256 == BODY_SHA256
    assert ranges_asked(server) == [None, None]


def test_an_unasked_part_is_not_appended(server, folder):
    rest = sends(BODY[1000:], 206, Content_Range=f"bytes 1000-{len(BODY) - 1}/{len(BODY)}")
    server.routes["/mug.ply"] = in_turn(sends(BODY[:1000], length=len(BODY)), rest)
    assert "answers 206" in refused(server.url(), folder).message


# --- size and hash


def test_an_announced_size_over_the_limit_is_refused_before_the_body(server, folder):
    seen = []
    server.routes["/mug.ply"] = sends()
    error = refused(server.url(), folder, max_bytes=len(BODY) - 1, progress=lambda *done: seen.append(done))
    assert error.code == "input_too_large"
    assert error.value == len(BODY)
    assert not seen
    assert fetch(server.url(), folder, max_bytes=len(BODY)).size == len(BODY)


def test_an_unannounced_size_over_the_limit_is_refused_on_the_way(server, folder):
    seen = []
    server.routes["/mug.ply"] = sends(length=None)
    error = refused(server.url(), folder, max_bytes=len(BODY) - 1, progress=lambda done, _total: seen.append(done))
    assert error.code == "input_too_large"
    assert max(seen) < len(BODY)


def test_the_hash_in_the_fragment_is_checked(server, folder):
    server.routes["/mug.ply"] = sends()
    assert fetch(server.url(f"/mug.ply#sha256={BODY_SHA256.upper()}"), folder).sha256 == BODY_SHA256
    assert fetch(server.url("/mug.ply#chapter"), folder).sha256 == BODY_SHA256
    (folder / "mug.ply").unlink()
    error = refused(server.url(f"/mug.ply#sha256={'0' * 64}"), folder, field="mesh")
    assert (error.code, error.value, error.expected) == ("input_hash_mismatch", BODY_SHA256, "0" * 64)


def test_a_fragment_that_is_no_hash_is_refused_before_anything_is_sent(server, folder):
    assert refused(server.url("/mug.ply#sha256=123"), folder).code == "url_invalid"
    assert not server.requests


# --- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server, other_server, folder, status):
    server.routes["/mug.ply"] = redirects("/there?key=1", status)
    server.routes["/there"] = redirects(other_server.url("/final/0123?signature=abc"), status)
    other_server.routes["/final/0123"] = sends()
    fetched = fetch(server.url(), folder)
    assert fetched.sha256 == BODY_SHA256
    assert fetched.final_url == other_server.url("/final/0123?...")
    assert fetched.name == "mug.ply"


def test_redirects_are_bounded(server, folder):
    server.routes["/mug.ply"] = redirects("/mug.ply")
    error = refused(server.url(), folder)
    assert error.code == "url_failed"
    assert len(server.requests) == 6


def test_a_redirect_to_another_scheme_is_refused(server, folder):
    server.routes["/mug.ply"] = redirects("file:///etc/passwd")
    assert refused(server.url(), folder).code == "url_scheme"


def test_a_redirect_to_nonsense_is_refused(server, folder):
    server.routes["/mug.ply"] = redirects("http://host:port/")
    assert refused(server.url(), folder).code == "url_failed"


# --- private addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.0.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "224.0.0.1",
        "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "2002:7f00:1::", "2002:a00:1::1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2001::1", "2001:0:7f00:1::", "3fff::1", "100::1",
        "4000::1",
    ],
)  # fmt: skip
def test_internal_addresses_are_not_public(address):
    assert not addresses.is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::1"],
)
def test_public_addresses_are_public(address):
    assert addresses.is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1"])
def test_this_machine_is_refused_in_every_spelling(server, folder, host):
    server.routes["/mug.ply"] = sends()
    spelled = {"localhost": "127.0.0.1", "[::1]": "::1"}
    resolve = (lambda *_: [spelled[host]]) if host in spelled else addresses.resolve_by_system
    error = refused(server.url(host=host), folder, allow_private=False, resolve=resolve, field="mesh")
    assert error.code == "url_private"
    assert not server.requests


def test_one_private_address_among_public_ones_is_enough_to_refuse(folder):
    error = refused("http://models.example/a", folder, allow_private=False, resolve=lambda *_: ["8.8.8.8", "10.0.0.1"])
    assert error.code == "url_private"
    assert "10.0.0.1" not in error.describe()


@pytest.fixture
def loopback_counts_as_public(monkeypatch) -> None:
    """Treat 127.0.0.1, where the test's servers are, as the public internet, and every other address as private."""
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1")


@pytest.mark.usefixtures("loopback_counts_as_public")
def test_a_redirect_from_an_allowed_host_to_a_private_one_is_refused(server, other_server, folder):
    resolve = {
        "models.example": ["127.0.0.1"],
        "internal.example": ["10.0.0.1"],
        "169.254.169.254": ["169.254.169.254"],
    }
    for target in (other_server.url(host="internal.example"), "http://169.254.169.254/latest/meta-data"):
        server.routes["/mug.ply"] = redirects(target)
        error = refused(
            server.url(host="models.example"), folder, allow_private=False, resolve=lambda host, _: resolve[host]
        )
        assert error.code == "url_private"
    assert len(server.requests) == 2
    assert not other_server.requests


@pytest.mark.usefixtures("loopback_counts_as_public")
def test_the_address_that_was_checked_is_the_one_contacted(server, folder, monkeypatch):
    """DNS rebinding: the name has a public address when it is checked and a private one ever after."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1"]])
    contacted = []
    connect = socket.create_connection

    def watched(address, *args, **kwargs):
        contacted.append(address)
        return connect(address, *args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", watched)
    server.routes["/mug.ply"] = sends()
    fetched = fetch(server.url(host="models.example"), folder, allow_private=False, resolve=lambda *_: next(answers))
    assert fetched.sha256 == BODY_SHA256
    assert contacted == [("127.0.0.1", server.port)]
    assert server.requests[0][1]["host"] == f"models.example:{server.port}"


@pytest.mark.usefixtures("loopback_counts_as_public")
def test_a_retry_checks_the_address_again(server, folder):
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    server.routes["/mug.ply"] = sends(b"", 503)
    error = refused(server.url(host="models.example"), folder, allow_private=False, resolve=lambda *_: next(answers))
    assert error.code == "url_private"
    assert len(server.requests) == 1


# --- https


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    """A self-signed certificate for models.example, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    crt, key = folder / "models.crt", folder / "models.key"
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=models.example", "-addext", "subjectAltName=DNS:models.example"]
    command = [*request.split(), *names, "-keyout", str(key), "-out", str(crt)]
    subprocess.run(command, check=True, capture_output=True)
    return crt, key


@pytest.fixture
def https_server(certificate, monkeypatch) -> Iterator[tuple[Server, list[str | None]]]:
    """A server with that certificate, which clients trust, and the host names that clients asked it for (SNI)."""
    crt, key = certificate
    asked: list[str | None] = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(crt, key)
    tls.sni_callback = lambda _socket, name, _context: asked.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(crt))
    running = Server(tls)
    yield running, asked
    running.close()


def test_https_proves_the_hosts_name_on_the_checked_address(https_server, folder):
    server, asked = https_server
    server.routes["/mug.ply"] = sends()
    url = server.url(host="models.example", scheme="https")
    assert fetch(url, folder, resolve=lambda *_: ["127.0.0.1"]).sha256 == BODY_SHA256
    assert asked == ["models.example"]


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1"])
def test_a_certificate_for_another_name_is_refused_at_once(https_server, folder, host):
    server, asked = https_server
    server.routes["/mug.ply"] = sends()
    waited = []
    url = server.url(host=host, scheme="https")
    error = refused(url, folder, resolve=lambda *_: ["127.0.0.1"], pause=waited.append)
    assert error.code == "url_failed"
    assert f"the certificate of {host} is refused" in error.message
    assert asked == [None if host == "127.0.0.1" else host]
    assert not server.requests
    assert not waited


# --- secrets


def test_user_and_password_reach_their_host_and_nothing_else(server, other_server, folder, caplog):
    caplog.set_level(logging.DEBUG)
    server.routes["/mug.ply"] = in_turn(sends(b"", 503), redirects("/same"), redirects(server.url("/same")))
    server.routes["/same"] = redirects(other_server.url("/gone"))
    other_server.routes["/gone"] = in_turn(sends(), sends(status=404))
    url = server.url(host="alice:s3cr%40t@127.0.0.1")
    fetched = fetch(url, folder)
    (folder / "mug.ply").unlink()
    error = refused(url, folder)

    sent = "Basic " + base64.b64encode(b"alice:s3cr@t").decode()
    assert {headers.get("authorization") for _path, headers in server.requests} == {sent}
    assert {headers.get("authorization") for _path, headers in other_server.requests} == {None}
    everything = caplog.text + error.describe() + str(error.to_dict()) + repr(error) + repr(fetched)
    assert "answers 503; next attempt" in everything
    for secret in ("alice", "s3cr", sent):
        assert secret not in everything


@pytest.mark.parametrize(
    "url", ["ftp://alice:s3cret@host/x", "http://alice:s3cret@host:99999/x", "http://alice:s3/cret@host/"]
)
def test_refused_urls_keep_their_password(folder, url):
    error = refused(url, folder, resolve=lambda *_: [])
    assert "s3" not in error.describe()


# --- cancelling


def test_cancelling_stops_the_body_and_leaves_nothing(server, folder):
    done = []

    def cancelled() -> None:
        if done:
            raise Cancelled("stopped")

    server.routes["/mug.ply"] = sends()
    with pytest.raises(Cancelled):
        fetch(server.url(), folder, cancelled=cancelled, progress=lambda count, _total: done.append(count))
    assert len(done) == 1
    assert not list(folder.iterdir())


def test_cancelling_stops_a_long_pause(server, folder):
    waited = []

    def cancelled() -> None:
        if sum(waited) >= 2:
            raise Cancelled("stopped")

    server.routes["/mug.ply"] = sends(b"", 503, Retry_After="30")
    with pytest.raises(Cancelled):
        fetch(server.url(), folder, cancelled=cancelled, pause=waited.append)
    assert sum(waited) == 2
    assert len(server.requests) == 1


# --- names


@pytest.mark.parametrize(
    ("url", "content_disposition", "name"),
    [
        ("https://x.org/models/mug.ply", None, "mug.ply"),
        ("https://x.org/models/my%20mug.ply?dl=1#sha256=0", None, "my mug.ply"),
        ("https://x.org/", None, "download"),
        ("https://x.org", None, "download"),
        ("https://x.org/..%2f..%2fetc%2fpasswd", None, "passwd"),
        ("https://x.org/%2e%2e", None, "download"),
        ("https://x.org/a%5c..%5cevil.ply", None, "evil.ply"),
        ("https://x.org/.bashrc", None, "bashrc"),
        ("https://x.org/-rf.ply", None, "rf.ply"),
        ("https://x.org/con.ply", None, "_con.ply"),
        ("https://x.org/concave.ply", None, "concave.ply"),
        ("https://x.org/a%00b%0a.ply", None, "ab.ply"),
        ("https://x.org/a:b|c.ply", None, "a_b_c.ply"),
        ("http://[broken/mug.ply", None, "download"),
        ("https://x.org/0a1b", 'attachment; filename="mug 1.ply"', "mug 1.ply"),
        ("https://x.org/0a1b", "attachment; filename=mug.ply; size=3", "mug.ply"),
        ("https://x.org/0a1b", r'attachment; filename="a\"b.ply"', "a_b.ply"),
        ("https://x.org/0a1b", "attachment; filename=\"x\"; filename*=UTF-8''t%C3%A4sse.ply", "tässe.ply"),
        ("https://x.org/0a1b", 'attachment; filename="../../up.ply"', "up.ply"),
        ("https://x.org/mug.ply", "attachment", "mug.ply"),
        ("https://x.org/mug.ply", 'attachment; filename=".."', "mug.ply"),
    ],
)
def test_names_are_safe(url, content_disposition, name):
    assert file_name_of(url, content_disposition) == name


@pytest.mark.parametrize("stem", ["a" * 300, "ä" * 300, "🍵" * 300])
def test_a_long_name_keeps_its_suffix_and_fits(stem):
    name = file_name_of(f"https://x.org/{stem}.tar.gz")
    assert name.startswith(stem[:20])
    assert name.endswith(".gz")
    assert 100 < len(name.encode()) <= 120
