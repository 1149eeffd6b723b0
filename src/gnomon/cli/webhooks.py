"""`gnomon webhooks`: receivers that a server tells of all jobs, and what became of the messages."""

from __future__ import annotations

import time
from typing import Any

import click

from gnomon.cli.output import age, as_json_option, duration, print_json, print_table
from gnomon.errors import ExecutorError
from gnomon.paths import home_dir

EVENTS = ("job.started", "job.succeeded", "job.failed", "job.cancelled")
STATES = ("pending", "delivered", "dead")


@click.group()
def webhooks() -> None:
    """Register receivers that a server tells of every job, and see what became of the messages.

    They count for servers of the same GNOMON_HOME; a running server notices every change.
    """


@webhooks.command()
@click.argument("url")
@click.option(
    "--event",
    "events",
    type=click.Choice(EVENTS),
    multiple=True,
    help="What it is told of; may be repeated.  [default: how jobs end]",
)
@as_json_option
def add(url: str, events: tuple[Any, ...], as_json: bool) -> None:
    """Register a receiver and print its secret, with which it checks that messages are genuine."""
    made = _endpoints().add(url, events)
    if as_json:
        print_json(made.shown() | {"secret": made.secret})
        return
    # The secret stands alone on standard output, so that it can be caught by `SECRET=$(...)`.
    click.echo(made.secret)
    click.echo(f"webhook {made.id} is told of {', '.join(made.events)}; above is its secret", err=True)


@webhooks.command("list")
@as_json_option
def list_webhooks(as_json: bool) -> None:
    """All receivers, oldest first, without their secrets and passwords."""
    found = _endpoints().all()
    if as_json:
        print_json([endpoint.shown() for endpoint in found])
        return
    if not found:
        click.echo("no webhooks")
        return
    rows = [
        [
            endpoint.id,
            f"disabled: {endpoint.disabled_because}" if endpoint.disabled_because else "active",
            ",".join(endpoint.events),
            endpoint.shown()["url"],
        ]
        for endpoint in found
    ]
    print_table(["ID", "STATE", "EVENTS", "URL"], rows)


@webhooks.command()
@click.argument("webhook")
@as_json_option
def remove(webhook: str, as_json: bool) -> None:
    """Forget a receiver, by its id. Messages that still wait for it are given up."""
    _endpoints().remove(webhook)
    if as_json:
        print_json({"id": webhook, "removed": True})
    else:
        click.echo(f"{webhook} is removed")


@webhooks.command()
@click.argument("webhook", required=False)
@as_json_option
def secret(webhook: str | None, as_json: bool) -> None:
    """Print the secret of a receiver; without an id, the one for URLs that single jobs name."""
    endpoints = _endpoints()
    text = endpoints.get(webhook).secret if webhook else endpoints.secret_for_jobs()
    if as_json:
        print_json({"id": webhook, "secret": text})
    else:
        click.echo(text)


@webhooks.command()
@click.argument("webhook")
@click.option("--allow-private-webhooks", is_flag=True, help="Let it be at a private address.")
@as_json_option
def test(webhook: str, allow_private_webhooks: bool, as_json: bool) -> None:
    """Send a message of type webhook.test from here, once; the exit code is 4 when it is not taken."""
    import asyncio

    from gnomon.server.webhooks.courier import send_test
    from gnomon.server.webhooks.sender import Sender

    endpoint = _endpoints().get(webhook)
    sender = Sender(allow_private=allow_private_webhooks)
    outcome = asyncio.run(send_test(sender, endpoint, time.time()))
    sender.close()
    if outcome.problem is not None:
        raise ExecutorError(
            outcome.problem,
            code="webhook_not_taken",
            field="webhook",
            value=webhook,
            fix=f"the receiver said: {outcome.answer}" if outcome.answer else None,
        )
    if as_json:
        print_json({"id": webhook, "status": outcome.status, "answer": outcome.answer})
    else:
        click.echo(f"taken with status {outcome.status}" + (f": {outcome.answer}" if outcome.answer else ""))


@webhooks.command()
@click.option("--state", type=click.Choice(STATES), help="Only messages in this state.")
@click.option("--job", help="Only messages about this job, by its full id.")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=30, show_default=True, help="How many.")
@as_json_option
def deliveries(state: Any, job: str | None, limit: int, as_json: bool) -> None:
    """What became of the messages, those of the newest jobs first."""
    found = _deliveries().page(state, job=job, limit=limit)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no messages")
        return
    rows = [
        [record["id"], record["event"], record["state"], str(len(record["tries"])), record["url"], _account(record)]
        for record in found
    ]
    print_table(["MESSAGE", "EVENT", "STATE", "TRIES", "URL", "LAST"], rows)


@webhooks.command()
@click.argument("messages", metavar="MESSAGE...", nargs=-1, required=True)
@as_json_option
def resend(messages: tuple[str, ...], as_json: bool) -> None:
    """Let dead messages be sent again by the server, at once, with all their tries anew."""
    kept = _deliveries()
    renewed = [kept.revive(message, time.time()).shown("pending") for message in messages]
    if as_json:
        print_json(renewed)
        return
    for record in renewed:
        click.echo(f"{record['id']} is pending")


def _account(record: dict[str, Any]) -> str:
    """How the last try went, and when the next one is."""
    if not record["tries"]:
        return "not sent yet"
    last = record["tries"][-1]
    text = f"{age(last['at'])} ago: {last['problem'] or last['status']}"
    wait_s = (record["next_at"] or 0.0) - time.time()
    return f"{text}; again in {duration(wait_s)}" if wait_s > 0 else text


def _endpoints() -> Any:
    from gnomon.server.webhooks.endpoints import Endpoints

    return Endpoints(home_dir())


def _deliveries() -> Any:
    from gnomon.server.webhooks.deliveries import Deliveries

    return Deliveries(home_dir())
