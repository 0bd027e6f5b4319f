"""A mixture on the disk: `mixture.jsonl`, and the manifest that makes it again byte for byte.

mixture.jsonl   one row a line: question, answer, the set it is of and its record number there; the target set's first
answers.jsonl   what the model said, where the answers are its own: nothing else could give them back
manifest.json   sources and their SHA-256, seed, quotas, rows by number, tokens, the file's SHA-256; written last
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sts_core import folders
from sts_core.errors import UserError
from sts_core.fingerprint import sha256_file
from sts_core.spec import DataSpec
from sts_core.text.sources import Row, locate, read_rows
from sts_core.train.mixture.spec import ANSWERS, MODEL, WORKED

FILE, ANSWERS_FILE, MANIFEST = "mixture.jsonl", "answers.jsonl", "manifest.json"
KIND, FORMAT = "mixture", 1
TARGET = "target"
"""The target set's name; no domain can have it."""


class MixedRow(NamedTuple):
    """One line of the file."""

    set: str
    row: int
    """Its record number in the set's file."""
    question: str
    answer: str


class Said(NamedTuple):
    """What the model said."""

    answer: str
    tokens: int
    cut: bool
    """Whether it had more to say than max_tokens."""


class Mixture(NamedTuple):
    """A finished mixture, its file held against the manifest."""

    folder: Path
    manifest: Mapping[str, Any]
    rows: list[MixedRow]
    """By line: line 0 is the first."""

    @property
    def target(self) -> DataSpec:
        """The target set it was made for."""
        return source_spec(self.manifest, TARGET)

    @property
    def target_answer(self) -> str:
        """What is learned of the target's rows: answer or cot."""
        return str(self.manifest["spec"]["target"]["answer"])

    @property
    def sha256(self) -> str:
        """Of the file."""
        return str(self.manifest["file"]["sha256"])

    @property
    def counts(self) -> dict[str, int]:
        """Rows by set, the target first."""
        return {name: len(numbers) for name, numbers in self.manifest["rows"].items()}

    @property
    def questions(self) -> frozenset[str]:
        """What is trained on, to be left out of every evaluation."""
        return frozenset(row.question.strip() for row in self.rows)


def as_bytes(rows: Iterable[MixedRow]) -> bytes:
    """The file. JSON keeps a row on one line; other than the texts nothing in it depends on the machine."""
    lines = (
        json.dumps({"question": r.question, "answer": r.answer, "set": r.set, "row": r.row}, ensure_ascii=False)
        for r in rows
    )
    return "".join(f"{line}\n" for line in lines).encode()


def folder_of(data: str) -> Path | None:
    """The mixture that a training set's name means: its folder or its manifest; None for any other name.

    That of a run that ships is named from the demo's folder: `demo/runs/ID/mixture/manifest.json`.
    """
    path = folders.shipped(data) or Path(data).expanduser()
    if path.name == MANIFEST:
        return path.parent
    return path if path.is_dir() and (path / MANIFEST).is_file() else None


def read_mixture(folder: Path) -> Mixture:
    """The mixture in a folder; refused when its file is not the one the manifest tells of.

    The demo ships no text of a data set: of a mixture in it the file is made from its sources each time.
    """
    manifest = read_manifest(folder)
    path = folder / FILE
    try:
        data = rebuild(folder) if folder.is_relative_to(folders.DEMO) else path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "Make the mixture again with `sts mix`.") from None
    if hashlib.sha256(data).hexdigest() != manifest["file"]["sha256"]:
        raise UserError(
            f"{path} is not the file that its manifest tells of: its SHA-256 is another",
            "Make the mixture again with `sts mix`; an edited file can be trained on as a .jsonl of its own.",
        )
    try:
        rows = [json.loads(line) for line in data.decode().split("\n") if line]
        made = [MixedRow(str(r["set"]), r["row"], str(r["question"]), str(r["answer"])) for r in rows]
    except (ValueError, KeyError, TypeError, RecursionError):  # a manifest by other hands, with its own hash
        raise UserError(f"{path} holds no rows of a mixture", "Make the mixture again with `sts mix`.") from None
    return Mixture(folder, manifest, made)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a mixture; refused when it is another's, or not whole."""
    path = folder / MANIFEST
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no {path}", "Name the folder that `sts mix --out` wrote.") from None
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path} cannot be read", "Make the mixture again with `sts mix`.") from None
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise UserError(f"{path} is no mixture's manifest", "Name the folder that `sts mix --out` wrote.")
    if value.get("format") != FORMAT or not _whole(value):
        raise UserError(
            f"{path} is not as this version writes it, or not whole", "Make the mixture again with `sts mix`."
        )
    return value


