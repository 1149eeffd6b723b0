"""One file for each message, under home/server/webhooks/: pending/, delivered/ or dead/. The folder is its state."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from gnomon import atomic
from gnomon.errors import InputError, NotFound
from gnomon.job import JobStore
from gnomon.request import Frozen
from gnomon.server.webhooks.endpoints import locked, shown_url

log = logging.getLogger(__name__)

DeliveryState = Literal["pending", "delivered", "dead"]

STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)

KEEP_DELIVERED_S = 7 * 86_400.0
KEEP_DEAD_S = 30 * 86_400.0
MAX_KEPT = 10_000
"""So many delivered messages are remembered, and so many dead ones."""

MAX_TRIES_KEPT = 30

LEFTOVER_AGE_S = 3600.0
"""A temporary file that is older than this belongs to nobody any more."""

STATUSES = {"delivery_not_found": 404, "delivery_not_dead": 409}
"""HTTP statuses of this module's codes."""

_ID = re.compile(r"msg_[0-9a-z]{16}_[0-9a-f]{20}")


class Try(Frozen):
    """One sending: when, how the receiver answered, and what was wrong."""

    at: float
    took_s: float
    status: int | None = None
    problem: str | None = None
    answer: str | None = None
    """How the body of the answer begins."""


class Delivery(Frozen):
    """A message and what has been tried to deliver it. `url` may hold a password: see `shown`."""

    id: str
    event: str
    job: str
    owner: str | None = None
    endpoint: str | None = None
    """The registered receiver; None for the URL that the job itself names."""
    url: str
    body: str
    created_at: float
    next_at: float
    tries: tuple[Try, ...] = ()
    tries_before_resend: int = 0
    """How many of the tries were made before somebody asked to send the dead message again."""

    @property
    def tries_now(self) -> int:
        return len(self.tries) - self.tries_before_resend

    @property
    def is_taken(self) -> bool:
        return bool(self.tries) and self.tries[-1].problem is None

    def with_try(self, made: Try) -> Delivery:
        """The same with one more try; of very many the oldest are forgotten."""
        too_many = max(0, len(self.tries) + 1 - MAX_TRIES_KEPT)
        return self.model_copy(
            update={
                "tries": (*self.tries, made)[too_many:],
                "tries_before_resend": max(0, self.tries_before_resend - too_many),
            }
        )

    def shown(self, state: DeliveryState) -> dict[str, Any]:
        """All that may be seen of it."""
        fields = self.model_dump(mode="json", exclude={"body", "tries_before_resend", "next_at", "owner"})
        waits = self.next_at if state == "pending" else None
        return fields | {"state": state, "url": shown_url(self.url), "next_at": waits}


