"""A spec as it is written: a TOML or JSON file, changes from the command line, paths beside the file."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sts_core.errors import UserError

_FILE_ENDINGS = (".jsonl", ".json", ".csv", ".parquet")
_LONGEST_NAME = 1_000
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ONE_FOR_ALL = ("data", "columns", "demos", "tokens", "demo_data", "demo_columns")
"""Keys of a domain that `--set domains.KEY=…` sets in every domain."""


def read_table(path: Path) -> dict[str, Any]:
    """The tables of a .toml file, or the same as .json; every way it can be unreadable is told."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        value = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise UserError(
            f"There is no file {path}", "Name a spec file; `cache/demo/demo.toml` is one to start from."
        ) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder", "Name the spec file in it.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start})", "Save the file as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "Check the path and its permissions.") from None
    except (ValueError, RecursionError) as error:  # both parsers' errors, and numbers of thousands of digits
        kind, hint = ("JSON", "Mend that line.") if path.suffix == ".json" else ("TOML", _toml_hint(error))
        raise UserError(f"{path} is not valid {kind}: {error}", hint) from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object", 'Write the spec as {"model": …}.')
    return value


def apply_change(values: dict[str, Any], change: str) -> None:
    """Set one dotted key of a spec's tables from `key=value`; the value is TOML, or a bare word."""
    key, equals, text = change.partition("=")
    if not equals or not key.strip() or "\n" in change:
        raise UserError(f"--set {change!r} is not key=value", "A key as in the file and its value: --set model=NAME.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    except (ValueError, RecursionError):
        raise UserError(f"--set {key.strip()}: the value cannot be read", "Give a shorter one.") from None
    *path, last = key.strip().split(".")
    if path == ["domains"] and isinstance(values.get("domains"), str):  # domains = "mmlu" in its longer form
        values["domains"] = {"data": values["domains"]}
    if path[:1] == ["domains"] and isinstance(values.get("domains"), list):
        _set_in_all(values["domains"], path, last, value, change)
        return
    table: Any = values
    for part in path:
        table = table.setdefault(part, {}) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        raise UserError(f"--set {change!r}: {'.'.join(path)} is not a table", "Check the key against the spec.")
    table[last] = value


def to_toml(values: Mapping[str, Any]) -> str:
    """A spec's tables as a file that `read_table` reads back to equal ones."""
    lines = _lines(values, "")
    return "\n".join(lines[1:] if lines and not lines[0] else lines) + "\n"


def _lines(values: Mapping[str, Any], path: str) -> list[str]:
    tables = {key: value for key, value in values.items() if _stands_alone(value, nested=bool(path))}
    lines = [f"{_key(key)} = {_toml(value)}" for key, value in values.items() if key not in tables]
    for key, value in tables.items():
        name = f"{path}{_key(key)}"
        for table in value if isinstance(value, list) else [value]:
            lines += ["", f"[[{name}]]" if isinstance(value, list) else f"[{name}]", *_lines(table, f"{name}.")]
    return lines


def located(value: Any, base: Path | None) -> Any:
    """A relative path that exists beside the spec file becomes absolute; names stay names."""
    if not isinstance(value, str) or base is None or not value.strip():
        return value
    if "\0" in value or len(value) > _LONGEST_NAME:
        raise UserError(f"{value[:80]!r} names no file", "Check the name: it is too long, or holds a sign no name can.")
    looks_like_file = value.endswith(_FILE_ENDINGS) or value.startswith(("./", "../", "~"))
    try:
        path = Path(value).expanduser()
        if looks_like_file or (not path.is_absolute() and (base / path).is_dir()):
            return str((base / path).resolve())
    except (RuntimeError, OSError):  # no such user's home; links that lead in a circle
        raise UserError(f"{value!r} leads nowhere", "Check the path.") from None
    return value


def _set_in_all(domains: list[Any], path: list[str], last: str, value: Any, change: str) -> None:
    """`domains.tokens=200` reaches every domain; one alone is changed in the file."""
    nested = path[1:]
    known = last in _ONE_FOR_ALL if not nested else nested[0] in ("columns", "demo_columns") and len(nested) == 1
    if not known or not all(isinstance(entry, dict) for entry in domains):
        raise UserError(
            f"--set {change!r} names no key of a domain",
            f"It sets a key of all domains ({', '.join(_ONE_FOR_ALL)}). Change a single one in the file.",
        )
    for entry in domains:
        (entry.setdefault(nested[0], {}) if nested else entry)[last] = value


def _stands_alone(value: Any, nested: bool) -> bool:
    """Whether a value has lines of its own: lists of tables, and tables but small ones within another."""
    if isinstance(value, Mapping):
        return not nested or any(_stands_alone(part, nested=True) for part in value.values())
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _toml(name)


def _toml(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(part)}" for key, part in value.items()) + " }"
    # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _toml_hint(error: BaseException) -> str:
    if "overwrite" in str(error).lower():
        return "A key or a table stands twice; [domains] and [[domains]] cannot both be there."
    return "Mend that line; strings need quotes."
