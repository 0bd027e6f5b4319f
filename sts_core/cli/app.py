"""The dashboard's door from the command line: is the address free, and then start Streamlit there.

`check` costs nothing, so that it can come before longer work; `serve` becomes the dashboard and does not return.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from typing import NoReturn

import psutil
import typer

from sts_core import folders
from sts_core.errors import UserError

LAST_PORT = 65535
PORTS_TRIED = 50
"""How many ports after a taken one are looked at, to name a free one."""


def check(port: int, host: str) -> None:
    """Return when the dashboard could listen at the address at this moment; else say what stands in the way."""
    if not 1 <= port <= LAST_PORT:
        raise UserError(f"{port} is not a port", f"Choose one from 1024 to {LAST_PORT}: PORT=8502 make app")
    problem = _refusal(port, host)
    if problem is None:
        return
    if problem.errno in (errno.EACCES, errno.EPERM):
        raise UserError(f"Port {port} is kept for the system", "Choose one from 1024 up: PORT=8502 make app")
    if problem.errno == errno.EADDRINUSE:
        near = range(port + 1, min(port + PORTS_TRIED, LAST_PORT))
        free = next((other for other in near if _refusal(other, host) is None), 8502)
        raise UserError(f"Port {port} is taken by another program", f"PORT={free} make app")
    raise UserError(
        f"{host!r} is no address of this machine ({problem.strerror})",
        "Leave HOST away for this machine alone, or give HOST=0.0.0.0 for all who reach it.",
    )


def serve(port: int, host: str) -> NoReturn:
    """Become the dashboard: this process turns into Streamlit's server; raises UserError when it could not listen."""
    check(port, host)
    if not _is_loopback(host):
        typer.echo(f"Whoever reaches this machine can use the dashboard: it listens on {host}.", err=True)
    typer.echo(f"Dashboard: {address(port, host)} (there in a few seconds; Ctrl-C ends it)", err=True)
    os.chdir(folders.PROJECT)
    os.execv(sys.executable, [sys.executable, *streamlit_arguments(port, host)])


def address(port: int, host: str) -> str:
    """What to type into a browser on this machine."""
    name = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def streamlit_arguments(port: int, host: str) -> list[str]:
    """Python's arguments that start the dashboard; the rest of the set-up is in `.streamlit/config.toml`."""
    options = {
        "server.port": str(port),
        "server.address": host,
        "server.headless": "true",
        "browser.gatherUsageStats": "false",
        "logger.hideWelcomeMessage": "true",
    }
    arguments = ["-m", "pages.parts.start", "run", str(folders.PROJECT / "app.py")]
    arguments += [part for name, value in options.items() for part in (f"--{name}", value)]
    if not _is_loopback(host):
        arguments += [part for name in allowed_hosts(host) for part in ("--server.allowedHosts", name)]
    return arguments


def allowed_hosts(host: str) -> list[str]:
    """The names a browser may call the dashboard by: this machine's own, so that no other web page can pose as one."""
    names = {"localhost", "127.0.0.1", "::1", host, socket.gethostname(), socket.getfqdn()}
    for addresses in psutil.net_if_addrs().values():
        names |= {a.address.split("%")[0] for a in addresses if a.family in (socket.AF_INET, socket.AF_INET6)}
    return sorted(names - {"0.0.0.0", "::", ""})


def _refusal(port: int, host: str) -> OSError | None:
    """Why the system does not let us listen there, or None when it does."""
    try:
        # All as the server itself does it, so that both come to the same answer.
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        return error
    except UnicodeError:
        return OSError(errno.EINVAL, "not a host name")
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
