"""Our own scorer against the plain way: float64, one row at a time, all logits, with none of the product's code."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sts_core.errors import UserError
from sts_core.results.outcomes.rows import Score, changes, read_rows
from sts_core.train.evaluation import evaluate as evaluating
from sts_core.train.evaluation import scoring
from sts_core.train.evaluation.evaluate import evaluate, evaluate_live
from sts_core.train.evaluation.preparing import prepare
from sts_core.train.evaluation.sets import EvalSet, Question
from sts_core.train.evaluation.spec import METRICS
from tests import tiny

OPTIONS = ("a green train", "the river", "seven stones and a cloud", "winter")


def choice(number: int, gold: str, options: tuple[str, ...] = OPTIONS) -> Question:
    text = tiny.rows(40, seed=7)[number]["question"]
    lines = [f"{letter}. {option}" for letter, option in zip("ABCDEFGH", options, strict=False)]
    return Question(number, "\n".join([text, *lines]), gold, options)


def free(number: int, words: int) -> Question:
    row = tiny.rows(40, seed=8)[number]
    return Question(number, row["question"], " ".join(["apple stone"] * words))


def some_sets() -> list[EvalSet]:
    """Questions of unequal length with options, free ones, and a set with demonstrations."""
    physics = tuple(choice(n, "ABCD"[n % 4], OPTIONS[n % 2 :] + OPTIONS[: n % 2]) for n in range(9))
    target = tuple(free(n, 1 + 4 * (n % 3)) for n in range(7))
    shown = (choice(20, "B").text, "B", choice(21, "D").text, "D")
    return [EvalSet("physics", physics), EvalSet("target", target), EvalSet("law", physics[:3], shown)]


class Plain:
    """The same measures, straight from their definitions."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")

    def logps(self, turns: list[str], answer: str) -> tuple[list[float], list[bool]]:
        """ln p of each answer token, and whether it is the likeliest."""
        texts = [*turns, answer]
        if self.tokenizer.chat_template:
            messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
            string = self.tokenizer.apply_chat_template(messages, tokenize=False)
            begin = string.rindex(answer)
        else:
            pairs = zip(texts[::2], texts[1::2], strict=True)
            string = "\n\n".join(f"Question: {asked}\nAnswer: {said}" for asked, said in pairs)
            begin = len(string) - len(answer)
        # What follows the answer (the turn's end) is cut off as a string, once it is known where it lies.
        string = string[: begin + len(answer)]
        encoded = self.tokenizer(string, add_special_tokens=False, return_offsets_mapping=True)
        ids, first = encoded["input_ids"], min(i for i, (_, b) in enumerate(encoded["offset_mapping"]) if b > begin)
        bos = self.tokenizer.bos_token_id
        if bos is not None and self.tokenizer("x")["input_ids"][0] == bos and ids[0] != bos:
            ids, first = [bos, *ids], first + 1
        with torch.no_grad():
            table = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        found = [(float(table[i - 1, ids[i]]), int(table[i - 1].argmax()) == ids[i]) for i in range(first, len(ids))]
        return [value for value, _ in found], [top for _, top in found]

    def values(self, one: EvalSet, question: Question) -> dict[str, float]:
        turns = [*one.demos, question.text]
        gold, top = self.logps(turns, question.gold)
        values = {"nll": -sum(gold) / len(gold), "first_choice": sum(top) / len(top)}
        if question.options:
            each = {letter: sum(self.logps(turns, letter)[0]) for letter in question.letters}
            values["accuracy"] = float(max(each, key=lambda letter: each[letter]) == question.gold)
            values["nll_choice"] = math.log(sum(math.exp(one) for one in each.values())) - each[question.gold]
            words = self.logps(turns, question.gold_text)[0]
            values["nll_text"] = -sum(words) / len(words)
        return values


CASES = [
    ("llama", "chatml"), ("llama", "llama3"), ("qwen2", "chatml"), ("gemma2", "gemma"), ("gpt2", "plain"),
    ("gpt_neox", "plain"), ("llama", "plain-bos"), ("llama", "one letter merged"),
]  # fmt: skip


def tokenizer(style: str) -> Any:
    """One of the tiny ones; or one that takes the blank before an answer into the letter A and into no other."""
    if style != "one letter merged":
        return tiny.tokenizer(style)  # type: ignore[arg-type]
    words = tiny.tokenizer("plain")
    words.add_tokens([" A"])
    return words


