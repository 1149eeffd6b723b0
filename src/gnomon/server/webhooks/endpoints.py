"""Receivers that are registered for all jobs, and the secrets that messages are signed with.

`home/server/webhooks.json` has the receivers with their secrets, `home/server/webhook_secret` the secret for the
URLs that single jobs name. Both can be read by their owner alone. The command line and a running server may change
them at the same time: a lock puts them in turn.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gnomon import atomic
from gnomon.errors import InputError, LimitError, NotFound
from gnomon.fetch.addresses import is_public
from gnomon.fetch.names import parse_url, public_form
from gnomon.request import Frozen
from gnomon.server.webhooks.message import DEFAULT_EVENTS, Event

MAX_ENDPOINTS = 100
MAX_URL_CHARACTERS = 2048
SECRET_BYTES = 32

STATUSES = {"webhook_not_found": 404, "webhook_limit": 409, "webhooks_invalid": 500, "url_too_long": 422}
"""HTTP statuses of this module's codes."""


class Endpoint(Frozen):
    """A registered receiver. `url` may hold a password and `secret` is one: see `shown`."""

    id: str
    url: str
    events: tuple[Event, ...] = DEFAULT_EVENTS
    secret: str
    created_at: float
    disabled_because: str | None = None

    def shown(self) -> dict[str, Any]:
        """All that may be seen of it: no secret, no password."""
        return {
            "id": self.id,
            "url": shown_url(self.url),
            "events": list(self.events),
            "created_at": self.created_at,
            "disabled_because": self.disabled_because,
        }


class Endpoints:
    """The registered receivers of one home."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "server"
        self.file = self.folder / "webhooks.json"
        self._read_at: tuple[int, int, int] | None = None
        self._known: tuple[Endpoint, ...] = ()

    def all(self) -> tuple[Endpoint, ...]:
        """Every receiver, oldest first; the file is read only when it has changed.

        Raises:
            InputError: The file is damaged (code `webhooks_invalid`).
        """
        try:
            found = self.file.stat()
        except FileNotFoundError:
            return ()
        version = (found.st_mtime_ns, found.st_ino, found.st_size)
        if version != self._read_at:
            self._known = self._parse()
            self._read_at = version
        return self._known

    def get(self, endpoint_id: str) -> Endpoint:
        """The receiver with this id.

        Raises:
            NotFound: code `webhook_not_found`.
        """
        for endpoint in self.all():
            if endpoint.id == endpoint_id:
                return endpoint
        raise NotFound(
            f"there is no webhook {endpoint_id!r}",
            code="webhook_not_found",
            field="webhook",
            value=endpoint_id,
            fix="gnomon webhooks list shows them",
        )

    def add(self, url: str, events: tuple[Event, ...] = (), *, allow_private: bool = True) -> Endpoint:
        """Register a receiver; see `check_url` for what may be one."""
        check_url(url, "url", allow_private=allow_private)
        chosen = tuple(dict.fromkeys(events)) or DEFAULT_EVENTS
        made = Endpoint(
            id=f"ep_{secrets.token_hex(8)}", url=url, events=chosen, secret=new_secret(), created_at=time.time()
        )
        with self._locked():
            known = self.all()
            if len(known) >= MAX_ENDPOINTS:
                raise LimitError(
                    f"{MAX_ENDPOINTS} webhooks are registered, and there may not be more",
                    code="webhook_limit",
                    fix="gnomon webhooks remove ID",
                )
            self._write((*known, made))
        return made

    def remove(self, endpoint_id: str) -> None:
        """Forget a receiver; what still waits for it is given up."""
        with self._locked():
            gone = self.get(endpoint_id)
            self._write(tuple(endpoint for endpoint in self.all() if endpoint != gone))

    def disable(self, endpoint_id: str, because: str) -> None:
        """Send it nothing any more, and say why; nothing happens when it was removed meanwhile."""
        with self._locked():
            changed = {"disabled_because": because}
            self._write(tuple(e.model_copy(update=changed) if e.id == endpoint_id else e for e in self.all()))

    def secret_for_jobs(self) -> str:
        """The secret for URLs that single jobs name, made when it is first needed."""
        file = self.folder / "webhook_secret"
        with self._locked():
            if not file.exists():
                atomic.write_text(file, new_secret() + "\n", private=True)
            return file.read_text("ascii").strip()

    def _parse(self) -> tuple[Endpoint, ...]:
        try:
            return tuple(Endpoint.model_validate(entry) for entry in (atomic.read_json(self.file) or {})["endpoints"])
        except (ValueError, ValidationError, KeyError, TypeError):
            # What exactly is wrong could quote a secret.
            raise InputError(
                f"{self.file} is damaged",
                code="webhooks_invalid",
                fix="restore the file, or delete it and register the webhooks again",
            ) from None

    def _write(self, endpoints: tuple[Endpoint, ...]) -> None:
        atomic.write_json(self.file, {"endpoints": [e.model_dump(mode="json") for e in endpoints]}, private=True)

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        return locked(self.folder / "webhooks.lock")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """For the block, keep every other thread and process out that asks for the same lock file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def check_url(text: str, field: str = "webhook_url", *, allow_private: bool = True) -> None:
    """Whether a URL may be a receiver. What a name leads to is not looked up here: that is done at each sending.

    Raises:
        InputError: codes `url_invalid`, `url_scheme`, `url_too_long`, or `url_private` for an address that is
            written out and not public.
    """
    if len(text) > MAX_URL_CHARACTERS:
        raise InputError(
            f"{field}: the URL has {len(text)} characters",
            code="url_too_long",
            field=field,
            expected=f"at most {MAX_URL_CHARACTERS} characters",
        )
    url = parse_url(text, field)
    if not allow_private and _is_private_number(url.host):
        raise InputError(
            f"{field}: {url.host} is an address inside a private network, or of this machine itself",
            code="url_private",
            field=field,
            value=public_form(url),
            expected="a host on the public internet",
            fix="start the server with --allow-private-webhooks, if you trust those who submit jobs",
        )


def shown_url(text: str) -> str:
    """A receiver's URL as it may be seen: without user, password and query."""
    return public_form(parse_url(text, "url"))


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")


def _is_private_number(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return not is_public(host)
