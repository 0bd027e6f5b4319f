"""The downloads of the embedded bundle against a real server on loopback that breaks in the ways lines do."""

from __future__ import annotations

import hashlib
import json
import random
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from sts_core.bundle import download as downloads
from sts_core.bundle import index
from sts_core.bundle.pins import Wheel
from sts_core.errors import UserError
from sts_core.progress import Progress, silent

CONTENT = random.Random(0).randbytes(3_000_000)
NAME = "fake_thing-1.0-py3-none-any.whl"
PIN = Wheel("fake-thing", "1.0", NAME, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "MIT", "nothing")


class Index(ThreadingHTTPServer):
    """A package index with one file; its attributes say how it misbehaves, `asked` what it saw."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.json = True
        self.ranges = True
        self.cut_after: list[int] = []
        """How many bytes each of the next answers brings before the line breaks."""
        self.failures: list[int] = []
        """Status codes of the next answers to the file's address."""
        self.asked: list[tuple[str, str | None, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class Handler(BaseHTTPRequestHandler):
    server: Index

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        site = self.server
        site.asked.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        if self.path == "/simple/fake-thing/":
            self.page()
        elif self.path == f"/files/{NAME}":
            self.file()
        else:
            self.send_error(404)

    def page(self) -> None:
        if self.server.json:
            kind = "application/vnd.pypi.simple.v1+json"
            body = json.dumps({"files": [{"filename": NAME, "url": f"../../files/{NAME}", "hashes": {}}]})
        else:
            kind = "text/html; charset=utf-8"
            body = f'<html><body><a href="/other-1.0.whl">x</a><a href="../../files/{NAME}#sha256=0">{NAME}</a>'
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def file(self) -> None:
        site, asked = self.server, self.headers.get("Range")
        if site.failures:
            self.send_error(site.failures.pop(0))
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and site.ranges else 0
        if start >= len(site.content):
            self.send_error(416)
            return
        body = site.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
        self.end_headers()
        self.wfile.write(body[: site.cut_after.pop(0)] if site.cut_after else body)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    server = Index()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("PIP_CERT", raising=False)
    monkeypatch.setattr(downloads, "PAUSES", (0.0, 0.0))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def file_requests(site: Index) -> list[str | None]:
    return [asked for path, asked, _ in site.asked if path.startswith("/files/")]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_file_is_found_by_a_json_and_by_an_html_index(site: Index, tmp_path: Path, as_json: bool) -> None:
    site.json = as_json
    seen: list[Progress] = []
    paths = downloads.download([PIN], tmp_path, seen.append)
    assert paths["fake-thing"].read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert seen[-1].done == seen[-1].total == len(CONTENT)
    assert [step.done for step in seen] == sorted(step.done for step in seen)


def test_a_cut_connection_is_resumed_where_it_broke(site: Index, tmp_path: Path) -> None:
    site.cut_after = [1_000_000, 500_000]
    paths = downloads.download([PIN], tmp_path, silent)
    assert paths["fake-thing"].read_bytes() == CONTENT
    assert file_requests(site) == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_fetch_goes_on_from_what_an_earlier_one_left(site: Index, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:2_000_000])
    downloads.download([PIN], tmp_path, silent)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert file_requests(site) == ["bytes=2000000-"]


def test_a_server_that_ignores_ranges_sends_the_whole_file_again(site: Index, tmp_path: Path) -> None:
    site.ranges = False
    site.cut_after = [1_000_000]
    downloads.download([PIN], tmp_path, silent)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert file_requests(site) == [None, "bytes=1000000-"]


def test_a_whole_file_is_not_fetched_again(site: Index, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    downloads.download([PIN], tmp_path, silent)
    assert site.asked == []


def test_a_file_of_the_right_size_and_wrong_content_is_fetched_again(site: Index, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(bytes(len(CONTENT)))
    downloads.download([PIN], tmp_path, silent)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_the_file_removed(site: Index, tmp_path: Path) -> None:
    site.content = bytes(len(CONTENT))
    with pytest.raises(UserError, match="wrong SHA-256") as caught:
        downloads.download([PIN], tmp_path, silent)
    assert "sts demo fetch" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_of_a_longer_file_no_more_than_the_pinned_size_is_taken(site: Index, tmp_path: Path) -> None:
    site.content = CONTENT[:-1] + b"another file, and longer"
    with pytest.raises(UserError, match="wrong SHA-256"):
        downloads.download([PIN], tmp_path, silent)
    assert list(tmp_path.iterdir()) == []


def test_a_part_longer_than_the_file_there_is_dropped(site: Index, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:2_000_000])
    site.content = CONTENT[:1_500_000]
    with pytest.raises(UserError, match="cannot be fetched"):
        downloads.download([PIN], tmp_path, silent)
    assert file_requests(site)[:2] == ["bytes=2000000-", None]
    assert len(file_requests(site)) == len(downloads.PAUSES) + 1, "it must not go round for ever"


def test_a_server_that_is_busy_is_asked_again(site: Index, tmp_path: Path) -> None:
    site.failures = [503, 429]
    downloads.download([PIN], tmp_path, silent)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_refusal_is_told_at_once(site: Index, tmp_path: Path) -> None:
    site.failures = [403]
    with pytest.raises(UserError, match="HTTP 403"):
        downloads.download([PIN], tmp_path, silent)
    assert len(file_requests(site)) == 1


def test_a_file_the_index_does_not_have_is_named(site: Index, tmp_path: Path) -> None:
    other = PIN._replace(file="fake_thing-2.0-py3-none-any.whl")
    with pytest.raises(UserError, match=r"does not have fake_thing-2\.0") as caught:
        downloads.download([other], tmp_path, silent)
    assert "PIP_INDEX_URL" in caught.value.hint


def test_offline_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as taken:  # a port nobody listens on
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}/simple")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(downloads, "PAUSES", (0.0, 0.0))
        with pytest.raises(UserError, match="cannot be fetched from http://127") as caught:
            downloads.download([PIN], tmp_path, silent)
    for way_out in ("sts demo fetch", "PIP_INDEX_URL", "--from DIR"):
        assert way_out in caught.value.hint
    assert "secret" not in caught.value.message + caught.value.hint


def test_a_password_in_the_address_of_the_index_becomes_a_header(
    site: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", site.url.replace("//", "//me:p%40ss@"))
    downloads.download([PIN], tmp_path, silent)
    assert {login for _, _, login in site.asked} == {"Basic bWU6cEBzcw=="}  # me:p@ss


def test_the_index_is_pips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setattr(index, "_configured", lambda: "https://mirror.example/simple/")
    assert index.index_url() == "https://mirror.example/simple"
    monkeypatch.setattr(index, "_configured", lambda: "")
    assert index.index_url() == "https://pypi.org/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "nonsense")
    with pytest.raises(UserError, match="nonsense is not an address"):
        index.index_url()


def test_wheels_a_person_brought_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=NAME) as caught:
        downloads.from_folder([PIN], tmp_path)
    assert "fake-thing==1.0" in caught.value.hint
    (tmp_path / NAME).write_bytes(b"not it")
    with pytest.raises(UserError, match="not the pinned file"):
        downloads.from_folder([PIN], tmp_path)
    assert (tmp_path / NAME).is_file(), "a person's own file is never removed"
    (tmp_path / NAME).write_bytes(CONTENT)
    assert downloads.from_folder([PIN], tmp_path) == {"fake-thing": tmp_path / NAME}
