"""`gnomon serve`: its flags are the fields of ServerSettings."""

from __future__ import annotations

import logging
import types
import typing
from pathlib import Path
from typing import Any

import click

from gnomon.errors import MissingError

TYPES: dict[type, click.ParamType] = {
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
    Path: click.Path(path_type=Path),
}


def _options() -> list[click.Parameter]:
    from gnomon.server.settings import PREFIX, ServerSettings

    found: list[click.Parameter] = []
    for name, field in ServerSettings.model_fields.items():
        kind, several = _kind(field.annotation)
        flag = f"--{name.replace('_', '-')}"
        text = f"{field.description}  [{PREFIX}{name.upper()}]"
        if kind is bool:
            found.append(click.Option([f"{flag}/--no-{name.replace('_', '-')}"], default=None, help=text))
        else:
            found.append(click.Option([flag, name], type=TYPES[kind], multiple=several, help=text + _default(field)))
    return found


def _kind(annotation: Any) -> tuple[type, bool]:
    """The type of a value, and whether there may be several."""
    several = typing.get_origin(annotation) is tuple
    inner = typing.get_args(annotation)[0] if several else annotation
    if isinstance(inner, types.UnionType):
        inner = next(part for part in typing.get_args(inner) if part is not type(None))
    return inner, several


def _default(field: Any) -> str:
    return "" if field.default in (None, ()) else f"  [default: {field.default}]"


class ServeCommand(click.Command):
    """Makes its options when they are asked for: the settings' module is not loaded for `gnomon --help`."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not self.params:
            self.params = _options()
        return super().get_params(ctx)


@click.command(cls=ServeCommand)
def serve(**values: Any) -> None:
    """Serve jobs over HTTP on this machine: /v1, warm workers, webhooks, the replaced systems' APIs."""
    from gnomon import paths
    from gnomon.server.settings import load_settings

    settings = load_settings(values)
    level = getattr(logging, settings.log_level.upper())
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        from gnomon.server.running import run
    except ImportError as error:
        raise MissingError(
            f"the server needs the Python package {error.name}",
            code="server_not_installed",
            fix='pip install "gnomon[server]"',
        ) from None
    run(settings, paths.home_dir())
