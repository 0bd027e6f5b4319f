"""The texts of a gallery's rows, cut into the tokens that the model read.

A row of an embedded set is kept by reference: its text is read from the bundle and put between the pieces of the chat
template that the manifest holds; `rows.parquet` says where to cut it. So is a piece of an embedded corpus in a gallery
that ships (`gallery_shipped`). Other rows lie there as token ids. A set that is not the one the gallery was made from
gives no text, and it is told why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sts_core import folders
from sts_core.errors import UserError
from sts_core.fingerprint import sha256_file

ROWS = "rows.parquet"
TOKENIZER = "tokenizer.json"
_MODEL = "model"
"""The folder of the embedded model in the bundle."""
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ROWS_KEPT = 4_096
_LONGEST = 8
"""Tokens after which a character that is cut over several is given up."""
_TORN = "�"
"""What a decoder gives for a piece of a character."""


class Reference(NamedTuple):
    """Where a row's text lies in the bundle's file, and how it is cut into tokens."""

    cuts: list[int]
    """Signs of each token in the row's text."""
    record: int | None = None
    """The record; the row's own number where it is None."""
    first: int | None = None
    last: int | None = None
    """The part of the record's text; all of it where they are None."""


class _Kept(NamedTuple):
    """A row as the gallery holds it: one of the two."""

    ids: list[int] | None
    reference: Reference | None


