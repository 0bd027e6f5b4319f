"""What a serving process keeps loaded: the last few of each kind, and what is handed out is as good as new."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sts_core.nets import kept
from sts_core.nets.decoder import Side, load_decoder
from sts_core.nets.describe import find_model, find_sae
from sts_core.nets.saes import load_sae
from sts_core.nets.tokenizer import load_tokenizer
from tests import tiny


@pytest.fixture
def keeping() -> Iterator[None]:
    kept.keep()
    yield
    kept.let_go()


def test_nothing_is_kept_unless_asked(world: tiny.World) -> None:
    info = find_model(str(world.model))
    assert load_tokenizer(info) is not load_tokenizer(info)
    assert kept.names() == []


def test_what_was_loaded_is_handed_out_again(world: tiny.World, keeping: None) -> None:
    model, sae = find_model(str(world.model)), find_sae(str(world.sae))
    decoder = load_decoder(model, 1, "cpu", "float32")
    assert load_decoder(model, 1, "cpu", "float32") is decoder
    assert load_decoder(model, 1, "cpu", "bfloat16") is not decoder
    assert load_sae(sae, "cpu", "float32") is load_sae(sae, "cpu", "float32")
    assert kept.names() == [str(world.model), str(world.model), str(world.sae)]
    kept.keep()
    assert load_decoder(model, 1, "cpu", "float32") is decoder, "asking twice forgets nothing"


def test_what_was_used_longest_ago_makes_room(keeping: None) -> None:
    made = []

    def load(name: str) -> str:
        def make() -> str:
            made.append(name)
            return name

        return str(kept.get("sae", (name,), make))

    for name in ("a", "b", "a", "c", "a", "b"):
        assert load(name) == name
    assert kept.MOST["sae"] == 2
    assert made == ["a", "b", "c", "b"]
    assert kept.names() == ["b", "a"]


def test_a_changed_file_is_loaded_anew(world: tiny.World, keeping: None) -> None:
    before = load_decoder(find_model(str(world.model)), 1, "cpu", "float32")
    tiny.save_model(world.model, "llama", seed=9)
    after = load_decoder(find_model(str(world.model)), 1, "cpu", "float32")
    rows = [[1, 2, 3]]
    assert after is not before
    assert not torch.equal(after.residuals(rows), before.residuals(rows))


def test_a_tokenizer_serves_one_thread(world: tiny.World, keeping: None) -> None:
    info = find_model(str(world.model))
    other = []
    thread = threading.Thread(target=lambda: other.append(load_tokenizer(info)))
    thread.start()
    thread.join()
    assert other[0] is not load_tokenizer(info)
    assert load_tokenizer(info) is load_tokenizer(info)


def save_adapter(folder: Path, base: Path) -> Path:
    """A LoRA adapter that does something."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    model.save_pretrained(folder)
    return folder


def test_an_adapter_acts_again_after_one_has_looked_without_it(world: tiny.World, keeping: None) -> None:
    adapter = find_model(str(save_adapter(world.folder / "adapter", world.model)))
    rows = [[5, 6, 7, 8]]
    decoder = load_decoder(adapter, 1, "cpu", "float32")
    acting = decoder.residuals(rows)
    without = Side(decoder, adapted=False).residuals(rows)
    assert not torch.equal(acting, without)
    again = load_decoder(adapter, 1, "cpu", "float32")
    assert again is decoder
    assert torch.equal(again.residuals(rows), acting)


def test_two_who_ask_one_decoder_at_once_get_what_they_would_alone(world: tiny.World) -> None:
    """Each with a beginning of its own: without taking turns one would read the other's."""
    decoder = load_decoder(find_model(str(world.model)), 1, "cpu", "float32")
    beginnings = [list(range(3, 40)), list(range(50, 70))]
    rows = [[[7, 8, 9]] * 5, [[9, 8, 7, 6]] * 3]
    alone = [decoder.residuals(r, decoder.prefix(b)) for r, b in zip(rows, beginnings, strict=True)]
    wrong: list[int] = []

    def ask(who: int) -> None:
        for _ in range(60):
            found = decoder.residuals(rows[who], decoder.prefix(beginnings[who]))
            if not torch.equal(found, alone[who]):
                wrong.append(who)

    threads = [threading.Thread(target=ask, args=(who,)) for who in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
