"""kill -9 of the server at random moments under load: nothing is lost, nothing runs twice, nothing is there twice."""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass, field

import httpx2
import pytest
from serving import RunningServer, ended, start_server

KILLS = int(os.environ.get("GNOMON_TEST_KILLS", "6"))
"""Fifty before a release: GNOMON_TEST_KILLS=50 pytest tests/server/test_crash.py."""

CLIENTS = 4
SCRIPTS = (["write a"], ["write a", "write b", "say done"], ["raise odd"], ["write a", "partial"])


@dataclass
class Books:
    """What clients were promised: the job of every key they used."""

    server: RunningServer
    stop: threading.Event = field(default_factory=threading.Event)
    jobs: dict[str, str] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)


def keep_submitting(books: Books, client: int) -> None:
    """Submit job after job; one whose answer was lost is sent again with its key until it is answered."""
    number = 0
    while not books.stop.is_set():
        key = f"{client}-{number}"
        order = {"task": "probe", "params": {"script": SCRIPTS[number % len(SCRIPTS)]}, "label": key}
        try:
            url = f"{books.server.url}/v1/jobs"
            answer = httpx2.post(url, json=order, headers={"Idempotency-Key": key}, timeout=30.0, trust_env=False)
        except httpx2.TransportError:
            # Killed: the next server is at another address.
            time.sleep(0.02)
            continue
        if answer.status_code == 503:
            continue
        if answer.status_code not in (200, 201):
            books.mistakes.append(f"{answer.status_code} {answer.text}")
            return
        job = answer.json()["id"]
        if books.jobs.setdefault(key, job) != job:
            books.mistakes.append(f"{key} stands for {books.jobs[key]} and {job}")
        number += 1
        # Four clients must not starve the workers of two cores for the length of the test.
        time.sleep(0.3)


@pytest.mark.slow
def test_kill_minus_nine_under_load(tmp_path):
    home = tmp_path / "home"
    choose = random.Random(20)
    books = Books(start_server(home))
    clients = [threading.Thread(target=keep_submitting, args=(books, n)) for n in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        for _ in range(KILLS):
            time.sleep(choose.uniform(0.0, 1.5))
            books.server.kill()
            books.server = start_server(home)
        time.sleep(1.0)
    finally:
        books.stop.set()
        for client in clients:
            client.join()
    assert books.mistakes == []
    assert len(books.jobs) >= KILLS
    with books.server.client() as http:
        states = {key: ended(http, job) for key, job in books.jobs.items()}
        for key, job in states.items():
            wanted = "failed" if int(key.split("-")[1]) % len(SCRIPTS) == 2 else "succeeded"
            assert job["state"] == wanted, job
        # A request whose answer was lost may have made its job just before the end.
        folders = {path.name for path in (home / "jobs").iterdir() if not path.name.startswith(".")}
        unanswered = folders - set(books.jobs.values())
        labels = {http.get(f"/v1/jobs/{job}").json()["label"] for job in unanswered}
        assert len(unanswered) == len(labels) and not labels & set(books.jobs)
        for job in unanswered:
            ended(http, job)
    ran_twice = [path for path in home.glob("jobs/*/count-*") if path.read_text() != "x"]
    assert ran_twice == []
    assert books.server.stop() == 0
