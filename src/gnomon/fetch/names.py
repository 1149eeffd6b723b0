"""URLs as text: parsing, the form that may be shown to people, the hash they may state, a safe file name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gnomon.errors import InputError

if TYPE_CHECKING:
    import httpx2

SCHEMES = ("http", "https")

NAME_LIMIT_BYTES = 120
"""Leaves room below the 255 bytes of common file systems for endings such as `.part-1234abcd`."""

FALLBACK_NAME = "download"

_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def parse_url(text: str, field: str) -> httpx2.URL:
    """Parse an absolute http(s) URL.

    Raises:
        InputError: It is no URL or names no host (code `url_invalid`), or has another scheme (`url_scheme`).
    """
    import httpx2

    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        # Neither the text nor the parser's message is shown: a password may be what made it invalid.
        raise _invalid(field) from None
    if url.scheme not in SCHEMES:
        raise InputError(
            f"{field}: {url.scheme or 'no scheme'} is not http or https",
            code="url_scheme",
            field=field,
            value=public_form(url),
            expected="a URL that starts with https:// or http://",
        )
    if not url.host or not (url.port is None or 0 < url.port < 65_536):
        raise _invalid(field)
    return url


def public_form(url: httpx2.URL) -> str:
    """The URL for messages, logs and records: no user, no password, and no query, which may be a signature."""
    shown = str(url.copy_with(userinfo=b"", query=None, fragment=None))
    return f"{shown}?..." if url.query else shown


def stated_sha256(url: httpx2.URL, field: str) -> str | None:
    """The hash in a fragment `#sha256=<64 hex digits>`, or None. Other fragments mean nothing here.

    Raises:
        InputError: The fragment starts like a hash and is none (code `url_invalid`).
    """
    key, _, digest = url.fragment.partition("=")
    if key.lower() != "sha256":
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise InputError(
            f"{field}: the URL's #sha256= is not followed by 64 hexadecimal digits",
            code="url_invalid",
            field=field,
            value=digest,
        )
    return digest.lower()


def file_name_of(url: str, content_disposition: str | None = None) -> str:
    """A base name to store the URL's file under: the server's suggestion if there is one, else the path's end.

    The result is one path component that is safe on every platform: no separators, no control characters, not
    hidden, no option, no device of Windows, at most 120 bytes with its suffix kept. It is "download" if nothing is
    left.
    """
    stated = _stated_name(content_disposition) if content_disposition else None
    return _safe_base_name(stated or "") or _safe_base_name(_path_of(url)) or FALLBACK_NAME


def _path_of(url: str) -> str:
    try:
        return unquote(urlsplit(url).path)
    except ValueError:
        return ""


def _stated_name(content_disposition: str) -> str | None:
    # RFC 6266: filename* is UTF-8 in percent escapes and wins over the plain filename.
    extended = re.search(r"filename\*\s*=\s*utf-8'[^']*'([^;\s]+)", content_disposition, re.IGNORECASE)
    if extended:
        return unquote(extended[1])
    plain = re.search(r'filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))', content_disposition, re.IGNORECASE)
    if not plain:
        return None
    return plain[2] if plain[1] is None else re.sub(r"\\(.)", r"\1", plain[1])


def _safe_base_name(path: str) -> str:
    name = re.split(r"[/\\]", path)[-1]
    name = "".join(character for character in name if character.isprintable())
    # A leading dash would look like an option to the programs that are given the name.
    name = re.sub(r'[<>:"|?*]', "_", name).strip(" .").lstrip("-. ")
    if _WINDOWS_DEVICE.match(name):
        name = f"_{name}"
    return _shortened(name)


def _shortened(name: str) -> str:
    """Cut the middle of a long name so that it fits and keeps its suffix."""
    if len(name.encode()) <= NAME_LIMIT_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > 20:
        stem, suffix = name, ""
    ending = dot + suffix if suffix else ""
    kept = stem.encode()[: NAME_LIMIT_BYTES - len(ending.encode())].decode(errors="ignore")
    return kept.rstrip(" .") + ending


def _invalid(field: str) -> InputError:
    return InputError(
        f"{field}: this is not a valid URL",
        code="url_invalid",
        field=field,
        expected="an absolute URL such as https://example.org/mug.ply",
    )
