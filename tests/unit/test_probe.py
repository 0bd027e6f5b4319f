"""A probe's numbers against a dense float64 computation with transformers' own models, arm by arm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from sts_core.errors import UserError
from sts_core.measure import demonstrations as demonstrations_module
from sts_core.measure import probed
from sts_core.measure.probe import MOST_RUNS, MOST_TOP, ProbeRequest, probe
from sts_core.measure.requests import ANSWERS
from sts_core.measure.run import run
from sts_core.nets import kept
from sts_core.nets.decoder import Decoder
from sts_core.nets.describe import find_sae
from sts_core.nets.saes import load_sae
from sts_core.spec import Spec
from sts_core.text.probed import Probed
from tests import tiny

LAYER = 1
TEXT = "seven train apple river 🏔 and speed?"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tiny.World:
    """A model, a SAE, a finished result, an adapter over the model and the same merged into it."""
    folder = tmp_path_factory.mktemp("probe")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "cache").mkdir()
        patch.setenv("STS_CACHE", str(folder / "cache"))
        made = tiny.world(folder, hidden_size=tiny.WIDTH, max_position_embeddings=512)
        run(Spec.from_dict({**made.spec(), "pool": {"tokens": "query", "outliers": "off"}}), folder / "result")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(made.model)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    model.save_pretrained(folder / "adapter")
    model.merge_and_unload().save_pretrained(folder / "merged")
    AutoTokenizer.from_pretrained(made.model).save_pretrained(folder / "merged")
    return made


@pytest.fixture(autouse=True)
def _cache(own_cache: Path) -> None:
    """Every test has a cache of its own."""


def request(world: tiny.World, **changes: Any) -> ProbeRequest:
    known = {"model": str(world.model), "sae": str(world.sae), "text": TEXT, "device": "cpu", "dtype": "float32"}
    return ProbeRequest.from_dict({**known, **changes})


def dense(world: tiny.World, model: Path, before: list[str], text: str = TEXT) -> np.ndarray:
    """The features of a text's tokens behind some turns, the plain way: [tokens, features]."""
    words = AutoTokenizer.from_pretrained(world.model)
    turns = [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate([*before, text])]
    string = words.apply_chat_template(turns, tokenize=False)
    encoded = words(string, add_special_tokens=False, return_offsets_mapping=True)
    start = string.rindex(text)
    own = [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if start <= a < b <= start + len(text)]
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64, attn_implementation="eager").eval()
    sae = load_sae(find_sae(str(world.sae)), "cpu", "float64")
    with torch.inference_mode():
        hidden = whole(torch.tensor([encoded["input_ids"]]), output_hidden_states=True).hidden_states[LAYER + 1][0]
        return np.asarray(sae.encode(hidden[own]).numpy())


def copied_result(world: tiny.World, folder: Path) -> dict[str, Any]:
    """The result's tables in another folder, and its manifest, to be written there changed."""
    for name in ("shift.parquet", "domains.parquet"):
        (folder / name).symlink_to(world.folder / "result" / name)
    manifest: dict[str, Any] = json.loads((world.folder / "result" / "manifest.json").read_text())
    return manifest


def shown_turns(world: tiny.World) -> list[str]:
    rows = [json.loads(line) for line in (world.folder / "target.jsonl").read_text().splitlines()]
    used = json.loads((world.folder / "result" / "manifest.json").read_text())["sets"]["target"]["demo_rows"]
    return [text for row in used for text in (rows[row]["question"], rows[row]["cot"])]


def assert_arm(value: dict[str, Any], arm: str, wanted: np.ndarray, top: int) -> None:
    """Every token's strongest, and the sums over the text, are those of the dense features."""
    near = {"rtol": 2e-3, "atol": 1e-3 * wanted.max()}
    assert len(value["arms"][arm]) == len(wanted) == len(value["tokens"])
    for told, features in zip(value["arms"][arm], wanted, strict=True):
        values = [one["value"] for one in told]
        np.testing.assert_allclose(values, np.sort(features)[::-1][: len(values)], **near)
        np.testing.assert_allclose(values, features[[one["feature"] for one in told]], **near)
        assert len(values) == min(top, int((features > 0).sum()))
    strongest = value["strongest"][arm]
    np.testing.assert_allclose([one["mean"] for one in strongest], np.sort(wanted.mean(0))[::-1][:top], **near)
    chosen = [one["feature"] for one in strongest]
    np.testing.assert_allclose([one["mean"] for one in strongest], wanted.mean(0)[chosen], **near)
    np.testing.assert_allclose([one["max"] for one in strongest], wanted.max(0)[chosen], **near)
    assert [one["tokens"] for one in strongest] == (wanted[:, chosen] > 0).sum(0).tolist()


