"""Labels from a finished result to the table, on a tiny model against dense computation; resume, re-score, commands."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from sts_core import cli, folders
from sts_core.cli import labelling
from sts_core.errors import UserError
from sts_core.judge import held_out
from sts_core.judge import order as order_module
from sts_core.judge.chat import Answer, ChatJudge
from sts_core.judge.held_out import read_held_out
from sts_core.judge.order import LabelOrder, chosen_features, label_result, rescore
from sts_core.judge.shown import label_gallery, strongest
from sts_core.measure.gallery_sources import Texts, text_source
from sts_core.measure.run import run
from sts_core.nets.describe import find_model, find_sae
from sts_core.nets.saes import encode, load_sae
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.results.folder import Result
from sts_core.results.labels import labels_of, read_labels, rescored_of, set_label
from sts_core.spec import Spec
from sts_core.text.label_corpora import label_corpora, target_texts
from sts_core.text.prompts import Prompter
from tests import tiny

LAYER, TOKENS = 1, 400
WINDOW = 2
"""A feature of the tiny dictionary fires on about half of all tokens: longer windows were hardly ever silent."""
NAMES = ("odd", "even", "mixed")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def measured(world: tiny.World, own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A finished result, and three corpora of unlike words beside it."""
    monkeypatch.setattr(folders, "DEMO", tmp_path / "demo")
    monkeypatch.setattr(held_out, "WINDOW", WINDOW)
    words = ("apple river seven", "QUERY {} ; 0x7f", "the of and therefore")
    for number, name in enumerate(NAMES):
        texts = [f"{words[number]} {tiny.sentence(random.Random(i), 9)} {i}" for i in range(120)]
        tiny.write_rows(world.folder / f"{name}.jsonl", ({"text": text} for text in texts))
    return run(Spec.from_dict(world.spec()), world.folder / "result").folder


def corpora_of(world: tiny.World) -> dict[str, str]:
    return {name: str(world.folder / f"{name}.jsonl") for name in NAMES}


def ordered(world: tiny.World, measured: Path, **more: Any) -> LabelOrder:
    names = tuple(f"{name}={path}" for name, path in corpora_of(world).items())
    return LabelOrder(str(measured), labels=names, tokens=TOKENS, **more)


def dense(model: Path, world: tiny.World, prompts: list[tuple[list[int], int]]) -> list[np.ndarray]:
    """Features [tokens, features] of each prompt from the place given on, by the whole model."""
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager").eval()
    sae = load_sae(find_sae(str(world.sae)), "cpu", "float32")
    found = []
    with torch.inference_mode():
        for ids, first in prompts:
            hidden = whole(torch.tensor([ids]), output_hidden_states=True).hidden_states[LAYER + 1][0]
            found.append(encode(sae, hidden[first:]).numpy())
    return found


def test_provenance_is_the_majority_corpus_of_the_ten_strongest_tokens(world: tiny.World, measured: Path) -> None:
    done = label_result(ordered(world, measured, check=False))
    result = Result(measured)
    model, sae = find_model(str(world.model)), find_sae(str(world.sae))
    prompter, tokenizer = Prompter(load_tokenizer(model)), load_tokenizer(model)
    most = result.manifest["outlier_norm"]
    strongest_tokens: list[list[tuple[float, str]]] = [[] for _ in range(tiny.FEATURES)]
    whole = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32, attn_implementation="eager").eval()
    dictionary = load_sae(sae, "cpu", "float32")
    for corpus in label_corpora(corpora_of(world), target_texts(result.manifest)):
        pairs = text_source(Texts(corpus.name, corpus, TOKENS), prompter, tokenizer, model.context).pairs
        assert TOKENS <= pairs.tokens < TOKENS + 80
        for pair in pairs.pairs:
            with torch.inference_mode():
                hidden = whole(torch.tensor([list(pair.base.ids)]), output_hidden_states=True)
            ((start, end),) = pair.base.spans
            stream = hidden.hidden_states[LAYER + 1][0][start:end]
            stream = stream if most is None else stream[stream.norm(dim=-1) <= most]
            for feature, column in enumerate(encode(dictionary, stream).numpy().T):
                strongest_tokens[feature] += [(float(v), corpus.name.removeprefix("labels/")) for v in column if v > 0]
    table = {label.feature: label for label in read_labels(done.sae, done.model, "provenance")}
    assert set(table) == set(chosen_features(result, ordered(world, measured)))
    several = set()
    for feature, label in table.items():
        values = sorted(strongest_tokens[feature], reverse=True)
        if len(values) > 10 and values[9][0] - values[10][0] < 1e-5:
            continue  # rounding may decide who is the tenth
        counts = Counter(name for _, name in values[:10])
        first = counts.most_common(2)
        tie = len(first) > 1 and first[0][1] == first[1][1]
        assert label.label == (None if tie or not first else first[0][0]), (feature, counts)
        assert json.loads(label.evidence)["of"] == sum(counts.values())
        several.add(label.label)
    assert len(several) >= 3
    assert done.counts.labelled + done.counts.not_a_label == len(table)


