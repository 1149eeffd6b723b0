"""A whole fetch: retries with pauses, resuming, the size bound, the hash, and one rename at the end."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gnomon
from gnomon.errors import InputError
from gnomon.fetch.addresses import Resolver, resolve_by_system
from gnomon.fetch.connection import Answer, Interrupted, Rules, failure, get
from gnomon.fetch.names import file_name_of, parse_url, public_form, stated_sha256
from gnomon.fetch.part import Part, part_beside

if TYPE_CHECKING:
    import httpx2

PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Waits between attempts; there is one attempt more than pauses."""

LONGEST_PAUSE_S = 30.0
"""A server that asks for a longer pause by Retry-After gets this one."""

PAUSE_SLICE_S = 0.5

SLOWEST_BYTES_PER_S = 256
"""A body that comes slower over a whole timeout counts as stalled."""

PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

Progress = Callable[[int, int | None], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """What arrived. `final_url` is the last redirect's, without credentials and query; `name` is safe to use."""

    sha256: str
    size: int
    content_type: str | None
    final_url: str
    name: str


def fetch_url(
    url: str,
    destination: Path,
    *,
    max_bytes: int,
    timeout_s: float,
    allow_private: bool,
    progress: Progress | None = None,
    cancelled: Callable[[], None] | None = None,
    field: str = "url",
    resolve: Resolver = resolve_by_system,
    pause: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Fetch an http(s) URL into a file that appears whole or not at all. Its folder must exist.

    A transfer that breaks is repeated up to four times, and goes on where it stopped if the server names the same
    strong ETag. A fragment `#sha256=<hex>` in the URL is compared with what arrived. User and password in the URL
    are sent to its own host only and are never part of an error or a log line.

    Args:
        max_bytes: A larger body is refused, by its announced length or as soon as it has grown past it.
        timeout_s: Longest silence: to accept a connection (at most 10 s), to answer, between two pieces of the body.
            The whole transfer has no limit of its own, but must keep up 256 bytes per second.
        allow_private: Whether loopback, private and other internal addresses may be contacted.
        progress: Called with (bytes so far, bytes in total if known) for every piece.
        cancelled: Called often; raises to stop the fetch.
        field: The request's field that errors name.
        resolve: Looks up a host's addresses.
        pause: Waits for so many seconds between two attempts.

    Raises:
        InputError: `url_invalid`, `url_scheme`, `url_private`, `url_not_found` (404, 410), `url_denied` (401, 403),
            `url_failed` (everything else the server or network does), `input_too_large`, `input_hash_mismatch`.
        OSError: The file cannot be written.
    """
    source = parse_url(url, field)
    expected_sha256 = stated_sha256(source, field)
    rules = Rules(field, timeout_s, allow_private, resolve, cancelled or _never)
    with part_beside(destination) as part:
        answer = _transfer(source, part, rules, max_bytes, progress or _unheard, pause)
        sha256 = part.sha256.hexdigest()
        if expected_sha256 not in (None, sha256):
            raise InputError(
                f"{field}: {public_form(source)} is not the file its #sha256= promises",
                code="input_hash_mismatch",
                field=field,
                value=sha256,
                expected=expected_sha256,
            )
        part.publish(destination)
    return Fetched(
        sha256=sha256,
        size=part.size,
        content_type=answer.headers.get("content-type"),
        final_url=public_form(answer.url),
        name=file_name_of(str(source), answer.headers.get("content-disposition")),
    )


def _transfer(
    source: httpx2.URL,
    part: Part,
    rules: Rules,
    max_bytes: int,
    progress: Progress,
    pause: Callable[[float], None],
) -> Answer:
    """Try until the part is complete, at most once more than there are pauses."""
    for wait_s in (*PAUSES_S, None):
        try:
            return _attempt(source, part, rules, max_bytes, progress)
        except Interrupted as interruption:
            if wait_s is None:
                attempts = len(PAUSES_S) + 1
                message = f"{public_form(source)}: {interruption} ({attempts} attempts)"
                raise failure(message, source, rules.field) from None
            wait_s = min(interruption.wait_s or wait_s, LONGEST_PAUSE_S)
            logger.info("%s: %s; next attempt in %.1f s", public_form(source), interruption, wait_s)
            _wait(wait_s, pause, rules.cancelled)
    raise AssertionError("the last round returns or raises")


def _attempt(source: httpx2.URL, part: Part, rules: Rules, max_bytes: int, progress: Progress) -> Answer:
    headers = {
        "User-Agent": f"gnomon/{gnomon.__version__}",
        "Accept": "*/*",
        # A file is wanted byte for byte, and a compressed body could unpack to any size.
        "Accept-Encoding": "identity",
    }
    with get(source, headers | part.resume_headers(), rules) as answer:
        _check_status(answer, part, rules.field)
        _check_encoding(answer, rules.field)
        part.begin(answer)
        _check_size(part.total or 0, max_bytes, answer, rules.field)
        pace = Pace(rules.timeout_s)
        for chunk in answer.chunks:
            rules.cancelled()
            _check_size(part.size + len(chunk), max_bytes, answer, rules.field)
            part.write(chunk)
            progress(part.size, part.total)
            pace.advance(len(chunk))
    if part.total not in (None, part.size):
        raise Interrupted(f"{part.size} of {part.total} bytes arrived")
    return answer


def _wait(wait_s: float, pause: Callable[[float], None], cancelled: Callable[[], None]) -> None:
    """Pause in slices, so that a cancelled fetch ends soon."""
    while wait_s > 0:
        cancelled()
        pause(min(wait_s, PAUSE_SLICE_S))
        wait_s -= PAUSE_SLICE_S


def _check_status(answer: Answer, part: Part, field: str) -> None:
    """Let 200 and an awaited 206 pass, and sort the rest into what may pass by itself and what will not."""
    status = answer.status
    if status == 200 or (status == 206 and part.is_resumable):
        return
    if status == 416 and part.is_resumable:
        part.forget()
        raise Interrupted("the server cannot resume the file")
    if status in PASSING_STATUS:
        raise Interrupted(f"{answer.url.host} answers {status}", wait_s=_retry_after_s(answer))
    shown = public_form(answer.url)
    if status in (404, 410):
        raise failure(f"{shown} does not exist ({status})", answer.url, field, code="url_not_found")
    if status in (401, 403):
        raise failure(f"{shown} is not for us to read ({status})", answer.url, field, code="url_denied")
    raise failure(f"{shown} answers {status} instead of a file", answer.url, field)


def _retry_after_s(answer: Answer) -> float | None:
    seconds = answer.headers.get("retry-after", "")
    return float(seconds) if re.fullmatch(r"[0-9]{1,9}", seconds) else None


def _check_encoding(answer: Answer, field: str) -> None:
    encoding = answer.headers.get("content-encoding", "identity").lower()
    # Some servers label stored archives this way. Their bytes are the file.
    is_stored_so = answer.url.path.lower().endswith((".gz", ".tgz")) and encoding in ("gzip", "x-gzip")
    if encoding not in ("", "identity") and not is_stored_so:
        message = f"{public_form(answer.url)} is sent compressed ({encoding}) although that was not asked for"
        raise failure(message, answer.url, field)


def _check_size(size: int, max_bytes: int, answer: Answer, field: str) -> None:
    if size > max_bytes:
        raise InputError(
            f"{field}: {public_form(answer.url)} is larger than {max_bytes / 1e6:g} MB",
            code="input_too_large",
            field=field,
            value=size,
            expected=f"at most {max_bytes} bytes",
        )


class Pace:
    """Notices a body that trickles: too few bytes over a window as long as the timeout."""

    def __init__(self, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._begin_s = clock()
        self._bytes = 0

    def advance(self, count: int) -> None:
        """Count bytes that arrived. Raises Interrupted at the end of a window that brought too few."""
        self._bytes += count
        elapsed_s = self._clock() - self._begin_s
        if elapsed_s < self._window_s:
            return
        if self._bytes < SLOWEST_BYTES_PER_S * elapsed_s:
            raise Interrupted(f"only {self._bytes} bytes came in {elapsed_s:.0f} s")
        self._begin_s += elapsed_s
        self._bytes = 0


def _never() -> None:
    """The default for `cancelled`."""


def _unheard(_done: int, _total: int | None) -> None:
    """The default for `progress`."""
