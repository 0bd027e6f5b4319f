"""A gallery against a dense computation: every prompt run whole, every token's features kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from sts_core.errors import UserError
from sts_core.measure import gallery as making
from sts_core.measure import passes
from sts_core.measure.examples import bin_edges
from sts_core.measure.gallery import Wish, make_gallery
from sts_core.measure.gallery_sources import Texts
from sts_core.measure.run import run
from sts_core.nets.decoder import load_decoder
from sts_core.nets.describe import find_model, find_sae
from sts_core.nets.saes import encode, load_sae
from sts_core.progress import Progress
from sts_core.results.examples import read_examples
from sts_core.results.gallery import Example, Gallery, gallery_for, gallery_of, open_gallery
from sts_core.spec import Spec
from sts_core.text.corpora import find
from tests import tiny

K, SAMPLES, BEFORE, AFTER = 4, 2, 6, 3
WISH = Wish(k=K, samples=SAMPLES, before=BEFORE, after=AFTER)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Made(NamedTuple):
    """A world, its result, and a gallery of it with a corpus and a fine-tuned model."""

    world: tiny.World
    result: Path
    gallery: Path
    tuned: Path
    corpus: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "cache").mkdir()
    (folder / "world").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STS_CACHE", str(folder / "cache"))
        patch.setattr(passes, "_BATCH_TOKENS", {"cpu": 400})
        world = tiny.world(folder / "world")
        tuned = tiny.save_model(folder / "tuned", "llama", "chatml", seed=5)
        values = world.spec()
        spec = Spec.from_dict({**values, "run": {**values["run"], "examples": K}})
        run(spec, folder / "result")
        corpus = folder / "prose.txt"
        corpus.write_text("\n\n\n".join(row["question"] * 4 for row in tiny.rows(30, seed=9)))
        texts = Texts("prose", find("prose.txt", folder), 150)
        make_gallery(folder / "result", WISH._replace(texts=(texts,), runs={"run": str(tuned)}), folder / "out")
        yield Made(world, folder / "result", folder / "out", tuned, corpus)


class Dense:
    """Every token of every row of a source, in every arm, computed plainly."""

    def __init__(self, made: Made, source: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(made.world.model)
        self._sae = load_sae(find_sae(str(made.world.sae)), "cpu", "float32")
        models = {"base": made.world.model, "icl": made.world.model, "run": made.tuned}
        self.arms = {name: load_decoder(find_model(str(path)), 1, "cpu", "float32") for name, path in models.items()}
        manifest = json.loads((made.result / "manifest.json").read_text())
        parts = {"target": manifest["spec"]["target"]} | {d["name"]: d for d in manifest["spec"]["domains"]}
        self._norm = manifest["outlier_norm"]
        used, spec = manifest["sets"][source], parts[source]
        rows, shown = records(spec["data"]), records(spec.get("demo_data", spec["data"]))
        self._demos = [text for n in used["demo_rows"] for text in (shown[n]["question"], shown[n]["cot"])]
        self.rows = {n: rows[n]["question"] for n in used["query_rows"]}
        self.ids = {n: self._ids([question]) for n, question in self.rows.items()}
        self.values = {
            (arm, n): self._features(arm, n) for n in self.rows for arm in self.arms
        }  # fmt: skip
        self.pooled = {n: self._pooled(n) for n in self.rows}

    def tokens(self, arm: str) -> tuple[list[tuple[int, int]], np.ndarray]:
        """(row, token) of every token that counts, in the order of the queries, and their features."""
        places = [(n, token) for n in self.rows for token in self.pooled[n]]
        return places, np.array([self.values[arm, n][token] for n, token in places])

    def _ids(self, texts: list[str]) -> list[int]:
        turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        return list(self.tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False))

    def _features(self, arm: str, n: int) -> np.ndarray:
        """[own tokens, features]: behind demonstrations the row's own tokens are the last; the head is the first."""
        own = self.ids[n]
        ids = self._ids([*self._demos, self.rows[n]]) if arm == "icl" else own
        values = encode(self._sae, self.arms[arm].residuals([ids])[0]).numpy()
        if arm != "icl":
            return values
        # What closes the turn before, `<|im_end|>` and a line break, stands right before the question in both arms.
        turn = own.index(self.tokenizer.convert_tokens_to_ids("<|im_start|>"), 1) - 2
        assert ids[:turn] == own[:turn]
        assert ids[turn - len(own) :] == own[turn:]
        return np.concatenate([values[:turn], values[turn - len(own) :]])

    def _pooled(self, n: int) -> list[int]:
        """The question's own tokens: all behind the last marker of a turn's beginning and `user`, before its end."""
        encoded = self.tokenizer(
            self.tokenizer.apply_chat_template([{"role": "user", "content": self.rows[n]}], tokenize=False),
            add_special_tokens=False, return_offsets_mapping=True,
        )  # fmt: skip
        text = self.tokenizer.apply_chat_template([{"role": "user", "content": self.rows[n]}], tokenize=False)
        start = text.rindex(self.rows[n])
        end = start + len(self.rows[n])
        return [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if start <= a < b <= end]


