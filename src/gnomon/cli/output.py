"""How commands speak: tables and sentences for people, one JSON document for programs."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from gnomon.errors import GnomonError

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def report_error(error: GnomonError, *, as_json: bool) -> None:
    """The error's text on stderr, or its record on stdout."""
    if as_json:
        print_json({"error": error.to_dict() | {"exit_code": error.exit_code}})
    else:
        click.echo(f"error: {error.describe()}", err=True)


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Plain aligned columns; the last one may be as long as it likes."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def age(timestamp: float) -> str:
    """How long ago, in the largest unit that makes sense."""
    return duration(max(0.0, time.time() - timestamp))


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    return f"{int(seconds // 86400)} d {int(seconds % 86400 // 3600)} h"
