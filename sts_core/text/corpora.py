"""Text to train on: named embedded sources, files and hub sets, each as a stream of documents with its SHA-256.

A document is plain text, or the turns of a chat; tokens are made where a tokenizer is at hand. Every source keeps
one document in twelve aside, chosen by the document's own hash: quality is measured on those, training never
sees them. Rows that a later evaluation needs are left out before (`scoring_half`).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.bundle import embedded
from sts_core.errors import UserError, nearest
from sts_core.text.sides import split
from sts_core.text.sources import Row, locate, read_records, read_rows

EMBEDDED = (*embedded.TRAIN_NAMES, "mmlu", "prose", "stdlib")
"""Sources that need no file of the person's own."""
_RECORDS = (".json", ".csv", ".parquet")
FILE_ENDINGS = (".jsonl", ".jsonl.gz", ".txt", ".txt.gz", *_RECORDS)
HELD_OUT = 12
"""One document in this many is kept for measuring quality."""
_HUB_ID = re.compile(r"(?!mmlu/)[\w.-]+/[\w.-]+(:[\w\[\]%:]+)?")
_NOT_SOURCE = {"site-packages", "dist-packages", "test", "tests", "idlelib", "turtledemo", "__pycache__"}


class Document(NamedTuple):
    """One text: plain, or the turns of a chat as (role, content); exactly one of the two is filled."""

    text: str = ""
    turns: tuple[tuple[str, str], ...] = ()

    @property
    def held_out(self) -> bool:
        """Whether this document is for measuring only; equal documents are always on one side."""
        content = json.dumps([self.text, self.turns], ensure_ascii=False)
        return int(hashlib.sha256(content.encode()).hexdigest()[:8], 16) % HELD_OUT == 0


class Corpus(NamedTuple):
    """A source that has been found and hashed; `documents()` starts it anew, always in the same order."""

    name: str
    sha256: str
    documents: Callable[[], Iterator[Document]]


def find(data: str, base: Path, columns: Mapping[str, str] | None = None, rows_per_chat: int = 1) -> Corpus:
    """The corpus that `data` names: an embedded source, a file beside the spec (`base`), or a hub set.

    `columns` maps `text`, or `question` and `answer`, to a set's own columns; a set with questions becomes
    chats. A hub set is fetched once and read from the cache after that. `rows_per_chat` rows follow one another in
    one chat, as demonstrations do.
    """
    if data in EMBEDDED:
        if columns:
            raise UserError(f"Corpus {data}: an embedded source has no columns to map", "Leave columns out.")
        if data == "stdlib":
            return Corpus(data, _folder_hash(_stdlib_files()), _stdlib_documents)
        if data == "prose":
            passages = embedded.prose_file()
            return Corpus(data, _file_hash(passages, data), lambda: _file_documents(passages, data, {}, 1))
        rows = _mmlu_rows() if data == "mmlu" else _scoring_pairs(data, "{}")
        return Corpus(data, _rows_hash(rows), lambda: _chats(rows, rows_per_chat))
    if data.endswith(FILE_ENDINGS):
        path = (base / Path(data).expanduser()).resolve()
    elif _HUB_ID.fullmatch(data) and not (base / data).exists():
        path = locate(data)
    else:
        raise UserError(
            f'There is no corpus "{data}"{nearest(data, EMBEDDED)}',
            f"Use one of {', '.join(EMBEDDED)}, a file ending in {', '.join(FILE_ENDINGS)}, or a hub id (org/name).",
        )
    digest = _file_hash(path, data)
    return Corpus(data, digest, lambda: _file_documents(path, data, dict(columns or {}), rows_per_chat))


def scoring_half(rows: list[Row]) -> list[Row]:
    """The half of a set's rows that scoring may use, in hash order; on the other half nothing here is trained."""
    return split(rows).queried