def test_held_out_windows_hold_each_features_strongest_value(world: tiny.World, measured: Path) -> None:
    model, sae = find_model(str(world.model)), find_sae(str(world.sae))
    aside = label_corpora(corpora_of(world), held_out=True)
    features = [5, 0, 63]
    found = read_held_out(model, sae, aside, features, "cpu", "float32", tokens_each=150)
    assert {window.source for window in found.windows} == set(NAMES)
    prompter = Prompter(load_tokenizer(model))
    wanted, texts = [], []
    for corpus in aside:
        for row, document in enumerate(corpus.documents()):
            if not any(w.source == corpus.name.removeprefix("labels/") and w.row == row for w in found.windows):
                continue
            prompt = prompter.prompt([document.turns[0][1]], pooled=1)
            ((start, end),) = prompt.spans
            (values,) = dense(world.model, world, [(list(prompt.ids), start)])
            values = values[: end - start]
            wanted += [values[at : at + WINDOW, features].max(axis=0) for at in range(0, len(values), WINDOW)]
            texts.append(document.turns[0][1])
    np.testing.assert_allclose(found.strongest, np.stack(wanted), rtol=1e-4, atol=1e-4)
    assert "".join("".join(window.texts) for window in found.windows) == "".join(texts)
    with pytest.raises(UserError, match="cannot be tested at once"):
        read_held_out(model, sae, aside, range(9_000), "cpu", "float32")


def test_detection_of_provenance_is_told_by_counting(world: tiny.World, measured: Path) -> None:
    done = label_result(ordered(world, measured))
    table = read_labels(done.sae, done.model, "provenance")
    model, sae = find_model(str(world.model)), find_sae(str(world.sae))
    result = Result(measured)
    aside = read_held_out(
        model, sae, label_corpora(corpora_of(world), target_texts(result.manifest), held_out=True),
        range(tiny.FEATURES), "cpu", "float32", most_norm=result.manifest["outlier_norm"],
    )  # fmt: skip
    tested = [label for label in table if math.isfinite(label.detection)]
    assert len(tested) >= 10
    for label in tested:
        fires = aside.strongest[:, label.feature] > 0
        own = np.array([window.source == label.label for window in aside.windows])
        assert label.detection == pytest.approx((own[fires].mean() + (~own[~fires]).mean()) / 2)
    assert all(label.label for label in tested)
    shown = labels_of(done.sae, done.model).set_index("feature")["detection"]
    assert shown[tested[0].feature] == tested[0].detection


class Talker:
    """Answers from a list, for ever the last; counts what it is asked."""

    name = "local:made"

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def say(self, prompt: str, opening: str = "") -> Answer:
        self.asked.append(prompt)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


@pytest.fixture
def talker(monkeypatch: pytest.MonkeyPatch) -> Talker:
    made = Talker(Answer("label: odd\nwhy: rivers", 100, 10))
    monkeypatch.setattr(order_module, "make_judge", lambda _order: (ChatJudge(made), []))
    return made


