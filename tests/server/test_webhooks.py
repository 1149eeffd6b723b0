"""Messages about jobs, posted to a real receiver; hours pass on the tests' own clock."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from waiting import until
from webhook_receiver import ROW, Receiver, ended, job_id, status

from gnomon.errors import InputError, NotFound
from gnomon.job import State
from gnomon.server.webhooks import Webhooks, check_url
from gnomon.server.webhooks.deliveries import KEEP_DEAD_S, KEEP_DELIVERED_S, Delivery, Try
from gnomon.server.webhooks.schedule import DELAYS_S, JITTER, LONGEST_RETRY_AFTER_S, retry_after_s
from gnomon.server.webhooks.sender import Sender
from gnomon.server.webhooks.waiting import PER_DESTINATION


class Courier:
    """Webhooks at work in a thread, on a clock that goes on when told."""

    def __init__(self, home: Path, at: float | None = None, **options: Any) -> None:
        self.time_s = time.time() if at is None else at
        options = {"allow_private": True} | options
        self.webhooks = Webhooks(home, clock=lambda: self.time_s, **options)
        self._thread = threading.Thread(target=asyncio.run, args=(self._work(),))
        self._stop: Callable[[], None] = lambda: None
        self._begun = threading.Event()
        self._thread.start()
        self._begun.wait()

    async def _work(self) -> None:
        task = self.webhooks.start()
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        self._stop = lambda: loop.call_soon_threadsafe(stopping.set)
        self._begun.set()
        await stopping.wait()
        await self.webhooks.stop()
        assert task.done()

    def advance(self, seconds: float) -> None:
        self.time_s += seconds
        self.webhooks.wake()

    def announce(self, found: Any = None, url: str | None = None, owner: str = "local", **row: Any) -> None:
        self.webhooks.announce(found or ended(), ROW | row, {"owner": owner, "webhook_url": url})

    def page(self, state: Any = None) -> list[dict[str, Any]]:
        return self.webhooks.deliveries.page(state)

    def one(self, state: Any, tries: int = 1) -> dict[str, Any]:
        """The only message, once it is in this state and was tried so often."""

        def found() -> Any:
            page = self.page()
            return page if [(r["state"], len(r["tries"])) for r in page] == [(state, tries)] else None

        (record,) = until(found, f"one message {state} after {tries} tries, not {self.page()}")
        return record

    def counts_are(self, **counts: int) -> None:
        until(lambda: counts.items() <= self.webhooks.counts().items(), f"{counts}, not {self.webhooks.counts()}")

    def close(self) -> None:
        if self._thread.is_alive():
            self._stop()
            self._thread.join()


@pytest.fixture
def receivers() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(*answers: Any, **options: Any) -> Receiver:
        made.append(Receiver(*answers, **options))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def receiver(receivers: Callable[..., Receiver]) -> Receiver:
    return receivers()


@pytest.fixture
def couriers(own_places: Path, receivers: object) -> Iterator[Callable[..., Courier]]:
    made: list[Courier] = []

    def make(**options: Any) -> Courier:
        made.append(Courier(own_places, **options))
        return made[-1]

    yield make
    for courier in made:
        courier.close()


@pytest.fixture
def courier(couriers: Callable[..., Courier]) -> Courier:
    return couriers()


# What is sent


def test_the_submitter_gets_one_signed_message_about_the_end(courier: Courier, receiver: Receiver):
    receiver.answers = [status(200, b"thanks,\n\x1b[31m Bob")]
    courier.announce(url=receiver.url("/hook?key=1"))
    record = courier.one("delivered")
    (message,) = receiver.messages
    secret = courier.webhooks.endpoints.secret_for_jobs()
    event = Webhook(secret).verify(message.body, message.headers)
    assert event == {
        "type": "job.succeeded",
        "timestamp": "2026-03-01T12:00:00.000Z",
        "data": {
            "id": job_id(0),
            "state": "succeeded",
            "reason": None,
            "error": None,
            "attempt": 1,
            "started_at": "2026-03-01T11:59:50.000Z",
            "ended_at": "2026-03-01T12:00:00.000Z",
            **ROW,
        },
    }
    assert message.path == "/hook?key=1"
    assert message.headers["content-type"] == "application/json"
    assert record["id"] == message.id
    (tried,) = record["tries"]
    assert (tried["status"], tried["problem"], tried["answer"]) == (200, None, "thanks,  [31m Bob")
    counts = {"pending": 0, "dead": 0, "delivered": 1, "failed_attempts": 0}
    until(lambda: courier.webhooks.counts() == counts, "the message to be counted")
    assert not courier.webhooks.is_held(job_id(0))


def test_a_failed_job_says_why_and_a_cancelled_one_that_it_was(courier: Courier, receiver: Receiver):
    courier.announce(ended(1, State.FAILED), receiver.url())
    courier.announce(ended(2, State.CANCELLED), receiver.url())
    courier.counts_are(delivered=2)
    failed, cancelled = sorted((json.loads(m.body) for m in receiver.messages), key=lambda event: event["data"]["id"])
    assert failed["type"] == "job.failed"
    assert failed["data"]["reason"] == "bad_input"
    assert failed["data"]["error"]["code"] == "mesh_empty"
    assert (cancelled["type"], cancelled["data"]["reason"]) == ("job.cancelled", "cancelled_by_user")


def test_saying_it_again_sends_nothing_again_also_after_a_restart(couriers, receiver: Receiver):
    first = couriers()
    first.announce(url=receiver.url())
    first.announce(url=receiver.url())
    first.counts_are(delivered=1)
    first.announce(url=receiver.url())
    first.close()
    second = couriers()
    second.announce(url=receiver.url())
    # Another attempt is something new, and arrives after whatever the line before could have caused.
    second.announce(ended(attempt=2), receiver.url())
    second.counts_are(delivered=1, pending=0)
    ids = [message.id for message in receiver.messages]
    assert len(ids) == len(set(ids)) == 2


def test_many_threads_make_one_message(couriers, receiver: Receiver):
    courier = couriers()
    threads = [threading.Thread(target=courier.announce, kwargs={"url": receiver.url()}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    courier.one("delivered")
    assert len(receiver.messages) == 1


def test_registered_receivers_get_what_they_asked_for_signed_with_their_own_secret(courier, receiver: Receiver):
    endpoints = courier.webhooks.endpoints
    started = endpoints.add(receiver.url("/started"), ("job.started",))
    failures = endpoints.add(receiver.url("/failures"), ("job.failed",))
    usual = endpoints.add(receiver.url("/usual"))
    now = time.time() + 60.0
    running = ended(7, at=now).model_copy(update={"state": State.RUNNING, "ended_at": None})
    courier.announce(running)
    courier.counts_are(delivered=1)
    courier.announce(ended(7, at=now))
    # Between two looks this one went from queued to its end; that it started is said as well.
    courier.announce(ended(8, at=now))
    courier.counts_are(delivered=4)
    assert sorted(message.path for message in receiver.messages) == ["/started", "/started", "/usual", "/usual"]
    for message in receiver.messages:
        event = json.loads(message.body)
        sender = started if message.path == "/started" else usual
        assert message.is_signed_with(sender.secret) and not message.is_signed_with(failures.secret)
        if message.path == "/started":
            assert (event["type"], event["data"]["state"], event["data"]["ended_at"]) == (
                "job.started",
                "running",
                None,
            )
        else:
            assert (event["type"], event["data"]["state"]) == ("job.succeeded", "succeeded")


def test_a_receiver_is_not_told_of_what_happened_before_it_was_registered(courier: Courier, receiver: Receiver):
    courier.webhooks.endpoints.add(receiver.url())
    courier.announce(ended(1, at=time.time() - 60.0))
    courier.announce(ended(2, at=time.time() + 60.0))
    courier.counts_are(delivered=1)
    assert [json.loads(message.body)["data"]["id"] for message in receiver.messages] == [job_id(2)]


# Trying again


def test_a_message_is_tried_again_later_and_later_and_is_dead_after_the_last_try(courier, receiver: Receiver):
    receiver.answers = [status(503, b"closed")] * len(DELAYS_S)
    courier.announce(url=receiver.url())
    for tries in range(1, len(DELAYS_S)):
        record = courier.one("pending", tries)
        assert record["tries"][-1]["problem"] == "the receiver answered 503"
        assert record["tries"][-1]["answer"] == "closed"
        assert courier.webhooks.is_held(job_id(0))
        wait_s = record["next_at"] - courier.time_s
        assert DELAYS_S[tries] * (1 - JITTER) <= wait_s <= DELAYS_S[tries] * (1 + JITTER)
        courier.advance(wait_s)
    record = courier.one("dead", len(DELAYS_S))
    assert record["next_at"] is None
    assert courier.webhooks.counts() == {"pending": 0, "dead": 1, "delivered": 0, "failed_attempts": len(DELAYS_S)}
    assert not courier.webhooks.is_held(job_id(0))
    assert len({message.id for message in receiver.messages}) == 1
    assert len({message.body for message in receiver.messages}) == 1
    assert len({message.headers["webhook-timestamp"] for message in receiver.messages}) > 5
    secret = courier.webhooks.endpoints.secret_for_jobs()
    assert all(message.is_signed_with(secret) for message in receiver.messages)


def test_a_dead_message_can_be_sent_again_with_the_same_id_and_all_its_tries(courier, receiver: Receiver):
    receiver.answers = [status(410), status(500)]
    courier.announce(url=receiver.url())
    dead = courier.one("dead", 1)
    courier.webhooks.resend(dead["id"])
    with pytest.raises(InputError) as caught:
        courier.webhooks.resend(dead["id"])
    assert caught.value.code == "delivery_not_dead"
    pending = courier.one("pending", 2)
    # The first pause again, not the second.
    assert pending["next_at"] - courier.time_s <= DELAYS_S[1] * (1 + JITTER)
    courier.advance(DELAYS_S[1] * 2)
    courier.one("delivered", 3)
    assert {message.id for message in receiver.messages} == {dead["id"]}
    with pytest.raises(InputError):
        courier.webhooks.resend(dead["id"])
    with pytest.raises(NotFound):
        courier.webhooks.resend("msg_../../../etc/passwd")


def test_a_resend_by_another_process_is_noticed(courier: Courier, receiver: Receiver, own_places: Path):
    receiver.answers = [status(410)]
    courier.announce(url=receiver.url())
    dead = courier.one("dead", 1)
    other = Webhooks(own_places, allow_private=True)
    other.resend(dead["id"])
    courier.advance(2.0)
    courier.one("delivered", 2)


def test_gone_ends_it_at_once_and_disables_a_registered_receiver(courier: Courier, receiver: Receiver):
    receiver.answers = [status(410)]
    endpoint = courier.webhooks.endpoints.add(receiver.url())
    at = time.time() + 60.0
    courier.announce(ended(1, at=at))
    courier.one("dead")
    courier.announce(ended(2, at=at))
    assert len(courier.page()) == 1
    assert "gone" in courier.webhooks.endpoints.get(endpoint.id).disabled_because
    assert len(receiver.messages) == 1


def test_what_waits_for_a_removed_receiver_is_given_up(courier: Courier, receiver: Receiver):
    receiver.answers = [status(500)]
    endpoint = courier.webhooks.endpoints.add(receiver.url())
    courier.announce(ended(at=time.time() + 60.0))
    courier.one("pending")
    courier.webhooks.endpoints.remove(endpoint.id)
    courier.advance(DELAYS_S[1] * 2)
    assert courier.one("dead", 2)["tries"][-1]["problem"] == "the webhook was removed"
    assert len(receiver.messages) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(courier: Courier, receivers, code: int):
    elsewhere = receivers()
    receiver = receivers(status(code, Location=elsewhere.url()))
    courier.announce(url=receiver.url())
    assert f"redirect ({code})" in courier.one("pending")["tries"][0]["problem"]
    courier.advance(DELAYS_S[1] * 2)
    courier.one("delivered", 2)
    assert elsewhere.messages == []


@pytest.mark.parametrize(
    ("header", "wait_s"), [("7200", 7200.0), ("999999999", LONGEST_RETRY_AFTER_S), ("1", 0.0), ("soon", 0.0)]
)
def test_a_receiver_may_ask_for_a_longer_pause(courier: Courier, receiver: Receiver, header: str, wait_s: float):
    receiver.answers = [status(429, Retry_After=header)]
    courier.announce(url=receiver.url())
    record = courier.one("pending")
    expected = max(wait_s, DELAYS_S[1])
    assert (1 - JITTER) * expected <= record["next_at"] - courier.time_s <= (1 + JITTER) * expected


def test_retry_after_may_be_a_date():
    assert retry_after_s("Sun, 01 Mar 2026 12:01:00 GMT", 1_772_366_400.0) == 60.0
    assert retry_after_s("Sun, 01 Mar 2026 11:00:00 GMT", 1_772_366_400.0) is None
    assert retry_after_s("-5", 0.0) is None
    assert retry_after_s("nan", 0.0) is None


# Bad receivers


def test_a_receiver_that_hangs_counts_as_failed(couriers, receiver: Receiver):
    courier = couriers(sender=Sender(allow_private=True, timeout_s=0.2))
    receiver.answers = [receiver.hangs]
    courier.announce(url=receiver.url())
    assert courier.one("pending")["tries"][0]["problem"] == "127.0.0.1 did not answer within 0.2 s"


def test_a_receiver_that_answers_byte_by_byte_counts_as_failed(couriers, receiver: Receiver):
    def drip(request: BaseHTTPRequestHandler) -> None:
        while not receiver.released.wait(0.01):
            request.wfile.write(b"H")

    courier = couriers(sender=Sender(allow_private=True, timeout_s=0.3))
    receiver.answers = [lambda request: (request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: "), drip(request))]
    courier.announce(url=receiver.url())
    assert "did not answer" in courier.one("pending")["tries"][0]["problem"]


def test_a_yes_counts_even_if_the_answers_body_never_ends(couriers, receiver: Receiver):
    def endless(request: BaseHTTPRequestHandler) -> None:
        status(200, b"ok", Content_Length="1000000")(request)
        receiver.hangs(request)

    courier = couriers(sender=Sender(allow_private=True, timeout_s=1.5))
    receiver.answers = [endless]
    courier.announce(url=receiver.url())
    assert courier.one("delivered")["tries"][0]["answer"] == "ok"


def test_a_long_answer_is_cut(courier: Courier, receiver: Receiver):
    receiver.answers = [status(200, b"a" * 1_000_000)]
    courier.announce(url=receiver.url())
    assert courier.one("delivered")["tries"][0]["answer"] == "a" * 500


def test_a_slow_receiver_does_not_hold_the_others(courier: Courier, receivers):
    slow, quick = receivers(), receivers()
    slow.answers = [slow.hangs] * 20
    for number in range(20):
        courier.announce(ended(number), slow.url())
    for number in range(20, 40):
        courier.announce(ended(number), quick.url())
    courier.counts_are(delivered=20, pending=20)
    assert len(quick.messages) == 20
    assert len(slow.messages) <= PER_DESTINATION
    slow.released.set()


@pytest.mark.parametrize("closed", [False, True], ids=["no http", "nobody there"])
def test_what_is_no_receiver_counts_as_failed(courier: Courier, receivers, closed: bool):
    receiver = receivers(lambda request: request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n"))
    if closed:
        receiver.close()
    courier.announce(url=receiver.url())
    assert "127.0.0.1" in courier.one("pending")["tries"][0]["problem"]


def test_an_unknown_host_counts_as_failed(couriers):
    def nobody(host: str, port: int) -> list[str]:
        raise OSError("no address")

    courier = couriers(sender=Sender(allow_private=True, resolve=nobody))
    courier.announce(url="http://receiver.example/hook")
    assert courier.one("pending")["tries"][0]["status"] is None


# Addresses, passwords, secrets


@pytest.mark.parametrize("host", ["127.0.0.1", "receiver.example"])
def test_private_addresses_are_not_contacted(couriers, receiver: Receiver, host: str):
    resolve = lambda host, port: ["127.0.0.1"]  # noqa: E731
    courier = couriers(sender=Sender(allow_private=False, resolve=resolve))
    courier.announce(url=receiver.url(host=host))
    assert "private network" in courier.one("dead")["tries"][0]["problem"]
    assert receiver.messages == []


def test_the_connection_goes_to_the_address_that_was_checked(couriers, receiver: Receiver):
    asked = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    courier = couriers(sender=Sender(allow_private=True, resolve=resolve))
    courier.announce(url=receiver.url(host="receiver.example"))
    courier.one("delivered")
    assert asked == [("receiver.example", receiver.port)]
    assert receiver.messages[0].headers["host"] == f"receiver.example:{receiver.port}"


def test_https_proves_the_hosts_name_on_the_checked_address(couriers, receivers, tmp_path: Path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    crt, key = tmp_path / "receiver.crt", tmp_path / "receiver.key"
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=receiver.example", "-addext", "subjectAltName=DNS:receiver.example"]
    subprocess.run([*request.split(), *names, "-keyout", key, "-out", crt], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(crt, key)
    receiver = receivers(tls=tls)
    url = receiver.url(host="receiver.example").replace("http://", "https://")
    resolve = lambda host, port: ["127.0.0.1"]  # noqa: E731

    stranger = couriers(sender=Sender(allow_private=True, resolve=resolve))
    stranger.announce(url=url)
    assert "certificate of receiver.example is refused" in stranger.one("pending")["tries"][0]["problem"]
    stranger.close()
    monkeypatch.setenv("SSL_CERT_FILE", str(crt))
    friend = couriers(at=stranger.time_s, sender=Sender(allow_private=True, resolve=resolve))
    friend.announce(ended(1), url.replace("receiver.example", "other.example"))
    friend.counts_are(failed_attempts=1)
    assert receiver.messages == []
    friend.advance(DELAYS_S[1] * 2)
    friend.counts_are(delivered=1)
    assert [message.headers["host"] for message in receiver.messages] == [f"receiver.example:{receiver.port}"]


def test_passwords_and_secrets_are_used_and_never_shown(courier, receiver: Receiver, caplog, own_places: Path):
    caplog.set_level(logging.DEBUG)
    receiver.answers = [status(500), status(410)]
    url = receiver.url("/hook?key=hidden-query").replace("http://", "http://bob:hidden-password@")
    endpoint = courier.webhooks.endpoints.add(url)
    courier.announce(ended(at=time.time() + 60.0))
    courier.one("pending")
    courier.advance(DELAYS_S[1] * 2)
    courier.one("dead", 2)
    credentials = "Basic " + base64.b64encode(b"bob:hidden-password").decode()
    assert receiver.messages[0].headers["authorization"] == credentials
    assert receiver.messages[0].path == "/hook?key=hidden-query"
    seen = json.dumps([courier.page(), [e.shown() for e in courier.webhooks.endpoints.all()]]) + caplog.text
    assert "/hook" in seen
    assert "hidden" not in seen and endpoint.secret not in seen and endpoint.secret[6:20] not in seen
    kept = [
        path for path in (own_places / "server").rglob("*") if path.is_file() and "hidden" in path.read_text("utf-8")
    ]
    assert kept
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    courier.webhooks.endpoints.secret_for_jobs()
    assert (own_places / "server" / "webhook_secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://example.org/", "url_scheme"),
        ("nonsense", "url_scheme"),
        ("http://", "url_invalid"),
        ("https://example.org:99999/", "url_invalid"),
        ("https://example.org/" + "a" * 2048, "url_too_long"),
        ("http://169.254.169.254/latest/meta-data", "url_private"),
        ("http://[::1]:8800/v1/jobs", "url_private"),
        ("http://[::ffff:10.0.0.1]/", "url_private"),
    ],
)
def test_urls_that_cannot_be_receivers_are_refused_when_they_are_named(url: str, code: str):
    with pytest.raises(InputError) as caught:
        check_url(url, allow_private=False)
    assert (caught.value.code, caught.value.field) == (code, "webhook_url")


def test_any_port_and_private_addresses_where_allowed_are_taken():
    check_url("https://example.org:1/", allow_private=False)
    check_url("http://10.0.0.1:65535/x", allow_private=True)


# Files


def test_a_pending_message_survives_a_restart_and_keeps_its_time(couriers, receiver: Receiver):
    receiver.answers = [status(500)]
    first = couriers()
    first.announce(url=receiver.url())
    due = first.one("pending")["next_at"]
    first.close()
    second = couriers(at=first.time_s)
    assert second.webhooks.is_held(job_id(0))
    assert second.one("pending")["next_at"] == due
    second.advance(DELAYS_S[1] * 2)
    second.one("delivered", 2)


def test_a_message_that_was_taken_before_a_kill_is_not_sent_again(own_places: Path, couriers, receiver: Receiver):
    idle = Webhooks(own_places, allow_private=True)
    idle.announce(ended(), ROW, {"webhook_url": receiver.url()})
    (message,) = idle.deliveries.names("pending")
    delivery = idle.deliveries.read("pending", message)
    assert delivery is not None
    idle.deliveries.rewrite(delivery.with_try(Try(at=1.0, took_s=0.1, status=204)))
    couriers().one("delivered", 1)
    assert receiver.messages == []


def test_a_damaged_message_is_set_aside_and_the_others_go_on(own_places: Path, couriers, receiver: Receiver):
    idle = Webhooks(own_places, allow_private=True)
    for number in (1, 2):
        idle.announce(ended(number), ROW, {"webhook_url": receiver.url()})
    broken, whole = idle.deliveries.names("pending")
    (idle.deliveries.folder / "pending" / f"{broken}.json").write_text("{", "utf-8")
    courier = couriers()
    assert courier.one("delivered")["id"] == whole
    assert (idle.deliveries.folder / "pending" / f"damaged-{broken}.json").exists()
    assert not courier.webhooks.is_held(job_id(1))


def test_what_cannot_be_put_down_now_is_put_down_later(courier: Courier, receiver: Receiver, own_places: Path):
    courier.webhooks.endpoints.add(receiver.url())
    file = own_places / "server" / "webhooks.json"
    whole = file.read_text("utf-8")
    file.write_text("{", "utf-8")
    courier.announce(ended(at=time.time() + 60.0))
    assert courier.page() == []
    file.write_text(whole, "utf-8")
    courier.advance(2.0)
    courier.one("delivered")


def test_a_deleted_job_takes_its_messages_along(courier: Courier, receiver: Receiver):
    receiver.answers = [status(500), status(410)]
    courier.announce(ended(1), receiver.url())
    courier.counts_are(failed_attempts=1)
    courier.announce(ended(2), receiver.url())
    courier.counts_are(dead=1)
    courier.announce(ended(3), receiver.url())
    courier.counts_are(delivered=1)
    for number in (1, 2, 3):
        courier.webhooks.forget_job(job_id(number))
    courier.advance(2.0)
    courier.counts_are(pending=0, dead=0)
    assert courier.page() == []
    assert not courier.webhooks.is_held(job_id(1))


def test_finished_messages_are_forgotten_when_they_are_old_or_their_job_is_gone(own_places: Path, monkeypatch):
    kept = Webhooks(own_places, allow_private=True).deliveries
    now = time.time()
    cases = {
        1: ("delivered", KEEP_DELIVERED_S + 60, True, False),
        2: ("delivered", KEEP_DELIVERED_S - 60, True, True),
        3: ("dead", KEEP_DELIVERED_S + 60, True, True),
        4: ("dead", KEEP_DEAD_S + 60, True, False),
        5: ("delivered", 7200, False, False),
        6: ("delivered", 60, False, True),
    }
    for number, (state, age_s, has_job, _) in cases.items():
        add(kept, number, state, now - age_s)
        if has_job:
            kept.jobs.job(job_id(number)).path.mkdir(parents=True)
    kept.prune(now, keep_from=now - 3600)
    left = {name.split("_")[1] for state in ("delivered", "dead") for name in kept.names(state)}
    assert left == {job_id(number) for number, (*_, stays) in cases.items() if stays}
    monkeypatch.setattr("gnomon.server.webhooks.deliveries.MAX_KEPT", 1)
    kept.prune(now, keep_from=now - 30)
    # The newest one stays, and number 6, which is newer still, went because its job is gone.
    assert [name.split("_")[1] for name in kept.names("delivered")] == []
    assert [name.split("_")[1] for name in kept.names("dead")] == [job_id(3)]


def add(kept: Any, number: int, state: str, moved_at: float) -> None:
    name = f"msg_{job_id(number)}_{number:020d}"
    fields = {"event": "job.failed", "job": job_id(number), "url": "http://a.example/", "body": "{}"}
    kept.create(Delivery(id=name, created_at=1.0, next_at=1.0, **fields))
    kept.finish(kept.read("pending", name), state)
    os.utime(kept.folder / state / f"{name}.json", (moved_at, moved_at))


def test_pages_follow_one_another_newest_job_first(own_places: Path):
    webhooks = Webhooks(own_places, allow_private=True)
    for number in range(5):
        owner = "tok_a" if number % 2 else "tok_b"
        webhooks.announce(ended(number), ROW, {"webhook_url": "http://a.example/", "owner": owner})
    first = webhooks.deliveries.page(limit=2)
    second = webhooks.deliveries.page(limit=9, before=first[-1]["id"])
    assert [record["job"] for record in first + second] == [job_id(number) for number in (4, 3, 2, 1, 0)]
    own = webhooks.deliveries.page(sees=lambda owner: owner == "tok_a")
    assert [record["job"] for record in own] == [job_id(3), job_id(1)]
    assert [record["job"] for record in webhooks.deliveries.page(job=job_id(2))] == [job_id(2)]
    assert webhooks.deliveries.page("dead") == []
