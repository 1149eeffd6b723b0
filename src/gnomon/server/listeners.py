"""Sockets of the server: opened before anything else, a taken port reported with its holder."""

from __future__ import annotations

import contextlib
import errno
import socket

import psutil

from gnomon.errors import ExecutorError

BACKLOG = 512


def open_socket(host: str, port: int, what: str) -> socket.socket:
    """Listen on an address.

    Raises:
        ExecutorError: code `port_taken`, naming who holds the port; code `listen_failed` for anything else.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Only for addresses that the system still remembers from a server of before; a live one is never pushed off.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise _refusal(host, port, what, error) from None
    found.setblocking(False)
    return found


def address_of(found: socket.socket) -> str:
    """http://HOST:PORT of a listening socket."""
    host, port = found.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refusal(host: str, port: int, what: str, error: OSError) -> ExecutorError:
    if error.errno != errno.EADDRINUSE:
        return ExecutorError(
            f"{what} cannot listen on {host}:{port}: {error.strerror}",
            code="listen_failed",
            field="--host and --port",
            value=f"{host}:{port}",
            expected="an address of this machine, and a port that this user may open",
        )
    return ExecutorError(
        f"{what} cannot listen on {host}:{port}: the port is held by {holder_of(port)}",
        code="port_taken",
        field="--port",
        value=port,
        expected="a free port",
        fix="choose another port (0 takes a free one), or end that process yourself",
    )


def holder_of(port: int) -> str:
    """Who listens on a TCP port of this machine, in words."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                return _process_name(connection.pid)
    return "another process"


def _process_name(pid: int | None) -> str:
    if pid is None:
        return "a process of another user"
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        # The name alone: a command line may hold secrets.
        return f"process {pid} ({process.name()})"
    return f"process {pid}"
