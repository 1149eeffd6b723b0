"""`gnomon tokens`: who may use this machine's server from elsewhere, and for what."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click

from gnomon.cli.output import age, as_json_option, print_json, print_table
from gnomon.paths import home_dir
from gnomon.server.tokens import SCOPES, TokenStore

DAY_S = 86400.0


@click.group()
def tokens() -> None:
    """Make, list and revoke the tokens of a server.

    They count for servers of the same GNOMON_HOME; a running server notices every change.
    """


@tokens.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    default=("submit",),
    show_default=True,
    help="What it is good for; may be repeated. read: see its own jobs; submit: also make, change and delete them; "
    "admin: everything, also with others' jobs.",
)
@click.option(
    "--expires-days",
    type=click.FloatRange(0, 36500, min_open=True),
    help="Days until it ends by itself.  [default: never]",
)
@as_json_option
def create(name: str, scopes: tuple[str, ...], expires_days: float | None, as_json: bool) -> None:
    """Make a token and print it. It cannot be shown again: only its hash is kept."""
    token, text = _store().create(name, scopes, None if expires_days is None else expires_days * DAY_S)
    if as_json:
        print_json(token.describe() | {"token": text})
        return
    # The token stands alone on standard output, so that `TOKEN=$(gnomon tokens create ci)` works.
    click.echo(text)
    end = "" if token.expires_at is None else f", until {_date(token.expires_at)}"
    click.echo(
        f"token {token.name} ({token.id}) for {' and '.join(token.scopes)}{end}; keep it, it is not shown again\n"
        "send it as: Authorization: Bearer <token>",
        err=True,
    )


@tokens.command("list")
@as_json_option
def list_tokens(as_json: bool) -> None:
    """All tokens, oldest first, without their secrets."""
    found = _store().list()
    if as_json:
        print_json([token.describe() for token in found])
        return
    if not found:
        click.echo("no tokens")
        return
    now = time.time()
    rows = [
        [
            token.id,
            token.name,
            ",".join(token.scopes),
            token.state(now),
            f"{age(token.created_at)} ago",
            "never" if token.expires_at is None else _date(token.expires_at),
            "not yet" if token.last_used_at is None else f"{age(token.last_used_at)} ago",
        ]
        for token in found
    ]
    print_table(["ID", "NAME", "SCOPES", "STATE", "MADE", "ENDS", "USED"], rows)


@tokens.command()
@click.argument("token")
@as_json_option
def revoke(token: str, as_json: bool) -> None:
    """End a token, by its name or id, at once. Its jobs stay."""
    revoked = _store().revoke(token)
    if as_json:
        print_json(revoked.describe())
    else:
        click.echo(f"{revoked.name} ({revoked.id}) is revoked")


def _store() -> TokenStore:
    return TokenStore(home_dir())


def _date(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M UTC")
