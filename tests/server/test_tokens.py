"""Tokens: made, kept, found again, ended; by the store and by `gnomon tokens`."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gnomon.errors import AccessError, InputError, MissingError, NotFound
from gnomon.server.tokens import SCOPES, TOKEN, TokenStore

GNOMON = [sys.executable, "-m", "gnomon", "tokens"]


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(own_places: Path, clock: Clock) -> TokenStore:
    return TokenStore(own_places, clock=clock)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# The store


def test_a_token_is_found_by_its_text(store: TokenStore):
    token, text = store.create("laptop", ["submit"])
    assert TOKEN.fullmatch(text)
    assert text.startswith(f"gnm_{token.id}_")
    found = store.authenticate(text)
    assert found is not None
    assert (found.id, found.name, found.scopes) == (token.id, "laptop", ("submit",))


def test_no_two_tokens_are_alike(store: TokenStore):
    texts = [store.create(f"token-{i}", ["read"])[1] for i in range(20)]
    assert len({text.split("_")[1] for text in texts}) == len({text.split("_")[2] for text in texts}) == 20


def test_neither_secret_nor_token_is_on_disk_and_only_the_owner_reads_the_rest(store: TokenStore, own_places: Path):
    _, text = store.create("laptop", ["admin"])
    store.authenticate(text)
    store.save_last_uses()
    files = list((own_places / "server").iterdir())
    assert {"tokens.json", "tokens_used.json"} <= {file.name for file in files}
    secret = text.split("_")[2]
    assert all(secret not in file.read_text("utf-8") for file in files)
    assert mode(own_places / "server" / "tokens.json") == mode(own_places / "server" / "tokens_used.json") == 0o600
    assert mode(own_places / "server") == mode(own_places) == 0o700


@pytest.mark.parametrize(
    ("given", "rights"),
    [
        (["read"], {"read"}),
        (["submit"], {"submit", "read"}),
        (["admin"], {"admin", "submit", "read"}),
        (["submit", "read", "read"], {"submit", "read"}),
    ],
)
def test_scopes_imply_those_below(store: TokenStore, given: list[str], rights: set[str]):
    token, _ = store.create("laptop", given)
    assert token.rights == rights


def test_a_wrong_secret_and_a_wrong_id_are_refused(store: TokenStore):
    token, text = store.create("laptop", ["read"])
    other, other_text = store.create("other", ["read"])
    secret, other_secret = text.split("_")[2], other_text.split("_")[2]
    assert store.authenticate(f"gnm_{token.id}_{other_secret}") is None
    assert store.authenticate(f"gnm_{other.id}_{secret}") is None
    assert store.authenticate(f"gnm_{'a' * 8}_{secret}") is None
    changed = "a" if secret[-1] != "a" else "b"
    assert store.authenticate(f"gnm_{token.id}_{secret[:-1]}{changed}") is None
    assert store.authenticate(f"gnm_{token.id}_{secret.swapcase()}") is None


@pytest.mark.parametrize(
    "mangle",
    [
        lambda text: "",
        lambda text: "gnm_",
        lambda text: text[4:],
        lambda text: text[:-1],
        lambda text: text + "a",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.upper(),
        lambda text: text + "a" * 1_000_000,
        lambda text: text[:-1] + "é",
        lambda text: text[:-1] + "１",  # noqa: RUF001  A digit, but not of ASCII.
        lambda text: text[:-1] + "\x00",
        lambda text: text.replace("_", "-"),
        # What is kept must not be good for getting in.
        lambda text: "sha256",
    ],
)
def test_what_is_not_a_token_is_refused(store: TokenStore, mangle):
    token, text = store.create("laptop", ["read"])
    wrong = mangle(text)
    assert store.authenticate(f"gnm_{token.id}_{token.secret_sha256}" if wrong == "sha256" else wrong) is None


def test_a_revoked_token_is_refused_at_once_also_by_a_store_that_knew_it(store: TokenStore, own_places: Path):
    token, text = store.create("laptop", ["read"])
    assert store.authenticate(text) is not None
    revoked = TokenStore(own_places).revoke("laptop")
    assert revoked.id == token.id
    assert store.authenticate(text) is None


def test_a_token_made_elsewhere_is_known_at_once(store: TokenStore, own_places: Path):
    assert store.authenticate(f"gnm_{'a' * 8}_{'a' * 43}") is None
    _, text = TokenStore(own_places).create("laptop", ["read"])
    assert store.authenticate(text) is not None


def test_without_the_file_there_are_no_tokens(store: TokenStore, own_places: Path):
    _, text = store.create("laptop", ["read"])
    assert store.authenticate(text) is not None
    (own_places / "server" / "tokens.json").unlink()
    assert store.authenticate(text) is None
    assert store.list() == ()


def test_a_token_expires(store: TokenStore, clock: Clock):
    token, text = store.create("laptop", ["read"], expires_in_s=60)
    clock.now += 59.9
    assert store.authenticate(text) is not None
    assert store.has_active()
    clock.now += 0.1
    with pytest.raises(AccessError) as caught:
        store.authenticate(text)
    assert caught.value.code == "token_expired"
    assert text.split("_")[2] not in caught.value.describe()
    assert not store.has_active()
    # Who has only the id is not told that it has expired.
    assert store.authenticate(f"gnm_{token.id}_{'a' * 43}") is None


def test_an_expired_token_that_is_revoked_is_revoked(store: TokenStore, clock: Clock):
    _, text = store.create("laptop", ["read"], expires_in_s=60)
    clock.now += 100
    store.revoke("laptop")
    assert store.authenticate(text) is None


def test_names_are_free_again_after_the_end_of_a_token(store: TokenStore, clock: Clock):
    first, _ = store.create("ci", ["read"])
    with pytest.raises(InputError) as caught:
        store.create("ci", ["read"])
    assert caught.value.code == "token_exists"
    store.revoke("ci")
    second, _ = store.create("ci", ["read"], expires_in_s=60)
    assert second.id != first.id
    clock.now += 61
    third, third_text = store.create("ci", ["read"])
    assert store.revoke("ci").id == third.id
    assert store.authenticate(third_text) is None


def test_a_name_may_not_be_the_id_of_another_token(store: TokenStore):
    token, _ = store.create("ci", ["read"])
    with pytest.raises(InputError) as caught:
        store.create(token.id, ["read"])
    assert caught.value.code == "token_exists"


def test_revoking_twice_keeps_the_first_time(store: TokenStore, clock: Clock):
    token, _ = store.create("ci", ["read"])
    first = store.revoke(token.id).revoked_at
    clock.now += 10
    assert store.revoke("ci").revoked_at == store.revoke(token.id).revoked_at == first


def test_revoking_what_does_not_exist_is_an_error(store: TokenStore):
    with pytest.raises(NotFound) as caught:
        store.revoke("nobody")
    assert caught.value.code == "token_not_found"


@pytest.mark.parametrize(
    ("name", "scopes", "expires_in_s", "field"),
    [
        ("", ["read"], None, "name"),
        ("-x", ["read"], None, "name"),
        ("a/b", ["read"], None, "name"),
        ("a b", ["read"], None, "name"),
        ("a\n", ["read"], None, "name"),
        ("x" * 65, ["read"], None, "name"),
        ("ci", [], None, "scopes"),
        ("ci", ["root"], None, "scopes"),
        ("ci", ["read", "root"], None, "scopes"),
        ("ci", ["read"], 0, "expires_in_s"),
        ("ci", ["read"], -1, "expires_in_s"),
        ("ci", ["read"], float("nan"), "expires_in_s"),
        ("ci", ["read"], float("inf"), "expires_in_s"),
    ],
)
def test_wrong_tokens_are_not_made(store: TokenStore, name: str, scopes: list[str], expires_in_s, field: str):
    with pytest.raises(InputError) as caught:
        store.create(name, scopes, expires_in_s)
    assert (caught.value.code, caught.value.field) == ("field_invalid", field)
    assert store.list() == ()


def test_last_uses_are_written_by_the_server_and_seen_by_others(store: TokenStore, own_places: Path, clock: Clock):
    token, text = store.create("ci", ["read"])
    clock.now += 5
    store.authenticate(text)
    assert [t.last_used_at for t in store.list()] == [clock.now]
    assert [t.last_used_at for t in TokenStore(own_places).list()] == [None]
    store.save_last_uses()
    assert [t.last_used_at for t in TokenStore(own_places).list()] == [clock.now]
    used_file = own_places / "server" / "tokens_used.json"
    before = used_file.stat()
    store.save_last_uses()
    assert used_file.stat() == before, "nothing new, nothing written"
    # The next server goes on with what this one wrote.
    later = TokenStore(own_places, clock=clock)
    _, other = store.create("other", ["read"])
    later.authenticate(other)
    later.save_last_uses()
    assert set(json.loads(used_file.read_text())) == {token.id, other.split("_")[1]}


def test_a_failed_try_is_no_use(store: TokenStore):
    token, _ = store.create("ci", ["read"])
    store.authenticate(f"gnm_{token.id}_{'a' * 43}")
    assert [t.last_used_at for t in store.list()] == [None]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 2, "tokens": []}',
        '{"format": 1, "tokens": [{}]}',
        '{"format": 1, "tokens": 3}',
        '{"format": 1, "tokens": [{"id": "a", "name": "a", "scopes": ["root"], "secret_sha256": "", "created_at": 0}]}',
    ],
)
def test_a_damaged_file_lets_nobody_in_and_is_not_written_over(store: TokenStore, own_places: Path, text: str):
    _, token_text = store.create("ci", ["read"])
    assert store.authenticate(token_text) is not None
    file = own_places / "server" / "tokens.json"
    file.write_text(text)
    for attempt in (lambda: store.authenticate(token_text), lambda: store.create("b", ["read"]), store.list):
        for _ in range(2):
            with pytest.raises(MissingError) as caught:
                attempt()
            assert caught.value.code == "tokens_unreadable"
    assert file.read_text() == text


def test_a_damaged_file_of_uses_is_written_anew(store: TokenStore, own_places: Path):
    _, text = store.create("ci", ["read"])
    (own_places / "server" / "tokens_used.json").write_text("{")
    store.authenticate(text)
    store.save_last_uses()
    assert [t.last_used_at is not None for t in TokenStore(own_places).list()] == [True]


def test_a_home_that_cannot_be_made_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingError) as caught:
        TokenStore(tmp_path / "file" / "home").create("ci", ["read"])
    assert caught.value.code == "home_unavailable"


# The command


def tokens(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GNOMON, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_the_token_alone_on_standard_output(own_places: Path):
    made = tokens("create", "ci", "--expires-days", "30")
    assert made.returncode == 0, made.stderr
    text = made.stdout.removesuffix("\n")
    assert TOKEN.fullmatch(text)
    assert "not shown again" in made.stderr
    assert text.split("_")[2] not in made.stderr
    found = TokenStore(own_places).authenticate(text)
    assert found is not None
    assert found.scopes == ("submit",)
    assert found.expires_at == pytest.approx(found.created_at + 30 * 86400)


def test_the_command_lists_and_revokes(own_places: Path):
    made = json.loads(tokens("create", "ci", "--scope", "read", "--scope", "admin", "--json").stdout)
    assert made["scopes"] == ["read", "admin"]
    secret = made["token"].split("_")[2]
    listed = tokens("list")
    assert re.search(rf"{made['id']}  ci +read,admin  active", listed.stdout)
    as_json = tokens("list", "--json")
    assert [(t["name"], t["state"]) for t in json.loads(as_json.stdout)] == [("ci", "active")]
    assert not {secret, "secret_sha256"} & set(re.findall(r"\w+", listed.stdout + as_json.stdout))
    revoked = tokens("revoke", "ci")
    assert (revoked.returncode, revoked.stdout) == (0, f"ci ({made['id']}) is revoked\n")
    assert TokenStore(own_places).authenticate(made["token"]) is None
    assert "revoked" in tokens("list").stdout
    assert json.loads(tokens("revoke", made["id"], "--json").stdout)["state"] == "revoked"


def test_the_command_says_what_is_wrong():
    assert tokens("list").stdout == "no tokens\n"
    missing = tokens("revoke", "nobody", "--json")
    assert missing.returncode == 2
    assert json.loads(missing.stdout)["error"]["code"] == "token_not_found"
    for arguments in (["--scope", "root"], ["--expires-days", "0"], ["--expires-days", "nan"]):
        assert tokens("create", "ci", *arguments).returncode == 2
    assert tokens("list").stdout == "no tokens\n"


def test_commands_at_the_same_time_lose_nothing(own_places: Path):
    names = [f"token-{i}" for i in range(5)]
    running = [
        subprocess.Popen([*GNOMON, "create", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    texts = [process.communicate(timeout=60)[0].strip() for process in running]
    store = TokenStore(own_places)
    assert sorted(token.name for token in store.list()) == names
    assert all(store.authenticate(text) is not None for text in texts)


def test_the_command_needs_no_web_framework():
    code = "import sys, gnomon.cli.tokens; print({'fastapi', 'starlette', 'uvicorn', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"


def test_the_scopes_are_these():
    assert SCOPES == ("read", "submit", "admin")