def test_what_was_asked_is_not_asked_again_after_a_kill(world: tiny.World, measured: Path, talker: Talker) -> None:
    asked = ordered(world, measured, judge="local", top=6, check=False, price=(1.0, 2.0))

    class Killed(BaseException):
        pass

    def kill(step: Any) -> None:
        if step.stage == "labelling" and step.done == 4:
            raise Killed

    with pytest.raises(Killed):
        label_result(asked, kill)
    assert len(talker.asked) == 4
    done = label_result(asked)
    assert len(talker.asked) == 6
    assert (done.counts.labelled, done.counts.before) == (2, 4)
    assert (done.counts.tokens_in, done.counts.tokens_out) == (200, 20)
    assert done.counts.cost == pytest.approx((200 * 1 + 20 * 2) / 1e6)
    assert label_result(asked).counts.before == 6
    other = LabelOrder(asked.result, "local", tuple(reversed(asked.labels)), top=6, check=False, tokens=TOKENS)
    assert label_result(other).counts.labelled == 6  # another question


def test_answers_that_are_none_are_counted_and_failures_are_asked_again(
    world: tiny.World, measured: Path, talker: Talker
) -> None:
    talker.answers = [Answer("who knows"), Answer("", trouble="cut"), Answer("label: even"), Answer("even")]
    asked = ordered(world, measured, judge="local", top=4, check=False)
    counts = label_result(asked).counts
    assert (counts.labelled, counts.not_a_label, counts.failed, counts.cost) == (2, 1, 1, None)
    counts = label_result(asked).counts
    assert (counts.labelled, counts.not_a_label, counts.failed, counts.before) == (1, 0, 0, 3)


def test_an_endpoint_that_keeps_failing_ends_the_work(world: tiny.World, measured: Path, talker: Talker) -> None:
    talker.answers = [Answer("label: even"), Answer("", trouble="status 500: down")]
    with pytest.raises(UserError, match=r"failed 5 times in a row: status 500: down"):
        label_result(ordered(world, measured, judge="local", top=20, check=False))
    assert len(talker.asked) == 6
    (only,) = read_labels(*revisions(measured), "local:made")
    assert only.label == "even"


def test_labels_that_stand_are_only_tested_when_that_is_asked_later(
    world: tiny.World, measured: Path, talker: Talker
) -> None:
    label_result(ordered(world, measured, judge="local", top=3, check=False))
    talker.answers = [Answer("1, 2, 3")]
    counts = label_result(ordered(world, measured, judge="local", top=3)).counts
    assert counts.before == 0
    assert not [prompt for prompt in talker.asked[3:] if "one of these labels" in prompt]
    assert len(talker.asked) > 3
    table = read_labels(*revisions(measured), "local:made")
    assert all(label.label == "odd" and label.explanation == "rivers" for label in table)
    assert all("detection" in json.loads(label.evidence) for label in table)
    so_far = len(talker.asked)
    assert label_result(ordered(world, measured, judge="local", top=3)).counts.before == 3
    assert len(talker.asked) == so_far


def test_judges_see_one_example_of_every_row_first(world: tiny.World, measured: Path) -> None:
    gallery = label_gallery(measured, label_corpora(corpora_of(world)), [0, 1], TOKENS)
    for feature in range(8):
        shown = strongest(gallery, NAMES)(feature).examples
        assert len(shown) <= 10
        assert {example.source for example in shown} <= set(NAMES)
        rows = [(e.source, e.row) for e in shown]  # type: ignore[attr-defined]
        different = len(set(rows))
        assert len(set(rows[:different])) == different
    assert label_gallery(measured, label_corpora(corpora_of(world)), [0, 1], TOKENS).folder == gallery.folder


def test_labels_are_tested_again_on_a_fine_tuned_model(world: tiny.World, measured: Path) -> None:
    done = label_result(ordered(world, measured))
    same = rescore(ordered(world, measured), str(world.model))
    assert same.features > 10
    assert (same.difference, same.before) == (0.0, same.after)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight) * weight.std().nan_to_num(1.0))
    model.save_pretrained(world.folder / "tuned")
    load_tokenizer(find_model(str(world.model))).save_pretrained(world.folder / "tuned")
    held = rescore(ordered(world, measured), str(world.folder / "tuned"))
    again = rescored_of(done.sae)
    again = again[again["model"] == find_model(str(world.folder / "tuned")).revision].set_index("feature")
    own = {label.feature: label.detection for label in read_labels(done.sae, done.model, "provenance") if label.label}
    both = [(own[f], d) for f, d in again["detection"].items() if math.isfinite(d) and math.isfinite(own[f])]
    assert held.features == len(both) > 5
    assert held.after == pytest.approx(np.mean([after for _, after in both]))
    assert held.difference == pytest.approx(np.mean([after - before for before, after in both]))
    assert held.difference != 0
    assert labels_of(done.sae, done.model).set_index("feature")["detection"].dropna().to_dict() == {
        f: d for f, d in own.items() if math.isfinite(d)
    }


