"""Sites: named places that run jobs. `local` is always there; others come from sites.toml.

[sites.local]            # optional: less than the whole machine
cpus = 8
mem_gb = 16
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from gnomon import paths
from gnomon.errors import InputError, NotFound
from gnomon.executors import Capacity, Launcher, Runtime, Transfer
from gnomon.executors.host import HostRuntime
from gnomon.executors.local import LocalLauncher, count_gpus, usable_cpus, usable_memory_gb
from gnomon.executors.samepath import SamePathTransfer
from gnomon.request import Frozen


class LocalSettings(Frozen):
    """A [sites.NAME] table of kind "local": limits for what jobs may use of this machine together."""

    kind: str = "local"
    cpus: int | None = Field(default=None, ge=1)
    mem_gb: float | None = Field(default=None, gt=0)
    gpus: int | None = Field(default=None, ge=0)
    price_per_hour: float | None = Field(default=None, ge=0)
    """What an hour of the site's device costs; completed jobs then say what they cost."""
    currency: str = Field(default="USD", min_length=1, max_length=8)


@dataclass(frozen=True)
class Site:
    """Launcher, runtime and transfer under one name."""

    name: str
    launcher: Launcher
    runtime: Runtime
    transfer: Transfer
    price_per_hour: float | None = None
    currency: str = "USD"


def load_sites(home: Path, file: Path | None = None) -> dict[str, Site]:
    """All sites of this user.

    Raises:
        InputError: sites.toml does not parse, or a table has a wrong field.
    """
    tables: dict[str, Any] = {"local": {}} | _read_tables(file or paths.sites_file())
    return {name: _make(name, table, home) for name, table in tables.items()}


def get_site(sites: dict[str, Site], name: str) -> Site:
    try:
        return sites[name]
    except KeyError:
        raise NotFound(
            f"there is no site {name!r}",
            code="site_not_found",
            field="site",
            value=name,
            expected="one of: " + ", ".join(sites),
            fix=f"add a [sites.{name}] table to {paths.sites_file()}",
        ) from None


def _read_tables(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file} is not valid TOML: {error}", code="sites_invalid", field="sites.toml") from None
    unknown = sorted(set(content) - {"sites"})
    if unknown:
        raise InputError(
            f"{file}: there is no table [{unknown[0]}]",
            code="sites_invalid",
            field="sites.toml",
            value=unknown[0],
            expected="tables of the form [sites.NAME]",
        )
    tables = content.get("sites", {})
    for name, table in tables.items() if isinstance(tables, dict) else [("", None)]:
        if not isinstance(table, dict):
            raise InputError(
                f"{file}: {name or 'sites'} is not a table",
                code="sites_invalid",
                field=f"sites.{name}".rstrip("."),
                expected="a table of the form [sites.NAME]",
            )
    return tables


def _make(name: str, table: dict[str, Any], home: Path) -> Site:
    kind = table.get("kind", "local")
    if kind != "local":
        raise InputError(
            f"site {name!r} is of unknown kind {kind!r}",
            code="sites_invalid",
            field=f"sites.{name}.kind",
            value=kind,
            expected="local",
        )
    try:
        settings = LocalSettings.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"site {name!r}: {first['msg']}",
            code="sites_invalid",
            field=f"sites.{name}." + ".".join(str(part) for part in first["loc"]),
            value=first.get("input"),
            expected="one of the fields: " + ", ".join(LocalSettings.model_fields),
        ) from None
    capacity = Capacity(
        cpus=settings.cpus or usable_cpus(),
        mem_gb=settings.mem_gb or usable_memory_gb(),
        gpus=count_gpus() if settings.gpus is None else settings.gpus,
    )
    launcher = LocalLauncher(home, capacity)
    return Site(name, launcher, HostRuntime(), SamePathTransfer(), settings.price_per_hour, settings.currency)
