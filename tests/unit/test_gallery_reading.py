"""Reading galleries: text by reference, found fast among many features, damage and strangers told in plain words."""

from __future__ import annotations

import json
import shutil
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from sts_core import folders
from sts_core.errors import UserError
from sts_core.measure.examples import BINS, bin_edges
from sts_core.measure.gallery import make_gallery
from sts_core.measure.gallery_sources import Wish
from sts_core.measure.run import run
from sts_core.results.gallery import BANDS, gallery_of, open_gallery
from sts_core.results.gallery_files import Chosen, Part, Row, write_rows, write_tables
from sts_core.results.gallery_rows import ROWS, token_texts
from sts_core.spec import Spec
from tests import tiny

FEATURES, SOURCES = 131_072, 2
WISH = Wish(k=2, samples=1, before=5, after=3)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def embedded_spec(world: tiny.World) -> Spec:
    return Spec.from_dict(
        {
            "model": str(world.model), "sae": str(world.sae),
            "target": {"data": "gsm-symbolic", "demos": 1, "tokens": 150},
            "domains": [{"name": "physics", "data": "mmlu/physics", "demos": 1, "tokens": 150}],
            "run": {"device": "cpu", "dtype": "float32"},
        }
    )  # fmt: skip


@pytest.mark.parametrize("style", tiny.STYLES)
def test_rows_of_embedded_sets_are_kept_by_reference(tmp_path: Path, bundle_cache: Path, style: tiny.Style) -> None:
    (tmp_path / "world").mkdir()
    world = tiny.world(tmp_path / "world", style=style, max_position_embeddings=4096)
    run(embedded_spec(world), tmp_path / "result")
    gallery = open_gallery(make_gallery(tmp_path / "result", WISH))
    assert gallery_of(tmp_path / "result") == gallery.folder
    rows = pq.read_table(gallery.folder / ROWS).to_pandas()
    assert rows["ids"].isna().all()
    assert not (gallery.folder / "tokenizer.json").exists()
    tokenizer = AutoTokenizer.from_pretrained(world.model)
    lines = {
        "target": (folders.bundle() / "train" / "gsm-symbolic.jsonl").read_text().splitlines(),
        "physics": (folders.bundle() / "domains" / "physics.jsonl").read_text().splitlines(),
    }
    sources = set()
    for feature in range(0, tiny.FEATURES, 4):
        for example in gallery.examples(feature):
            record = json.loads(lines[example.source][example.row])
            question = "\n".join(
                [record["question"], *(f"{'ABCDEFGHIJ'[i]}. {o}" for i, o in enumerate(record.get("options", [])))]
            )
            own = whole_prompt(tokenizer, question)
            start = example.token - example.peak
            assert "".join(example.texts) == tokenizer.decode(own[start : start + len(example.texts)])
            assert example.trouble == ""
            sources.add(example.source)
    assert sources == {"target", "physics"}


def whole_prompt(tokenizer: object, question: str) -> list[int]:
    """The prompt as the model's own library makes it."""
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": question}]
        return list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False))
    return list(tokenizer(f"Question: {question}\nAnswer:")["input_ids"])


def test_a_row_whose_source_changed_is_told_and_not_shown(tmp_path: Path, bundle_cache: Path) -> None:
    (tmp_path / "world").mkdir()
    world = tiny.world(tmp_path / "world", max_position_embeddings=4096)
    run(embedded_spec(world), tmp_path / "result")
    folder = make_gallery(tmp_path / "result", WISH)
    real = (bundle_cache / "bundle").resolve()
    (bundle_cache / "bundle").unlink()
    shutil.copytree(real / "domains", bundle_cache / "bundle" / "domains")
    path = bundle_cache / "bundle" / "domains" / "physics.jsonl"
    path.write_bytes(path.read_bytes().replace(b"What", b"That", 1))
    gallery = open_gallery(folder)
    told = {}
    for feature in range(tiny.FEATURES):
        for example in gallery.examples(feature):
            assert example.texts == [""] * len(example.values)
            told[example.source] = example.trouble
    assert told["physics"] == "mmlu/physics has changed since this gallery was made."
    assert told["target"] == "gsm-symbolic is not on this machine: run `sts demo fetch`."


def synthetic(folder: Path, features: int, sources: int = SOURCES, lines: int = 2) -> Path:
    """A whole gallery of so many features: `lines` examples each in every source, in windows of 37 tokens."""
    folder.mkdir()
    words = [f"word{i}" for i in range(50)]
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="word0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    names = [f"set {i}" for i in range(sources)]
    count = features * lines
    feature = np.repeat(np.arange(features, dtype=np.int32), lines)
    some = np.zeros(count, np.int32)
    rank = np.tile(np.arange(1, lines + 1, dtype=np.int32), features)
    values = np.tile(np.arange(37, dtype=np.float32), (2, 1))[None]
    chosen = Chosen(
        feature, (some + rank % 2).astype(np.int8), some.astype(np.int8), rank, (feature % 977).astype(np.float32),
        (feature % 300).astype(np.int64), some + 24, some, some + 37, np.zeros(count, np.int64),
    )  # fmt: skip
    counts = np.zeros((2, features, BINS), np.int64)
    counts[:, :, 5] = 1 + np.arange(features) % 7
    part = Part("", ["base", "icl"], chosen, values, np.arange(features), counts, np.array([1_000, 1_000]), np.zeros(1))
    write_tables(folder, [part._replace(source=name) for name in names], bin_edges())
    write_rows(folder, [Row(name, row, [row % 50] * 40, None) for name in names for row in range(300)])
    told = [
        {"name": name, "data": "made.jsonl", "sha256": "", "file": "", "tokens": 1_000, "rows": 300} for name in names
    ]
    manifest = {"format": 1, "key": "made", "arms": ["base", "icl"], "sources": told, "features": features, "k": lines}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic(tmp_path_factory.mktemp("many") / "gallery", FEATURES)


