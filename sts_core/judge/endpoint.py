"""Any OpenAI-compatible endpoint as a judge: `POST …/chat/completions`, with the standard library alone.

What can go wrong on the way is expected: a busy or failing server is asked again after a pause that grows, or after
the one it names; a silent one is given up after a time; what it sends is read up to a bound and believed only in shape.
The key comes from an environment variable, goes into one header, follows no redirect, and is written nowhere.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sts_core.errors import UserError
from sts_core.judge.chat import ANSWER_TOKENS, Answer
from sts_core.results.label_text import plain

KEY_VARIABLE = "STS_JUDGE_KEY"
LARGEST = 1_000_000
"""Bytes of an answer that are read."""
TRIES = 5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 120.0
"""Seconds before the second try, doubled for each next one; and the longest that a server may ask for."""
_KNOCK = 10.0
"""Seconds in which somebody at an address is to be heard of."""
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_THINKING_TOKENS = 2_000
"""For models that think before they answer and count it."""
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class _Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Trouble(Exception):
    """No reply, and why; asked again."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is meant for one host alone."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Endpoint:
    """A model behind an address."""

    def __init__(
        self,
        url: str,
        model: str,
        key_variable: str = KEY_VARIABLE,
        timeout: float = 60.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url, host = _address(url)
        self._key = os.environ.get(key_variable, "").strip()
        if self._key and not re.fullmatch(r"[\x21-\x7e]+", self._key):
            raise UserError(f"The key in {key_variable} holds blanks or strange signs", "Set it again.")
        local = (urlsplit(self._url).hostname or "") in _LOOPBACK
        if self._key and urlsplit(self._url).scheme == "http" and not local:
            raise UserError(
                f"The key in {key_variable} would go to {host} unencrypted", f"Use https, or unset {key_variable}."
            )
        if not model.strip():
            raise UserError("The endpoint's model is not named", "Add --model NAME.")
        self._variable, self._model, self._timeout, self._pause = key_variable, model, timeout, pause
        self._thinks = False
        self.name = f"endpoint:{plain(model, 80)}@{host}"
        self.host = host
        proxies = urllib.request.ProxyHandler({} if local else None)
        self._opener = urllib.request.build_opener(_NoRedirect, proxies)

    def reach(self) -> None:
        """Refuse an address at which nobody listens, before anything is read for it. A proxy is left to answer."""
        parts = urlsplit(self._url)
        if parts.hostname not in _LOOPBACK and parts.scheme in urllib.request.getproxies():
            return
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname or "", port), timeout=min(self._timeout, _KNOCK)).close()
        except OSError as error:
            why = plain(error.strerror or str(error), 120)
            raise UserError(
                f"{self.host} cannot be reached: {why}", "Check the address, and that its server runs."
            ) from None

    def say(self, prompt: str, opening: str = "") -> Answer:
        """The model's answer; one without it tells what went wrong. A refusal of the key or address is a UserError.

        There is no way to begin the answer that all endpoints know: the opening is left to the model.
        """
        wait, trouble = FIRST_PAUSE, ""
        for attempt in range(TRIES):
            if attempt:
                self._pause(wait)
                wait *= 2
            try:
                reply = self._post(prompt)
            except _Trouble as error:
                trouble = str(error)
                continue
            if reply.status == 200:
                return _read(reply.body)
            said = self._said(reply.body)
            if reply.status == 400 and not self._thinks and re.search(r"max_completion_tokens|temperature", said):
                self._thinks, wait = True, 0.0
                continue
            if reply.status not in _AGAIN:
                return self._refused(reply.status, said)
            trouble = f"status {reply.status}: {said}"
            wait = max(wait, self._asked_to_wait(reply.headers))
        return Answer("", trouble=f"after {TRIES} tries: {trouble}")

    def _post(self, prompt: str) -> _Reply:
        """One exchange. Its whole time is bounded, also where a server sends a byte now and then."""
        limits = {"max_tokens": ANSWER_TOKENS, "temperature": 0}
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            **({"max_completion_tokens": _THINKING_TOKENS} if self._thinks else limits),
        }
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "sts-explorer"}
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers, method="POST")
        if self._key:
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        end = time.monotonic() + self._timeout
        try:
            try:
                answer = self._opener.open(request, timeout=self._timeout)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                return _Reply(int(answer.status), answer.headers, _bounded(answer, end))
        except TimeoutError:
            raise _Trouble(f"no answer within {self._timeout:g} s") from None
        except urllib.error.URLError as error:
            reason = "no answer in time" if isinstance(error.reason, TimeoutError) else str(error.reason)
            raise _Trouble(f"{self.host} cannot be reached: {plain(reason, 120)}") from None
        except (http.client.HTTPException, OSError) as error:
            raise _Trouble(f"the connection broke: {type(error).__name__}") from None

    def _refused(self, status: int, said: str) -> Answer:
        """What a person must change is an error; what one prompt alone may have caused is an answer that failed."""
        if status in (400, 413, 422):
            return Answer("", trouble=f"status {status}: {said}")
        if status in (401, 403):
            has = "is refused" if self._key else f"is missing: {self._variable} is not set"
            raise UserError(
                f"The key for {self.host} {has} (status {status}: {said})", f"Set {self._variable} to a key that holds."
            )
        if 300 <= status < 400:
            raise UserError(f"{self.host} points elsewhere (status {status})", "Give the address it points to.")
        raise UserError(
            f"{self.host} does not answer as an endpoint (status {status}: {said})",
            "Check the address (it often ends in /v1) and the model's name.",
        )

    def _said(self, body: bytes) -> str:
        """A few words of an error's body; a key that it repeats is left out."""
        text = body[:4_000].decode("utf-8", "replace")
        if self._key:
            text = text.replace(self._key, "…")
        try:
            error = json.loads(text)["error"]
            text = str(error.get("message", error) if isinstance(error, dict) else error)
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        return plain(text, 160)

    def _asked_to_wait(self, headers: Mapping[str, str]) -> float:
        """What Retry-After says, in seconds or as a date; 0 without it."""
        value = (headers.get("Retry-After") or "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
            seconds = float(value)
        else:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time() if value else 0.0
            except (ValueError, TypeError, OverflowError):
                seconds = 0.0
        if seconds > LONGEST_PAUSE:
            raise UserError(
                f"{self.host} asks to wait {seconds:,.0f} s", "Start again then: what is labelled is not asked again."
            )
        return max(0.0, seconds)


def _bounded(answer: Any, end: float) -> bytes:
    """What a server sends, up to the bound and in time."""
    parts: list[bytes] = []
    size = 0
    while part := answer.read1(65_536):
        parts.append(part)
        size += len(part)
        if size > LARGEST:
            break
        if time.monotonic() > end:
            raise TimeoutError
    expected = answer.headers.get("Content-Length", "")
    if expected.isdecimal() and size < min(int(expected[:12]), LARGEST):
        raise http.client.IncompleteRead(b"")
    return b"".join(parts)


def _read(body: bytes) -> Answer:
    """The answer in a reply of the agreed shape; anything else is told as what it is."""
    if len(body) > LARGEST:
        return Answer("", trouble=f"the answer is larger than {LARGEST // 1_000_000} MB")
    try:
        reply = json.loads(body)
        content = reply["choices"][0]["message"]["content"]
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if part.get("type") == "text")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return Answer("", trouble="the reply is not that of an OpenAI-compatible endpoint")
    usage = reply.get("usage")
    text = content if isinstance(content, str) else ""
    return Answer(text, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value < 10**9 else 0


def _address(url: str) -> tuple[str, str]:
    """The full address of the chat, and the host as it may be told."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\x00-\x20\x7f]", url.strip()):
        raise UserError(f"{plain(url, 80)!r} is no judge", "Use provenance, local, or an address: https://host/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(
            "The endpoint's address holds more than a host and a path", f"Put the key into {KEY_VARIABLE} instead."
        )
    path = parts.path.rstrip("/") or "/v1"
    path = path if path.endswith("/chat/completions") else f"{path}/chat/completions"
    return f"{parts.scheme}://{parts.netloc}{path}", f"{host}:{port}" if port else host