def records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.mark.parametrize("source", ["target", "physics", "law"])
def test_every_example_is_what_a_dense_computation_gives(made: Made, source: str) -> None:
    dense, gallery = Dense(made, source), open_gallery(made.gallery)
    assert gallery.arms == ["base", "icl", "run"]
    for feature in range(0, tiny.FEATURES, 5):
        found = [example for example in gallery.examples(feature) if example.source == source]
        for arm in gallery.arms:
            mine = [example for example in found if example.arm == arm]
            _the_strongest(dense, mine, arm, feature)
            _the_bands(dense, mine, arm, feature)
            for example in mine:
                _the_window(dense, example, feature)


def _the_strongest(dense: Dense, mine: list[Example], arm: str, feature: int) -> None:
    places, values = dense.tokens(arm)
    top = [example for example in mine if example.band == "top"]
    best = -np.sort(-values[:, feature])[:K]
    best = best[best > 0]
    assert [example.rank for example in top] == list(range(1, len(best) + 1))
    np.testing.assert_allclose([example.value for example in top], best, **CLOSE)
    assert {(example.row, example.token) for example in mine} <= set(places)


def _the_bands(dense: Dense, mine: list[Example], arm: str, feature: int) -> None:
    values = dense.tokens(arm)[1][:, feature]
    fired = values[values > 0]
    edges = bin_edges()
    for q in (50, 75, 90):
        band = [example for example in mine if example.band == f"q{q}"]
        if not len(fired):
            assert not band
            continue
        place = np.searchsorted(edges, np.quantile(fired, q / 100, method="inverted_cdf"), side="right") - 1
        low, high = edges[max(place, 0)], [*edges, np.inf][max(place, 0) + 1]
        inside = fired[(fired >= (low if place > 0 else 0)) & (fired < high)]
        assert len(band) == min(SAMPLES, len(inside))
        assert all(low * 0.999 <= e.value <= high * 1.001 or place <= 0 for e in band)
    assert sum(example.band == "random" for example in mine) == min(SAMPLES, len(fired))


def _the_window(dense: Dense, example: Example, feature: int) -> None:
    own = dense.ids[example.row]
    start, length = example.token - example.peak, len(example.values)
    assert start + length == min(example.token + AFTER + 1, len(own))
    earliest = 0 if example.arm != "icl" else start  # behind demonstrations a window begins no earlier than they end
    assert start == max(example.token - BEFORE, earliest)
    assert example.trouble == ""
    assert example.texts == [dense.tokenizer.decode([i]) for i in own[start : start + length]]
    series = {example.arm: example.values, **example.others}
    assert set(series) == {"base", "icl", "run"}
    for arm, values in series.items():
        wanted = dense.values[arm, example.row][start : start + length, feature]
        np.testing.assert_allclose(values, wanted, **CLOSE)
    assert example.values[example.peak] == pytest.approx(example.value, rel=1e-6)


