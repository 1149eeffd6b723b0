"""Files over real sockets: whole, in pieces, cut, lied about, slow, sent twice; and laid out for jobs."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from waiting import until

from gnomon.errors import InputError, MissingError, NotFound
from gnomon.server import problem
from gnomon.server.access import AccessPolicy
from gnomon.server.receiving import UploadConflict, UploadLimit
from gnomon.server.routes import files
from gnomon.server.tokens import TokenStore
from gnomon.server.uploads import IDLE_BEFORE_TRIM_S, UploadStore

MAX_BYTES = 5_000_000
TOTAL_BYTES = 12_000_000


@dataclass
class Files:
    """A small app with nothing but /v1/files, over a real port."""

    store: UploadStore
    port: int
    http: httpx2.Client
    connections: list[socket.socket] = field(default_factory=list)

    def raw(self, head: str, body: bytes = b"") -> socket.socket:
        """A connection of our own, on which so much was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self.connections.append(connection)
        connection.sendall(f"{head}\r\nHost: 127.0.0.1\r\n\r\n".encode() + body)
        return connection

    def put(self, data: bytes, **headers: str) -> httpx2.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.put(f"/v1/files/{sha(data)}", content=data, headers=names)

    def put_range(self, whole: bytes, first: int, end: int) -> httpx2.Response:
        headers = {"Content-Range": f"bytes {first}-{end - 1}/{len(whole)}"}
        return self.http.put(f"/v1/files/{sha(whole)}", content=whole[first:end], headers=headers)

    def offset(self, sha256: str) -> int:
        answer = self.http.head(f"/v1/files/{sha256}")
        return int(answer.headers["Upload-Offset"]) if answer.status_code == 200 else 0

    def partial(self) -> list[str]:
        return sorted(path.name for path in self.store.partial.iterdir())


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_store(home: Path, **options) -> UploadStore:
    limits = {"max_bytes": MAX_BYTES, "max_total_bytes": TOTAL_BYTES, "min_free_bytes": 0}
    return UploadStore(home, **limits | options)


@contextlib.contextmanager
def serving(home: Path, *, required: bool = False, **options) -> Iterator[Files]:
    store = make_store(home, **options)
    app = FastAPI()
    app.state.access = AccessPolicy(required=required, store=TokenStore(home))
    app.state.service = SimpleNamespace(uploads=store)
    problem.install(app)
    app.include_router(files.router)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    port = listener.getsockname()[1]
    client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False)
    found = Files(store, port, client)
    try:
        with client:
            yield found
    finally:
        for connection in found.connections:
            connection.close()
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Files]:
    with serving(tmp_path / "home") as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> UploadStore:
    return make_store(tmp_path / "home")


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str], dict]:
    """Status, headers and JSON of the next answer."""
    with connection, connection.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        headers = {}
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers, json.loads(stream.read(int(headers["content-length"])) or "{}")


def keep(store: UploadStore, data: bytes) -> str:
    upload = store.begin(sha(data), length=len(data))
    assert upload is not None
    with contextlib.closing(upload):
        upload.write(data)
        upload.finish()
    return sha(data)


def data_of(size: int, seed: int = 0) -> bytes:
    import random

    return random.Random(seed).randbytes(size)


# Whole files


def test_a_file_is_kept_under_its_hash_and_cannot_be_written(server: Files):
    data = data_of(3_300_000)
    answer = server.put(data)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"sha256": sha(data), "size": len(data), "complete": True, "offset": len(data)}
    path = server.store.path(sha(data))
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o444
    assert server.partial() == []
    assert server.store.used_bytes == len(data)


def test_an_empty_file_is_a_file(server: Files):
    assert server.put(b"").status_code == 201
    assert server.store.path(sha(b"")).read_bytes() == b""


def test_a_file_that_is_there_is_not_read_again(server: Files):
    data = data_of(2_000_000)
    server.put(data)
    # The answer comes although not one byte of the body was sent.
    connection = server.raw(f"PUT /v1/files/{sha(data)} HTTP/1.1\r\nContent-Length: {len(data)}")
    status, _, body = answer_of(connection)
    assert (status, body["complete"]) == (200, True)
    assert server.store.used_bytes == len(data)


