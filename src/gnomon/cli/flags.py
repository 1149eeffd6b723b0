"""Flags from specs: each field of a pydantic model becomes an option, input fields marked so an argument."""

from __future__ import annotations

import types
import typing
from typing import Any

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gnomon.tasks.spec import TaskSpec, input_fields


def parameters(spec: type[TaskSpec]) -> list[click.Parameter]:
    """click's parameters for every field of the spec, in the order of the model."""
    markers = {name: (marker, is_list) for name, marker, is_list in input_fields(spec)}
    made: list[click.Parameter] = []
    for name, info in spec.model_fields.items():
        marker, is_list = markers.get(name, (None, False))
        if marker is not None and marker.argument:
            made.append(
                click.Argument([name], nargs=-1 if is_list else 1, required=True, metavar=_metavar(name, is_list))
            )
        else:
            made.append(_option(name, info))
    if spec.shortcuts is not None:
        made = [*(_option(name, info) for name, info in spec.shortcuts.model_fields.items()), *made]
    return made


class TaskCommand(click.Command):
    """Options that can be repeated also take several values at once, as the shell's patterns give them.

    `--rgb a.png b.png` is `--rgb a.png --rgb b.png`. Only where no argument could be meant instead.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not any(isinstance(parameter, click.Argument) for parameter in self.params):
            lists = {flag for option in self.params if getattr(option, "multiple", False) for flag in option.opts}
            args = _spread(args, lists)
        return super().parse_args(ctx, args)


def _spread(args: list[str], lists: set[str]) -> list[str]:
    """Repeat a flag of `lists` before each further value that follows it."""
    spread: list[str] = []
    flag, values = "", 0
    for position, word in enumerate(args):
        if word == "--":
            return spread + args[position:]
        if word.startswith("-") and len(word) > 1:
            flag, values = word, 0
        elif flag in lists and values > 0:
            spread.append(flag)
        else:
            values += 1
        spread.append(word)
    return spread


def given_shortcuts(spec: type[TaskSpec], values: dict[str, Any]) -> dict[str, Any]:
    """What the user gave of the options that stand for several fields."""
    names = spec.shortcuts.model_fields if spec.shortcuts is not None else {}
    return {name: values[name] for name in names if values.get(name) is not None}


def given_values(spec: type[TaskSpec], values: dict[str, Any]) -> dict[str, Any]:
    """What the user really gave; the model's own defaults stand for the rest."""
    given = {name: value for name, value in values.items() if name in spec.model_fields and value is not None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items() if value != ()}


def _option(name: str, info: FieldInfo) -> click.Option:
    flag = "--" + name.replace("_", "-")
    kind = _plain(info.annotation)
    help_text = _help(info)
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", name], default=None, help=help_text)
    return click.Option(
        [flag, name], default=None, type=_click_type(kind), multiple=_is_list(info.annotation), help=help_text
    )


def _plain(annotation: Any) -> Any:
    """The type under Optional, Annotated and list."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _plain(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return _plain(next(arg for arg in typing.get_args(annotation) if arg is not type(None)))
    if origin in (list, tuple):
        return _plain(typing.get_args(annotation)[0])
    return annotation


def _is_list(annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return any(_is_list(argument) for argument in arguments)
    return origin in (list, tuple)


def _click_type(kind: Any) -> Any:
    if typing.get_origin(kind) is typing.Literal:
        values = typing.get_args(kind)
        return IntChoice(values) if all(isinstance(value, int) for value in values) else click.Choice(values)
    return kind if kind in (int, float, str) else str


class IntChoice(click.Choice[str]):
    """A choice among whole numbers, which arrive as text and leave as numbers."""

    def __init__(self, values: tuple[int, ...]) -> None:
        super().__init__([str(value) for value in values])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return int(super().convert(str(value), param, ctx))


def _help(info: FieldInfo) -> str:
    text = (info.description or "").strip()
    text = text[:1].upper() + text[1:]
    if info.default is PydanticUndefined or info.default is None:
        return text + "."
    default = (
        {True: "yes", False: "no"}.get(info.default, info.default) if isinstance(info.default, bool) else info.default
    )
    return f"{text}. [default: {default}]"


def _metavar(name: str, is_list: bool) -> str:
    return name.upper() + ("..." if is_list else "")
