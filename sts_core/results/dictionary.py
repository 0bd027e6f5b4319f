"""The dictionary of a SAE: what every feature writes, in the model's own words, and which features lie near it.

One Parquet file, sorted by feature in small row groups, so that one feature is found without reading the others. It
belongs to one revision of a model and one of a SAE and lies beside the SAE, or in the cache under both revisions.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from sts_core import folders
from sts_core.errors import UserError

FILE = "dictionary.parquet"
FORMAT = 1
_LINES_TOGETHER = 512
_ABOUT = b"sts_dictionary"
_NOT_ONE = "It is no dictionary of a SAE: make it with `sts dictionary`."
SCHEMA = pa.schema(
    [
        ("feature", pa.int32()),
        ("promotes", pa.list_(pa.string())), ("promoted", pa.list_(pa.float32())),
        ("suppresses", pa.list_(pa.string())), ("suppressed", pa.list_(pa.float32())),
        ("near", pa.list_(pa.int32())), ("cosine", pa.list_(pa.float32())),
    ]
)  # fmt: skip


class Meaning(NamedTuple):
    """What one feature writes."""

    feature: int
    promotes: list[str]
    """Tokens whose logits rise most, the first the most."""
    promoted: list[float]
    """By how much above the mean over all tokens, a unit of the feature's direction."""
    suppresses: list[str]
    """Tokens whose logits fall most."""
    suppressed: list[float]
    near: list[int]
    """Features whose decoder directions are most alike, the nearest first."""
    cosine: list[float]


class Revised(Protocol):
    """A model or a SAE, as `nets.describe` finds it."""

    @property
    def revision(self) -> str:
        """Names its exact content."""


class RevisedFolder(Revised, Protocol):
    """A SAE, which lies in a folder."""

    @property
    def folder(self) -> Path:
        """Where it lies."""


class Dictionary:
    """A dictionary on disk, opened once; features are read when asked for."""

    def __init__(self, path: Path) -> None:
        """UserError when it is not one."""
        self.path = path
        self._turn = threading.Lock()  # the file's reader serves one thread at a time
        try:
            self._file = pq.ParquetFile(path)
            kept = (self._file.metadata.metadata or {}).get(_ABOUT)
        except FileNotFoundError:
            raise UserError(f"There is no dictionary {path}", "Make it with `sts dictionary`.") from None
        except (OSError, pa.ArrowException):
            raise UserError(f"{path} cannot be read", _NOT_ONE) from None
        try:
            self.about: dict[str, Any] = json.loads(kept or b"")
            """Model, SAE, their revisions, `features`, `top`, and `how` it was computed."""
            whole = self.about["format"] == FORMAT and self.about["features"] == self._file.metadata.num_rows
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole or self._file.schema_arrow.names != SCHEMA.names:
            raise UserError(f"{path} is not a dictionary this version can read", _NOT_ONE)

    @property
    def features(self) -> int:
        """How many there are."""
        return int(self._file.metadata.num_rows)

    def of(self, feature: int) -> Meaning:
        """What a feature writes; only its own rows' group is read."""
        return self.several([feature])[0]

    def several(self, features: Sequence[int]) -> list[Meaning]:
        """The same for a list, in its order."""
        for feature in features:
            if not 0 <= feature < self.features:
                raise UserError(
                    f"There is no feature {feature} in this dictionary", f"It has 0 to {self.features - 1}."
                )
        groups = sorted({feature // _LINES_TOGETHER for feature in features})
        try:
            with self._turn:
                tables = {group: self._file.read_row_group(group) for group in groups}
            found = []
            for feature in features:
                row = tables[feature // _LINES_TOGETHER].slice(feature % _LINES_TOGETHER, 1).to_pylist()[0]
                if row["feature"] != feature:
                    raise ValueError("not sorted by feature")
                found.append(Meaning(**row))
        except (OSError, pa.ArrowException, ValueError, IndexError, TypeError):
            raise UserError(f"{self.path} is damaged", "Make it again with `sts dictionary`.") from None
        return found


def dictionary_of(model: Revised, sae: RevisedFolder) -> Path | None:
    """Where the dictionary of a SAE on a model lies: beside the SAE, or in the cache; None when it was not made."""
    wanted = (_unadapted(model.revision), sae.revision)
    for path in (sae.folder / FILE, place_of(*wanted)):
        if not path.is_file():
            continue
        try:
            about = Dictionary(path).about
        except UserError:
            continue
        if (about.get("model_revision"), about.get("sae_revision")) == wanted:
            return path
    return None


def place_of(model_revision: str, sae_revision: str) -> Path:
    """Where the cache keeps the dictionary of these revisions; an adapter's is its model's."""
    key = re.sub(r"[^\w.-]+", "_", f"{sae_revision}-{_unadapted(model_revision)}")
    return folders.cache() / "dictionaries" / key / FILE


def write_dictionary(path: Path, about: Mapping[str, Any], parts: Iterable[list[Meaning]]) -> Path:
    """Write a dictionary part by part, in the order of the features; the file is there whole or not at all.

    `about` says which model and SAE it belongs to; how many features came is added.
    """
    folders.ensure(path.absolute().parent)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    waiting: list[Meaning] = []
    try:
        # What the file says of itself stands at its end, so the count can follow the features.
        with pq.ParquetWriter(draft, SCHEMA, compression="zstd") as writer:
            count = 0
            for part in parts:
                waiting += part
                count += len(part)
                while len(waiting) >= _LINES_TOGETHER:
                    writer.write_table(_table(waiting[:_LINES_TOGETHER]))
                    waiting = waiting[_LINES_TOGETHER:]
            if waiting:
                writer.write_table(_table(waiting))
            said = {**about, "format": FORMAT, "features": count}
            writer.add_key_value_metadata({_ABOUT.decode(): json.dumps(said, ensure_ascii=False)})
        draft.replace(path)
    except OSError as error:
        raise folders.disk_trouble(path.parent, error) from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def _unadapted(revision: str) -> str:
    return revision.partition("+")[0]


def _table(rows: list[Meaning]) -> pa.Table:
    return pa.Table.from_pylist([row._asdict() for row in rows], schema=SCHEMA)
