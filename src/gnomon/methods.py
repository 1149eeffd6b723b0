"""A method is one way of doing a task. It says what it costs, what it needs, and whether it can run here."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnomon.environments import Environment
from gnomon.errors import MissingError


@dataclass(frozen=True)
class Method:
    """What a method declares. Its code lies elsewhere and is imported only when it runs."""

    name: str
    task: str
    summary: str
    licence: str
    paper: str
    devices: tuple[str, ...] = ("cpu",)
    packages: tuple[str, ...] = ()
    """Import names that must be present in our own environment."""
    extra: str | None = None
    """The gnomon extra that brings `packages`."""
    environment: Environment | None = None
    """The private environment of a method that cannot live in ours."""
    check: Callable[[Path], list[str]] | None = None
    """Says what else is missing, for a method that lives outside of Python; given the cache folder."""
    steps: str | None = None
    """What to do about that, where no command of ours can."""
    warm_up: Callable[[], None] | None = None
    """Compiles or loads, once, what the first job would otherwise pay for."""

    def missing(self, cache_root: Path) -> list[str]:
        """What stands between this machine and the method, in words; empty when it can run."""
        from gnomon import environments

        absent = [f"the Python package {name}" for name in self.packages if importlib.util.find_spec(name) is None]
        if self.environment is not None and not environments.is_ready(self.environment, cache_root):
            absent.append(f"its private environment ({', '.join(self.environment.requirements)})")
        return absent + (self.check(cache_root) if self.check is not None else [])

    def remedy(self) -> str:
        if self.steps is not None:
            return self.steps
        if self.extra is not None:
            return f'pip install "gnomon[{self.extra}]"'
        return f"gnomon methods install {self.name}"

    def require(self, cache_root: Path) -> None:
        """Raise MissingError, with the command that mends it, when the method cannot run here."""
        absent = self.missing(cache_root)
        if absent:
            raise MissingError(
                f"method {self.name!r} needs {' and '.join(absent)}",
                code="method_not_installed",
                field="method",
                value=self.name,
                fix=self.remedy(),
            )

    def install(self, cache_root: Path, report: Callable[[str], None]) -> None:
        """Make the method ready: build its environment, compile its kernels."""
        from gnomon import environments

        if self.steps is not None:
            # Licences or drivers are in the way: only the user can do it.
            self.require(cache_root)
        if self.environment is not None:
            environments.install(self.environment, cache_root, report=report)
        if self.warm_up is not None:
            report(f"compiling {self.name}")
            self.warm_up()

    def describe(self, cache_root: Path) -> dict[str, Any]:
        """The JSON form for `gnomon methods list`."""
        return {
            "name": self.name,
            "task": self.task,
            "summary": self.summary,
            "licence": self.licence,
            "paper": self.paper,
            "devices": list(self.devices),
            "missing": self.missing(cache_root),
            "remedy": self.remedy(),
        }
