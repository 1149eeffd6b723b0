"""What every task's spec has in common: a frozen pydantic model, and inputs marked by their type.

A spec is written once and becomes the CLI's flags, the REST schema and the JSON on disk. A field typed with an
`Input` marker is staged by `gnomon.inputs` whatever the task; the task's code sees a path under inputs/.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from gnomon.errors import InputError
from gnomon.request import Resources

GIB = 1024**3


@dataclass(frozen=True)
class Input:
    """Marks a field (or the items of a list field) as a file: a local path, a file:// or an http(s):// URL."""

    suffixes: tuple[str, ...] = ()
    """Accepted file name endings, lower case with the dot; empty for any."""
    max_bytes: int = 2 * GIB
    argument: bool = False
    """A positional argument on the command line instead of an option."""
    companions: Callable[[Path], list[str]] | None = None
    """Further files that a file refers to, as names relative to its folder (an OBJ's materials and textures)."""


class TaskSpec(BaseModel):
    """Base of all specs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: ClassVar[str]

    shortcuts: ClassVar[type[BaseModel] | None] = None
    """Further options of the command line, each of which stands for several fields; see `from_options`."""

    method: Any
    """The method by name; each spec narrows it to its own names."""

    def default_resources(self, cpus: int, mem_gb: float) -> Resources:
        """What the job asks for unless told otherwise, on a site with this many cores and this much memory."""
        return Resources(cpus=min(cpus, 4), mem_gb=min(4.0, mem_gb))

    @classmethod
    def read_result(cls, record: dict[str, Any], root: Path) -> Any:
        """The typed result from result.json; `root` is the folder it lies in."""
        del root
        return record

    @classmethod
    def summary(cls, record: dict[str, Any]) -> list[str]:
        """A few lines for the terminal about a result."""
        del record
        return []

    @classmethod
    def from_options(cls, shortcuts: dict[str, Any], values: dict[str, Any]) -> typing.Self:
        """The spec of a command line: `values` are fields, `shortcuts` what was given of those options.

        Raises:
            InputError: what `parse` raises.
        """
        del shortcuts
        return cls.parse(**values)

    @classmethod
    def parse(cls, **values: Any) -> typing.Self:
        """Build the spec, turning pydantic's complaint into an InputError that names field, value and remedy.

        Raises:
            InputError: code `field_unknown`, `field_missing` or `field_invalid`.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise _input_error(cls, error) from None


def input_fields(spec: type[TaskSpec]) -> Iterator[tuple[str, Input, bool]]:
    """(field name, its Input marker, whether it is a list) for every field that holds files."""
    for name, info in spec.model_fields.items():
        # pydantic moves the metadata of a plain Annotated into the field.
        markers = [extra for extra in info.metadata if isinstance(extra, Input)]
        found = (markers[0], False) if markers else _find_marker(info.annotation)
        if found is not None:
            yield name, found[0], found[1]


def _find_marker(annotation: Any) -> tuple[Input, bool] | None:
    """The Input marker under Annotated, Optional and list, and whether a list was on the way."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        markers = [extra for extra in arguments[1:] if isinstance(extra, Input)]
        return (markers[0], False) if markers else _find_marker(arguments[0])
    if origin in (list, tuple):
        item = _find_marker(arguments[0])
        return (item[0], True) if item is not None else None
    if origin in (typing.Union, types.UnionType):
        return next((found for found in map(_find_marker, arguments) if found is not None), None)
    return None


def _input_error(spec: type[TaskSpec], error: ValidationError) -> InputError:
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else spec.task
    known = ", ".join(spec.model_fields)
    if first["type"] == "extra_forbidden":
        return InputError(
            f"{spec.task} has no field {field!r}",
            code="field_unknown",
            field=field,
            expected=f"one of: {known}",
        )
    if first["type"] == "missing":
        return InputError(f"{spec.task} needs {field!r}", code="field_missing", field=field)
    info = spec.model_fields.get(field)
    return InputError(
        f"{field}: {first['msg'].removeprefix('Value error, ')}",
        code="field_invalid",
        field=".".join(str(part) for part in first["loc"]) or None,
        value=first.get("input"),
        expected=info.description if info else None,
    )
