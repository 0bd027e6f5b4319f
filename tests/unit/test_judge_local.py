"""A local chat model as a judge, with a tiny real one: the same answer every time, bounded, refusals in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sts_core.errors import UserError
from sts_core.judge.chat import ANSWER_TOKENS, ChatJudge
from sts_core.judge.held_out import Stretch
from sts_core.judge.judges import FAILED, LABELLED, NO_LABEL, Question
from sts_core.judge.local import LocalModel
from tests import tiny

WORDS = Question(1, [Stretch("math", 0, 0, ["apple", " river"], 1)] * 3, ("math", "code"))


@pytest.fixture
def chat_model(tmp_path: Path, own_cache: Path) -> Path:
    torch.set_num_threads(1)
    return tiny.save_model(tmp_path / "chat", max_position_embeddings=2_048)


def test_the_same_question_gets_the_same_bounded_answer(chat_model: Path) -> None:
    talker = LocalModel(str(chat_model), "cpu", "float32")
    first, second = talker.say("seven apple river?"), talker.say("seven apple river?")
    assert first == second
    assert not first.trouble
    assert 0 < first.tokens_out <= ANSWER_TOKENS
    assert first.tokens_in > 5
    assert talker.name.startswith("local:chat@")
    assert talker.warnings == []


def test_it_answers_as_the_model_itself_would(chat_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    model = AutoModelForCausalLM.from_pretrained(chat_model, dtype=torch.float32).eval()
    chat = [{"role": "user", "content": "seven apple?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    asked = len(ids)
    with torch.inference_mode():
        while len(ids) < asked + ANSWER_TOKENS:
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
    answer = LocalModel(str(chat_model), "cpu", "float32").say("seven apple?")
    assert answer.text == tokenizer.decode(ids[asked:], skip_special_tokens=True)
    assert (answer.tokens_in, answer.tokens_out) == (asked, len(ids) - asked)
    begun = LocalModel(str(chat_model), "cpu", "float32").say("seven apple?", "label:")
    assert begun.text.startswith("label:")
    assert begun.tokens_in > asked


def test_nonsense_is_no_label_and_a_prompt_too_long_a_failure(chat_model: Path, tmp_path: Path) -> None:
    judge = ChatJudge(LocalModel(str(chat_model), "cpu", "float32"))
    verdict = judge.label(WORDS)
    assert verdict.outcome in (LABELLED, NO_LABEL)
    assert verdict.tokens_in > 100
    short = tiny.save_model(tmp_path / "short")
    told = ChatJudge(LocalModel(str(short), "cpu", "float32")).label(WORDS)
    assert told.outcome == FAILED
    assert "does not fit the model's 256" in told.evidence["why"]


def test_a_model_that_cannot_chat_is_refused(tmp_path: Path, own_cache: Path) -> None:
    base = tiny.save_model(tmp_path / "base", style="plain")
    with pytest.raises(UserError, match="no chat template"):
        LocalModel(str(base))
    with pytest.raises(UserError, match="There is no model"):
        LocalModel("nobody")


def test_the_embedded_model_is_marked_as_an_experiment(bundle_cache: Path) -> None:
    talker = LocalModel(device="cpu")
    assert talker.name == "local:smollm2-135m-instruct"
    assert "experimental" in talker.warnings[0]