def test_windows_behind_demonstrations_begin_with_the_turn(made: Made) -> None:
    dense = Dense(made, "physics")
    gallery = open_gallery(made.gallery)
    earliest = set()
    for feature in range(tiny.FEATURES):
        for example in gallery.examples(feature):
            if (example.source, example.arm) == ("physics", "icl"):
                own = dense.ids[example.row]
                turn = own.index(dense.tokenizer.convert_tokens_to_ids("<|im_start|>"), 1)
                earliest.add(example.token - example.peak - turn)
    # What closes the turn before is the same in both arms: `<|im_end|>` and a line break.
    assert min(earliest) == -2


@pytest.mark.parametrize("source", ["target", "physics", "law"])
def test_the_top_and_the_histograms_are_the_engines_own(made: Made, source: str) -> None:
    gallery = open_gallery(made.gallery)
    dense = Dense(made, source)
    for feature in range(0, tiny.FEATURES, 3):
        engine = read_examples(made.result, feature)
        found = [e for e in gallery.examples(feature) if e.source == source]
        histograms, edges = gallery.histograms(feature)
        for arm in ("base", "icl"):
            theirs = engine[(engine["set"] == source) & (engine["arm"] == arm)].set_index(["band", "rank"])
            mine = [e for e in found if e.arm == arm]
            assert len(mine) == len(theirs)
            for e in mine:
                line = theirs.loc[(e.band, e.rank)]
                assert (e.row, dense.pooled[e.row].index(e.token)) == (line["row"], line["token"])
                assert e.value == line["value"]
        for line in histograms[histograms["source"] == source].itertuples():
            column = dense.tokens(line.arm)[1][:, feature]
            counts = np.histogram(column[column > 0], [0, *edges[1:], np.inf])[0]
            assert abs(counts - line.counts).sum() <= 2
            assert line.seen == len(column)


def test_texts_beside_the_sets_are_read_in_the_base_arm_and_the_runs(made: Made) -> None:
    gallery, tokenizer = open_gallery(made.gallery), AutoTokenizer.from_pretrained(made.world.model)
    documents = [part.strip() for part in made.corpus.read_text().split("\n\n\n")]
    source = next(source for source in gallery.manifest["sources"] if source["name"] == "prose")
    assert source["arms"] == ["base", "run"]
    assert 150 <= source["tokens"] < 150 + 512
    decoder, sae = load_decoder(find_model(str(made.world.model)), 1, "cpu", "float32"), find_sae(str(made.world.sae))
    seen = 0
    for feature in range(0, tiny.FEATURES, 9):
        for example in gallery.examples(feature):
            if example.source != "prose" or example.arm != "base":
                continue
            text = "".join(example.texts)
            document = next(document for document in documents if text in document)
            ids = tokenizer(document, add_special_tokens=False)["input_ids"]
            values = encode(load_sae(sae, "cpu", "float32"), decoder.residuals([ids])[0])[:, feature].numpy()
            start = example.token - example.peak
            np.testing.assert_allclose(example.values, values[start : start + len(example.values)], **CLOSE)
            assert set(example.others) == {"run"}
            seen += 1
    assert seen > 20


def test_a_list_of_features_gives_what_all_give(made: Made, tmp_path: Path) -> None:
    out = make_gallery(made.result, WISH._replace(features=(7, 3, 40)), tmp_path / "some")
    some, every = open_gallery(out), open_gallery(made.gallery)
    for feature in (3, 7, 40):
        wanted = [e for e in every.examples(feature) if e.source != "prose" and e.arm != "run"]
        assert some.examples(feature)
        for mine, theirs in zip(some.examples(feature), wanted, strict=True):
            assert mine._replace(others={}) == theirs._replace(others={})
    with pytest.raises(UserError, match="not among those"):
        some.examples(4)


