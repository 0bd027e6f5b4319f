"""A gallery small enough to ship, without a sentence or a token id of any corpus in it.

Of each feature the strongest examples stay, a few of every set, and its histograms. Texts are kept by reference: a row
of an embedded set by its number, a piece of a label corpus by record, first and last sign in the bundle's file, with
the places where it is cut into tokens. A corpus whose text the bundle does not hold is left out, and named. The
feature's values on the tokens around are rounded; the value on the token itself is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sts_core import folders
from sts_core.errors import UserError
from sts_core.fingerprint import sha256_file
from sts_core.folders import atomic_json, ensure
from sts_core.results.folder import TARGET
from sts_core.results.gallery import EXAMPLES, HISTOGRAMS, MANIFEST, open_gallery
from sts_core.results.gallery_rows import ROWS, Reference, RowTexts, record_text

_BITS = 5
"""Of a value's fraction, that stay: rounded by 3 % at most."""
_LEVEL = 19
_TOGETHER = 8_000
"""Lines of a piece of a file, but for a feature that has more."""


class Where(NamedTuple):
    """The text of a corpus in the bundle."""

    file: str
    fields: tuple[str, ...]
    """Of a record, put under each other."""


class Amount(NamedTuple):
    """How many examples of a feature stay, for each arm."""

    target: int = 6
    domain: int = 2
    texts: int = 3
    others: int = 1
    """Of each weaker band, on the target set alone."""


class Shipped(NamedTuple):
    """What came of it."""

    bytes: int
    examples: int
    left_out: dict[str, str]
    """Source -> why it is not in it."""
    lost: int
    """Examples whose text could not be referred to."""


def ship(gallery: Path, place: Path, texts: Mapping[str, Where], amount: Amount = Amount()) -> Shipped:  # noqa: B008
    """Write a small gallery into the empty folder `place`; `texts` tells where label corpora lie in the bundle."""
    held = open_gallery(gallery)
    rows = RowTexts(gallery, held.manifest)
    left_out = {
        str(source["name"]): "the bundle does not hold its text"
        for source in held.manifest["sources"]
        if not source.get("file") and source["name"] not in texts
    }
    ensure(place)
    kept = _chosen(pq.read_table(gallery / EXAMPLES), held.sources, left_out, amount)
    references, lost = _references(kept, rows, held.manifest, texts)
    there = pa.array([(s, r) in references for s, r in _rows_of(kept)], pa.bool_())
    kept = kept.filter(there)
    _write(place / EXAMPLES, _rounded(kept))
    told = pq.read_table(gallery / HISTOGRAMS)
    told = told.filter(pc.invert(pc.is_in(told["source"].cast(pa.string()), pa.array(list(left_out), pa.string()))))
    _write(place / HISTOGRAMS, told)
    _write_rows(place / ROWS, {key: references[key] for key in dict.fromkeys(_rows_of(kept))})
    atomic_json(place / MANIFEST, _manifest(held.manifest, texts, left_out, amount, kept.num_rows))
    size = sum(path.stat().st_size for path in place.iterdir())
    return Shipped(size, kept.num_rows, left_out, lost)


def _chosen(table: pa.Table, sources: Sequence[str], left_out: Mapping[str, str], amount: Amount) -> pa.Table:
    """The strongest of every set, and of the target set some of the weaker bands."""
    source, band, rank = table["source"].cast(pa.string()), table["band"].cast(pa.string()), table["rank"]
    most = {
        name: amount.target if name == TARGET else amount.texts if "/" in name else amount.domain for name in sources
    }
    kept = pa.array(np.zeros(table.num_rows, dtype=bool))
    for name, count in most.items():
        if name in left_out:
            continue
        own = pc.equal(source, name)
        kept = pc.or_(kept, pc.and_(own, pc.and_(pc.equal(band, "top"), pc.less_equal(rank, count))))
        if name == TARGET:
            weaker = pc.and_(pc.not_equal(band, "top"), pc.less_equal(rank, amount.others))
            kept = pc.or_(kept, pc.and_(own, weaker))
    return table.filter(kept)


def _rows_of(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table["source"].cast(pa.string()).to_pylist(), table["row"].to_pylist(), strict=True))


