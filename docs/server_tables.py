"""The tables of the server's pages: its settings and its routes, taken from the program itself."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMMON_STATUSES = {"400", "401", "403", "421", "422", "429"}
"""What any route may answer with; the page says so once instead of in each row."""

METHODS = ("post", "get", "put", "head", "delete")


def settings_table() -> str:
    """Each flag of `gnomon serve` with its variable, its default and what it says."""
    from gnomon.server.settings import PREFIX, ServerSettings

    rows = ["| flag | variable | default | meaning |", "|---|---|---|---|"]
    for name, field in ServerSettings.model_fields.items():
        default = "" if field.default in (None, ()) else f"`{_shown(field.default)}`"
        flag = f"--{name.replace('_', '-')}"
        rows.append(f"| `{flag}` | `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def routes_table() -> str:
    """Each route of the OpenAPI document, by path."""
    from gnomon.server.tokens import SCOPES

    document, scopes = openapi_document(), dict(_scopes(SCOPES))
    rows = ["| method | path | scope | what it does | answers |", "|---|---|---|---|---|"]
    for path, operations in document["paths"].items():
        for method in (known for known in METHODS if known in operations):
            operation = operations[method]
            says = _first_sentence(operation.get("description") or operation["summary"])
            statuses = sorted(set(operation["responses"]) - COMMON_STATUSES)
            scope = scopes.get((method, path))
            rows.append(
                f"| {method.upper()} | `{path}` | {f'`{scope}`' if scope else 'none'} | {says} | {' '.join(statuses)} |"
            )
    return "\n".join(rows)


def openapi_document() -> dict[str, Any]:
    """What GET /openapi.json answers, without a server."""
    from gnomon.api import Home
    from gnomon.server.access import AccessPolicy
    from gnomon.server.app import make_app
    from gnomon.server.service import Service
    from gnomon.server.settings import ServerSettings
    from gnomon.server.tokens import TokenStore

    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        try:
            settings = ServerSettings()
            policy = AccessPolicy(required=True, store=TokenStore(home.path))
            return make_app(Service(settings, home), settings, policy).openapi()
        finally:
            home.close()


def _scopes(scopes: tuple[str, ...]) -> Iterator[tuple[tuple[str, str], str]]:
    """The scope that each route asks for; those that ask for none are left out."""
    from fastapi.routing import APIRoute

    from gnomon.server.access import require
    from gnomon.server.routes import events, files, jobs, results, system, webhooks

    # `require` gives the same function for the same scope each time.
    asking = {require(scope): scope for scope in scopes}
    for module in (jobs, results, events, files, webhooks, system):
        for route in module.router.routes:
            assert isinstance(route, APIRoute)
            found = {asking[need.call] for need in route.dependant.dependencies if need.call in asking}
            for method in route.methods:
                for scope in found:
                    yield (method.lower(), re.sub(r":\w+}", "}", route.path)), scope


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _first_sentence(text: str) -> str:
    sentence = re.split(r"\.(?:\s|$)", " ".join(text.split()))[0]
    return sentence[0].upper() + sentence[1:]
