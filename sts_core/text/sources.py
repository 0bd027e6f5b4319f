"""Rows in: an embedded set, a file, or a hub set becomes a list of records, numbered as they lie in the file.

Everything that can be wrong with a file is told here, with the line it is wrong on.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sts_core import folders, hub
from sts_core.bundle import embedded
from sts_core.errors import UserError, nearest
from sts_core.spec import FIELDS, DataSpec

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?::(?P<split>[\w\[\]%:]+))?")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Row(NamedTuple):
    """One record, in our words."""

    number: int
    """0-based record number in the file, before any filtering."""
    question: str
    """The question, with the options as `A. …` lines where there are any: what the user turn says."""
    answer: str | None
    """What is trained on or scored."""
    worked: str | None
    """What a demonstration answers: the chain of thought where there is one, else the answer."""


class Rows(NamedTuple):
    """The usable rows of a set, and why the others are not."""

    rows: list[Row]
    dropped: dict[str, int]
    records: int
    """Records in the file, usable or not."""


def locate(data: str, demos: bool = False) -> Path:
    """The file behind a set's name: embedded, local, or fetched from the hub."""
    if data.startswith("mmlu/") and data.removeprefix("mmlu/") in embedded.domain_names():
        name = data.removeprefix("mmlu/")
        return embedded.demo_file(name) if demos else embedded.domain_file(name)
    if data in embedded.TRAIN_NAMES:
        return embedded.train_file(data)
    path = Path(data).expanduser()
    if path.is_file():
        if path.suffix in SUFFIXES:
            return path
        raise UserError(f"{data} is no kind of file that can be read", f"Use one that ends in {', '.join(SUFFIXES)}.")
    if path.suffix in SUFFIXES:
        raise UserError(f"There is no file {data}", "Check the path; relative ones are taken from the spec's folder.")
    match = _HUB_ID.fullmatch(data)
    if match and not data.startswith("mmlu/") and not path.exists():
        return _from_hub(match["id"], match["split"] or "train")
    known = [*embedded.TRAIN_NAMES, *(f"mmlu/{name}" for name in embedded.domain_names())]
    raise UserError(
        f"There is no data set {data!r}{nearest(data, known)}",
        f"Use {', '.join(embedded.TRAIN_NAMES)} or mmlu/… (embedded), a file ({', '.join(SUFFIXES)}), or a hub id.",
    )


def demonstration_source(spec: DataSpec) -> tuple[str, Mapping[str, str]] | None:
    """Where a set's demonstrations come from when not from its own rows: (data, columns)."""
    if spec.demo_data is not None:
        return spec.demo_data, spec.demo_columns
    if spec.data.startswith("mmlu/"):
        return spec.data, {}
    return None


def read_rows(path: Path, columns: Mapping[str, str], need: tuple[str, ...]) -> Rows:
    """Read a file's records as rows. `need` are the fields a row cannot do without."""
    records = read_records(path)
    if not records:
        raise UserError(f"{path.name} holds no rows", "Give a file with at least one record.")
    names = {field: columns.get(field, field) for field in FIELDS}
    _check_columns(path, records, names, columns, need)
    rows: list[Row] = []
    dropped: dict[str, int] = {}
    for number, record in enumerate(records):
        row = _row(number, {field: record.get(column) for field, column in names.items()})
        lacking = next((f for f in need if not _field(row, f)), None)
        if lacking:
            reason = "no answer and no cot" if lacking == "worked" else f"no {lacking}"
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            rows.append(row)
    return Rows(rows, dropped, len(records))


def read_records(path: Path) -> list[dict[str, Any]]:
    """A file's records, as dicts, by its suffix."""
    if path.suffix == ".parquet":
        return _read_parquet(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is not UTF-8 (byte {error.start})", "Save the file as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "Check the path and its permissions.") from None
    if path.suffix == ".jsonl":
        return _read_lines(path, text)
    if path.suffix == ".json":
        return _read_json(path, text)
    return _read_csv(path, text)


