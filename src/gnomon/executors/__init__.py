"""Where workers run: launchers (how a worker is started), runtimes (in what), transfers (how files travel).

Each seam is a protocol of a few verbs, so that a new kind of place is one short file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gnomon.job import Attempt, JobDir

if TYPE_CHECKING:
    # Only named here: the supervisor passes through this module and must stay light.
    from gnomon.request import Request, Resources


@dataclass(frozen=True)
class Capacity:
    """What a site has for jobs. `gpus` counts devices that a job may be given."""

    cpus: int
    mem_gb: float
    gpus: int = 0


@dataclass(frozen=True)
class Probe:
    """What a look at a site found: usable or not, and why."""

    ok: bool
    facts: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


class Launcher(Protocol):
    """Starts attempts and knows whether they still run."""

    def submit(self, attempt: Attempt, command: Sequence[str], request: Request) -> None:
        """Start the command for an attempt whose launch.json is already claimed."""
        ...

    def poll(self, attempts: Sequence[Attempt]) -> dict[Attempt, bool]:
        """For each attempt, whether something may still be working on it."""
        ...

    def cancel(self, attempt: Attempt) -> None:
        """Ask for the end of an attempt whose job has its cancel marker set."""
        ...

    def logs(self, attempt: Attempt, offset: int) -> bytes:
        """What the worker printed from byte `offset` on."""
        ...

    def capacity(self) -> Capacity:
        """What the site has in all."""
        ...

    def probe(self) -> Probe:
        """Look whether the site can run jobs now."""
        ...


class Runtime(Protocol):
    """Wraps a worker's command, say in a container."""

    def wrap(self, command: Sequence[str], resources: Resources) -> list[str]: ...


class Transfer(Protocol):
    """Brings a job's directory to where its worker runs, and the results back."""

    def push(self, job: JobDir) -> None: ...

    def pull(self, job: JobDir) -> None: ...