def _references(
    kept: pa.Table, rows: RowTexts, manifest: Mapping[str, Any], texts: Mapping[str, Where]
) -> tuple[dict[tuple[str, int], Reference], int]:
    """Where each row's text lies and how it is cut; and how many examples have none."""
    pieces = (manifest.get("prompt") or {}).get("pieces") or ["", ""]
    there = [str(source["name"]) for source in manifest["sources"]]
    records = {name: _records(where) for name, where in texts.items() if name in there}
    found: dict[tuple[str, int], Reference] = {}
    wanted = _rows_of(kept)
    for source, row in dict.fromkeys(wanted):
        if source in records:
            reference = _piece(rows.tokens(source, row), pieces, records[source])
        else:
            cuts = rows.cuts(source, row)
            reference = None if cuts is None else Reference(cuts)
        if reference is not None:
            found[source, row] = reference
    return found, sum(key not in found for key in wanted)


def _records(where: Where) -> list[str]:
    path = folders.bundle() / where.file
    try:
        lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    except OSError:
        raise UserError(f"{where.file} is not in the bundle", "Run `sts demo fetch`.") from None
    return [record_text(json.loads(line), where.fields) for line in lines]


def _piece(tokens: Sequence[str] | str, pieces: Sequence[str], records: Sequence[str]) -> Reference | None:
    """The record that holds a piece of text, and its place there."""
    if isinstance(tokens, str):
        return None
    whole = "".join(tokens)
    if not (whole.startswith(pieces[0]) and whole.endswith(pieces[1])):
        return None
    text = whole[len(pieces[0]) : len(whole) - len(pieces[1])]
    for number, record in enumerate(records):
        if (first := record.find(text)) >= 0:
            return Reference([len(token) for token in tokens], number, first, first + len(text))
    return None


def _rounded(table: pa.Table) -> pa.Table:
    """Values on the tokens around, with few bits of fraction, which pack well."""
    values = _lists(table["values"])
    others = table["others"].combine_chunks()
    others = others.chunk(0) if isinstance(others, pa.ChunkedArray) else others
    items = pa.MapArray.from_arrays(others.offsets, others.keys, _short(others.items))
    table = table.set_column(table.column_names.index("values"), "values", values)
    return table.set_column(table.column_names.index("others"), "others", items)


def _lists(column: pa.ChunkedArray) -> pa.ListArray:
    whole = column.combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    return _short(whole)


def _short(lists: pa.ListArray) -> pa.ListArray:
    flat = lists.values.to_numpy(zero_copy_only=False).astype(np.float32)
    mantissa, exponent = np.frexp(flat)
    short = np.ldexp(np.round(mantissa * 2**_BITS) / 2**_BITS, exponent).astype(np.float32)
    return pa.ListArray.from_arrays(lists.offsets, pa.array(short, from_pandas=False))


def _write(path: Path, table: pa.Table) -> None:
    """Pieces that hold whole features."""
    features = table["feature"].to_numpy()
    schema = table.schema
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=_LEVEL) as writer:
        first = 0
        while first < len(features):
            last = min(first + _TOGETHER, len(features))
            last = int(np.searchsorted(features, features[last - 1], side="right"))
            writer.write_table(table.slice(first, last - first))
            first = last


def _write_rows(path: Path, references: Mapping[tuple[str, int], Reference]) -> None:
    found = list(references.items())
    columns = {
        "source": pa.array([key[0] for key, _ in found], pa.string()),
        "row": pa.array([key[1] for key, _ in found], pa.int64()),
        "ids": pa.array([None] * len(found), pa.list_(pa.int32())),
        "cuts": pa.array([one.cuts for _, one in found], pa.list_(pa.int32())),
        **{
            name: pa.array([getattr(one, name) for _, one in found], pa.int32()) for name in ("record", "first", "last")
        },
    }
    pq.write_table(pa.table(columns), path, compression="zstd", compression_level=_LEVEL)


def _manifest(
    told: Mapping[str, Any], texts: Mapping[str, Where], left_out: Mapping[str, str], amount: Amount, examples: int
) -> dict[str, Any]:
    sources = [_source(source, texts) for source in told["sources"] if source["name"] not in left_out]
    kept = {name: value for name, value in told.items() if name not in ("tokenizer_sha256", "wish")}
    return {
        **kept, "sources": sources, "examples": examples, "k": amount.target, "samples": amount.others,
        "shipped": {"left_out": dict(left_out), "amount": amount._asdict(), "rounded_bits": _BITS},
    }  # fmt: skip


def _source(source: Mapping[str, Any], texts: Mapping[str, Where]) -> dict[str, Any]:
    where = texts.get(source["name"])
    if where is None:
        return dict(source)
    path = folders.bundle() / where.file
    return {**source, "file": where.file, "fields": list(where.fields), "sha256": sha256_file(path)}
