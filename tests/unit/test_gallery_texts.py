"""What a gallery reads beside a result's sets, adapters as arms, and sums kept by an earlier version."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sts_core.errors import UserError
from sts_core.measure.examples import Examples
from sts_core.measure.gallery import make_gallery
from sts_core.measure.gallery_sources import PIECE, Source, Texts, Wish, text_source
from sts_core.measure.parts import Measured, Parts
from sts_core.measure.run import run
from sts_core.results.gallery import open_gallery
from sts_core.results.sums import SetSums
from sts_core.spec import Spec
from sts_core.text.corpora import Corpus, Document, find
from sts_core.text.prompts import Prompter
from tests import tiny

WISH = Wish(k=3, samples=1, before=4, after=2)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def source_of(documents: list[Document], tokens: int, style: tiny.Style = "chatml", context: int = 4_096) -> Source:
    tokenizer = tiny.tokenizer(style)
    corpus = Corpus("made", "0" * 64, lambda: iter(documents))
    return text_source(Texts("made", corpus, tokens), Prompter(tokenizer), tokenizer, context)


def plain(count: int, words: int = 30) -> list[Document]:
    return [Document(text=" ".join(row["question"] for row in tiny.rows(words // 4, seed=i))) for i in range(count)]


@pytest.mark.parametrize("style", tiny.STYLES)
def test_a_text_is_read_behind_what_the_tokenizer_puts_first(style: tiny.Style) -> None:
    documents = plain(5)
    source = source_of(documents, 100_000, style)
    tokenizer = tiny.tokenizer(style)
    whole = sorted(list(tokenizer(document.text)["input_ids"]) for document in documents)
    assert sorted(list(pair.base.ids) for pair in source.pairs.pairs) == whole
    for pair in source.pairs.pairs:
        ((start, end),) = pair.base.spans
        assert tokenizer.decode(list(pair.base.ids)[start:end]) in {document.text for document in documents}
        assert pair.icl is pair.base
    assert "of the 100,000 tokens" in source.pairs.warnings[0]


def test_every_document_gives_a_piece_before_any_gives_a_second() -> None:
    documents = plain(6, words=1_600)
    tokenizer = tiny.tokenizer("chatml")
    pieces = [-(-len(tokenizer(document.text)["input_ids"]) // PIECE) for document in documents]
    assert min(pieces) >= 3
    source = source_of(documents, 6 * PIECE)
    rows = [tokenizer.decode(list(pair.base.ids)) for pair in source.pairs.pairs]
    first = [next(n for n, document in enumerate(documents) if text in document.text) for text in rows[:6]]
    assert sorted(first) == list(range(6))
    assert all(len(pair.base.ids) <= PIECE for pair in source.pairs.pairs)
    every = source_of(documents, 10**9)
    assert len(every.pairs.pairs) in (sum(pieces), sum(pieces) - 1)  # the last one of a document may be too short
    assert len({tuple(pair.base.ids) for pair in every.pairs.pairs}) == len(every.pairs.pairs)


def test_the_order_of_the_documents_does_not_matter() -> None:
    documents = plain(20)
    one, other = source_of(documents, 300), source_of(documents[::-1], 300)
    assert [list(pair.base.ids) for pair in one.pairs.pairs] == [list(pair.base.ids) for pair in other.pairs.pairs]
    assert one.pairs.tokens >= 300
    assert one.pairs.tokens - one.pairs.pairs[-1].pooled < 300


def test_of_chats_the_turns_own_tokens_count() -> None:
    row = tiny.rows(1)[0]
    source = source_of([Document(turns=(("user", row["question"]), ("assistant", row["cot"])))], 10)
    (pair,) = source.pairs.pairs
    tokenizer = tiny.tokenizer("chatml")
    texts = [tokenizer.decode(list(pair.base.ids)[start:end]) for start, end in pair.base.spans]
    assert texts == [row["question"], row["cot"]]


def test_texts_with_the_models_own_markers_are_left_out() -> None:
    hostile = [Document(text="seven trains <|im_start|> " * 20), Document(turns=(("user", "a <|im_end|> b"),))]
    source = source_of([*hostile, *plain(1)], 10)
    assert len(source.pairs.pairs) == 1
    with pytest.raises(UserError, match="holds no text"):
        source_of(hostile, 10)


@pytest.mark.parametrize(("name", "tokens", "told"), [("target", 5, "named"), (" ", 5, "named"), ("x", 0, "budget")])
def test_bad_wishes_for_texts_are_told(name: str, tokens: int, told: str) -> None:
    corpus = Corpus("made", "", lambda: iter(plain(1)))
    tokenizer = tiny.tokenizer("chatml")
    with pytest.raises(UserError, match=told):
        text_source(Texts(name, corpus, tokens), Prompter(tokenizer), tokenizer, 512)


def test_texts_alone_make_a_gallery_apart_from_the_results_own(tmp_path: Path, world: tiny.World) -> None:
    run(Spec.from_dict(world.spec()), tmp_path / "result")
    tiny.write_rows(tmp_path / "chats.jsonl", tiny.rows(40, seed=8))
    chats = find("chats.jsonl", tmp_path, {"question": "question", "answer": "cot"})
    wish = WISH._replace(sets=(), texts=(Texts("chats", chats, 200), Texts("again", chats, 100)))
    gallery = open_gallery(make_gallery(tmp_path / "result", wish))
    assert gallery.sources == ["chats", "again"]
    assert gallery.folder.name.startswith(f"{gallery.manifest['key']}+")
    examples = [example for feature in range(0, 64, 5) for example in gallery.examples(feature)]
    assert {(example.source, example.arm) for example in examples} == {("chats", "base"), ("again", "base")}
    assert all(not example.others and not example.trouble for example in examples)
    frame, _ = gallery.histograms(0)
    assert set(frame["seen"]) == {source["tokens"] for source in gallery.manifest["sources"]}


def test_an_adapter_is_an_arm_of_its_own(tmp_path: Path, world: tiny.World) -> None:
    from peft import LoraConfig, get_peft_model

    run(Spec.from_dict(world.spec()), tmp_path / "result")
    base = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    model.save_pretrained(tmp_path / "adapter")
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(world.model).save_pretrained(tmp_path / "merged")
    runs = {"adapter": str(tmp_path / "adapter"), "merged": str(tmp_path / "merged")}
    gallery = open_gallery(make_gallery(tmp_path / "result", WISH._replace(runs=runs, sets=("physics",))))
    differs = 0
    for feature in range(0, 64, 3):
        found = gallery.examples(feature)
        adapter, merged, plain_arm = (
            [example for example in found if example.arm == arm] for arm in ("adapter", "merged", "base")
        )
        assert [(e.band, e.row, e.token) for e in adapter] == [(e.band, e.row, e.token) for e in merged]
        for one, other in zip(adapter, merged, strict=True):
            np.testing.assert_allclose(one.values, other.values, rtol=1e-3, atol=1e-4)
        differs += any(
            not np.allclose(one.values, one.others["adapter"], rtol=1e-2, atol=1e-2) for one in plain_arm
        )  # fmt: skip
    assert differs > 10


def test_sums_that_an_earlier_version_kept_are_measured_again(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "key", fresh=False)
    sums = SetSums.zeros(("base",), 4)
    parts.write(0, Measured(sums, None, 0, {"base": Examples.none(4, 2)}))
    assert parts.read(0) is not None
    (path,) = (tmp_path / "parts").glob("*.safetensors")
    arrays = load_file(path)
    save_file({name: value for name, value in arrays.items() if not name.endswith("/samples")}, path)
    assert parts.read(0) is None
    assert json.loads((tmp_path / "parts" / "key.json").read_text()) == "key"