def revisions(measured: Path) -> tuple[str, str]:
    resolved = Result(measured).manifest["resolved"]
    return resolved["sae"]["revision"], resolved["model"]["revision"]


def sts(*arguments: str) -> int:
    if "label" not in [command.name for command in cli._program.registered_commands]:
        labelling.add_to(cli._program)
    return cli.main(list(arguments))


def test_the_command_labels_changes_tells_and_exchanges(
    world: tiny.World, measured: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sae, _ = revisions(measured)
    names = ",".join(f"{name}={path}" for name, path in corpora_of(world).items())
    asked = ("label", str(measured), "--labels", names, "--tokens", str(TOKENS))
    assert sts(*asked, "--json") == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["judge"] == "provenance"
    assert counts["labelled"] > 10
    assert counts["failed"] == 0
    assert sts(*asked) == 0
    assert "labelled before" in capsys.readouterr().out
    assert sts("label", str(measured), "--labels", names, "--tables", "--json") == 0
    tables = json.loads(capsys.readouterr().out)
    assert {line["label"] for line in tables["share"]} == set(NAMES)
    assert tables["asked"] == tables["firing"]
    assert sts("label", str(measured), "--set", "3=my own", "--set", "4=<b>other</b>\x1b[31m") == 0
    assert "my own" in capsys.readouterr().out
    assert sts("label", str(measured), "--export", str(tmp_path / "all.csv")) == 0
    set_label(sae, 3, None)
    assert sts("label", str(measured), "--import", str(tmp_path / "all.csv")) == 0
    capsys.readouterr()
    table = labels_of(sae).set_index("feature")
    assert (table["label"][3], table["label"][4]) == ("my own", "<b>other</b>[31m")
    assert table["human"].sum() == 2
    assert sts(*asked, "--on", str(world.model), "--json") == 0
    assert json.loads(capsys.readouterr().out)["difference"] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "99999=x"], "There is no feature 99999"),
        (["--set", "x"], "is no FEATURE=LABEL"),
        (["--set", "1=a", "--tables"], "do not go together"),
        (["--feature", "99999"], "There is no feature 99999"),
        (["--tables"], "has labelled none"),
        (["--judge", "nobody"], "'nobody' is no judge"),
        (["--judge", "http://127.0.0.1:9/v1"], "model is not named"),
        (["--price", "much"], "is not two numbers"),
        (["--import", "none.json"], "cannot be read"),
        (["--on", "nothing-here"], "There is no model"),
    ],
)
def test_what_a_person_must_change_is_two_lines(
    world: tiny.World, measured: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    names = ",".join(f"{name}={path}" for name, path in corpora_of(world).items())
    assert sts("label", str(measured), "--labels", names, "--tokens", str(TOKENS), *arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()[-2:]
    assert said[0].startswith("error: ")
    assert told in said[0]
    assert said[1].startswith("hint: ")


def test_a_gallery_that_no_longer_serves_is_made_again(world: tiny.World, measured: Path) -> None:
    corpora = label_corpora(corpora_of(world))
    first = label_gallery(measured, corpora, [0, 1], TOKENS)
    told = first.folder / "manifest.json"
    manifest = json.loads(told.read_text())
    manifest["sources"][0]["sha256"] = "of another text"
    told.write_text(json.dumps(manifest))
    again = label_gallery(measured, corpora, [0, 1], TOKENS)
    assert again.folder == first.folder
    assert {s["name"]: s["sha256"] for s in again.manifest["sources"]} == {c.name: c.sha256 for c in corpora}
    assert again.examples(0)
