"""The dashboard's address: a taken or impossible one is told before anything starts, and who may call it is limited."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sts_core.cli.app import address, check, serve, streamlit_arguments
from sts_core.errors import UserError


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_free_port_passes(free_port: int) -> None:
    check(free_port, "127.0.0.1")
    check(free_port, "0.0.0.0")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_taken_port_is_told_with_a_free_one(taken_port: int, host: str) -> None:
    with pytest.raises(UserError, match=f"Port {taken_port} is taken") as caught:
        check(taken_port, host)
    words = caught.value.hint.split()
    assert words[1:] == ["make", "app"]
    check(int(words[0].removeprefix("PORT=")), host)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_told(port: int) -> None:
    with pytest.raises(UserError, match="is not a port"):
        check(port, "127.0.0.1")


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b"])
def test_an_address_of_another_machine_is_told(free_port: int, host: str) -> None:
    with pytest.raises(UserError, match="no address of this machine"):
        check(free_port, host)


def test_serving_becomes_streamlit_in_the_project(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: became.append(arguments))
    monkeypatch.chdir(Path.home())
    serve(free_port, "127.0.0.1")
    arguments = became[0]
    assert arguments[:4] == [sys.executable, "-m", "pages.parts.start", "run"]
    assert Path(arguments[4]) == Path.cwd() / "app.py"
    assert arguments[arguments.index("--server.port") + 1] == str(free_port)
    assert arguments[arguments.index("--server.address") + 1] == "127.0.0.1"
    assert "--server.allowedHosts" not in arguments


def test_serving_at_a_taken_port_starts_nothing(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("started"))
    with pytest.raises(UserError):
        serve(taken_port, "127.0.0.1")


def test_open_to_others_only_this_machines_names_are_allowed() -> None:
    arguments = streamlit_arguments(8501, "0.0.0.0")
    allowed = {arguments[i + 1] for i, part in enumerate(arguments) if part == "--server.allowedHosts"}
    assert {"localhost", "127.0.0.1", socket.gethostname()} <= allowed
    assert not allowed & {"*", "0.0.0.0", "::", ""}


@pytest.mark.parametrize(
    ("host", "typed"),
    [
        ("127.0.0.1", "http://127.0.0.1:8501"),
        ("0.0.0.0", "http://127.0.0.1:8501"),
        ("::1", "http://[::1]:8501"),
        ("lab.example.org", "http://lab.example.org:8501"),
    ],
)
def test_the_address_is_one_a_browser_takes(host: str, typed: str) -> None:
    assert address(8501, host) == typed
