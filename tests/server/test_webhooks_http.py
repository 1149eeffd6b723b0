"""Webhooks of a real server, by HTTP and by `gnomon webhooks`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import ended
from standardwebhooks import Webhook
from waiting import until
from webhook_receiver import Receiver, status

from gnomon.server.tokens import TokenStore

JOB = {"task": "probe", "params": {"script": ["write a"]}, "label": "hooked"}
ALLOWED = "--allow-private-webhooks"
COLD = ("--workers", "0")
"""No warm workers: these tests run one small job each."""


@pytest.fixture
def server(serve: Any) -> Any:
    return serve(*COLD)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def gnomon(*words: str, code: int = 0) -> Any:
    """Run `gnomon webhooks ... --json` and give what it printed."""
    command = [sys.executable, "-m", "gnomon", "webhooks", *words, "--json"]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def deliveries(client: Any, **filters: Any) -> list[dict[str, Any]]:
    answer = client.get("/v1/webhooks/deliveries", params=filters)
    assert answer.status_code == 200, answer.text
    return answer.json()["deliveries"]


def test_a_job_tells_its_submitter_how_it_ended(serve, receiver: Receiver, own_places: Path):
    with serve(ALLOWED, *COLD).client() as http:
        url = receiver.url().replace("http://", "http://bob:hidden@")
        job = http.post("/v1/jobs", json=JOB | {"webhook_url": url}).json()
        assert ended(http, job["id"])["state"] == "succeeded"
        (record,) = until(lambda: deliveries(http, job=job["id"], state="delivered"), "the delivery")
        shown = http.get("/v1/webhooks/deliveries").text
    (message,) = receiver.messages
    event = Webhook(gnomon("secret")["secret"]).verify(message.body, message.headers)
    assert event["type"] == "job.succeeded"
    known = {name: event["data"][name] for name in ("id", "task", "state", "label", "attempt", "error")}
    assert known == {
        "id": job["id"],
        "task": "probe",
        "state": "succeeded",
        "label": "hooked",
        "attempt": 1,
        "error": None,
    }
    assert record["id"] == message.id
    assert record["tries"][0]["status"] == 204
    assert "hidden" not in shown + (own_places / "serve.log").read_text("utf-8")
    assert gnomon("deliveries", "--state", "delivered", "--job", job["id"]) == [record]


def test_a_job_that_ends_while_no_server_runs_is_told_of_by_the_next_one(serve, receiver: Receiver, own_places: Path):
    server = serve(ALLOWED, *COLD)
    with server.client() as http:
        order = {"task": "probe", "params": {"script": ["wait go", "write a"]}, "webhook_url": receiver.url()}
        job = http.post("/v1/jobs", json=order).json()
        until(lambda: http.get(f"/v1/jobs/{job['id']}").json()["state"] == "running", "a running job")
    server.kill()
    folder = own_places / "jobs" / job["id"]
    (folder / "go").touch()
    until((folder / "results" / "result.json").exists, "the job's end")
    assert receiver.messages == []
    with serve(ALLOWED, *COLD).client() as http:
        until(lambda: deliveries(http, state="delivered"), "the delivery")
    assert [json.loads(message.body)["data"]["id"] for message in receiver.messages] == [job["id"]]


def test_receivers_are_registered_tested_and_removed_over_http(serve, receiver: Receiver):
    with serve(ALLOWED, *COLD).client() as http:
        url = receiver.url("/all?key=hidden")
        made = http.post("/v1/webhooks/endpoints", json={"url": url, "events": ["job.cancelled"]})
        assert made.status_code == 201
        endpoint = made.json()
        secret = endpoint.pop("secret")
        assert endpoint["events"] == ["job.cancelled"] and "hidden" not in endpoint["url"]
        assert http.get("/v1/webhooks/endpoints").json() == [endpoint] == gnomon("list")
        assert gnomon("secret", endpoint["id"])["secret"] == secret

        receiver.answers = [status(200, b"hello"), status(500)]
        result = http.post(f"/v1/webhooks/endpoints/{endpoint['id']}/test").json()
        assert (result["delivered"], result["status"], result["answer"]) == (True, 200, "hello")
        event = Webhook(secret).verify(receiver.messages[0].body, receiver.messages[0].headers)
        assert event["type"] == "webhook.test"
        result = http.post(f"/v1/webhooks/endpoints/{endpoint['id']}/test").json()
        assert (result["delivered"], result["problem"]) == (False, "the receiver answered 500")

        # A succeeded job is not what this receiver asked for.
        job = http.post("/v1/jobs", json=JOB).json()
        assert ended(http, job["id"])["state"] == "succeeded"
        assert deliveries(http) == []

        assert http.delete(f"/v1/webhooks/endpoints/{endpoint['id']}").status_code == 204
        gone = http.delete(f"/v1/webhooks/endpoints/{endpoint['id']}")
        assert (gone.status_code, gone.json()["code"]) == (404, "webhook_not_found")
        assert http.post(f"/v1/webhooks/endpoints/{endpoint['id']}/test").status_code == 404
        assert http.get("/v1/webhooks/endpoints").json() == []


def test_a_dead_message_is_sent_again_over_http_and_by_the_command(serve, receiver: Receiver):
    receiver.answers = [status(410), status(410)]
    with serve(ALLOWED, *COLD).client() as http:
        job = http.post("/v1/jobs", json=JOB | {"webhook_url": receiver.url()}).json()
        (dead,) = until(lambda: deliveries(http, state="dead"), "the dead message")
        again = f"/v1/webhooks/deliveries/{dead['id']}/resend"
        assert http.post(again).status_code == 202
        until(lambda: len(receiver.messages) == 2 and deliveries(http, state="dead"), "the message to be dead again")
        assert gnomon("resend", dead["id"])[0]["state"] == "pending"
        until(lambda: deliveries(http, state="delivered", job=job["id"]), "the delivery")
        refused = http.post(again)
        assert (refused.status_code, refused.json()["code"]) == (409, "delivery_not_dead")
        unknown = http.post("/v1/webhooks/deliveries/msg_x/resend")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "delivery_not_found")
    assert {message.id for message in receiver.messages} == {dead["id"]}


def test_private_addresses_are_refused_unless_allowed(server, http, receiver: Receiver):
    refused = http.post("/v1/webhooks/endpoints", json={"url": receiver.url()})
    assert (refused.status_code, refused.json()["code"]) == (422, "url_private")
    # A name is looked up when it is sent to.
    assert http.post("/v1/webhooks/endpoints", json={"url": receiver.url(host="localhost")}).status_code == 201
    job = http.post("/v1/jobs", json=JOB).json()
    assert ended(http, job["id"])["state"] == "succeeded"
    (dead,) = until(lambda: deliveries(http, state="dead"), "the dead message")
    assert "private network" in dead["tries"][0]["problem"]
    assert receiver.messages == []


def test_wrong_orders_name_what_is_wrong(http):
    for order, field in [
        ({}, "url"),
        ({"url": "ftp://example.org"}, "url"),
        ({"url": "https://example.org", "events": ["job.eaten"]}, "events.0"),
        ({"url": "https://example.org", "y": 1}, "y"),
    ]:
        answer = http.post("/v1/webhooks/endpoints", json=order)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["field"] == field


def test_a_token_sees_the_messages_of_its_own_jobs_and_only_an_admin_the_rest(serve, receiver: Receiver, own_places):
    store = TokenStore(own_places)
    alice, bob = (store.create(name, ("submit",))[1] for name in ("alice", "bob"))
    root = store.create("root", ("admin",))[1]
    with serve(ALLOWED, "--require-token", *COLD).client() as http:

        def as_(token: str) -> dict[str, Any]:
            return {"headers": {"Authorization": f"Bearer {token}"}}

        job = http.post("/v1/jobs", json=JOB | {"webhook_url": receiver.url()}, **as_(alice)).json()
        path = "/v1/webhooks/deliveries"
        seen = lambda token: http.get(path, **as_(token)).json()["deliveries"]  # noqa: E731
        until(lambda: seen(alice), "the message")
        assert [record["job"] for record in seen(root)] == [job["id"]]
        assert seen(bob) == []
        assert http.get(path).status_code == 401
        for method, target in [
            ("GET", "/v1/webhooks/endpoints"),
            ("POST", "/v1/webhooks/endpoints"),
            ("DELETE", "/v1/webhooks/endpoints/ep_1"),
            ("POST", "/v1/webhooks/endpoints/ep_1/test"),
            ("POST", f"{path}/{seen(alice)[0]['id']}/resend"),
        ]:
            answer = http.request(method, target, json={"url": receiver.url()}, **as_(alice))
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), (method, target)


def test_the_command_registers_tests_and_removes(own_places: Path, receiver: Receiver):
    made = gnomon("add", receiver.url(), "--event", "job.started", "--event", "job.failed")
    assert made["events"] == ["job.started", "job.failed"]
    assert gnomon("test", made["id"], code=4)["error"]["code"] == "webhook_not_taken"
    assert receiver.messages == []
    assert gnomon("test", made["id"], ALLOWED)["status"] == 204
    assert receiver.messages[0].is_signed_with(made["secret"])
    assert gnomon("add", "ftp://example.org/", code=2)["error"]["code"] == "url_scheme"
    assert gnomon("remove", made["id"]) == {"id": made["id"], "removed": True}
    assert gnomon("list") == gnomon("deliveries") == []
    assert gnomon("remove", made["id"], code=2)["error"]["code"] == "webhook_not_found"


def test_the_tables_say_what_a_person_wants_to_know(own_places: Path, receiver: Receiver):
    def run(*words: str) -> str:
        command = [sys.executable, "-m", "gnomon", "webhooks", *words]
        return subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True).stdout

    assert (run("list"), run("deliveries")) == ("no webhooks\n", "no messages\n")
    secret = run("add", receiver.url("/mine").replace("http://", "http://bob:hidden@"))
    assert secret.startswith("whsec_")
    table = run("list")
    assert "/mine" in table and "active" in table and "hidden" not in table and secret.strip() not in table
    endpoint = table.splitlines()[1].split()[0]
    assert run("secret", endpoint) == secret
    assert "204" in run("test", endpoint, ALLOWED)
    assert run("remove", endpoint) == f"{endpoint} is removed\n"
