"""Labels in and out: JSON and CSV of ours, and the explanations that Neuronpedia exports.

A file is looked at whole before a line of it is kept: size, shape, every field. What it says comes from outside, so its
words are cut to length and lose their control signs. In CSV a cell that a spreadsheet would run as a formula is written
with an apostrophe before it, which reading takes away again.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.folders import atomic_write
from sts_core.results.label_text import MOST_EXPLANATION, MOST_LABEL, MOST_NOTE, plain
from sts_core.results.labels import PERSON, Label, Person, labels_of, now, write_labels, write_person

LARGEST = 200_000_000
"""Bytes of a file that is read."""
FIELDS = ("feature", "label", "explanation", "judge", "detection", "human", "note", "starred", "evidence", "at")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")
_NEURONPEDIA = ("modelId", "layer", "index", "description")


class Imported(NamedTuple):
    """What a file brought."""

    labels: int
    """Judges' labels and explanations."""
    human: int
    """Features with a label, a note or a star of a person."""
    skipped: int
    """Lines that say nothing, or a second explanation of a feature that has one already."""
    own_name: str = ""
    """Under which name the labels go that name no judge."""


def export_labels(sae: str, path: Path, model: str | None = None) -> int:
    """Write `labels_of` as .json or .csv; returns how many features it holds."""
    rows = [{str(k): _value(v) for k, v in row.items()} for row in labels_of(sae, model).to_dict("records")]
    rows = [{field: row[field] for field in FIELDS} for row in rows]
    if path.suffix == ".json":
        atomic_write(path, json.dumps(rows, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    elif path.suffix == ".csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, FIELDS)
        writer.writeheader()
        writer.writerows({field: _cell(value) for field, value in row.items()} for row in rows)
        atomic_write(path, text.getvalue())
    else:
        raise UserError(
            f"Labels cannot be written as {path.suffix or 'a file without an ending'}", "Use .json or .csv."
        )
    return len(rows)


def import_labels(sae: str, model: str, path: Path, features: int) -> Imported:
    """Read our JSON or CSV, or Neuronpedia's explanations (.json, .jsonl), for a SAE of so many features.

    A judge's lines go into that judge's table; what a person said stays a person's.
    """
    records = _records(path)
    if records and all(key in records[0] for key in _NEURONPEDIA):
        return _import_neuronpedia(sae, model, path, records, features)
    tables: dict[str, list[Label]] = {}
    person = Person({}, {}, {})
    skipped = 0
    own_name, seen = f"imported from {plain(path.name, 60)}", set[tuple[int, str]]()
    for number, record in enumerate(records, start=1):
        row = _row(path, number, record, features)
        feature, label = row.feature, row.label
        note = plain(str(record.get("note") or ""), MOST_NOTE, lines=True)
        starred = _flag(path, number, record, "starred")
        human = _flag(path, number, record, "human") or row.judge == PERSON
        if note:
            person.notes[feature] = note
        if starred:
            person.stars[feature] = True
        if human and label:
            person.labels[feature] = {"label": label, "at": row.at or now()}
        if not human and (label or row.explanation):
            judge = row.judge or own_name
            if (feature, judge) in seen:
                raise _wrong(path, number, f"feature {feature} is there twice", "Keep one of the two.")
            seen.add((feature, judge))
            tables.setdefault(judge, []).append(row)
        elif not (note or starred or (human and label)):
            skipped += 1
    for judge, labels in tables.items():
        write_labels(sae, model, judge, labels)
    human_features = {*person.labels, *person.notes, *person.stars}
    if human_features:
        write_person(sae, person)
    named = own_name if own_name in tables else ""
    return Imported(sum(map(len, tables.values())), len(human_features), skipped, named)


def _import_neuronpedia(
    sae: str, model: str, path: Path, records: Sequence[Mapping[str, Any]], features: int
) -> Imported:
    """Descriptions become explanations under no label: they are words of their own, not of a label set."""
    sources = {(str(record.get("modelId")), str(record.get("layer"))) for record in records}
    if len(sources) > 1:
        named = ", ".join(sorted(f"{model_id}/{layer}" for model_id, layer in sources)[:4])
        raise UserError(
            f"{path.name} holds explanations of {len(sources)} SAEs ({named[:120]})", "Export one SAE at a time."
        )
    found: dict[int, Label] = {}
    skipped = 0
    for number, record in enumerate(records, start=1):
        feature = _feature(path, number, record.get("index"), features)
        words = plain(str(record.get("description") or ""), MOST_EXPLANATION)
        if not words or feature in found:
            skipped += 1
            continue
        by = plain(str(record.get("explanationModelName") or record.get("typeName") or ""), 80)
        evidence = {"source": "/".join(plain(part, 80) for part in next(iter(sources))), "model": by}
        found[feature] = Label(feature, None, words, evidence=json.dumps(evidence, ensure_ascii=False))
    write_labels(sae, model, "neuronpedia", found.values())
    return Imported(len(found), 0, skipped)


def _row(path: Path, number: int, record: Mapping[str, Any], features: int) -> Label:
    feature = _feature(path, number, record.get("feature"), features)
    detection = record.get("detection")
    try:
        score = math.nan if detection in (None, "") else float(detection)
    except (TypeError, ValueError):
        score = math.inf
    if not (math.isnan(score) or 0 <= score <= 1):
        raise _wrong(
            path, number, f"detection is {plain(str(detection), 40)!r}", "It is a share from 0 to 1, or empty."
        )
    return Label(
        feature,
        plain(str(record.get("label") or ""), MOST_LABEL) or None,
        plain(str(record.get("explanation") or ""), MOST_EXPLANATION),
        plain(str(record.get("judge") or ""), 120),
        score,
        _evidence(path, number, record.get("evidence")),
        plain(str(record.get("at") or ""), 40),
    )


def _feature(path: Path, number: int, value: Any, features: int) -> int:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,10}", text) or int(text) >= features:
        raise _wrong(
            path, number, f"{plain(text, 40)!r} is no feature of this SAE", f"Its features are 0 to {features - 1}."
        )
    return int(text)


def _evidence(path: Path, number: int, value: Any) -> str:
    """JSON text of a table, at most 4,000 characters."""
    try:
        table = json.loads(value) if isinstance(value, str) and value else value or {}
        text = json.dumps(table, ensure_ascii=True)
    except (ValueError, TypeError, RecursionError):
        table, text = None, ""
    if not isinstance(table, dict) or len(text) > 4_000:
        raise _wrong(path, number, "evidence is not a small JSON table", "Leave it empty, or write a table like {}.")
    return text


def _flag(path: Path, number: int, record: Mapping[str, Any], name: str) -> bool:
    text = str(record.get(name, "") if record.get(name) is not None else "").strip().casefold()
    if text not in (*_TRUE, *_FALSE):
        raise _wrong(path, number, f"{name} is {plain(text, 40)!r}", "Write true or false.")
    return text in _TRUE


def _records(path: Path) -> list[dict[str, Any]]:
    """The file's records, by its ending."""
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path.name} is larger than {LARGEST // 1_000_000} MB", "Split the file.")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is not UTF-8 (byte {error.start})", "Save the file as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "Check the path and its permissions.") from None
    if path.suffix == ".csv":
        return _from_csv(path, text)
    if path.suffix not in (".json", ".jsonl"):
        raise UserError(f"{path.name} is no kind of label file", "Use .json, .jsonl or .csv.")
    try:
        value = [json.loads(line) for line in text.split("\n") if line.strip()] if path.suffix == ".jsonl" else None
        value = json.loads(text) if value is None else value
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name} is not valid JSON: {str(error)[:120]}", "Export the file again.") from None
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise UserError(f"{path.name} is not a list of JSON objects", 'Write [{"feature": 0, "label": "…"}, …].')
    return value


def _from_csv(path: Path, text: str) -> list[dict[str, Any]]:
    csv.field_size_limit(LARGEST)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        records = list(reader)
    except csv.Error as error:
        raise UserError(
            f"{path.name} is not valid CSV: {error}", "Quote fields that hold commas or line breaks."
        ) from None
    if "feature" not in (reader.fieldnames or []):
        raise UserError(f"{path.name} has no column feature", f"Columns: {', '.join(FIELDS)}.")
    if any(None in record for record in records):
        raise UserError(f"{path.name} has a line with too many fields", "Quote fields that hold commas.")
    return [{key: _uncell(value) for key, value in record.items()} for record in records]


def _value(value: Any) -> Any:
    """A table's value as JSON's: NaN is null."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def _cell(value: Any) -> str:
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text}" if isinstance(value, str) and _FORMULA.match(text) else text


def _uncell(value: str | None) -> str:
    text = value or ""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _wrong(path: Path, number: int, what: str, hint: str) -> UserError:
    return UserError(f"{path.name}, entry {number}: {what}", hint)
