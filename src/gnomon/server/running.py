"""A server's life: everything opened in order, uvicorn run on each socket, everything closed in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import uvicorn
from starlette.routing import Mount, Router
from starlette.types import ASGIApp

from gnomon import atomic
from gnomon.api import Home
from gnomon.errors import ExecutorError
from gnomon.executors import agent_lock
from gnomon.server import facades
from gnomon.server.access import AccessPolicy, check_exposed, needs_tokens
from gnomon.server.app import make_app
from gnomon.server.listeners import address_of, open_socket
from gnomon.server.protocol import PromptProtocol
from gnomon.server.service import Service
from gnomon.server.settings import ServerSettings
from gnomon.server.tokens import TokenStore
from gnomon.tasks import get_task

log = logging.getLogger(__name__)

DRAIN_S = 10
"""How long requests that are under way may take to end when the server is told to stop."""

SWEEP_INTERVAL_S = 300.0
ANNOUNCE_INTERVAL_S = 10.0
LAST_USES_INTERVAL_S = 60.0
THREADS = 4


class _Server(uvicorn.Server):
    """Several of them share one loop, so signals are handled once, by `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: ServerSettings, home_path: Path) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        ExecutorError: a port is taken (`port_taken`), or another server already serves this home (`home_served`).
        MissingError: the address can be reached from elsewhere and there are no tokens (`tokens_needed`).
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, home_path))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(settings: ServerSettings, home_path: Path) -> None:
    store = TokenStore(home_path)
    wanted = facades.parse(settings.facade, settings)
    hosts = {settings.host, *(facade.host for facade in wanted)}
    for host in hosts:
        check_exposed(host, store)
    policy = AccessPolicy(
        # One listener that others can reach is enough: all of them lead to the same jobs.
        required=settings.require_token or any(needs_tokens(host) for host in hosts),
        store=store,
        hosts=settings.allow_host,
        cors_origins=settings.cors_origin,
    )
    with contextlib.ExitStack() as opened:
        main_socket = opened.enter_context(open_socket(settings.host, settings.port, "the server"))
        sockets = {
            facade.name: opened.enter_context(open_socket(facade.host, facade.port, f"the {facade.name} API"))
            for facade in wanted
            if facade.port is not None
        }
        if not opened.enter_context(agent_lock.serving(home_path)):
            raise ExecutorError(
                f"another server already works on {home_path}",
                code="home_served",
                field="GNOMON_HOME",
                value=str(home_path),
                fix="stop it, or give this server another home",
            )
        service = _open_service(settings, home_path)
        opened.callback(service.home.close)
        made = [(facade, facade.make(service, settings, policy)) for facade in wanted]
        # Beside the app of /v1 instead of inside of it: each has bounds and answers of its own.
        beside = [Mount(facade.prefix, app) for facade, app in made if facade.port is None]
        main_app = Router([*beside, Mount("", make_app(service, settings, policy))])
        apps: list[tuple[ASGIApp, socket.socket]] = [(main_app, main_socket)]
        apps += [(app, sockets[facade.name]) for facade, app in made if facade.port is not None]
        await _run_all(service, store, settings, apps)


def _open_service(settings: ServerSettings, home_path: Path) -> Service:
    home = Home(home_path)
    home.ensure_indexed()
    service = Service(settings, home)
    for task in settings.warm:
        get_task(task)
    local = home.reconciler.sites.get("local")
    if local is not None and settings.workers != 0:
        from gnomon.executors.warm import PoolSettings, WarmPool

        capacity = local.launcher.capacity()
        pool = WarmPool(
            home_path,
            PoolSettings(size=settings.workers or capacity.cpus, warm_tasks=settings.warm),
            service.engine.wake,
        )
        service.use_pool(pool)
    return service


async def _run_all(
    service: Service, store: TokenStore, settings: ServerSettings, apps: list[tuple[ASGIApp, socket.socket]]
) -> None:
    servers = [_Server(_config(app, settings)) for app, _ in apps]
    loop = asyncio.get_running_loop()
    # Every thread that waits for the interpreter costs; more than a few only get into each other's way.
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    # What is there now stays; walking through all of it again and again would hold up requests.
    gc.collect()
    gc.freeze()
    service.start(loop)
    running = [
        asyncio.create_task(server.serve(sockets=[found])) for server, (_, found) in zip(servers, apps, strict=True)
    ]
    upkeep = asyncio.create_task(_upkeep(service, store))
    _say_where(service.home.path, [address_of(found) for _, found in apps])
    stop = asyncio.create_task(stopping.wait())
    parts: list[asyncio.Task[Any]] = [stop, upkeep, *running]
    await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping; jobs that run go on without the server")
    service.close()
    for server in servers:
        server.should_exit = True
    for task in (stop, upkeep):
        task.cancel()
    for outcome in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.error("a part of the server failed", exc_info=outcome)
    await asyncio.to_thread(service.stop)
    await asyncio.to_thread(store.save_last_uses)
    (service.home.path / "server" / "address.json").unlink(missing_ok=True)


def _config(app: ASGIApp, settings: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=PromptProtocol,
        log_config=None,
        access_log=settings.log_level == "debug",
        # Off loopback a proxy's word about the client is not believed unasked.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=DRAIN_S,
        limit_concurrency=2000,
        lifespan="off",
        ws="none",
    )


async def _upkeep(service: Service, store: TokenStore) -> None:
    """Webhooks all the time; missed ends and retention now and then."""
    await asyncio.gather(
        service.webhooks.run(),
        _again_and_again(service.announce_missed, ANNOUNCE_INTERVAL_S),
        _again_and_again(service.sweep, SWEEP_INTERVAL_S),
        _again_and_again(store.save_last_uses, LAST_USES_INTERVAL_S),
    )


async def _again_and_again(work: Callable[[], None], interval_s: float) -> None:
    while True:
        try:
            await asyncio.to_thread(work)
        except Exception:
            log.exception("%s failed; it is tried again", work.__name__)
        await asyncio.sleep(interval_s)


def _say_where(home_path: Path, addresses: list[str]) -> None:
    """Tell programs, by a file, and people, by a line, where the server is."""
    folder = home_path / "server"
    folder.mkdir(mode=0o700, exist_ok=True)
    atomic.write_json(folder / "address.json", {"addresses": addresses, "pid": os.getpid()})
    for address in addresses:
        log.info("listening on %s", address)
    print(json.dumps({"addresses": addresses, "docs": f"{addresses[0]}/docs"}), flush=True)