class RowTexts:
    """Rows of a gallery's sources, each read when first asked for."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self._folder = folder
        self._prompt: Mapping[str, Any] = manifest.get("prompt") or {}
        self._tokenizer_sha256 = manifest.get("tokenizer_sha256")
        self._sources = {source["name"]: source for source in manifest["sources"]}
        self._lines: dict[str, list[bytes] | str] = {}
        self._known: dict[tuple[str, int], list[str] | str] = {}

    def window(self, source: str, row: int, start: int, length: int) -> tuple[list[str], str]:
        """The texts of so many tokens of a row, and why there are none (they are empty then)."""
        texts = self._texts(source, row)
        if isinstance(texts, list) and start + length > len(texts):
            texts = f"Row {row} of {source} is not the one this gallery was made from."
        return ([""] * length, texts) if isinstance(texts, str) else (texts[start : start + length], "")

    def tokens(self, source: str, row: int) -> list[str] | str:
        """All of a row's tokens as text, or why they are not to be had."""
        return self._texts(source, row)

    def cuts(self, source: str, row: int) -> list[int] | None:
        """Signs of each token of a row that is kept by reference; None for another."""
        kept = self._kept.get((source, row))
        return None if kept is None or kept.reference is None else kept.reference.cuts

    def string(self, source: str, row: int, part: Reference | None = None) -> str | None:
        """An embedded row as the model read it, or None when it cannot be had: its question in the template.

        With `part`, that of the record it tells of.
        """
        lines, pieces = self._source_lines(source), self._prompt.get("pieces")
        record = row if part is None or part.record is None else part.record
        if isinstance(lines, str) or not 0 <= record < len(lines) or not isinstance(pieces, list) or len(pieces) != 2:
            return None
        try:
            text = record_text(json.loads(lines[record]), self._sources[source].get("fields") or ())
        except (ValueError, KeyError, TypeError):
            return None
        if part is not None and part.first is not None:
            text = text[part.first : part.last]
        return f"{pieces[0]}{text.strip() if self._prompt.get('trims') else text}{pieces[1]}"

    def _texts(self, source: str, row: int) -> list[str] | str:
        """The row's tokens as text, or the trouble with it."""
        texts = self._known.get((source, row))
        if texts is None:
            if len(self._known) >= _ROWS_KEPT:
                self._known.clear()
            texts = self._known[source, row] = self._read(source, row)
        return texts

    def _read(self, source: str, row: int) -> list[str] | str:
        kept = self._kept.get((source, row))
        if kept is not None and kept.ids is not None:
            if self._tokens is None:
                return "The tokenizer this gallery was made with is not here any more."
            return token_texts(self._tokens, kept.ids)
        lines = self._source_lines(source)
        if isinstance(lines, str):
            return lines
        part = None if kept is None else kept.reference
        string = self.string(source, row, part)
        if string is None or part is None or sum(part.cuts) != len(string):
            return f"Row {row} of {source} is not the one this gallery was made from."
        ends = list(accumulate(part.cuts, initial=0))
        return [string[start:end] for start, end in pairwise(ends)]

    def _source_lines(self, source: str) -> list[bytes] | str:
        """The records of an embedded set, a line each, or why they cannot be used."""
        if source not in self._lines:
            self._lines[source] = self._open(source)
        return self._lines[source]

    def _open(self, source: str) -> list[bytes] | str:
        told = self._sources.get(source, {})
        file = told.get("file")
        if not file:
            return f"The text of {source} was not kept."
        bundle = folders.bundle().resolve()
        path = (bundle / str(file)).resolve()
        if not path.is_relative_to(bundle):
            return f"{source} is no set of the embedded bundle."
        try:
            if sha256_file(path) != told.get("sha256"):
                return f"{told.get('data', source)} has changed since this gallery was made."
            return [line for line in path.read_bytes().split(b"\n") if line.strip()]
        except (UserError, OSError):
            return f"{told.get('data', source)} is not on this machine: run `sts demo fetch`."

    @cached_property
    def _kept(self) -> dict[tuple[str, int], _Kept]:
        """What the gallery itself holds of its rows."""
        path = self._folder / ROWS
        if not path.exists():
            return {}
        try:
            table = pq.read_table(path)
            columns = [table[name].to_pylist() for name in ("source", "row", "ids")]
            told = [
                table[name].to_pylist() if name in table.column_names else [None] * table.num_rows
                for name in Reference._fields
            ]
        except (OSError, pa.ArrowException, KeyError):
            raise UserError(
                f"{ROWS} in {self._folder} is damaged", "Make it again with `sts examples RESULT --all --fresh`."
            ) from None
        return {
            (source, row): _Kept(ids, None if cuts is None else Reference(cuts, *part))
            for source, row, ids, cuts, *part in zip(*columns, *told, strict=True)
        }

    @cached_property
    def _tokens(self) -> Any:
        """The tokenizer: the gallery's own copy, or the embedded model's; None when it is neither."""
        for path in (self._folder / TOKENIZER, folders.bundle() / _MODEL / TOKENIZER):
            if path.is_file():
                wanted = self._tokenizer_sha256
                return _tokenizer(path, path.stat().st_mtime_ns) if wanted in (None, sha256_file(path)) else None
        return None


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token's text. Joined they are the text: a character cut over several tokens stands whole at its last one."""
    texts: list[str] = []
    held: tuple[int, ...] = ()
    for place, number in enumerate(ids):
        held = (*held, number)
        text = _piece(tokenizer, held)
        torn = text.endswith(_TORN) and place + 1 < len(ids) and len(held) < _LONGEST
        texts.append("" if torn else text)
        held = held if torn else ()
    return texts


@lru_cache(maxsize=200_000)
def _piece(tokenizer: Any, ids: tuple[int, ...]) -> str:
    """What these tokens add behind another: some tokenizers drop a space at the very beginning."""
    before = _opening(tokenizer)
    text = tokenizer.decode([*before, *ids], skip_special_tokens=False)
    return str(text[len(tokenizer.decode(before, skip_special_tokens=False)) :])


@lru_cache(maxsize=8)
def _opening(tokenizer: Any) -> list[int]:
    return list(tokenizer.encode("x", add_special_tokens=False).ids)


@lru_cache(maxsize=4)
def _tokenizer(path: Path, _changed: int) -> Any:
    from tokenizers import Tokenizer  # here: a page without examples does without it

    return Tokenizer.from_file(str(path))


def record_text(record: Mapping[str, Any], fields: Sequence[str]) -> str:
    """What the user turn says of an embedded record: these fields under each other.

    Without any the question, its options as lines `A. …` under it.
    """
    if fields:
        return "\n".join(str(record[name]) for name in fields)
    options = record.get("options") or []
    return "\n".join([record["question"], *(f"{_LETTERS[i]}. {option}" for i, option in enumerate(options))])
