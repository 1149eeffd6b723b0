"""The replaced systems' APIs: each a thin translation onto the service, on its own port or under a prefix."""

from __future__ import annotations

import importlib
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
        port = None if prefix else int(place or MODULES[name][1])
        found.append(Facade(name, settings.host, port, prefix))
    return found