def _read_csv(path: Path, text: str) -> list[dict[str, Any]]:
    csv.field_size_limit(1 << 30)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        names = list(reader.fieldnames or [])
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"{path.name} has two columns named {twice!r}", "Give every column a name of its own.")
        records = []
        for record in reader:
            if None in record:
                raise UserError(
                    f"{path.name}, line {reader.line_num} has more fields than the header has names",
                    "Quote fields that hold commas or line breaks.",
                )
            records.append(record)
    except csv.Error as error:
        raise UserError(
            f"{path.name} is not valid CSV: {error}", "Quote fields that hold commas or line breaks."
        ) from None
    return records


def _read_lines(path: Path, text: str) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path.name}, line {number} is not valid JSON: {_why(error)}", "Mend or remove that line."
            ) from None
        if not isinstance(record, dict):
            raise UserError(
                f"{path.name}, line {number} is not a JSON object", 'Each line must be like {"question": …}.'
            )
        records.append(record)
    return records


def _why(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _read_json(path: Path, text: str) -> list[dict[str, Any]]:
    if not text.strip():
        return []
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path.name} is not valid JSON: {_why(error)}", "Mend the file; one record a line belongs in .jsonl."
        ) from None
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise UserError(f"{path.name} is not a list of JSON objects", 'Write [{"question": …}, …], or use .jsonl.')
    return value


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path.name} is not a Parquet file: {str(error).splitlines()[0]}", "Write the file again."
        ) from None


def _check_columns(
    path: Path,
    records: list[dict[str, Any]],
    names: Mapping[str, str],
    mapped: Mapping[str, str],
    need: tuple[str, ...],
) -> None:
    present = {key for record in records for key in record if key is not None}
    for field, column in names.items():
        wanted = field in mapped or field in need
        if not wanted or column in present:
            continue
        raise UserError(
            f"{path.name} has no column {column!r} for {field}{nearest(column, present)}",
            f'Its columns are: {", ".join(sorted(present))}. Map one with columns = {{ {field} = "…" }}.',
        )
    if "worked" in need and not {names["answer"], names["cot"]} & present:
        raise UserError(
            f"{path.name} has neither a column {names['answer']!r} nor {names['cot']!r} to demonstrate with",
            f'Its columns are: {", ".join(sorted(present))}. Map one with columns = {{ answer = "…" }}.',
        )


def _row(number: int, values: Mapping[str, Any]) -> Row:
    options = _options(values["options"])
    question = _text(values["question"])
    if question and options:
        question = "\n".join([question, *(f"{_LETTERS[i]}. {option}" for i, option in enumerate(options))])
    answer = _answer(values["answer"], options)
    return Row(number, question or "", answer, _text(values["cot"]) or answer)


def _field(row: Row, field: str) -> str | None:
    return {"question": row.question, "answer": row.answer, "worked": row.worked}[field]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, dict | list) or value != value:  # NaN is not equal to itself
        return None
    text = str(value)
    return text if text.strip() else None


def _options(value: Any) -> list[str]:
    """Options from a list, a {label: text} table, or either of them as JSON text (CSV files)."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    if isinstance(value, dict):
        value = value.get("text", list(value.values()))
    return [str(option) for option in value][: len(_LETTERS)] if isinstance(value, list) else []


def _answer(value: Any, options: list[str]) -> str | None:
    """The gold answer as text; a 0-based index of an option becomes its letter, and one of none is no answer."""
    if isinstance(value, int) and not isinstance(value, bool) and options:
        if 0 <= value < len(options):
            return _LETTERS[value]
        return str(value) if str(value) in options else None
    return _text(value)


def _from_hub(name: str, split: str) -> Path:
    """A hub set's split as a Parquet file of ours, downloaded once."""
    path = folders.ensure(folders.cache() / "data") / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', f'{name}-{split}')}.parquet"
    if not path.exists():
        hub.prepare()
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError

        try:
            table = load_dataset(name, split=split)
        except (DatasetsError, OSError, ValueError) as error:
            raise UserError(
                f"The data set {name!r} (split {split}) is not to be had: {str(error).splitlines()[0][:160]}",
                'Check the id and the connection ("org/name:split" names another split), or name a file.',
            ) from None
        table.to_parquet(str(path.with_suffix(".part")))
        path.with_suffix(".part").replace(path)
    return path
