"""`gnomon methods`: what can do the tasks, under which licence, and what is missing for it here."""

from __future__ import annotations

from typing import Any

import click

from gnomon.cli.output import as_json_option, print_json, print_table
from gnomon.errors import NotFound
from gnomon.paths import cache_dir
from gnomon.tasks import TASKS


@click.group()
def methods() -> None:
    """List, install and check the methods of the tasks."""


@methods.command("list")
@as_json_option
def list_methods(as_json: bool) -> None:
    """Every method with its licence, its paper, the devices it needs and what is missing."""
    records = [method.describe(cache_dir()) for method in all_methods()]
    if as_json:
        print_json(records)
        return
    rows = [
        [r["task"], r["name"], "no" if r["missing"] else "yes", ", ".join(r["devices"]), r["licence"]] for r in records
    ]
    print_table(["TASK", "METHOD", "READY", "DEVICES", "LICENCE"], rows)
    for record in records:
        click.echo(f"\n{record['name']}: {record['summary']}\n  cite: {record['paper']}")
        for absent in record["missing"]:
            click.echo(f"  missing: {absent}")
        if record["missing"]:
            click.echo(f"  mend it: {record['remedy']}")


@methods.command()
@click.argument("names", metavar="METHOD...", nargs=-1, required=True)
@as_json_option
def install(names: tuple[str, ...], as_json: bool) -> None:
    """Make methods ready: build their environments, compile their kernels."""
    chosen = [find_method(name) for name in names]
    for method in chosen:
        method.install(cache_dir(), lambda text: click.echo(text, err=True))
        if not as_json:
            click.echo(f"{method.name} is ready")
    if as_json:
        print_json([method.describe(cache_dir()) for method in chosen])


@methods.command()
@click.argument("names", metavar="[METHOD...]", nargs=-1)
@as_json_option
def check(names: tuple[str, ...], as_json: bool) -> int:
    """Say whether methods can run here; the exit code is 3 when one cannot."""
    chosen = [find_method(name) for name in names] if names else all_methods()
    records = [method.describe(cache_dir()) for method in chosen]
    if as_json:
        print_json(records)
    else:
        for record in records:
            click.echo(_readiness(record))
    return 3 if any(record["missing"] for record in records) else 0


def _readiness(record: dict[str, Any]) -> str:
    """One line where little is to be said, else one for each thing that is missing."""
    missing = record["missing"]
    if len(missing) < 2:
        return f"{record['name']}: " + (f"missing {missing[0]}; {record['remedy']}" if missing else "ready")
    lines = [f"{record['name']}: {len(missing)} things are missing", *(f"  missing: {absent}" for absent in missing)]
    return "\n".join([*lines, f"  mend it: {record['remedy']}"])


def all_methods() -> list[Any]:
    return [method for task in TASKS.values() for method in task.methods()]


def find_method(name: str) -> Any:
    for method in all_methods():
        if method.name == name:
            return method
    raise NotFound(
        f"there is no method {name!r}",
        code="method_not_found",
        field="method",
        value=name,
        expected="one of: " + ", ".join(method.name for method in all_methods()),
    )
