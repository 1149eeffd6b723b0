"""Fixtures: real servers over homes of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from serving import RunningServer, start_server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Start servers; what still runs is ended after the test, workers included."""
    started: list[RunningServer] = []

    def start(*flags: str, home: Path | None = None, environment: dict[str, str] | None = None) -> RunningServer:
        found = start_server(home or tmp_path / "home", *flags, environment=environment)
        started.append(found)
        return found

    yield start
    for server in started:
        with contextlib.suppress(ProcessLookupError):
            if server.process.poll() is None:
                server.stop()


@pytest.fixture
def server(serve: Callable[..., RunningServer]) -> RunningServer:
    return serve()


@pytest.fixture
def http(server: RunningServer) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client
