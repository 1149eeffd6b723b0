"""The plainest runtime: the worker runs in this very Python environment."""

from __future__ import annotations

from collections.abc import Sequence

from gnomon.request import Resources


class HostRuntime:
    """Leaves the command as it is."""

    def wrap(self, command: Sequence[str], resources: Resources) -> list[str]:
        return list(command)
