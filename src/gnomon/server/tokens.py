"""Tokens: who may use a server over the network, and for what. Secrets are kept as hashes only.

    home/server/tokens.json         the tokens; written by `gnomon tokens`, read by servers, which notice changes
    home/server/tokens_used.json    when each was last used; written by the server alone

A token's text is `gnm_<id>_<secret>`. It is shown once, when the token is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
import string
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gnomon import atomic
from gnomon.environments.lock import exclusive
from gnomon.errors import AccessError, InputError, MissingError, NotFound

IMPLIED: dict[str, tuple[str, ...]] = {
    "read": ("read",),
    "submit": ("submit", "read"),
    "admin": ("admin", "submit", "read"),
}
"""Each scope with what it includes: see one's jobs; make and change them; everything, of everybody."""

SCOPES = tuple(IMPLIED)

FORMAT = 1
ID_ALPHABET = string.ascii_lowercase + string.digits
SECRET_ALPHABET = string.ascii_letters + string.digits
ID_LENGTH = 8
SECRET_LENGTH = 43
TOKEN = re.compile(rf"gnm_([a-z0-9]{{{ID_LENGTH}}})_([A-Za-z0-9]{{{SECRET_LENGTH}}})")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Token:
    """A token as it is kept; times are seconds since 1970."""

    id: str
    name: str
    scopes: tuple[str, ...]
    secret_sha256: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None

    @property
    def rights(self) -> frozenset[str]:
        """The scopes with those that they imply."""
        return rights_of(self.scopes)

    def state(self, now: float) -> str:
        """`active`, `expired` or `revoked` at the time `now`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def describe(self) -> dict[str, Any]:
        """What may be shown of a token: all but the hash."""
        record = asdict(self) | {"scopes": list(self.scopes), "state": self.state(time.time())}
        del record["secret_sha256"]
        return record


class TokenStore:
    """The tokens of one home. Any number of threads may share a store."""

    def __init__(self, home: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = home / "server"
        self._file = self._folder / "tokens.json"
        self._used_file = self._folder / "tokens_used.json"
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._tokens: dict[str, Token] = {}
        self._used: dict[str, float] = {}

    def create(self, name: str, scopes: Iterable[str], expires_in_s: float | None = None) -> tuple[Token, str]:
        """Make a token; returns it and its text, which cannot be had again.

        Raises InputError `field_invalid`, or `token_exists` while another token of this name is active.
        """
        wanted = set(scopes)
        if not wanted or not wanted <= set(SCOPES):
            raise _invalid("scopes", sorted(wanted), "one or more of: " + ", ".join(SCOPES))
        if not NAME.fullmatch(name):
            raise _invalid("name", name, "1 to 64 letters, digits, dots, dashes or underscores, no mark in front")
        if expires_in_s is not None and not 0 < expires_in_s < float("inf"):
            raise _invalid("expires_in_s", expires_in_s, "a number of seconds above 0")
        secret = "".join(secrets.choice(SECRET_ALPHABET) for _ in range(SECRET_LENGTH))
        now = self._clock()
        with self._changing() as tokens:
            # A name that is some token's id would make `revoke` ambiguous.
            if name in tokens or any(t.name == name and t.state(now) == "active" for t in tokens.values()):
                raise InputError(
                    f"there is a token {name!r} already",
                    code="token_exists",
                    field="name",
                    value=name,
                    fix=f"choose another name, or first: gnomon tokens revoke {name}",
                )
            token = Token(
                id=_new_id(tokens),
                name=name,
                scopes=tuple(scope for scope in SCOPES if scope in wanted),
                secret_sha256=_digest(secret),
                created_at=now,
                expires_at=None if expires_in_s is None else now + expires_in_s,
            )
            tokens[token.id] = token
        return token, f"gnm_{token.id}_{secret}"

    def revoke(self, id_or_name: str) -> Token:
        """End a token at once, also in running servers; one that was revoked before stays as it is.

        Raises NotFound `token_not_found`.
        """
        now = self._clock()
        with self._changing() as tokens:
            named = [token for token in tokens.values() if token.name == id_or_name]
            active = [token for token in named if token.state(now) == "active"]
            found = tokens.get(id_or_name) or next(iter(active or reversed(named)), None)
            if found is None:
                raise NotFound(
                    f"there is no token {id_or_name!r}",
                    code="token_not_found",
                    field="token",
                    value=id_or_name,
                    fix="gnomon tokens list shows them",
                )
            if found.revoked_at is None:
                found = replace(found, revoked_at=now)
                tokens[found.id] = found
        return found

    def list(self) -> tuple[Token, ...]:
        """All tokens, oldest first, with the time of their last use as far as a server has written it down."""
        with self._lock:
            self._refresh()
            used = _last_uses(self._used_file) | self._used
            tokens = sorted(self._tokens.values(), key=lambda token: token.created_at)
        return tuple(replace(token, last_used_at=used.get(token.id)) for token in tokens)

    def has_active(self) -> bool:
        """Whether anybody could get in."""
        now = self._clock()
        return any(token.state(now) == "active" for token in self.list())

    def authenticate(self, text: str) -> Token | None:
        """The token with this text, or None if there is none or it was revoked.

        Raises AccessError `token_expired` for the right secret of a token whose time is over.
        """
        match = TOKEN.fullmatch(text)
        if match is None:
            return None
        token_id, secret = match.groups()
        with self._lock:
            self._refresh()
            token = self._tokens.get(token_id)
        # A hash is computed and compared also for ids that do not exist, so that the time tells nothing of them.
        is_same = hmac.compare_digest(_digest(secret), token.secret_sha256 if token else "0" * 64)
        if token is None or not is_same or token.revoked_at is not None:
            return None
        now = self._clock()
        if token.state(now) == "expired":
            raise AccessError(
                f"the token {token.name!r} has expired",
                code="token_expired",
                fix="make another: gnomon tokens create NAME",
            )
        with self._lock:
            self._used[token.id] = now
        return token

    def save_last_uses(self) -> None:
        """Write down when tokens were used, if that changed. Servers do so every minute or so, and at their end."""
        with self._lock:
            unsaved, self._used = self._used, {}
            if not unsaved:
                return
            try:
                atomic.write_json(self._used_file, _last_uses(self._used_file) | unsaved, private=True)
            except BaseException:
                self._used = unsaved | self._used
                raise

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Token]]:
        """The tokens, to be changed as their only writer; they are written where the `with` block ends well."""
        try:
            # One by one: the mode counts for the last folder alone.
            self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise MissingError(
                f"{self._folder} cannot be made: {error.strerror}",
                code="home_unavailable",
                fix="set GNOMON_HOME to another place",
            ) from error
        with exclusive(self._folder / "tokens.lock", waiting=lambda owner: None):
            tokens = _read(self._file)
            yield tokens
            records = [asdict(token) for token in tokens.values()]
            for record in records:
                del record["last_used_at"]
            atomic.write_json(self._file, {"format": FORMAT, "tokens": records}, private=True)
            atomic.sync_folder(self._folder)

    def _refresh(self) -> None:
        """Read the file if it is not the one that was read last; every change is a new file."""
        try:
            status = self._file.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        except (FileNotFoundError, NotADirectoryError):
            seen = ()
        except OSError:
            seen = (-1,)  # Reading will say what is wrong.
        if seen != self._seen:
            self._tokens = _read(self._file)
            self._seen = seen


def rights_of(scopes: Iterable[str]) -> frozenset[str]:
    """Scopes with those that they imply."""
    return frozenset(right for scope in scopes for right in IMPLIED[scope])


def _digest(secret: str) -> str:
    # One round of SHA-256 is enough: a secret has 256 random bits, and nobody can try them out. The slow hashes that
    # protect weak passwords would only make every request slow.
    return hashlib.sha256(secret.encode()).hexdigest()


def _new_id(tokens: dict[str, Token]) -> str:
    taken = {*tokens, *(token.name for token in tokens.values())}
    while True:
        candidate = "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))
        if candidate not in taken:
            return candidate


def _read(file: Path) -> dict[str, Token]:
    """The tokens in a file. A damaged file lets nobody in rather than somebody who was revoked."""
    try:
        document = atomic.read_json(file)
        if document is None:
            return {}
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']} is not {FORMAT}")
        tokens = [Token(**(record | {"scopes": tuple(record["scopes"])})) for record in document["tokens"]]
        for token in tokens:
            rights_of(token.scopes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingError(
            f"cannot read the tokens in {file}: {error}",
            code="tokens_unreadable",
            fix="mend or delete the file; without it there are no tokens",
        ) from error
    return {token.id: token for token in tokens}


def _last_uses(file: Path) -> dict[str, float]:
    """When tokens were used; a damaged file is as good as none, it will be written anew."""
    try:
        return dict(atomic.read_json(file) or {})
    except (OSError, ValueError, TypeError):
        return {}


def _invalid(field: str, value: Any, expected: str) -> InputError:
    return InputError(f"{field} of a token is wrong", code="field_invalid", field=field, value=value, expected=expected)