class Deliveries:
    """The messages of one home."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "server" / "webhooks"
        self.jobs = JobStore(home)
        self._lock = threading.Lock()
        for state in STATES:
            folder = self.folder / state
            folder.mkdir(parents=True, exist_ok=True)
            # A kill in the middle of a write leaves its temporary file; what it would have said is done again.
            for leftover in folder.glob(".*.tmp"):
                with contextlib.suppress(FileNotFoundError):
                    if leftover.stat().st_mtime < time.time() - LEFTOVER_AGE_S:
                        leftover.unlink()
        self.folder.chmod(0o700)

    def create(self, delivery: Delivery) -> bool:
        """Put down a new message; False when it is there already, whatever has become of it."""
        with self._lock:
            if self._path("dead", delivery.id).exists() or self._path("delivered", delivery.id).exists():
                return False
            return atomic.create_json(
                self._path("pending", delivery.id), delivery.model_dump(mode="json"), private=True
            )

    def exists(self, message: str) -> bool:
        return any(self._path(state, message).exists() for state in STATES)

    def rewrite(self, delivery: Delivery) -> None:
        """Put down what was tried with a pending message."""
        with self._lock:
            self._write("pending", delivery)

    def finish(self, delivery: Delivery, state: DeliveryState) -> None:
        """Move a pending message to where it stays, with what was tried last."""
        with self._lock:
            try:
                self._write("pending", delivery)
            except OSError:
                # A full disk may keep the account of the last try from being written; the move needs no space.
                log.warning("message %s: its last try could not be recorded", delivery.id)
            self._path("pending", delivery.id).rename(self._path(state, delivery.id))

    def revive(self, message: str, now: float) -> Delivery:
        """Let a dead message be sent again, from the first delay on.

        Raises:
            NotFound: code `delivery_not_found`.
            InputError: It is not dead (code `delivery_not_dead`).
        """
        state, delivery = self.find(message)
        if state == "dead":
            renewed = delivery.model_copy(update={"next_at": now, "tries_before_resend": len(delivery.tries)})
            # The command line and the server may be asked at the same time.
            with locked(self.folder / "resend.lock"):
                if self._path("dead", message).exists():
                    self._write("dead", renewed)
                    self._path("dead", message).rename(self._path("pending", message))
                    return renewed
            state = "pending"
        raise InputError(
            f"message {message} is {state}, so there is nothing to send again",
            code="delivery_not_dead",
            field="delivery",
            value=message,
            expected="a dead message",
            fix="gnomon webhooks deliveries --state dead lists them",
        )

    def find(self, message: str) -> tuple[DeliveryState, Delivery]:
        """A message and where it stands.

        Raises:
            NotFound: code `delivery_not_found`.
        """
        if _ID.fullmatch(message):
            # Twice, because it may move on while we look.
            for state in (*STATES, *STATES):
                delivery = self.read(state, message)
                if delivery is not None:
                    return state, delivery
        raise NotFound(
            f"there is no message {message!r}",
            code="delivery_not_found",
            field="delivery",
            value=message,
            fix="gnomon webhooks deliveries lists them; delivered ones are forgotten after 7 days",
        )

    def read(self, state: DeliveryState, message: str) -> Delivery | None:
        """A message in this state, or None; a damaged file is set aside and counts as none."""
        path = self._path(state, message)
        try:
            record = atomic.read_json(path)
            return None if record is None else Delivery.model_validate(record)
        except (ValueError, ValidationError):
            log.error("%s is damaged; it is set aside", path)
            with contextlib.suppress(OSError):
                path.rename(path.with_name(f"damaged-{path.name}"))
            return None

    def names(self, state: DeliveryState) -> list[str]:
        """The ids of all messages in a state, oldest job first."""
        found = (path.name.removesuffix(".json") for path in (self.folder / state).iterdir())
        return sorted(name for name in found if _ID.fullmatch(name))

    def page(
        self,
        state: DeliveryState | None = None,
        *,
        job: str | None = None,
        sees: Callable[[str | None], bool] = lambda _owner: True,
        limit: int = 50,
        before: str | None = None,
    ) -> list[dict[str, Any]]:
        """Messages as they may be shown, newest job first; `before` is the last id of the page before.

        `sees` says of a job's owner whether their messages are shown.
        """
        states = STATES if state is None else (state,)
        found: dict[str, DeliveryState] = {name: one for one in states for name in self.names(one)}
        shown: list[dict[str, Any]] = []
        for name, its_state in sorted(found.items(), reverse=True):
            if len(shown) == limit:
                break
            if (before and name >= before) or (job and job_of(name) != job):
                continue
            delivery = self.read(its_state, name)
            if delivery is not None and sees(delivery.owner):
                shown.append(delivery.shown(its_state))
        return shown

    def prune(self, now: float, keep_from: float) -> None:
        """Forget finished messages that are old, too many, or of jobs that are gone; none younger than `keep_from`.

        A younger one may be asked for again when a server is restarted, and would then be sent twice.
        """
        limits: tuple[tuple[DeliveryState, float], ...] = (("delivered", KEEP_DELIVERED_S), ("dead", KEEP_DEAD_S))
        for state, keep_s in limits:
            aged = sorted(self._with_ages(state), reverse=True)
            for position, (moved_at, name) in enumerate(aged):
                is_old = (
                    position >= MAX_KEPT or moved_at < now - keep_s or not self.jobs.job(job_of(name)).path.exists()
                )
                if is_old and moved_at < keep_from:
                    self._path(state, name).unlink(missing_ok=True)

    def forget_job(self, job_id: str) -> None:
        """Remove every message about a job that was deleted."""
        for state in STATES:
            for path in (self.folder / state).glob(f"msg_{job_id}_*.json"):
                path.unlink(missing_ok=True)

    def _with_ages(self, state: DeliveryState) -> Iterator[tuple[float, str]]:
        for name in self.names(state):
            with contextlib.suppress(FileNotFoundError):
                # Written last when it was sent last.
                yield self._path(state, name).stat().st_mtime, name

    def _write(self, state: DeliveryState, delivery: Delivery) -> None:
        atomic.write_json(self._path(state, delivery.id), delivery.model_dump(mode="json"), private=True)

    def _path(self, state: DeliveryState, message: str) -> Path:
        return self.folder / state / f"{message}.json"


def job_of(message: str) -> str:
    """The id of the job that a message is about."""
    return message.split("_")[1]
