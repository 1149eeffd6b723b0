"""The replaced systems' APIs: each a thin translation onto the service, on its own port or under a prefix."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gnomon.errors import InputError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from gnomon.server.access import AccessPolicy
    from gnomon.server.service import Service
    from gnomon.server.settings import ServerSettings

MODULES = {"pose-api": ("gnomon.server.facades.pose_api", 5000), "render": ("gnomon.server.facades.render", 8004)}
"""Name -> (module with `make`, the port its clients expect)."""

ADDRESS_VARIABLES = {"render": ("RENDER_SERVER_HOST", "RENDER_SERVER_PORT")}
"""The variables by which a replaced system was told its address; what gnomon itself is told goes before them."""


@dataclass(frozen=True)
class Facade:
    """One facade as the settings ask for it: a port of its own, or a prefix under /v1's port."""

    name: str
    host: str
    port: int | None
    prefix: str

    @property
    def make(self) -> Callable[[Service, ServerSettings, AccessPolicy], FastAPI]:
        return importlib.import_module(MODULES[self.name][0]).make


def parse(asked: tuple[str, ...], settings: ServerSettings) -> list[Facade]:
    """Facades from NAME, NAME:PORT and NAME:/PREFIX.

    Raises:
        InputError: code `setting_invalid`.
    """
    found = []
    for text in asked:
        name, _, place = text.partition(":")
        fits = place == "" or place.isdigit() or place.startswith("/")
        if name not in MODULES or not fits or (place.isdigit() and int(place) > 65535):
            raise InputError(
                f"there is no facade {text!r}",
                code="setting_invalid",
                field="--facade",
                value=text,
                expected="NAME, NAME:PORT or NAME:/PREFIX with NAME one of " + ", ".join(MODULES),
            )
        prefix = place.rstrip("/") if place.startswith("/") else ""
        if prefix:
            found.append(Facade(name, settings.host, None, prefix))
        else:
            found.append(Facade(name, _host(name, settings), int(place) if place else _port(name), ""))
    return found


def _host(name: str, settings: ServerSettings) -> str:
    variable = ADDRESS_VARIABLES.get(name, ("", ""))[0]
    told = "host" in settings.model_fields_set
    return settings.host if told else os.environ.get(variable, "").strip() or settings.host


def _port(name: str) -> int:
    variable = ADDRESS_VARIABLES.get(name, ("", ""))[1]
    text = os.environ.get(variable, "").strip()
    if not text:
        return MODULES[name][1]
    if not text.isdecimal() or int(text) > 65535:
        raise InputError(
            f"{variable} is no port",
            code="setting_invalid",
            field=variable,
            value=text,
            expected="a whole number up to 65535",
        )
    return int(text)
