"""From a body of the Render Server's API to a job of gnomon, and from the job back to its record."""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from gnomon.errors import GnomonError, InputError
from gnomon.request import Resources
from gnomon.server.access import Caller
from gnomon.server.facades import render_models as wire
from gnomon.server.facades.render_courier import Courier, process_of
from gnomon.server.facades.render_orders import Ending, OrderBook, RenderOrder
from gnomon.server.facades.render_paths import Roots
from gnomon.server.facades.render_placing import prepare_folder
from gnomon.server.facades.render_staging import Staged, stage
from gnomon.server.service import Service
from gnomon.server.settings import ServerSettings
from gnomon.tasks.templates.spec import Templates
from gnomon.tasks.templates.views import VIEW_COUNTS, load_poses

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 1800.0
"""The old server's fixed limit."""


class Desk:
    """Takes orders and says how they are."""

    def __init__(self, service: Service, settings: ServerSettings, samples: int) -> None:
        home = service.home.path
        self.service = service
        self.settings = settings
        self.samples = samples
        self.roots = Roots(settings.render_root)
        self.book = OrderBook(home / "server" / "render")
        logs = home / settings.render_logs
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.courier = Courier(service, self.book, self.roots, logs)
        self._staging = self.book.folder / "staging"
        # What a killed server was copying is of no use to anybody.
        shutil.rmtree(self._staging, ignore_errors=True)

    def take(self, body: wire.RenderBody, caller: Caller, wait_s: float) -> RenderOrder:
        """Make a job of a body, or an order that has failed already; blocks while files are copied.

        Raises:
            GnomonError: nothing was put down: a path leads out, the queue is full, the server shuts down.
        """
        for field in ("cad_path", "output_dir", "camera_poses_path"):
            text = getattr(body, field)
            if text is not None:
                self.roots.locate(text, field)
        self.service.check_room(caller.owner)
        order = self._order(body, caller)
        try:
            with self._prepared(body, order) as staged:
                poses = VIEW_COUNTS[0] if staged.camera_poses is None else len(load_poses(staged.camera_poses))
                order = order.model_copy(update={"total_poses": poses})
                spec = self._spec(body, staged)
                # From here on a restart knows of it, whether the job was made or not.
                self.book.add(order)
                self._submit_or_end(spec, order, staged, caller, body.timeout_sec, wait_s)
        except GnomonError as error:
            if error.code == "path_outside_roots":
                raise
            self.book.add(order)
            self.courier.end_unstarted(order, error)
            if error.code == "shutting_down":
                raise
            return order
        self.courier.add(order)
        return order

    def templates_dir(self, body: wire.RenderBody) -> str:
        """Where a body's templates go, as its client would write it."""
        direct = self._is_direct(body)
        return body.output_dir if direct else f"{body.output_dir.rstrip('/')}/templates"

    def record(self, order: RenderOrder) -> wire.Record:
        """How the order is now."""
        log_path = str(self.courier.log_path(order.id))
        ending = self.book.ending(order.id)
        if ending is not None:
            return wire.ended_record(order, ending, log_path)
        job = self.courier.job_of(order)
        status = job.status() if job is not None else None
        if job is None or status is None or status.started_at is None:
            return wire.queued_record(order)
        # A job that has ended counts as running until its files are delivered.
        return wire.running_record(order, status.started_at, log_path, process_of(job))

    def find(self, order_id: str, caller: Caller) -> RenderOrder | None:
        order = self.book.order(order_id)
        return order if order is not None and caller.sees(order.owner) else None

    async def wait(self, order: RenderOrder, timeout_s: float) -> Ending | None:
        return await self.courier.wait(order.id, timeout_s)

    def _order(self, body: wire.RenderBody, caller: Caller) -> RenderOrder:
        return RenderOrder(
            id=str(uuid.uuid4()),
            owner=caller.owner,
            created_at=time.time(),
            cad_path=body.cad_path,
            output_dir=body.output_dir,
            direct=self._is_direct(body),
            method=body.method,
            normalize=body.normalize,
            colorize=body.colorize,
            base_color=body.base_color,
        )

    def _is_direct(self, body: wire.RenderBody) -> bool:
        layout = body.layout or self.settings.render_layout
        return layout == "flat" or Path(body.output_dir).name == "templates"

    @contextlib.contextmanager
    def _prepared(self, body: wire.RenderBody, order: RenderOrder) -> Iterator[Staged]:
        """The inputs as private copies, once it is certain that the output can be written."""
        try:
            prepare_folder(self.roots, body.output_dir)
        except OSError as error:
            raise InputError(
                f"nothing can be written to {body.output_dir}: {error.strerror or error}",
                code="output_not_writable",
                field="output_dir",
                value=body.output_dir,
                fix="choose another folder, or change its rights",
            ) from None
        folder = self._staging / f"{order.id}-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700, parents=True)
        try:
            yield stage(self.roots, body.cad_path, body.camera_poses_path, folder, self.settings.max_triangles)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _spec(self, body: wire.RenderBody, staged: Staged) -> Templates:
        return Templates.parse(
            mesh=[str(staged.mesh)],
            method=body.method,
            camera_poses=None if staged.camera_poses is None else str(staged.camera_poses),
            normalize=body.normalize,
            colorize=body.colorize,
            base_color=body.base_color,
            samples=body.samples or self.samples,
            # The old server knew nothing of units: it drew whatever the numbers said.
            allow_any_size=True,
        )

    def _submit_or_end(
        self,
        spec: Templates,
        order: RenderOrder,
        staged: Staged,
        caller: Caller,
        timeout_s: float | None,
        wait_s: float,
    ) -> None:
        capacity = self.service.home.reconciler.sites["local"].launcher.capacity()
        resources = spec.default_resources(capacity.cpus, capacity.mem_gb)
        # A job is not ended while its client still waits for it.
        limit_s = max(timeout_s or max(DEFAULT_TIMEOUT_S, resources.timeout_s), wait_s)
        resources = resources.model_copy(update={"timeout_s": float(limit_s)})
        try:
            self._submit(spec, order, staged, caller, resources)
        except GnomonError:
            raise
        except Exception:
            # A mistake of ours must not leave an order that seems to wait for ever.
            self.courier.end_unstarted(order, GnomonError("the server made a mistake; its log says more"))
            raise

    def _submit(
        self, spec: Templates, order: RenderOrder, staged: Staged, caller: Caller, resources: Resources
    ) -> None:
        job = self.service.submit_spec(
            spec,
            caller,
            via="render",
            submission={"idempotency_key": order.id},
            hashes=staged.hashes,
            resources=resources,
            label=f"render {Path(order.cad_path).name}"[:200],
        )
        log.info("render order %s is job %s", order.id, job.id)
