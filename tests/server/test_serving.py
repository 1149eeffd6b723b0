"""The server's own life: where it listens, who may call it, what strangers and slow clients can do to it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys

import httpx2
import pytest
from serving import RunningServer, ended
from waiting import until

from gnomon.server import protocol
from gnomon.server.protocol import PromptProtocol


def start_and_fail(home, *flags):
    environment = {**os.environ, "GNOMON_HOME": str(home), "GNOMON_SITES": str(home / "sites.toml")}
    command = [sys.executable, "-m", "gnomon", "serve", *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def new_token(server: RunningServer, name: str, scope: str) -> str:
    environment = {**os.environ, "GNOMON_HOME": str(server.home)}
    command = [sys.executable, "-m", "gnomon", "tokens", "create", name, "--scope", scope]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def bearer(server: RunningServer, text: str) -> httpx2.Client:
    return server.client(headers={"Authorization": f"Bearer {text}"})


def test_a_taken_port_is_reported_with_its_holder_and_left_alone(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as held:
        done = start_and_fail(tmp_path, "--port", str(held.getsockname()[1]))
        assert done.returncode == 4
        assert "port_taken" in done.stderr and f"process {os.getpid()}" in done.stderr
        with socket.create_connection(held.getsockname()):
            pass


def test_a_home_has_one_server(server, tmp_path):
    done = start_and_fail(server.home, "--port", "0")
    assert done.returncode == 4 and "home_served" in done.stderr
    with server.client() as http:
        assert http.get("/v1/health").status_code == 200


def test_off_loopback_it_wants_tokens(serve, tmp_path):
    done = start_and_fail(tmp_path / "home", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 3 and "tokens_needed" in done.stderr and "gnomon tokens create" in done.stderr


def test_tokens_open_the_door_and_show_only_ones_own_jobs(serve, tmp_path):
    server = serve("--require-token")

    order = {"task": "probe", "params": {"script": ["write a"]}}
    with server.client() as nobody:
        assert nobody.post("/v1/jobs", json=order).status_code == 401
        assert nobody.get("/v1/health").status_code == 200
    scopes = {"ann": "submit", "bob": "submit", "eve": "read"}
    texts = {name: new_token(server, name, scope) for name, scope in scopes.items()}
    with bearer(server, texts["ann"]) as ann, bearer(server, texts["bob"]) as bob, bearer(server, texts["eve"]) as eve:
        assert eve.post("/v1/jobs", json=order).json()["code"] == "scope_missing"
        job = ann.post("/v1/jobs", json=order).json()
        assert ended(ann, job["id"])["state"] == "succeeded"
        assert bob.get(f"/v1/jobs/{job['id']}").status_code == 404
        assert bob.delete(f"/v1/jobs/{job['id']}").status_code == 404
        assert bob.get("/v1/jobs").json()["jobs"] == []
        assert [one["id"] for one in ann.get("/v1/jobs").json()["jobs"]] == [job["id"]]
    for text in texts.values():
        assert text not in server.log.read_text()


def test_foreign_pages_and_foreign_names_are_refused(http):
    order = {"task": "probe", "params": {"script": []}}
    assert http.post("/v1/jobs", json=order, headers={"Origin": "https://evil.example"}).status_code == 403
    assert http.get("/v1/jobs", headers={"Host": "evil.example"}).status_code == 421
    assert "access-control-allow-origin" not in http.get("/v1/jobs", headers={"Origin": "https://x.example"}).headers


def test_a_body_that_is_too_large_is_refused_before_it_is_read(serve):
    server = serve("--max-body-mb", "0.01")
    with server.client() as http:
        order = {"task": "probe", "params": {"script": ["x" * 20_000]}}
        answer = http.post("/v1/jobs", json=order)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")

        def endless():
            for _ in range(100):
                yield b" " * 1000

        answer = http.post("/v1/jobs", content=endless(), headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert http.get("/v1/health").status_code == 200


def test_a_client_that_stops_in_the_middle_of_a_body_is_let_go(serve):
    server = serve("--read-timeout-s", "0.3")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as slow:
        slow.sendall(f"POST /v1/jobs HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 100\r\n\r\n{{".encode())
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
    assert b" 408 " in answer.splitlines()[0] and b"body_stalled" in answer


def test_a_client_that_never_sends_its_headers_is_let_go(monkeypatch):
    import uvicorn

    monkeypatch.setattr(protocol, "HEADER_TIMEOUT_S", 0.2)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def scenario() -> tuple[bytes, bytes]:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=PromptProtocol, log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        silent, silent_writer = await asyncio.open_connection(*listener.getsockname())
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await reader.readuntil(b"\r\n\r\n")
        # A second request on the same connection begins and never ends.
        writer.write(b"GET / HT")
        left = await asyncio.wait_for(asyncio.gather(silent.read(), reader.read()), 30)
        for one in (writer, silent_writer):
            one.close()
            await one.wait_closed()
        server.should_exit = True
        await serving
        return answer, b"".join(left)

    answer, rest = asyncio.run(scenario())
    assert b" 204 " in answer and rest == b""


@pytest.mark.parametrize(
    "name", ["../request.json", "..%2frequest.json", "%2e%2e/submission.json", "/etc/passwd", "a/../../request.json"]
)
def test_results_do_not_lead_out_of_their_folder(http, name):
    job = http.post("/v1/jobs", json={"task": "probe", "params": {"script": ["write a"]}}).json()
    ended(http, job["id"])
    answer = http.get(f"/v1/jobs/{job['id']}/results/{name}")
    assert answer.status_code == 404, answer.text


def test_inputs_from_private_addresses_are_refused(http, server):
    order = {"task": "probe", "params": {"data": f"{server.url}/v1/health"}}
    job = http.post("/v1/jobs", json=order).json()
    done = ended(http, job["id"])
    assert (done["state"], done["error"]["code"]) == ("failed", "url_private")
    answer = http.post("/v1/jobs", json=order | {"params": {}, "webhook_url": server.url})
    assert (answer.status_code, answer.json()["code"]) == (422, "url_private")


def test_a_full_queue_pushes_back(serve):
    server = serve("--max-queued", "3")
    with server.client() as http:
        order = {"task": "probe", "params": {"script": ["wait go"]}, "resources": {"cpus": 4096}}
        answers = [http.post("/v1/jobs", json=order) for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused and refused[0].json()["code"] == "queue_full"
        assert int(refused[0].headers["Retry-After"]) >= 1
        for answer in answers:
            if answer.status_code == 201:
                http.post(f"/v1/jobs/{answer.json()['id']}/cancel")


def test_one_token_cannot_fill_the_queue_for_the_others(serve):
    server = serve("--max-queued-per-token", "2", "--require-token")
    texts = [new_token(server, name, "submit") for name in ("ann", "bob")]
    order = {"task": "probe", "params": {"script": ["wait go"]}, "resources": {"cpus": 4096}}
    with bearer(server, texts[0]) as ann, bearer(server, texts[1]) as bob:
        answers = [ann.post("/v1/jobs", json=order) for _ in range(8)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused and refused[0].json()["code"] == "queue_full"
        assert bob.post("/v1/jobs", json=order).status_code == 201
        for client in (ann, bob):
            for job in client.get("/v1/jobs").json()["jobs"]:
                client.post(f"/v1/jobs/{job['id']}/cancel")


def test_a_time_limit_has_a_limit(serve):
    server = serve("--max-timeout-s", "100")
    with server.client() as http:
        order = {"task": "probe", "params": {"script": []}}
        answer = http.post("/v1/jobs", json=order | {"resources": {"timeout_s": 101}})
        assert (answer.status_code, answer.json()["code"]) == (422, "timeout_too_long")
        assert http.post("/v1/jobs", json=order).json()["resources"]["timeout_s"] == 100


def test_told_to_stop_it_leaves_running_jobs_alone_and_the_next_one_finds_them(serve):
    first = serve()
    with first.client() as http:
        job = http.post("/v1/jobs", json={"task": "probe", "params": {"script": ["wait go", "write a"]}}).json()["id"]
        until(lambda: http.get(f"/v1/jobs/{job}").json()["state"] == "running", "the job to run")
    assert first.stop() == 0
    second = serve(home=first.home)
    with second.client() as http:
        assert http.get(f"/v1/jobs/{job}").json()["state"] == "running"
        (first.home / "jobs" / job / "go").touch()
        assert ended(http, job)["attempt"] == 1


def test_killed_with_a_running_job_the_next_one_finds_it(serve):
    first = serve()
    with first.client() as http:
        job = http.post("/v1/jobs", json={"task": "probe", "params": {"script": ["wait go", "write a"]}}).json()["id"]
        until(lambda: http.get(f"/v1/jobs/{job}").json()["state"] == "running", "the job to run")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    (first.home / "jobs" / job / "go").touch()
    second = serve(home=first.home)
    with second.client() as http:
        done = ended(http, job)
        assert (done["state"], done["attempt"]) == ("succeeded", 1)
