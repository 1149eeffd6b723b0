"""What clients of the Render Server asked for and what became of it, on disk: a restart forgets nothing.

    server/render/orders/<uuid>.json     written before the job is submitted, never changed
    server/render/endings/<uuid>.json    written once, when the templates are delivered or the job has failed

An order's job is found by its idempotency key, which is the order's uuid.
"""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from typing import Any, Literal

from gnomon import atomic
from gnomon.request import Frozen


class RenderOrder(Frozen):
    """One request, as it was accepted. Paths are as the client wrote them."""

    id: str
    owner: str
    created_at: float
    cad_path: str
    output_dir: str
    direct: bool
    """Whether the files go into `output_dir` itself and not into its `templates` folder."""
    method: str = "raster"
    normalize: bool = True
    colorize: bool = False
    base_color: float = 0.05
    total_poses: int = 42

    @property
    def templates_dir(self) -> str:
        return self.output_dir if self.direct else f"{self.output_dir.rstrip('/')}/templates"


class Ending(Frozen):
    """How an order ended. All that an answer needs is here: its job may be deleted later."""

    status: Literal["succeeded", "failed"]
    ended_at: float
    job: str | None = None
    started_at: float | None = None
    pid: int | None = None
    cmd: str | None = None
    returncode: int | None = None
    rendered_count: int = 0
    error: str | None = None
    code: str | None = None
    warnings: tuple[str, ...] = ()


class OrderBook:
    """All orders and endings of one server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._orders = folder / "orders"
        self._endings = folder / "endings"
        for path in (self._orders, self._endings):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(self, order: RenderOrder) -> None:
        atomic.write_json(self._orders / f"{order.id}.json", order.model_dump(mode="json"), private=True)

    def order(self, order_id: str) -> RenderOrder | None:
        """The order, or None; a text that is no uuid never becomes a file's name."""
        found = self._read(self._orders, order_id)
        return None if found is None else RenderOrder.model_validate(found)

    def end(self, order_id: str, ending: Ending) -> None:
        """Put down how an order ended; the first account stands."""
        record = ending.model_dump(mode="json", exclude_none=True)
        atomic.create_json(self._endings / f"{order_id}.json", record, private=True)

    def ending(self, order_id: str) -> Ending | None:
        found = self._read(self._endings, order_id)
        return None if found is None else Ending.model_validate(found)

    def pending(self) -> list[RenderOrder]:
        """Orders that have not ended, the oldest first."""
        ended = {path.name for path in self._endings.glob("*.json")}
        names = [path.stem for path in self._orders.glob("*.json") if path.name not in ended]
        found = [order for order in map(self.order, names) if order is not None]
        return sorted(found, key=lambda order: order.created_at)

    def forget(self, older_than: dict[str, float]) -> list[str]:
        """Remove what ended before a time, given for each status; return the ids."""
        gone = []
        for path in self._endings.glob("*.json"):
            ending = self.ending(path.stem)
            if ending is not None and ending.ended_at < older_than.get(ending.status, 0.0):
                # The order first: an ending alone is not shown, while an order alone would count as pending.
                (self._orders / path.name).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                gone.append(path.stem)
        return gone

    def _read(self, folder: Path, order_id: str) -> dict[str, Any] | None:
        with contextlib.suppress(ValueError):
            if str(uuid.UUID(order_id)) == order_id:
                return atomic.read_json(folder / f"{order_id}.json")
        return None