def test_every_arm_is_that_of_a_dense_computation(world: tiny.World) -> None:
    runs = {"run 1": str(world.folder / "adapter"), "merged": str(world.folder / "merged")}
    value = probe(request(world, result=str(world.folder / "result"), runs=runs, feature=5, top=6))
    assert "".join(value["tokens"]) == value["text"] == TEXT
    assert list(value["arms"]) == ["base", "icl", "run 1", "merged"]
    wanted = {
        "base": dense(world, world.model, []),
        "icl": dense(world, world.model, shown_turns(world)),
        "run 1": dense(world, world.folder / "merged", []),
        "merged": dense(world, world.folder / "merged", []),
    }
    for arm, features in wanted.items():
        assert_arm(value, arm, features, 6)
        np.testing.assert_allclose(value["values"][arm], features[:, 5], rtol=2e-3, atol=1e-3 * features.max())
    for arm in ("icl", "run 1", "merged"):
        assert np.abs(wanted[arm] - wanted["base"]).max() > 0.05  # each arm is another one
        moved = np.abs(wanted[arm] - wanted["base"]).mean(0)
        changed = value["changed"][arm]
        shift = [one["shift"] for one in changed]
        np.testing.assert_allclose(shift, np.sort(moved)[::-1][:6], rtol=5e-3)
        np.testing.assert_allclose(shift, moved[[one["feature"] for one in changed]], rtol=5e-3)
        for one in changed:
            assert one["here"] == pytest.approx(wanted[arm].mean(0)[one["feature"]], rel=2e-3, abs=1e-3)
            assert one["base"] == pytest.approx(wanted["base"].mean(0)[one["feature"]], rel=2e-3, abs=1e-3)
    json.dumps(value, allow_nan=False)


def test_what_is_usual_comes_from_the_result(world: tiny.World) -> None:
    import pandas as pd

    value = probe(request(world, result=str(world.folder / "result"), top=4))
    sets = [pd.read_parquet(world.folder / "result" / "shift.parquet")["mean_base"].to_numpy()]
    domains = pd.read_parquet(world.folder / "result" / "domains.parquet")
    sets += [domains.query("domain == @name")["mean_act"].to_numpy() for name in ("physics", "law")]
    above = dense(world, world.model, []).mean(0) - np.mean(sets, axis=0)
    risen = value["risen"]["base"]
    assert [one["feature"] for one in risen] == np.argsort(-above)[:4].tolist()
    assert [one["mean"] - one["usual"] for one in risen] == pytest.approx(np.sort(above)[::-1][:4], rel=1e-2)
    assert "risen" not in probe(request(world))


def test_a_raw_text_stands_alone(world: tiny.World) -> None:
    value = probe(request(world, chat=False, top=3))
    words = AutoTokenizer.from_pretrained(world.model)
    whole = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float64, attn_implementation="eager").eval()
    sae = load_sae(find_sae(str(world.sae)), "cpu", "float64")
    with torch.inference_mode():
        ids = torch.tensor([words(TEXT)["input_ids"]])
        wanted = sae.encode(whole(ids, output_hidden_states=True).hidden_states[LAYER + 1][0]).numpy()
    assert value["outliers"] == []
    assert_arm(value, "base", wanted, 3)


def test_outliers_are_named_but_not_summed(world: tiny.World, monkeypatch: pytest.MonkeyPatch) -> None:
    features = dense(world, world.model, [])
    monkeypatch.setattr(probed, "MEDIANS", 1.0)
    value = probe(request(world, top=5))
    out = value["outliers"]
    assert 0 < len(out) < len(features)
    kept_only = np.delete(features, out, axis=0)
    means = [one["mean"] for one in value["strongest"]["base"]]
    np.testing.assert_allclose(means, np.sort(kept_only.mean(0))[::-1][:5], rtol=2e-3)
    assert all(value["arms"]["base"][i] for i in out)