@pytest.mark.parametrize(("family", "style"), CASES)
def test_the_dense_way_gives_the_same(tmp_path: Path, family: Any, style: Any) -> None:
    """Every row and metric to 1e-5 (of its size, above 1), through a folder and in float32.

    Gemma's capped logits and windows included.
    """
    words, changes = tokenizer(style), {"final_logit_softcapping": 3.0} if family == "gemma2" else {}
    folder = tmp_path / "model"
    tiny.model(family, vocabulary=len(words), **changes).save_pretrained(folder)
    words.save_pretrained(folder)
    sets, plain = some_sets(), Plain(tmp_path / "model")
    told = evaluate(str(folder), sets, tmp_path, "cpu", "float32", metrics=METRICS)
    frame = read_rows(tmp_path).set_index(["set", "row", "metric"])["value"]
    expected = {
        (one.name, question.row, metric): value
        for one in sets
        for question in one.questions
        for metric, value in plain.values(one, question).items()
    }
    assert set(frame.index) == set(expected)
    for key, value in expected.items():
        assert frame[key] == pytest.approx(value, abs=1e-5, rel=1e-5), key
    nll = next(score for score in told if (score.set, score.metric) == ("target", "nll"))
    rows = [value for (name, _, metric), value in expected.items() if (name, metric) == ("target", "nll")]
    assert nll.value == pytest.approx(sum(rows) / 7, abs=1e-5)
    spread = math.sqrt(sum((v - sum(rows) / 7) ** 2 for v in rows) / 6 / 7)
    assert nll.se == pytest.approx(spread, abs=1e-5)
    assert nll.n == 7


def test_letters_are_read_in_one_pass_or_each_alone() -> None:
    """Both ways occur among the styles above, so both are held against the dense way; the first is the cheap one."""
    for style, pieces in {"chatml": 1, "plain": 2, "one letter merged": 5}.items():
        prepared = prepare(some_sets()[:1], tokenizer(style), 256, METRICS)
        assert {len(one.pieces) for one in prepared.asked["physics"]} == {pieces}, style


