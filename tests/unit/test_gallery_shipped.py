"""A gallery that ships: what a full one shows, of less, with every text from the bundle and none in its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sts_core import folders
from sts_core.measure.gallery import Wish, make_gallery
from sts_core.measure.gallery_sources import Texts
from sts_core.measure.run import run
from sts_core.results.gallery import Example, Gallery, gallery_of, open_gallery
from sts_core.results.gallery_shipped import Amount, Shipped, Where, ship
from sts_core.spec import Spec
from sts_core.text.label_corpora import label_corpora
from tests import tiny

WHERE = {"labels/math": Where("math.jsonl", ("question", "answer")), "labels/prose": Where("prose.jsonl", ("text",))}
AMOUNT = Amount(target=2, domain=1, texts=2, others=1)


class Made(NamedTuple):
    """A full gallery of sets that lie in a bundle, and the one made of it to ship."""

    result: Path
    full: Gallery
    small: Gallery
    told: Shipped
    texts: list[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ships")
    bundle = folder / "cache" / "bundle"
    bundle.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STS_CACHE", str(folder / "cache"))
        world = tiny.world(bundle)
        passages = [" ".join(row["question"] for row in tiny.rows(6, seed=20 + i)) for i in range(12)]
        (bundle / "prose.jsonl").write_text("".join(f"{json.dumps({'text': text})}\n" for text in passages))
        tiny.write_rows(bundle / "math.jsonl", tiny.rows(40, seed=9))
        (folder / "code.txt").write_text("\n\n\n".join(row["question"] * 3 for row in tiny.rows(30, seed=7)))
        run(Spec.from_dict(world.spec()), folder / "result")
        told = [{"text": f"{row['question']}\n{row['answer']}"} for row in tiny.rows(40, seed=9)]
        (folder / "told.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in told))
        chosen = {"math": str(folder / "told.jsonl"), "prose": "prose.jsonl", "code": str(folder / "code.txt")}
        corpora = label_corpora(chosen, base=bundle)
        wish = Wish(k=4, samples=2, before=6, after=3, texts=tuple(Texts(one.name, one, 300) for one in corpora))
        full = make_gallery(folder / "result", wish)
        ships = ship(full, folder / "small", WHERE, AMOUNT)
        texts = [*passages, *(row["question"] for row in tiny.rows(60, seed=1))]
        yield Made(folder / "result", open_gallery(full), open_gallery(folder / "small"), ships, texts)


def place(example: Example) -> tuple[str, str, str, int]:
    return example.source, example.arm, example.band, example.rank


def test_what_it_shows_is_what_the_full_one_shows(made: Made) -> None:
    seen = 0
    for feature in range(tiny.FEATURES):
        full = {place(example): example for example in made.full.examples(feature)}
        for example in made.small.examples(feature):
            whole = full[place(example)]
            assert example.trouble == ""
            assert (example.texts, example.value, example.row, example.token) == (
                whole.texts, whole.value, whole.row, whole.token,
            )  # fmt: skip
            np.testing.assert_allclose(example.values, whole.values, rtol=2**-5)
            assert example.values[example.peak] == whole.value
            assert list(example.others) == list(whole.others)
            for arm, values in example.others.items():
                np.testing.assert_allclose(values, whole.others[arm], rtol=2**-5)
            seen += 1
    assert seen == made.told.examples > 200
    assert made.told.lost == 0
    assert {example.source for f in range(tiny.FEATURES) for example in made.small.examples(f)} == {
        "target", "physics", "law", "labels/math", "labels/prose",
    }  # fmt: skip


def test_the_strongest_stay_and_a_corpus_without_text_is_named(made: Made) -> None:
    for feature in range(tiny.FEATURES):
        wanted = {
            key
            for key in map(place, made.full.examples(feature))
            if key[0] != "labels/code"
            and (
                (key[2] == "top" and key[3] <= {"target": 2, "labels/math": 2, "labels/prose": 2}.get(key[0], 1))
                or (key[0], key[3]) == ("target", 1)
            )
        }  # fmt: skip
        assert set(map(place, made.small.examples(feature))) == wanted
    assert made.told.left_out == {"labels/code": "the bundle does not hold its text"}
    assert "labels/code" not in made.small.sources
    assert "without those of labels/code" in made.small.shipped
    assert made.full.shipped == ""


def test_histograms_are_the_full_ones(made: Made) -> None:
    for feature in range(tiny.FEATURES):
        full, edges = made.full.histograms(feature)
        small, same = made.small.histograms(feature)
        np.testing.assert_array_equal(edges, same)
        full = full[full["source"] != "labels/code"].reset_index(drop=True)
        for ours, theirs in zip(small.itertuples(), full.itertuples(), strict=True):
            assert (ours.source, ours.arm, ours.seen) == (theirs.source, theirs.arm, theirs.seen)
            np.testing.assert_array_equal(ours.counts, theirs.counts)


def test_no_text_and_no_token_is_in_its_files(made: Made) -> None:
    assert {path.name for path in made.small.folder.iterdir()} == {
        "manifest.json", "examples.parquet", "histograms.parquet", "rows.parquet",
    }  # fmt: skip
    rows = pq.read_table(made.small.folder / "rows.parquet")
    assert rows["ids"].null_count == rows.num_rows > 0
    words = {str(value) for column in ("source",) for value in rows[column].to_pylist()}
    assert words <= {"target", "physics", "law", "labels/math", "labels/prose"}
    examples = pq.read_schema(made.small.folder / "examples.parquet")
    texts = [field.name for field in examples if str(field.type) in ("string", "large_string")]
    assert texts == ["source", "arm", "band"]
    manifest = (made.small.folder / "manifest.json").read_text()
    assert not [text for text in made.texts if text[:25] in manifest]


def test_a_text_that_has_changed_is_not_shown(made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Read where the bundle holds another file: values stay, texts do not, and it is told why."""
    (tmp_path / "bundle").mkdir()
    for name in ("prose.jsonl", "target.jsonl"):
        (tmp_path / "bundle" / name).write_text('{"text": "another", "question": "another"}\n')
    monkeypatch.setattr(folders, "cache", lambda: tmp_path)
    fresh = open_gallery(made.small.folder)
    found = [example for feature in range(tiny.FEATURES) for example in fresh.examples(feature)]
    of = {example.source: example for example in found}
    assert "has changed since" in of["labels/prose"].trouble
    assert "has changed since" in of["target"].trouble
    assert "not on this machine" in of["physics"].trouble
    assert set("".join(of["target"].texts)) == set()


def test_one_made_here_stands_before_the_shipped_one(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = tmp_path / "demo" / "result"
    result.mkdir(parents=True)
    for path in made.result.iterdir():
        (result / path.name).symlink_to(path)
    (result / "gallery").symlink_to(made.small.folder)
    monkeypatch.setattr(folders, "DEMO", tmp_path / "demo")
    assert gallery_of(result) == made.full.folder
    monkeypatch.setenv("STS_CACHE", str(tmp_path / "empty"))
    assert gallery_of(result) == result / "gallery"
