"""JSON whose long strings are pictures: these are set aside unparsed, so that 100 MB of them cost no long pause.

A parser holds the interpreter for as long as it works, and with it every other request of the server. Finding the end
of a string takes it no time to speak of, and base64 is decoded a piece at a time.
"""

from __future__ import annotations

import binascii
import json
from typing import Any

LONG_BYTES = 4096
"""Strings from this length are set aside."""
MOST_REST_BYTES = 8_000_000
"""Bytes of JSON beside the long strings."""
MOST_QUOTES = 4_000_000
MOST_BACKSLASHES = 64
"""In a row before a quote: JSON in JSON doubles them at each level, and nobody packs it six levels deep."""
PIECE_BYTES = 1 << 20


class JsonError(ValueError):
    """The text is no JSON, or there is more of it than is taken."""


class Document:
    """One JSON text, parsed. Long strings are marks in `value`; `text` gives what they stand for."""

    def __init__(self, body: bytes) -> None:
        """Raises JsonError."""
        self._long: list[bytes] = []
        try:
            self.value: Any = json.loads(self._without_long(body.removeprefix(b"\xef\xbb\xbf")).decode())
        except RecursionError:
            raise JsonError("it is nested too deeply") from None
        except ValueError as error:
            raise JsonError(str(error)) from None

    def text(self, value: str) -> bytes:
        """A string of this document as UTF-8. Raises JsonError for one that has none."""
        number = value[1:9]
        # A client that writes a mark itself gets at its own strings with it, and at nothing else.
        if value.startswith("\0") and number.isdecimal() and int(number) < len(self._long):
            return _unescaped(self._long[int(number)])
        return _encoded(value)

    def _without_long(self, body: bytes) -> bytes:
        kept: list[bytes] = []
        copied = at = quotes = rest = 0
        while (start := body.find(b'"', at)) >= 0:
            end, seen = _end_of_string(body, start)
            if end < 0:
                break
            quotes += seen
            if end - start > LONG_BYTES:
                kept += [body[copied : start + 1], b"\\u0000%d" % len(self._long)]
                rest += start + 1 - copied
                self._long.append(body[start + 1 : end])
                copied = end
            at = end + 1
            if quotes > MOST_QUOTES or rest + at - copied > MOST_REST_BYTES:
                break
        if quotes > MOST_QUOTES or rest + len(body) - copied > MOST_REST_BYTES:
            raise JsonError(f"it has more than {MOST_REST_BYTES / 1e6:g} MB beside its pictures")
        return b"".join((*kept, body[copied:]))


def decode_base64(text: bytes) -> bytes:
    """The bytes that standard base64 stands for: no other characters, no line breaks. Raises ValueError."""
    if len(text) % 4:
        raise ValueError("its length is no multiple of 4")
    pieces: list[bytes] = []
    # A view, so that a piece is not copied before it is decoded.
    view = memoryview(text)
    for at in range(0, len(text), PIECE_BYTES):
        piece = view[at : at + PIECE_BYTES]
        pieces.append(binascii.a2b_base64(piece, strict_mode=True))
        if at + PIECE_BYTES < len(text) and len(pieces[-1]) != PIECE_BYTES // 4 * 3:
            raise ValueError("padding before the end")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _end_of_string(body: bytes, start: int) -> tuple[int, int]:
    """Where the string that begins at `start` has its closing quote, -1 if nowhere; and how many quotes were seen."""
    end, seen = body.find(b'"', start + 1), 1
    while end >= 0 and _is_escaped(body, end):
        end, seen = body.find(b'"', end + 1), seen + 1
        if seen > MOST_QUOTES:
            break
    return end, seen


def _is_escaped(body: bytes, quote: int) -> bool:
    before = body[max(0, quote - MOST_BACKSLASHES) : quote]
    run = len(before) - len(before.rstrip(b"\\"))
    if run == MOST_BACKSLASHES:
        raise JsonError("it is packed into itself too deeply")
    return run % 2 == 1


def _unescaped(raw: bytes) -> bytes:
    """What stands between the quotes of a JSON string, as UTF-8. Raises JsonError."""
    if b"\\" not in raw:
        return raw
    if b"\\\\" not in raw:
        # The usual escapes, quotes of JSON in JSON and some programs' slashes, are mended without a parser.
        plain = raw.replace(b'\\"', b'"').replace(b"\\/", b"/")
        if b"\\" not in plain:
            return plain
    try:
        return _encoded(json.loads(b'"%b"' % raw))
    except ValueError as error:
        raise JsonError(str(error)) from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise JsonError(str(error)) from None