def test_the_size_of_a_batch_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of one row, of a few, of all; and answers longer than the logits that are held at once."""
    model, words = tiny.model("llama", vocabulary=len(tiny.tokenizer("chatml"))), tiny.tokenizer("chatml")
    found = []
    for tokens, logits in ((1, 2**26), (3 * 80, 2**26), (16 * 200, 2**26), (16 * 200, 5 * len(words))):
        monkeypatch.setitem(scoring._BATCH_TOKENS, "cpu", tokens)
        monkeypatch.setitem(scoring._BATCH_LOGITS, "cpu", logits)
        found.append(evaluate_live(model, words, some_sets(), metrics=METRICS))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert one[:2] == two[:2]
            assert one.value == pytest.approx(two.value, abs=1e-5)


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    model, words = tiny.model("llama", vocabulary=len(tiny.tokenizer("chatml"))), tiny.tokenizer("chatml")
    whole = evaluate_live(model, words, some_sets())
    forward, sizes = model.forward, []

    def small(input_ids: torch.Tensor, **others: Any) -> Any:
        sizes.append(input_ids.numel())
        if input_ids.numel() > 300:
            raise torch.OutOfMemoryError("too much")
        return forward(input_ids=input_ids, **others)

    monkeypatch.setattr(model, "forward", small)
    assert [s.value for s in evaluate_live(model, words, some_sets())] == pytest.approx([s.value for s in whole])
    assert max(sizes) > 300
    monkeypatch.setattr(model, "forward", lambda **_: (_ for _ in ()).throw(torch.OutOfMemoryError("none")))
    with pytest.raises(UserError, match="does not fit the memory"):
        evaluate_live(model, words, some_sets())


def test_only_the_answers_places_reach_the_head() -> None:
    """The whole [tokens, vocabulary] array is never made."""
    words = tiny.tokenizer("chatml")
    model, seen = tiny.model("llama", vocabulary=len(words)), []
    model.lm_head.register_forward_hook(lambda _module, _inputs, out: seen.append(tuple(out.shape)))
    evaluate_live(model, words, some_sets()[:1])
    assert sum(places for _, places, _ in seen) == 9


def test_a_live_model_is_left_as_it_was() -> None:
    """Its mode, part by part, and the random state."""
    words = tiny.tokenizer("chatml")
    model = tiny.model("llama", vocabulary=len(words), attention_dropout=0.5)
    model.train()
    model.model.layers[1].eval()
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    first = evaluate_live(model, words, some_sets())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert evaluate_live(model, words, some_sets()) == first
    assert not model.lm_head._forward_pre_hooks


def test_an_adapter_is_evaluated_over_its_base(tmp_path: Path) -> None:
    """Before and after lie in one file; the change is taken row by row."""
    from peft import LoraConfig, get_peft_model

    base = tiny.save_model(tmp_path / "base")
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"]))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(3))
    tuned.save_pretrained(tmp_path / "adapter")
    before = evaluate(str(base), some_sets(), tmp_path, "cpu", "float32")
    after = evaluate(str(tmp_path / "adapter"), some_sets(), tmp_path, "cpu", "float32", phase="after")
    live = evaluate_live(tuned, tiny.tokenizer("chatml"), some_sets())
    assert [s.value for s in after] == pytest.approx([s.value for s in live], abs=1e-6)
    paired = {(c.set, c.metric): c for c in changes(read_rows(tmp_path))}
    assert len(paired) == 5  # two sets have options, one has none
    for old, new in zip(before, after, strict=True):
        change = paired[old.set, old.metric]
        assert (change.before, change.after, change.n) == pytest.approx((old.value, new.value, old.n))
        assert change.change == pytest.approx(new.value - old.value)
    assert abs(paired["target", "nll"].change) > 1e-3


def test_a_model_that_was_scored_before_is_not_scored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STS_CACHE", str(tmp_path / "cache"))
    model = str(tiny.save_model(tmp_path / "model"))
    sets = some_sets()

    def told(which: list[EvalSet], **more: Any) -> tuple[list[Score], bool]:
        """The scores, and whether a model was loaded for them."""
        loaded: list[int] = []
        real = evaluating.load_language_model
        with monkeypatch.context() as patch:
            patch.setattr(evaluating, "load_language_model", lambda *a: loaded.append(1) or real(*a))
            return evaluate(model, which, None, "cpu", **{"dtype": "float32", "remember": True} | more), bool(loaded)

    first, loaded = told(sets[:1])
    assert loaded
    assert told(sets[:1]) == (first, False)
    assert told(sets) == (evaluate(model, sets, None, "cpu", "float32"), True)  # the rest is scored, and only that
    assert told(sets) == (evaluate(model, sets, None, "cpu", "float32"), False)
    assert told(sets, metrics=METRICS)[1]
    shorter = sets[0]._replace(questions=sets[0].questions[1:])
    assert told([shorter]) == (evaluate(model, [shorter], None, "cpu", "float32"), True)
    other = tiny.save_model(tmp_path / "other", seed=1)
    (tmp_path / "model" / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    changed, loaded = told(sets[:1])
    assert loaded
    assert changed != first


def test_bfloat16_is_near(tmp_path: Path) -> None:
    """And the head's part of it is exact: the likelihoods are float32's of the rounded weights and states."""
    folder = str(tiny.save_model(tmp_path / "model"))
    wide, narrow = (evaluate(folder, some_sets(), None, "cpu", dtype) for dtype in ("float32", "bfloat16"))
    for one, two in zip(wide, narrow, strict=True):
        if one.metric == "nll":
            assert two.value == pytest.approx(one.value, abs=0.1)
    assert wide != narrow
    words = tiny.tokenizer("chatml")
    model, seen = tiny.model("llama", vocabulary=len(words)).bfloat16(), []
    model.lm_head.register_forward_hook(lambda _module, inputs, out: seen.append((inputs[0], out)))
    evaluate_live(model, words, some_sets())
    for hidden, logits in seen:
        exact = hidden.double() @ model.lm_head.weight.double().T
        assert logits.dtype == torch.float32
        assert torch.allclose(logits.double(), exact, atol=1e-4)
    assert "forward" not in vars(model.lm_head)


def test_ties_of_letters_share_the_point() -> None:
    """A model whose head says the same of every token knows nothing: a quarter of four options."""
    words = tiny.tokenizer("chatml")
    model = tiny.model("llama", vocabulary=len(words), tie_word_embeddings=False)
    torch.nn.init.zeros_(model.lm_head.weight)
    scores = {s.metric: s for s in evaluate_live(model, words, some_sets()[:1])}
    assert scores["accuracy"].value == pytest.approx(0.25)
    assert scores["nll"].value == pytest.approx(math.log(len(words)), abs=1e-6)
    assert scores["nll"].se == pytest.approx(0.0, abs=1e-7)


def test_a_model_that_diverged_is_told(tmp_path: Path) -> None:
    words = tiny.tokenizer("chatml")
    model = tiny.model("llama", vocabulary=len(words))
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match="not numbers"):
        evaluate_live(model, words, some_sets())
    model.save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="not finite"):
        evaluate(str(tmp_path / "model"), some_sets(), None, "cpu")


def test_what_cannot_be_asked_is_counted() -> None:
    words = tiny.tokenizer("chatml")
    odd = [
        choice(0, "A"), choice(1, "B")._replace(text="x " * 400), choice(2, "A", ("<|im_end|>", "b")),
        free(3, 1)._replace(gold="\ud800"), choice(4, "A", ("", "b")),
    ]  # fmt: skip
    prepared = prepare([EvalSet("physics", tuple(odd))], words, 256, METRICS)
    assert [one.question.row for one in prepared.asked["physics"]] == [0]
    assert sorted(prepared.dropped["physics"]) == [
        "an empty option", "holds the template's special tokens", "not valid Unicode", "too long",
    ]  # fmt: skip
    with pytest.raises(UserError, match="no row can be asked"):
        prepare([EvalSet("physics", tuple(odd[1:2]))], words, 256)
    with pytest.raises(UserError, match="Two sets"):
        prepare([EvalSet("physics", tuple(odd[:1]))] * 2, words, 256)
    with pytest.raises(UserError, match=r'"accuracy"'):
        prepare([EvalSet("physics", tuple(odd[:1]))], words, 256, ["acuracy"])