def test_a_body_in_chunks_needs_no_length(server: Files):
    data = data_of(2_500_000)
    pieces = (data[start : start + 70_001] for start in range(0, len(data), 70_001))
    assert server.http.put(f"/v1/files/{sha(data)}", content=pieces).status_code == 201
    assert server.store.path(sha(data)).read_bytes() == data


def test_a_file_of_unknown_hash_is_told_its_hash(server: Files):
    data = data_of(1_200_000)
    for _ in range(2):
        answer = server.http.post("/v1/files", content=data)
        assert (answer.status_code, answer.json()["sha256"]) == (201, sha(data))
        assert answer.headers["Location"] == f"/v1/files/{sha(data)}"
    assert server.store.used_bytes == len(data)
    assert server.partial() == []


def test_head_and_get_say_what_is_there(server: Files):
    data = data_of(1000)
    for method in ("HEAD", "GET"):
        assert server.http.request(method, f"/v1/files/{sha(data)}").status_code == 404
    assert server.put_range(data, 0, 400).status_code == 202
    head = server.http.head(f"/v1/files/{sha(data)}")
    assert (head.headers["Upload-Offset"], head.headers["Upload-Complete"]) == ("400", "?0")
    view = server.http.get(f"/v1/files/{sha(data)}").json()
    assert view == {"sha256": sha(data), "size": None, "complete": False, "offset": 400}
    server.put_range(data, 400, 1000)
    head = server.http.head(f"/v1/files/{sha(data)}")
    assert (head.headers["Upload-Offset"], head.headers["Upload-Complete"]) == ("1000", "?1")
    assert head.headers["Content-Length"] == "1000"
    assert server.http.get(f"/v1/files/{sha(data)}").json()["size"] == 1000


# Wrong bodies


def test_a_wrong_hash_is_refused_and_leaves_nothing(server: Files):
    wanted = sha(b"something else")
    answer = server.http.put(f"/v1/files/{wanted}", content=b"this")
    assert (answer.status_code, answer.json()["code"]) == (422, "upload_hash_mismatch")
    assert sha(b"this") in answer.json()["detail"]
    assert server.http.head(f"/v1/files/{wanted}").status_code == 404
    assert (server.partial(), server.store.used_bytes) == ([], 0)
    assert server.http.put(f"/v1/files/{wanted}", content=b"something else").status_code == 201


@pytest.mark.parametrize("name", ["0" * 63, "g" * 64, "A" * 64, "0" * 65, "..", "%2e%2e%2fx", "0" * 64 + "%0a"])
def test_what_is_no_hash_is_refused(server: Files, name: str):
    answer = server.http.put(f"/v1/files/{name}", content=b"x")
    assert answer.status_code in (404, 405, 422)
    assert server.partial() == []


