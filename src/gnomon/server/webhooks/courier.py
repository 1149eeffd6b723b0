"""Webhooks: what the server knows of messages. It puts them down when jobs change, and sends what is due."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gnomon import atomic
from gnomon.errors import GnomonError, NotFound
from gnomon.fetch.names import parse_url
from gnomon.server.webhooks.announcing import Announcer
from gnomon.server.webhooks.deliveries import Deliveries, Delivery, DeliveryState, Try
from gnomon.server.webhooks.endpoints import Endpoint, Endpoints
from gnomon.server.webhooks.message import iso
from gnomon.server.webhooks.schedule import delay_s
from gnomon.server.webhooks.sender import GONE, Outcome, Sender
from gnomon.server.webhooks.waiting import Waiting
from gnomon.status import Status

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
"""So often the folder is looked at for messages that another process put there (`gnomon webhooks resend`)."""

PRUNE_INTERVAL_S = 3600.0

PRUNE_MARGIN_S = 3600.0
"""Messages that were delivered or given up within this time are kept: their jobs may be announced again."""

MISHAP_PAUSE_S = 60.0
"""After a message could not be handled at all, for example because its record could not be written."""

STOP_PATIENCE_S = 3.0
"""What is on the way when the server stops is given so long; after that it is sent again by the next server."""


class Webhooks:
    """The messages of one home; `run` belongs to the server's event loop, `announce` to any thread."""

    def __init__(
        self,
        home: Path,
        *,
        allow_private: bool,
        concurrency: int = 8,
        clock: Callable[[], float] = time.time,
        sender: Sender | None = None,
    ) -> None:
        self.endpoints = Endpoints(home)
        self.deliveries = Deliveries(home)
        self.sender = sender or Sender(allow_private=allow_private)
        self._clock = clock
        self._waiting = Waiting(concurrency)
        self._announcer = Announcer(self.endpoints, self.deliveries, clock, self._on_made)
        self._counted = {"delivered": 0, "failed_attempts": 0}
        self._files = ThreadPoolExecutor(2, thread_name_prefix="webhook-files")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._looked_at = 0.0
        # Not at once: what the last server delivered must still be known while missed jobs are announced.
        self._pruned_at = clock()
        self._look()

    def announce(self, status: Status, row: Mapping[str, Any], submission: Mapping[str, Any]) -> None:
        """Put down the messages that a job's state calls for. Doing it again changes nothing; it never raises."""
        self._announcer.announce(status, row, submission)

    def is_held(self, job_id: str) -> bool:
        """Whether a message about the job has neither been delivered yet nor given up."""
        return self._waiting.holds(job_id)

    def forget_job(self, job_id: str) -> None:
        """Remove every message about a job that was deleted."""
        self.deliveries.forget_job(job_id)

    def counts(self) -> dict[str, int]:
        """`pending` and `dead` messages there are; `delivered` ones and `failed_attempts` since the server started."""
        return {"pending": len(self._waiting), "dead": len(self.deliveries.names("dead")), **self._counted}

    def resend(self, message: str) -> Delivery:
        """Send a dead message again; see `Deliveries.revive`."""
        renewed = self.deliveries.revive(message, self._clock())
        self._on_made(renewed)
        return renewed

    async def test(self, endpoint: Endpoint) -> Outcome:
        """Send a message without content to a receiver now, once."""
        return await send_test(self.sender, endpoint, self._clock())

    def start(self) -> asyncio.Task[None]:
        """Begin to send, in the running event loop."""
        self._running = asyncio.get_running_loop().create_task(self.run(), name="webhooks")
        return self._running

    async def stop(self) -> None:
        """Let what is on the way arrive, for a moment, and leave the rest to the next server."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    def wake(self) -> None:
        """Look now for what is due. Safe from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Send what is due, until cancelled; that is the end of this object."""
        self._loop = asyncio.get_running_loop()
        sending: set[asyncio.Task[None]] = set()
        try:
            while True:
                self._woken.clear()
                if abs(self._clock() - self._looked_at) >= LOOK_INTERVAL_S:
                    await self._in_thread(self._keep_house)
                for message in self._waiting.take(self._clock()):
                    task = asyncio.create_task(self._deliver(message), name=f"webhook {message}")
                    sending.add(task)
                    task.add_done_callback(sending.discard)
                with contextlib.suppress(TimeoutError):
                    pause_s = self._waiting.next_in_s(self._clock(), LOOK_INTERVAL_S)
                    # Not wait_for: before Python 3.12 it can swallow a cancellation.
                    async with asyncio.timeout(pause_s):
                        await self._woken.wait()
        finally:
            if sending:
                await asyncio.wait(sending, timeout=STOP_PATIENCE_S)
            for task in tuple(sending):
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
            self.sender.close()
            self._files.shutdown(wait=False)

    def _on_made(self, delivery: Delivery) -> None:
        self._waiting.put(delivery.id, delivery.next_at, destination_of(delivery.url))
        self.wake()

    def _keep_house(self) -> None:
        """What must be done now and then, and may fail without stopping the sending."""
        now = self._clock()
        self._looked_at = now
        try:
            self._look()
            self._announcer.catch_up()
            if abs(now - self._pruned_at) >= PRUNE_INTERVAL_S:
                self._pruned_at = now
                self.deliveries.prune(now, keep_from=now - PRUNE_MARGIN_S)
        except Exception:
            log.exception("the webhooks' files could not be kept in order, which is tried again")

    def _look(self) -> None:
        """Learn of pending messages that are not known yet, and forget those that are gone."""
        known = self._waiting.known()
        there = set(self.deliveries.names("pending"))
        for message in known - there:
            self._waiting.drop(message)
        for message in sorted(there - known):
            delivery = self.deliveries.read("pending", message)
            if delivery is not None and delivery.is_taken and delivery.tries_now > 0:
                # Killed between the receiver's yes and the move.
                self.deliveries.finish(delivery, "delivered")
            elif delivery is not None:
                self._waiting.put(delivery.id, delivery.next_at, destination_of(delivery.url))

    async def _deliver(self, message: str) -> None:
        """Send one message once, and put down how it went."""
        try:
            delivery = await self._in_thread(self.deliveries.read, "pending", message)
            if delivery is None:
                self._waiting.drop(message)
                return
            began = time.monotonic()
            now = self._clock()
            outcome = await self._attempt(delivery, now)
            took_s = round(time.monotonic() - began, 3)
            made = Try(at=now, took_s=took_s, status=outcome.status, problem=outcome.problem, answer=outcome.answer)
            await self._in_thread(self._settle, delivery.with_try(made), outcome)
        except Exception:
            log.exception("message %s could not be handled, which is tried again", message)
            self._waiting.postpone(message, self._clock() + MISHAP_PAUSE_S)
        finally:
            self._waiting.arrived(message)
            self._woken.set()

    async def _attempt(self, delivery: Delivery, now: float) -> Outcome:
        secret = await self._in_thread(self._secret, delivery)
        if isinstance(secret, Outcome):
            return secret
        return await self.sender.send(delivery.url, delivery.id, delivery.body, secret, now)

    def _secret(self, delivery: Delivery) -> str | Outcome:
        """What the message is signed with, or why it is not sent at all."""
        if delivery.endpoint is None:
            return self.endpoints.secret_for_jobs()
        try:
            endpoint = self.endpoints.get(delivery.endpoint)
        except NotFound:
            return Outcome(problem="the webhook was removed", is_hopeless=True)
        if endpoint.disabled_because is not None:
            return Outcome(problem=f"the webhook is disabled: {endpoint.disabled_because}", is_hopeless=True)
        return endpoint.secret

    def _settle(self, tried: Delivery, outcome: Outcome) -> None:
        if outcome.problem is None:
            self._leave(tried, "delivered")
            self._counted["delivered"] += 1
            return
        self._counted["failed_attempts"] += 1
        pause_s = None if outcome.is_hopeless else delay_s(tried.tries_now, outcome.retry_after_s)
        if pause_s is not None:
            waiting = tried.model_copy(update={"next_at": self._clock() + pause_s})
            self.deliveries.rewrite(waiting)
            self._waiting.postpone(waiting.id, waiting.next_at)
            log.info("message %s was not taken, next try in %.0f s: %s", tried.id, pause_s, outcome.problem)
            return
        if outcome.status == GONE and tried.endpoint is not None:
            self.endpoints.disable(tried.endpoint, outcome.problem)
        self._leave(tried, "dead")
        log.warning("message %s is given up after %d tries: %s", tried.id, tried.tries_now, outcome.problem)

    def _leave(self, tried: Delivery, state: DeliveryState) -> None:
        self.deliveries.finish(tried, state)
        self._waiting.drop(tried.id)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._files, function, *arguments)


async def send_test(sender: Sender, endpoint: Endpoint, now: float) -> Outcome:
    """Send a message of type `webhook.test`, which is not kept and not tried again."""
    body = atomic.canonical_json({"type": "webhook.test", "timestamp": iso(now), "data": {}}).decode()
    return await sender.send(endpoint.url, f"msg_test_{secrets.token_hex(10)}", body, endpoint.secret, now)


def destination_of(url: str) -> str:
    """Scheme, host and port: what may be slow."""
    try:
        parsed = parse_url(url, "webhook")
    except GnomonError:
        return ""
    return f"{parsed.scheme}://{parsed.host}:{parsed.port}"
