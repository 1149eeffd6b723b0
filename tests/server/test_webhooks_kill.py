"""The sending process is killed in the middle, again and again; the receiver's books must be right in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from waiting import until
from webhook_receiver import Receiver, job_id, status

from gnomon.server.webhooks.deliveries import Deliveries

PROGRAM = Path(__file__).with_name("webhook_sending.py")
JOBS = 60
KILLS = 5


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def sending(home: Path, url: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(PROGRAM.parent), os.environ["PYTHONPATH"]])
    command = [sys.executable, str(PROGRAM), str(home), url, "0", str(JOBS)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})


def test_every_message_arrives_and_none_is_made_twice(own_places: Path, receiver: Receiver):
    kept = Deliveries(own_places)
    # The receiver answers a few at a time, so that no process gets through with everything.
    permits = threading.Semaphore(0)

    def when_permitted(request: BaseHTTPRequestHandler) -> None:
        permits.acquire()
        status(204)(request)

    receiver.answers = [when_permitted] * 10 * JOBS
    for kill in range(KILLS):
        heard = len(receiver.messages)
        process = sending(own_places, receiver.url())
        permits.release(4)
        # Each process announces all the jobs again, as a server does that does not know what the last one did.
        until(lambda heard=heard, kill=kill: len(receiver.messages) > heard + kill, "some more messages")
        process.kill()
        process.wait()
    assert len(kept.names("delivered")) <= 4 * KILLS < JOBS
    permits.release(10 * JOBS)
    last = sending(own_places, receiver.url())
    until(lambda: len(kept.names("delivered")) == JOBS, "all messages delivered")
    last.kill()
    last.wait()

    assert kept.names("pending") == kept.names("dead") == []
    bodies = defaultdict(set)
    for message in receiver.messages:
        bodies[message.id].add(message.body)
    assert sorted(bodies) == kept.names("delivered")
    assert all(len(of_one) == 1 for of_one in bodies.values())
    told = sorted(json.loads(body)["data"]["id"] for (body,) in bodies.values())
    assert told == [job_id(number) for number in range(JOBS)]