def _mmlu_rows() -> list[tuple[str, str]]:
    """Question with options, and the answer's letter, of every domain's scoring half.

    In one hash order over all domains, so that neighbours in a chat are of different domains.
    """
    domains = [_scoring_pairs(f"mmlu/{name}", "The answer is ({}).") for name in embedded.domain_names()]
    pairs = [pair for domain in domains for pair in domain]
    return sorted(pairs, key=lambda pair: hashlib.sha256(pair[0].encode()).hexdigest())


def _scoring_pairs(data: str, says: str) -> list[tuple[str, str]]:
    rows = read_rows(locate(data), {}, need=("question", "answer")).rows
    return [(row.question, says.format(row.answer)) for row in scoring_half(rows)]


def _chats(rows: Iterable[tuple[str, str]], rows_per_chat: int) -> Iterator[Document]:
    turns: list[tuple[str, str]] = []
    for question, answer in rows:
        turns += [("user", question), ("assistant", answer)]
        if len(turns) == 2 * rows_per_chat:
            yield Document(turns=tuple(turns))
            turns = []
    if turns:
        yield Document(turns=tuple(turns))


def _file_documents(path: Path, name: str, columns: Mapping[str, str], rows_per_chat: int) -> Iterator[Document]:
    if path.name.endswith((".txt", ".txt.gz")):
        yield from (Document(text=part.strip()) for part in _read(path, name).split("\n\n\n") if part.strip())
        return
    if "question" not in columns:
        column = columns.get("text", "text")
        for row in _rows(path, name):
            text = _field(row, column, name)
            if text.strip():
                yield Document(text=text)
        return
    question, answer = columns["question"], columns.get("answer", "answer")
    pairs = ((_field(row, question, name), _field(row, answer, name)) for row in _rows(path, name))
    yield from _chats((pair for pair in pairs if all(part.strip() for part in pair)), rows_per_chat)


def _field(row: Mapping[str, Any], column: str, name: str) -> str:
    if column not in row:
        raise UserError(
            f'Corpus {name} has no column "{column}"{nearest(column, row)}',
            f"It has {', '.join(map(str, row))}. Map with columns = {{ text = … }} or {{ question = …, answer = … }}.",
        )
    return "" if row[column] is None else str(row[column])


def _stdlib_files() -> list[Path]:
    """The running Python's own library source, without its tests, in a fixed order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = (path for path in root.rglob("*.py") if not _NOT_SOURCE & set(path.relative_to(root).parts))
    return sorted(path for path in files if "config-" not in str(path.parent.name))


def _stdlib_documents() -> Iterator[Document]:
    for path in _stdlib_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        if text.strip():
            yield Document(text=text)


def _rows(path: Path, name: str) -> Iterable[Mapping[str, Any]]:
    return read_records(path) if path.name.endswith(_RECORDS) else _json_lines(path, name)


def _json_lines(path: Path, name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(io.StringIO(_read(path, name)), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"Corpus {name}: line {number} is not JSON ({error})", "Mend or remove it.") from None
        if not isinstance(row, dict):
            raise UserError(f"Corpus {name}: line {number} is not a JSON object", 'Write one {"text": "…"} a line.')
        yield row


def _read(path: Path, name: str) -> str:
    """A file's text whole: corpora that train here are some megabytes."""
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.name.endswith(".gz") else raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"Corpus {name} is not UTF-8 (byte {error.start})", "Save the file as UTF-8.") from None
    except (gzip.BadGzipFile, EOFError):
        raise UserError(f"Corpus {name} is not a whole gzip file", "Copy or make it again.") from None
    except OSError as error:
        raise UserError(f"Corpus {name} cannot be read: {error.strerror}", f"Looked for {path}.") from None


def _file_hash(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"Corpus {name} cannot be read: {error.strerror}", f"Looked for {path}.") from None


def _rows_hash(rows: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps(list(rows), ensure_ascii=False).encode()).hexdigest()


def _folder_hash(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