def rebuild(place: Path) -> bytes:
    """The mixture's file, made anew from its sources by the manifest at `place`, or in that folder.

    Refused when a source is not what it was, so that what comes back is the very file, byte for byte.
    """
    folder = place if place.is_dir() else place.parent
    manifest = read_manifest(folder)
    said = _said(folder, manifest)
    rows: list[MixedRow] = []
    for name, numbers in manifest["rows"].items():
        found = _source_rows(manifest, name) if numbers else {}
        for number in numbers:
            if number not in found:
                raise _changed_manifest(folder)
            rows.append(MixedRow(name, number, found[number].question, _answer(manifest, name, found[number], said)))
    data = as_bytes(rows)
    if hashlib.sha256(data).hexdigest() != manifest["file"]["sha256"]:
        raise _changed_manifest(folder)
    return data


def source_answer(row: Row, key: str) -> str:
    """What the source says: its answer, or its worked one."""
    return (row.worked if key == WORKED else row.answer) or ""


def source_spec(manifest: Mapping[str, Any], name: str) -> DataSpec:
    """A set of the mixture, as it can be read."""
    source = manifest["sources"][name]
    return DataSpec(name=name, data=source["data"], columns=dict(source["columns"]))


def said_line(name: str, row: int, said: Said) -> str:
    """One answer of the model, as `answers.jsonl` keeps it."""
    return json.dumps({"set": name, "row": row, **said._asdict()}, ensure_ascii=False) + "\n"


def _said(folder: Path, manifest: Mapping[str, Any]) -> dict[tuple[str, int], str]:
    kept = manifest["answers"].get("file")
    if kept is None:
        return {}
    path = folder / ANSWERS_FILE
    if sha256_file(path) != kept.get("sha256"):
        raise UserError(f"{path} has changed since the mixture was made", "Make the mixture again with `sts mix`.")
    lines = [json.loads(line) for line in path.read_bytes().decode().split("\n") if line]
    return {(line["set"], line["row"]): line["answer"] for line in lines}


def _answer(manifest: Mapping[str, Any], name: str, row: Row, said: Mapping[tuple[str, int], str]) -> str:
    spec = manifest["spec"]
    key = spec["target"]["answer"] if name == TARGET else spec["answers"]
    return said.get((name, row.number), "") if key == MODEL else source_answer(row, key)


def _source_rows(manifest: Mapping[str, Any], name: str) -> dict[int, Row]:
    source = source_spec(manifest, name)
    path = locate(source.data)
    if sha256_file(path) != manifest["sources"][name]["sha256"]:
        raise UserError(
            f"{source.data} has changed since the mixture was made", "Bring the file back, or make a new mixture."
        )
    return {row.number: row for row in read_rows(path, source.columns, ("question",)).rows}


def _changed_manifest(folder: Path) -> UserError:
    return UserError(
        f"The manifest in {folder} does not give the file it tells of: one of its numbers was changed",
        "Make the mixture again with `sts mix`.",
    )


def _whole(value: Mapping[str, Any]) -> bool:
    """Whether everything is there that reading relies on."""
    file, rows, sources, spec = (value.get(key) for key in ("file", "rows", "sources", "spec"))
    return (
        isinstance(file, dict) and isinstance(file.get("sha256"), str)
        and isinstance(value.get("model", {}), dict) and isinstance(value.get("answers"), dict)
        and isinstance(value["answers"].get("file", {}), dict)
        and isinstance(rows, dict) and TARGET in rows and all(map(_numbers, rows.values()))
        and isinstance(sources, dict) and set(rows) <= set(sources) and all(map(_source, sources.values()))
        and isinstance(spec, dict) and spec.get("answers") in ANSWERS
        and isinstance(spec.get("target"), dict) and spec["target"].get("answer") in ("answer", "cot")
    )  # fmt: skip


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int for number in value)


def _source(value: Any) -> bool:
    return (
        isinstance(value, dict) and isinstance(value.get("columns"), dict)
        and all(isinstance(value.get(key), str) for key in ("data", "sha256"))
    )  # fmt: skip