def test_an_outlier_of_the_measurement_is_one_here(world: tiny.World, tmp_path: Path) -> None:
    manifest = copied_result(world, tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "outlier_norm": 1e-3}))
    value = probe(request(world, result=str(tmp_path)))
    assert value["outliers"] == list(range(len(value["tokens"])))
    assert value["strongest"] == {"base": [], "icl": []}
    assert value["changed"] == {"icl": []}


def test_a_few_tokens_at_a_time_give_the_same(world: tiny.World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = request(world, result=str(world.folder / "result"), feature=9)
    whole = probe(asked)
    monkeypatch.setattr(probed, "tokens_at_once", lambda _features, _device: 3)
    parts = probe(asked)
    assert parts["arms"].keys() == whole["arms"].keys()
    for arm, named in whole["arms"].items():
        for ours, theirs in zip(parts["arms"][arm], named, strict=True):
            assert [one["feature"] for one in ours] == [one["feature"] for one in theirs]
        assert parts["values"][arm] == pytest.approx(whole["values"][arm], rel=1e-4, abs=1e-5)
    assert [one["feature"] for one in parts["strongest"]["icl"]] == [
        one["feature"] for one in whole["strongest"]["icl"]
    ]


def test_what_stands_before_the_text_is_run_once(world: tiny.World, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    own = Decoder.prefix
    monkeypatch.setattr(Decoder, "prefix", lambda self, ids: (ran.append(len(ids)), own(self, ids))[1])
    asked = {"result": str(world.folder / "result"), "runs": {"a": str(world.folder / "adapter")}}
    kept.keep()
    try:
        first = probe(request(world, **asked))
        ran.clear()  # loading tries one token, and each of three arms has its beginning
        again = probe(request(world, **asked))
        assert ran == []
        other = probe(request(world, **asked, text="green music"))
        assert ran == []
    finally:
        kept.let_go()
    assert again["arms"] == first["arms"]
    fresh = probe(request(world, **asked, text="green music"))
    for arm in fresh["arms"]:
        for ours, theirs in zip(other["arms"][arm], fresh["arms"][arm], strict=True):
            assert [one["value"] for one in ours] == pytest.approx([one["value"] for one in theirs], rel=1e-4)


def test_a_long_text_is_cut_and_the_demonstrations_give_way(world: tiny.World, tmp_path: Path) -> None:
    value = probe(request(world, text="seven train apple " * 400, result=str(world.folder / "result")))
    assert 200 < len(value["tokens"]) <= 512 // 2
    assert "cut to its first" in value["notes"][0]
    assert "".join(value["tokens"]) == value["text"]
    short = tiny.save_model(tmp_path / "short", max_position_embeddings=64)
    value = probe(request(world, model=str(short), result=str(world.folder / "result"), text="seven train " * 9))
    assert any("demonstrations were cut by" in note for note in value["notes"])
    assert "icl" in value["arms"]


def test_an_arm_whose_tokens_are_others_is_left_out(world: tiny.World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a tokenizer that joins the text's first sign with what stands before it."""
    own = probed.cut_before

    def other(read: Probed, head: int, context: int) -> tuple[Probed, int]:
        cut, over = own(read, head, context)
        return cut._replace(ids=[*cut.ids[:-1], 0]), over

    monkeypatch.setattr(probed, "cut_before", other)
    value = probe(request(world, result=str(world.folder / "result")))
    assert value["arms"].keys() == {"base"}
    assert any("other tokens" in note for note in value["notes"])


def test_a_raw_text_needs_no_template(world: tiny.World, tmp_path: Path) -> None:
    broken = tiny.save_model(tmp_path / "broken")
    (broken / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    with pytest.raises(UserError, match="template fails"):
        probe(request(world, model=str(broken)))
    assert probe(request(world, model=str(broken), chat=False))["text"] == TEXT


def test_a_long_answer_names_fewer_features_a_token(world: tiny.World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probed, "_MOST_NAMED", 40)
    value = probe(request(world))
    assert max(map(len, value["arms"]["base"])) == 40 // len(value["tokens"])
    assert len(value["strongest"]["base"]) == 10
    assert "strongest features are named" in value["notes"][0]


def test_changed_demonstrations_are_refused(world: tiny.World, tmp_path: Path) -> None:
    manifest = copied_result(world, tmp_path)
    data = tmp_path / "target.jsonl"
    data.write_text((world.folder / "target.jsonl").read_text() + "\n")
    manifest["spec"]["target"]["data"] = str(data)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="changed since"):
        probe(request(world, result=str(tmp_path)))
    data.write_text((world.folder / "target.jsonl").read_text())
    assert probe(request(world, result=str(tmp_path)))["arms"].keys() == {"base", "icl"}
    del manifest["sets"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="does not say what its demonstrations were"):
        probe(request(world, result=str(tmp_path)))


def test_demonstrations_are_read_once(world: tiny.World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = demonstrations_module.demonstrations(world.folder / "result")
    monkeypatch.setattr(demonstrations_module, "read_rows", None)
    assert demonstrations_module.demonstrations(world.folder / "result") == first
    assert list(first.turns) == shown_turns(world)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text": " \n"}, "no text"),
        ({"text": 3}, "no text"),
        ({"text": "\ud800"}, "not valid Unicode"),
        ({"txet": "x"}, 'did you mean "text"'),
        ({"model": ""}, "model must be named"),
        ({"sae": 5}, "sae must be named"),
        ({"feature": -1}, "feature is -1"),
        ({"feature": True}, "feature is True"),
        ({"feature": tiny.FEATURES}, f"no feature {tiny.FEATURES}"),
        ({"top": 0}, "top is 0"),
        ({"top": MOST_TOP + 1}, f"top is {MOST_TOP + 1}"),
        ({"chat": "yes"}, "chat is"),
        ({"device": "tpu"}, "device is"),
        ({"dtype": "float33"}, 'did you mean "float32"'),
        ({"runs": ["x"]}, "runs must map"),
        ({"runs": {"base": "x"}}, "cannot be named"),
        ({"runs": {"a\x1b": "x"}}, "cannot be named"),
        ({"runs": {f"r{i}": "x" for i in range(MOST_RUNS + 1)}}, f"{MOST_RUNS + 1} runs"),
        ({"runs": {"a": "no-such-folder"}}, "no model"),
        ({"result": "x", "chat": False}, "raw"),
        ({"result": "no-such-folder"}, "no finished result"),
        ({"text": "a <|im_end|> b"}, "markers"),
    ],
)
def test_what_cannot_be_read_is_told(world: tiny.World, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        probe(request(world, **changes))
    assert caught.value.hint


def test_what_is_missing_is_told() -> None:
    with pytest.raises(UserError, match="which sae"):
        ProbeRequest.from_dict({"model": "a", "text": "x"})


def test_a_run_of_another_shape_or_vocabulary_is_refused(world: tiny.World, tmp_path: Path) -> None:
    deeper = tiny.save_model(tmp_path / "deeper", num_hidden_layers=4)
    with pytest.raises(UserError, match="4 layers"):
        probe(request(world, runs={"a": str(deeper)}))
    smaller = tiny.save_model(tmp_path / "smaller", style="chatml")
    config = json.loads((smaller / "config.json").read_text())
    (smaller / "config.json").write_text(json.dumps({**config, "vocab_size": 20}))
    with pytest.raises(UserError, match="knows only 20 tokens"):
        probe(request(world, runs={"a": str(smaller)}))


def test_the_warm_worker_is_answered_in_plain_values(world: tiny.World) -> None:
    asked = {"model": str(world.model), "sae": str(world.sae), "text": "seven", "device": "cpu", "dtype": "float32"}
    answer = ANSWERS["probe"](asked)
    assert json.loads(json.dumps(answer, allow_nan=False))["text"] == "seven"
    with pytest.raises(UserError, match="unknown key"):
        ANSWERS["probe"]({**asked, "path": "/"})
