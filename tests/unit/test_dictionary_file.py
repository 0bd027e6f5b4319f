"""The file of a dictionary: one feature found fast among many, whole or absent, and refused when it is not one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sts_core.errors import UserError
from sts_core.results.dictionary import SCHEMA, Dictionary, Meaning, place_of, write_dictionary

MANY = 131_072
LIMIT = 0.5
"""Seconds for one feature among many on a busy machine; an idle one takes some milliseconds."""
ABOUT = {"model": "m", "model_revision": "1", "sae": "s", "sae_revision": "2"}


def made(feature: int) -> Meaning:
    return Meaning(
        feature, [f" w{feature % 997}", "<b>\u202e\0"], [2.0, 1.0], [f"x{feature % 31}"], [-1.5], [feature ^ 1], [0.5]
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def parts() -> Iterator[list[Meaning]]:
        for start in range(0, MANY, 3_000):
            yield [made(i) for i in range(start, min(start + 3_000, MANY))]

    return write_dictionary(tmp_path_factory.mktemp("large") / "dictionary.parquet", ABOUT, parts())


def small(folder: Path, count: int = 5) -> Path:
    return write_dictionary(folder / "dictionary.parquet", ABOUT, [[made(i) for i in range(count)]])


def test_one_feature_among_many_is_found_fast(large: Path) -> None:
    book = Dictionary(large)
    assert book.features == MANY
    for feature in (0, 511, 512, 77_777, MANY - 1):
        began = time.perf_counter()
        found = Dictionary(large).of(feature)
        taken = time.perf_counter() - began
        assert found == made(feature)
        assert taken < LIMIT
    assert book.several([9, 100_000, 9]) == [made(9), made(100_000), made(9)]


@pytest.mark.parametrize("feature", [-1, 5])
def test_a_feature_out_of_range_is_told(tmp_path: Path, feature: int) -> None:
    with pytest.raises(UserError, match=f"no feature {feature}") as caught:
        Dictionary(small(tmp_path)).of(feature)
    assert "0 to 4" in caught.value.hint


def test_it_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[list[Meaning]]:
        yield [made(i) for i in range(2_000)]
        raise KeyboardInterrupt

    path = tmp_path / "deep" / "dictionary.parquet"
    with pytest.raises(KeyboardInterrupt):
        write_dictionary(path, ABOUT, broken())
    assert list(path.parent.iterdir()) == []
    small(path.parent)
    with pytest.raises(KeyboardInterrupt):
        write_dictionary(path, ABOUT, broken())
    assert Dictionary(path).of(4) == made(4)
    assert [file.name for file in path.parent.iterdir()] == ["dictionary.parquet"]


def test_what_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    path = small(tmp_path)
    table = pq.read_table(path)
    plain = tmp_path / "plain.parquet"
    pq.write_table(table, plain)  # no word of what it belongs to
    newer = tmp_path / "newer.parquet"
    said = {**ABOUT, "format": 99, "features": 5}
    pq.write_table(table.replace_schema_metadata({"sts_dictionary": json.dumps(said)}), newer)
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(path.read_bytes()[:-40])
    for wrong in (plain, newer, torn, tmp_path / "none.parquet", tmp_path):
        with pytest.raises(UserError) as caught:
            Dictionary(wrong)
        assert "sts dictionary" in caught.value.hint


def test_damage_inside_is_told(tmp_path: Path) -> None:
    path = small(tmp_path, 600)
    content = bytearray(path.read_bytes())
    content[200:4_000] = bytes(3_800)
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        Dictionary(path).of(3)
    swapped = tmp_path / "swapped.parquet"
    write_dictionary(swapped, ABOUT, [[made(1), made(0)]])
    with pytest.raises(UserError, match="damaged"):
        Dictionary(swapped).of(0)


def test_the_columns_are_those_that_are_documented(tmp_path: Path) -> None:
    table = pq.read_table(small(tmp_path))
    assert table.schema.names == SCHEMA.names
    assert table.schema.names == ["feature", "promotes", "promoted", "suppresses", "suppressed", "near", "cosine"]
    assert table["promotes"][3].as_py() == [" w3", "<b>\u202e\0"]


def test_its_place_is_named_by_both_revisions_and_stays_in_the_cache(own_cache: Path) -> None:
    assert place_of("a", "b") != place_of("b", "a")
    assert place_of("a+adapter", "b") == place_of("a", "b")
    assert place_of("../../x", "..").resolve().is_relative_to(own_cache / "dictionaries")