def test_forms_and_compressed_bodies_are_refused_with_the_command_that_works(server: Files):
    refused = [
        server.http.post("/v1/files", files={"file": ("mug.ply", io.BytesIO(b"x"))}),
        server.put(b"x", content_encoding="gzip"),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (415, "media_type")
        assert f"-T FILE http://127.0.0.1:{server.port}/v1/files" in answer.json()["fix"]
    # What curl --data-binary says of every body.
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert server.http.post("/v1/files", content=b"x=1", headers=form).status_code == 201


def test_a_length_beyond_the_limit_is_refused_before_the_body(server: Files):
    connection = server.raw(f"PUT /v1/files/{'0' * 64} HTTP/1.1\r\nContent-Length: {MAX_BYTES + 1}")
    status, _, body = answer_of(connection)
    assert (status, body["code"], body["value"]) == (413, "upload_too_large", MAX_BYTES + 1)
    connection = server.raw(
        f"PUT /v1/files/{'0' * 64} HTTP/1.1\r\nContent-Length: 1\r\nContent-Range: bytes 0-0/{MAX_BYTES + 1}"
    )
    assert answer_of(connection)[0] == 413
    assert server.partial() == []


def test_a_body_without_length_is_cut_off_at_the_limit(server: Files):
    pieces = (bytes(100_000) for _ in range(MAX_BYTES // 100_000 + 20))
    answer = server.http.post("/v1/files", content=pieces)
    assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")
    assert (server.partial(), server.store.used_bytes) == ([], 0)


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("bytes 0-9", b"0123456789"),
        ("bytes 0-9/*", b"0123456789"),
        ("bytes 5-4/10", b""),
        ("bytes 0-10/10", b"01234567890"),
        ("bytes -5/10", b"01234"),
        ("lines 0-9/10", b"0123456789"),
        ("bytes 0-9/20", b"01234"),
        ("bytes 0-9/20", b"0123456789012"),
        ("bytes 0-٩/20", b"0123456789"),
        ("bytes 0-99999999999999999999/999999999999999999999", b"x"),
    ],
)
def test_a_wrong_range_is_refused(server: Files, text: str, body: bytes):
    answer = server.http.put(f"/v1/files/{sha(b'x')}", content=body, headers={"Content-Range": text.encode()})
    assert (answer.status_code, answer.json()["code"]) == (400, "upload_range")
    assert server.partial() == []


def test_chunks_beyond_the_range_are_refused(server: Files):
    answer = server.http.put(
        f"/v1/files/{sha(b'x')}", content=iter([b"01234", b"56789"]), headers={"Content-Range": "bytes 0-7/20"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "upload_range")


# Going on


def by_end(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


def by_reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def check_that_a_client_can_finish(server: Files, data: bytes) -> None:
    """Ask how much is there and send the rest, until the server takes it."""

    def sent() -> bool:
        offset = server.offset(sha(data))
        assert offset >= 1 << 20, "what was on the disk is gone"
        answer = server.put_range(data, offset, len(data))
        assert answer.status_code in (201, 409), answer.text
        return answer.status_code == 201

    until(sent, "the rest to be taken")
    assert server.store.path(sha(data)).read_bytes() == data
    assert (server.partial(), server.store.used_bytes) == ([], len(data))


@pytest.mark.parametrize("cut", [socket.socket.close, by_end, by_reset])
def test_a_cut_connection_keeps_what_arrived(server: Files, cut: Callable[[socket.socket], None]):
    data = data_of(4_000_000)
    connection = server.raw(f"PUT /v1/files/{sha(data)} HTTP/1.1\r\nContent-Length: {len(data)}", data[:2_500_000])
    until(lambda: server.offset(sha(data)) >= 1 << 20, "the first piece on the disk")
    cut(connection)
    check_that_a_client_can_finish(server, data)


def test_another_server_goes_on_with_what_one_left(tmp_path: Path):
    data = data_of(4_000_000)
    with serving(tmp_path / "home") as server:
        server.put_range(data, 0, 2_500_000)
    with serving(tmp_path / "home") as server:
        assert server.store.used_bytes == 2_500_000
        check_that_a_client_can_finish(server, data)


def test_many_pieces_make_a_file(server: Files):
    data = data_of(900_000)
    step = 123_457
    for first in range(0, len(data), step):
        answer = server.put_range(data, first, min(first + step, len(data)))
        assert answer.headers["Upload-Offset"] == str(min(first + step, len(data)))
    assert answer.status_code == 201
    assert server.store.path(sha(data)).read_bytes() == data


@pytest.mark.parametrize("first", [0, 50, 150])
def test_a_range_that_does_not_go_on_learns_where_to(server: Files, first: int):
    data = data_of(300)
    server.put_range(data, 0, 100)
    answer = server.put_range(data, first, 300)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_offset")
    assert answer.headers["Upload-Offset"] == "100"
    assert "from byte 100" in answer.json()["fix"]
    assert server.put_range(data, 100, 300).status_code == 201


def test_a_range_in_the_middle_of_nothing_leaves_nothing(server: Files):
    answer = server.put_range(data_of(300), 100, 300)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (409, "0")
    assert server.partial() == []


def test_without_a_range_the_file_begins_anew(server: Files):
    data = data_of(300)
    server.put_range(data_of(300, seed=1)[:100] + data[100:], 0, 100)
    server.http.put(f"/v1/files/{sha(data)}", content=b"wrong", headers={"Content-Range": "bytes 0-4/300"})
    assert server.put(data).status_code == 201
    assert server.store.used_bytes == len(data) + 100


def test_a_wrong_beginning_is_found_at_the_end_and_removed(server: Files):
    data = data_of(300)
    path = f"/v1/files/{sha(data)}"
    server.http.put(path, content=bytes(100), headers={"Content-Range": "bytes 0-99/300"})
    answer = server.put_range(data, 100, 300)
    assert (answer.status_code, answer.json()["code"]) == (422, "upload_hash_mismatch")
    assert server.http.head(path).status_code == 404


def test_a_file_that_was_complete_when_the_server_died_becomes_whole(server: Files):
    data = data_of(5000)
    left = server.store.partial / sha(data)
    left.write_bytes(data)
    left.chmod(0o444)
    answer = server.http.put(f"/v1/files/{sha(data)}", headers={"Content-Range": "bytes */5000"})
    assert answer.status_code == 200, answer.text
    assert server.store.path(sha(data)).read_bytes() == data


def test_a_range_of_nothing_ends_only_what_is_complete(server: Files):
    data = data_of(5000)
    server.put_range(data, 0, 1000)
    answer = server.http.put(f"/v1/files/{sha(data)}", headers={"Content-Range": "bytes */5000"})
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (409, "1000")


# Several at once, and slow ones


def test_one_of_two_writes_and_a_dropped_client_does_not_block_the_next(server: Files):
    data = data_of(3_000_000)
    first = server.raw(f"PUT /v1/files/{sha(data)} HTTP/1.1\r\nContent-Length: {len(data)}", data[:2_000_000])
    until(lambda: server.offset(sha(data)) >= 1 << 20, "the first piece on the disk")
    answer = server.put(data)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_busy")
    assert int(answer.headers["Retry-After"]) > 0
    first.close()
    until(lambda: server.put(data).status_code in (200, 201), "the second to be let in")
    assert server.store.path(sha(data)).read_bytes() == data
    assert server.store.used_bytes == len(data)


def test_many_clients_with_one_file_end_with_one_file(server: Files):
    data = data_of(2_000_000)
    answers: list[int] = []

    def send() -> None:
        with httpx2.Client(base_url=str(server.http.base_url), timeout=60.0, trust_env=False) as client:
            answers.append(client.put(f"/v1/files/{sha(data)}", content=data).status_code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(201) == 1
    assert set(answers) <= {200, 201, 409}
    assert server.store.used_bytes == len(data)
    assert server.store.path(sha(data)).read_bytes() == data


def test_a_stalled_client_is_told_and_what_it_sent_is_kept(tmp_path: Path):
    data = data_of(3000)
    with serving(tmp_path / "home", read_timeout_s=0.2) as server:
        connection = server.raw(f"PUT /v1/files/{sha(data)} HTTP/1.1\r\nContent-Length: 3000", data[:1000])
        status, headers, body = answer_of(connection)
        assert (status, body["code"], headers["connection"]) == (408, "upload_stalled", "close")
        assert server.offset(sha(data)) == 1000
        assert server.put_range(data, 1000, 3000).status_code == 201


def test_a_byte_now_and_then_does_not_keep_a_request_open(tmp_path: Path):
    with serving(tmp_path / "home", read_timeout_s=0.5) as server:
        connection = server.raw("POST /v1/files HTTP/1.1\r\nContent-Length: 1000000")
        over = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not over.wait(0.05):
                    connection.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            status, _, body = answer_of(connection)
        finally:
            over.set()
            thread.join()
        assert (status, body["code"]) == (408, "upload_stalled")
        until(lambda: server.partial() == [], "the removal of what nobody can go on with")
        assert server.store.used_bytes == 0


def test_no_more_than_so_many_at_once(tmp_path: Path):
    with serving(tmp_path / "home", most_at_once=2) as server:
        open_ones = [
            server.raw(f"PUT /v1/files/{sha(bytes([n]))} HTTP/1.1\r\nContent-Length: 9", b"12345") for n in range(2)
        ]
        until(lambda: len(server.partial()) == 2, "two uploads")
        answer = server.put(b"a third")
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_uploads")
        assert int(answer.headers["Retry-After"]) > 0
        for connection in open_ones:
            connection.close()
        until(lambda: server.put(b"a third").status_code in (200, 201), "room for a third")


# Space


def age(store: UploadStore, sha256: str, by_s: float) -> None:
    path = store.path(sha256)
    then = path.stat().st_mtime - by_s
    os.utime(path, (then, then))


def test_the_budget_makes_room_by_removing_what_is_unused_longest(store: UploadStore):
    first, second, third = (keep(store, data_of(4_000_000, seed)) for seed in range(3))
    with pytest.raises(MissingError) as error:
        store.begin(None, length=1_000_000)
    assert error.value.code == "uploads_full"
    age(store, second, IDLE_BEFORE_TRIM_S + 200)
    age(store, first, IDLE_BEFORE_TRIM_S + 100)
    fourth = keep(store, data_of(3_000_000, 4))
    with pytest.raises(NotFound):
        store.path(second)
    for kept in (first, third, fourth):
        store.path(kept)
    assert store.used_bytes == 11_000_000


def test_promised_bytes_count_and_are_given_back(store: UploadStore):
    uploads = [store.begin(sha(bytes([n])), length=4_000_000) for n in range(3)]
    with pytest.raises(MissingError):
        store.begin(sha(b"one more"), length=1)
    for upload in uploads:
        assert upload is not None
        upload.close()
    assert store.used_bytes == 0
    assert list(store.partial.iterdir()) == []


def test_a_body_without_length_meets_the_budget_too(tmp_path: Path):
    with serving(tmp_path / "home", max_total_bytes=2_000_000) as server:
        answer = server.http.post("/v1/files", content=(bytes(500_000) for _ in range(8)))
        assert (answer.status_code, answer.json()["code"]) == (507, "uploads_full")
        assert (server.partial(), server.store.used_bytes) == ([], 0)


def test_the_disk_is_not_filled_up(tmp_path: Path):
    with serving(tmp_path / "home", min_free_bytes=1 << 60) as server:
        answer = server.put(b"x")
        assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
        assert server.partial() == []


def test_a_disk_that_fills_up_keeps_what_fitted(server: Files, monkeypatch: pytest.MonkeyPatch):
    data = data_of(3_000_000)
    really_write = os.write
    room = [1_500_000]

    def write_while_there_is_room(descriptor: int, rest: memoryview) -> int:
        if not isinstance(rest, memoryview):
            return really_write(descriptor, rest)
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = really_write(descriptor, rest[: room[0]])
        room[0] -= count
        return count

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write_while_there_is_room)
        answer = server.put(data)
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert server.offset(sha(data)) == 1_500_000 == server.store.used_bytes
    assert server.put_range(data, 1_500_000, len(data)).status_code == 201
    assert server.store.path(sha(data)).read_bytes() == data


def test_a_new_store_counts_what_is_there(store: UploadStore, tmp_path: Path):
    keep(store, data_of(1000))
    upload = store.begin(sha(b"other"), length=10)
    assert upload is not None
    upload.write(b"12345")
    upload.close()
    assert make_store(tmp_path / "home").used_bytes == 1005 == store.used_bytes


def test_a_sweep_takes_the_old_and_leaves_what_is_being_written(store: UploadStore):
    old, new = keep(store, b"old"), keep(store, b"new")
    age(store, old, 1000)
    now = store.path(new).stat().st_mtime
    active = store.begin(sha(b"active"), length=100)
    left = store.begin(sha(b"left"), length=100)
    assert active is not None and left is not None
    for upload in (active, left):
        upload.write(b"abc")
        os.utime(upload.path, (now - 1000, now - 1000))
    left.close()
    swept = store.sweep(unused_before=now - 500, partial_before=now - 500)
    assert (swept.files, swept.freed_bytes) == (2, 6)
    assert not store.path(new).samefile(active.path)
    assert [path.name for path in store.partial.iterdir()] == [sha(b"active")]
    active.close()
    assert store.used_bytes == 6


def test_a_file_in_use_is_not_swept(store: UploadStore, tmp_path: Path):
    used = keep(store, b"used")
    age(store, used, 1000)
    now = store.path(used).stat().st_mtime + 1000
    store.lay_out({"x": used}, tmp_path / "job")
    assert store.sweep(unused_before=now - 500, partial_before=now).files == 0


# For those who use the store


def test_files_are_laid_out_as_links_under_their_names(store: UploadStore, tmp_path: Path):
    mesh, picture = keep(store, b"mesh"), keep(store, b"picture")
    folder = tmp_path / "job"
    store.lay_out({"mug.ply": mesh, "textures/a.png": picture, "textures/b.png": picture}, folder)
    assert (folder / "mug.ply").read_bytes() == b"mesh"
    assert (folder / "textures" / "b.png").samefile(store.path(picture))
    # The upload's end is not the end of the job's file.
    store.path(mesh).unlink()
    assert (folder / "mug.ply").read_bytes() == b"mesh"


def test_files_are_copied_where_links_fail(store: UploadStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    store.lay_out({"a": keep(store, b"mesh")}, tmp_path / "job")
    assert (tmp_path / "job" / "a").read_bytes() == b"mesh"
    assert not (tmp_path / "job" / "a").samefile(store.path(sha(b"mesh")))


@pytest.mark.parametrize(
    "names",
    [
        ["../up"],
        ["/etc/passwd"],
        ["a/../../b"],
        [""],
        ["."],
        ["a\0b"],
        ["a\nb"],
        ["a\\..\\b"],
        ["\ud800"],
        ["x" * 300],
        ["a/" * 600 + "b"],
        ["/".join("abcdefghijklmnopqrst")],
        ["Mug.ply", "mug.PLY"],
        ["a/b", "A/B"],
        ["a//b", "a/b"],
        ["caf\u00e9", "cafe\u0301"],
        ["a", "a/b"],
        ["a/b/c", "A/B"],
    ],
)
def test_unsafe_names_are_refused_before_anything_is_made(store: UploadStore, tmp_path: Path, names: list[str]):
    sha256 = keep(store, b"x")
    with pytest.raises(InputError) as error:
        store.lay_out(dict.fromkeys(names, sha256), tmp_path / "job")
    assert (error.value.code, error.value.field) == ("input_name_unsafe", "files")
    json.dumps(error.value.to_dict(), ensure_ascii=False).encode()
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    ("sha256", "code"),
    [("0" * 64, "upload_not_found"), ("../../x", "upload_hash_invalid"), ("", "upload_hash_invalid")],
)
def test_missing_uploads_name_the_field(store: UploadStore, tmp_path: Path, sha256: str, code: str):
    with pytest.raises(InputError) as error:
        store.lay_out({"a": keep(store, b"x"), "b": sha256}, tmp_path / "job")
    assert (error.value.code, error.value.field) == (code, "files")
    assert not (tmp_path / "job").exists()


def test_too_many_files_are_refused(store: UploadStore, tmp_path: Path):
    with pytest.raises(InputError) as error:
        store.lay_out({f"{n}": "0" * 64 for n in range(50_001)}, tmp_path / "job")
    assert error.value.code == "too_many_files"


def test_a_partial_file_is_not_to_be_had(store: UploadStore):
    upload = store.begin(sha(b"12345"), length=5)
    assert upload is not None
    upload.write(b"123")
    with pytest.raises(NotFound) as error:
        store.path(sha(b"12345"))
    assert error.value.code == "upload_not_found"
    with pytest.raises(UploadConflict):
        store.begin(sha(b"12345"))
    upload.close()


def test_closing_twice_does_not_open_the_door_to_a_third(store: UploadStore):
    first = store.begin(sha(b"x"))
    assert first is not None
    first.close()
    second = store.begin(sha(b"x"))
    assert second is not None
    first.close()
    with pytest.raises(UploadConflict):
        store.begin(sha(b"x"))
    second.close()


def test_limits_say_when_to_come_back(tmp_path: Path):
    store = make_store(tmp_path / "home", most_at_once=0)
    with pytest.raises(UploadLimit) as error:
        store.begin(None)
    assert error.value.retry_after_s


# Access and description


def test_a_token_without_the_scope_may_not_send(tmp_path: Path):
    tokens = TokenStore(tmp_path / "home")
    _, reader = tokens.create("reader", ["read"])
    _, sender = tokens.create("sender", ["submit"])
    with serving(tmp_path / "home", required=True) as server:
        assert server.put(b"x").status_code == 401
        assert server.put(b"x", authorization=f"Bearer {reader}").status_code == 403
        assert server.put(b"x", authorization=f"Bearer {sender}").status_code == 201
        assert server.http.head(f"/v1/files/{sha(b'x')}").status_code == 401


def documented(app: FastAPI) -> Callable[[str, str], set[str]]:
    paths = app.openapi()["paths"]
    return lambda path, method: set(paths[path][method]["responses"])


def test_every_status_is_in_the_description():
    app = FastAPI()
    app.include_router(files.router)
    statuses = documented(app)
    assert statuses("/v1/files/{sha256}", "put") >= {
        *("200", "201", "202", "400", "401", "403", "408", "409", "413", "415", "422", "429", "507")
    }
    assert statuses("/v1/files", "post") >= {"201", "408", "413", "415", "429", "507"}
    for method in ("head", "get"):
        assert statuses("/v1/files/{sha256}", method) >= {"200", "404", "422"}