def test_shards_of_other_batches_give_the_same(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_BATCH_TOKENS", {"cpu": 60})
    out = make_gallery(made.result, WISH, tmp_path / "other")
    other, every = open_gallery(out), open_gallery(made.gallery)
    for feature in range(0, tiny.FEATURES, 11):
        wanted = [e for e in every.examples(feature) if e.source != "prose" and e.arm != "run"]
        found = other.examples(feature)
        np.testing.assert_allclose([e.value for e in found], [e.value for e in wanted], **CLOSE)


def test_a_stopped_making_goes_on_with_the_source_it_was_at(made: Made, tmp_path: Path) -> None:
    stages: list[str] = []

    def stop(step: Progress) -> None:
        if step.stage == "reading around what fires in physics":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_gallery(made.result, WISH, tmp_path / "out", stop)
    assert not (tmp_path / "out").exists()
    make_gallery(made.result, WISH, tmp_path / "out", lambda step: stages.append(step.stage))
    assert "looking at target" not in stages
    assert "looking at physics" in stages
    make_gallery(made.result, WISH, tmp_path / "whole")
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.parquet")} for name in ("out", "whole")
    ]
    assert files[0] == files[1]
    assert {path.name for path in tmp_path.iterdir()} == {"out", "whole"}
    # The same wish is there already: nothing is computed.
    make_gallery(made.result, WISH, tmp_path / "out", lambda step: pytest.fail(f"computed: {step}"))


def test_another_gallery_is_not_written_over(made: Made, tmp_path: Path) -> None:
    make_gallery(made.result, WISH._replace(features=(1,)), tmp_path / "out")
    with pytest.raises(UserError, match="another gallery"):
        make_gallery(made.result, WISH._replace(features=(2,)), tmp_path / "out")
    make_gallery(made.result, WISH._replace(features=(2,)), tmp_path / "out", fresh=True)
    assert open_gallery(tmp_path / "out").holds(2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for theirs in (tmp_path / "mine", made.result):
        with pytest.raises(UserError, match="other things"):
            make_gallery(made.result, WISH, theirs, fresh=True)
    (tmp_path / "out" / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="damaged gallery"):
        make_gallery(made.result, WISH._replace(features=(2,)), tmp_path / "out")
    make_gallery(made.result, WISH._replace(features=(2,)), tmp_path / "out", fresh=True)
    assert open_gallery(tmp_path / "out").examples(2)


def test_galleries_are_found_by_their_result(made: Made) -> None:
    assert gallery_of(made.result) is None
    some = make_gallery(made.result, WISH._replace(features=(5, 6)))
    assert gallery_of(made.result) is None
    assert gallery_for(made.result, [6]) == some
    assert gallery_for(made.result, [6, 8]) is None
    law = make_gallery(made.result, WISH._replace(features=(8,), sets=("law",)))
    assert gallery_for(made.result, [8]) is None
    assert gallery_for(made.result, [8], ["law"]) == law
    every = make_gallery(made.result, WISH)
    assert gallery_of(made.result) == gallery_for(made.result, [8]) == every


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (Wish(features=(64,)), "no feature 64"),
        (Wish(features=()), "No feature"),
        (Wish(k=0), "k is 0"),
        (Wish(sets=("phisics",)), 'did you mean "physics"'),
        (Wish(sets=()), "nothing to read"),
        (Wish(runs={"icl": "x"}), "same name"),
        (Wish(runs={"r": "no such model"}), "no model"),
    ],
)
def test_what_cannot_be_made_is_told(made: Made, tmp_path: Path, wish: Wish, told: str) -> None:
    with pytest.raises(UserError, match=told):
        make_gallery(made.result, wish, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_has_changed_since_is_refused(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = made.world.folder / "physics.jsonl"
    before = data.read_bytes()
    try:
        data.write_bytes(before + b'{"question": "new", "answer": "1"}\n')
        with pytest.raises(UserError, match="data of physics"):
            make_gallery(made.result, WISH, tmp_path / "out")
    finally:
        data.write_bytes(before)


def test_a_result_of_another_machine_is_read_on_this_one(made: Made, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(made.result, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["spec"]["run"]["device"], manifest["spec"]["run"]["dtype"] = "cuda:3", "float16"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    out = make_gallery(copy, WISH._replace(features=(1,), sets=("law",)), tmp_path / "out")
    assert open_gallery(out).manifest["device"] == "cpu"
    assert isinstance(open_gallery(out), Gallery)
    assert Wish() == making.ALL