def test_one_of_131072_features_is_found_at_once(many: Path) -> None:
    gallery = open_gallery(many)
    gallery.examples(0)
    gallery.histograms(0)
    took = []
    for feature in (5, 77_777, FEATURES - 1, 131, 65_536, 100_001, 9, 48_000):
        began = time.thread_time()
        found = gallery.examples(feature)
        frame, edges = gallery.histograms(feature)
        took.append(time.thread_time() - began)
        assert {(e.source, e.arm, e.rank) for e in found} == {
            (f"set {s}", arm, rank) for s in range(SOURCES) for arm, rank in (("icl", 1), ("base", 2))
        }
        assert all(e.value == feature % 977 and e.row == feature % 300 for e in found)
        assert all(e.values == list(range(37)) and "".join(e.texts).count(f"word{feature % 300 % 50}") for e in found)
        assert len(edges) == BINS
        assert [counts[5] for counts in frame["counts"]] == [1 + feature % 7] * 2 * SOURCES
    # Of this thread's own time, since others may be using the machine; 8 ms of it are needed.
    assert sorted(took)[len(took) // 2] < 0.05


def test_a_feature_lies_in_one_piece_of_each_file(many: Path) -> None:
    for name in ("examples.parquet", "histograms.parquet"):
        metadata = pq.read_metadata(many / name)
        told = [metadata.row_group(i).column(0).statistics for i in range(metadata.num_row_groups)]
        assert len(told) > 50
        assert all(a.max < b.min for a, b in pairwise(told))


@pytest.mark.parametrize("feature", [-1, FEATURES])
def test_a_feature_out_of_range_is_told(many: Path, feature: int) -> None:
    for ask in (open_gallery(many).examples, open_gallery(many).histograms):
        with pytest.raises(UserError, match="There is no feature") as told:
            ask(feature)
        assert "0 to 131071" in told.value.hint


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return synthetic(tmp_path / "gallery", 40)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "holds no gallery"),
        ("{", "cannot be read"),
        ("[1]", "is no gallery"),
        ('{"format": 1, "key": "x", "spec": {}}', "is no gallery"),
        ('{"format": 2, "sources": [], "arms": []}', "of format 2"),
    ],
)
def test_a_foreign_folder_is_refused(small: Path, content: str | None, told: str) -> None:
    (small / "manifest.json").unlink() if content is None else (small / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=told):
        open_gallery(small)


@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "other columns", "a folder"])
def test_a_damaged_table_is_told(small: Path, damage: str) -> None:
    for name in ("examples.parquet", "histograms.parquet"):
        path = small / name
        content = path.read_bytes()
        path.unlink()
        if damage == "a folder":
            path.mkdir()
        elif damage == "other columns":
            pq.write_table(pa.table({"feature": [1, 2, 3]}), path)
        elif damage != "gone":
            path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    gallery = open_gallery(small)
    for ask, name in ((gallery.examples, "examples"), (gallery.histograms, "histograms")):
        with pytest.raises(UserError, match=f"{name}.parquet in .* is gone or damaged"):
            ask(2)


def test_a_tokenizer_that_was_swapped_gives_no_text(small: Path) -> None:
    manifest = json.loads((small / "manifest.json").read_text())
    (small / "manifest.json").write_text(json.dumps(manifest | {"tokenizer_sha256": "0" * 64}))
    example = open_gallery(small).examples(1)[0]
    assert set(example.texts) == {""}
    assert "tokenizer" in example.trouble


def test_a_source_cannot_lead_out_of_the_bundle(small: Path, own_cache: Path) -> None:
    secret = own_cache / "secret.jsonl"
    secret.write_text('{"question": "secret"}\n' * 300)
    (small / ROWS).unlink()
    manifest = json.loads((small / "manifest.json").read_text())
    from sts_core.fingerprint import sha256_file

    for source in manifest["sources"]:
        source |= {"file": "../secret.jsonl", "sha256": sha256_file(secret)}
    manifest["prompt"] = {"pieces": ["", ""], "trims": False, "bos": None}
    (small / "manifest.json").write_text(json.dumps(manifest))
    example = open_gallery(small).examples(1)[0]
    assert "no set of the embedded bundle" in example.trouble


@pytest.mark.parametrize("style", tiny.STYLES)
def test_token_texts_joined_are_the_text(tmp_path: Path, style: tiny.Style) -> None:
    path = tmp_path / "tokenizer.json"
    tiny.tokenizer(style).backend_tokenizer.save(str(path))
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    for text in ("seven trains", "naïve 数学 🧮 ok", "a\n\n b\tc\x00\x1b[31m", "\u202eleft", "\ufffd", "🧮" * 5):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        texts = token_texts(tokenizer, ids)
        assert len(texts) == len(ids)
        assert "".join(texts) == text


def test_bands_are_named_alike_where_they_are_drawn_and_read() -> None:
    from sts_core.measure import examples

    assert examples.BANDS == BANDS
