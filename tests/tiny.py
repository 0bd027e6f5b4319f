"""Tiny real things for tests: tokenizers trained here, models from configs, dictionaries through SAELens, rows.

Everything is saved as a person would have it, is the same at every call, and takes well under a second. Nothing of the
product is imported, so that what is built here can be held against it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

Style = Literal["chatml", "llama3", "gemma", "plain", "plain-bos"]
Family = Literal["llama", "qwen2", "gemma2", "gpt2", "gpt_neox"]
Architecture = Literal["standard", "jumprelu", "topk", "gated"]

STYLES: tuple[Style, ...] = ("chatml", "llama3", "gemma", "plain", "plain-bos")
FAMILIES: tuple[Family, ...] = ("llama", "qwen2", "gemma2", "gpt2", "gpt_neox")
ARCHITECTURES: tuple[Architecture, ...] = ("standard", "jumprelu", "topk", "gated")
WIDTH, LAYERS, FEATURES, WINDOW = 32, 3, 64, 8
"""Every model is this wide and deep; `WINDOW` is the sliding window of the Gemma-2 one."""

_CHATML = (
    "{% for m in messages %}"
    "{% if loop.first and m['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful tiny model<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


class _Kind(NamedTuple):
    """What tells one tokenizer from another."""

    template: str | None
    special: tuple[str, ...]
    """Markers the tokenizer file knows as special, the first being BOS where there is one."""
    bos: str | None
    eos: str
    adds_bos: bool
    """Whether plain text gets a BOS, as Llama's and Gemma's tokenizers do."""


_KINDS: dict[Style, _Kind] = {
    "chatml": _Kind(_CHATML, ("<|im_start|>", "<|im_end|>"), "<|im_start|>", "<|im_end|>", False),
    # As Llama 3 ships it: only BOS and EOS are named, the header's markers are special in the tokenizer's file alone.
    "llama3": _Kind(
        _LLAMA3,
        ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        "<|begin_of_text|>",
        "<|eot_id|>",
        True,
    ),
    "gemma": _Kind(_GEMMA, ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>", True),
    "plain": _Kind(None, ("<|endoftext|>",), None, "<|endoftext|>", False),
    "plain-bos": _Kind(None, ("<s>", "</s>"), "<s>", "</s>", True),
}

_NOUNS = (
    "apple", "river", "seven", "train", "speed", "stone", "cloud", "green", "music", "table", "light", "paper",
    "twelve", "window", "garden", "silver", "north", "winter",
)  # fmt: skip
_WORDS = (
    *_NOUNS, "Question:", "Answer:", "the", "a", "of", "and", "what", "is", "how", "many", "if", "then", "so",
    "because", "therefore", "user", "assistant", "system", "model\n\n",
)  # fmt: skip


def sentence(draw: random.Random, words: int) -> str:
    """So many words of a small vocabulary, a question mark at the end."""
    return " ".join(draw.choice(_NOUNS) for _ in range(words)) + "?"


@cache
def _trained(style: Style) -> str:
    """A byte-level BPE tokenizer of about 400 tokens, as the text of its file."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    kind = _KINDS[style]
    draw = random.Random(0)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(marker, special=True, normalized=False) for marker in kind.special],
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(draw.choices(_WORDS, k=12)) for _ in range(400)], trainer)
    if kind.adds_bos and kind.bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{kind.bos} $A", pair=f"{kind.bos} $A {kind.bos} $B", special_tokens=[(kind.bos, 0)]
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer.to_str()


def tokenizer(style: Style) -> Any:
    """A fast tokenizer of transformers' kind."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    kind = _KINDS[style]
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(style)), bos_token=kind.bos, eos_token=kind.eos
    )
    made.chat_template = kind.template
    return made


def config(family: Family, vocabulary: int = 512, **changes: Any) -> Any:
    """A configuration of this family, with the grouped keys, windows and capped attention that the family has."""
    from transformers import Gemma2Config, GPT2Config, GPTNeoXConfig, LlamaConfig, Qwen2Config

    if family == "gpt2":
        own = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 256, "vocab_size": vocabulary,
               "bos_token_id": None, "eos_token_id": None}  # fmt: skip
        return GPT2Config(**{**own, **changes})
    own = {
        "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
        "max_position_embeddings": 256, "vocab_size": vocabulary,
    }  # fmt: skip
    if family == "gpt_neox":
        return GPTNeoXConfig(**{**own, **changes})
    own["num_key_value_heads"] = 2
    if family == "gemma2":
        # A small cap, so that leaving it out is seen.
        gemma = {"head_dim": 8, "sliding_window": WINDOW, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 2}
        return Gemma2Config(**{**own, **gemma, **changes})
    return {"llama": LlamaConfig, "qwen2": Qwen2Config}[family](**{**own, **changes})


def model(family: Family = "llama", seed: int = 0, **changes: Any) -> Any:
    """A language model with random weights, large enough that its attention is far from uniform."""
    import torch
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_config(config(family, **changes), dtype=torch.float32)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(made.named_parameters()):
            if weight.ndim == 2:
                scale = 1.0 if "emb" in name or "wte" in name or "wpe" in name else 2.0 * WIDTH**-0.5
                weight.copy_(torch.randn(weight.shape, generator=draw) * scale)
            elif name.endswith("bias"):
                weight.copy_(torch.randn(weight.shape, generator=draw) * 0.1)
    return made.eval()


def save_model(folder: Path, family: Family = "llama", style: Style = "chatml", seed: int = 0, **changes: Any) -> Path:
    """A model and its tokenizer as `save_pretrained` leaves them."""
    words = tokenizer(style)
    model(family, seed, vocabulary=len(words), **changes).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def sae(architecture: Architecture = "standard", layer: int = 1, seed: int = 0, **metadata: Any) -> Any:
    """A dictionary of SAELens that reads the stream after `layer`, about half of it firing."""
    import torch
    from sae_lens import registry
    from sae_lens.saes.sae import SAEMetadata

    width = metadata.pop("d_in", WIDTH)
    kind, configured = registry.get_sae_class(architecture)
    more = {"k": 8} if architecture == "topk" else {}
    told = SAEMetadata(**{"hook_name": f"blocks.{layer}.hook_resid_post", **metadata})
    made = kind(configured(d_in=width, d_sae=FEATURES, dtype="float32", device="cpu", metadata=told, **more))
    draw = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, weight in sorted(made.named_parameters()):
            weight.copy_(torch.randn(weight.shape, generator=draw) * (0.3 if weight.ndim == 1 else width**-0.5))
            if name == "threshold":
                weight.abs_()
    return made.eval()


def save_sae(
    folder: Path, architecture: Architecture = "standard", layer: int = 1, seed: int = 0, **metadata: Any
) -> Path:
    """A dictionary as SAELens saves it."""
    sae(architecture, layer, seed, **metadata).save_model(str(folder))
    return folder


def rows(count: int, seed: int = 0, words: tuple[int, int] = (4, 14), opening: str = "") -> list[dict[str, Any]]:
    """Questions of unequal length, all with the same opening, each with a short answer and a worked one."""
    draw = random.Random(f"rows {seed}")
    made = []
    for number in range(count):
        question = f"{opening}{sentence(draw, draw.randint(*words))} {number}"
        made.append({"question": question, "answer": str(draw.randint(0, 99)), "cot": sentence(draw, 5)})
    return made


def write_rows(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """A JSON-lines file."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


class World(NamedTuple):
    """A model, a dictionary that fits it, a target set and two domains, all in one folder."""

    folder: Path
    model: Path
    sae: Path

    def spec(self, **changes: Any) -> dict[str, Any]:
        """A spec of them as plain tables, in float32 on the CPU; `changes` replace whole keys."""
        return {
            "model": str(self.model),
            "sae": str(self.sae),
            "target": {"data": str(self.folder / "target.jsonl"), "demos": 2, "tokens": 250},
            "domains": [
                {"name": "physics", "data": str(self.folder / "physics.jsonl"), "demos": 3, "tokens": 200},
                {"name": "law", "data": str(self.folder / "law.jsonl"), "demos": 1, "tokens": 100_000,
                 "demo_data": str(self.folder / "law_demos.jsonl")},
            ],
            "run": {"seed": 3, "device": "cpu", "dtype": "float32"},
            **changes,
        }  # fmt: skip

    def toml(self, name: str = "spec.toml", **changes: Any) -> Path:
        """The same as a file."""
        path = self.folder / name
        path.write_text(as_toml(self.spec(**changes)), encoding="utf-8")
        return path


def world(folder: Path, architecture: Architecture = "standard", style: Style = "chatml", **changes: Any) -> World:
    """Build it. Of law's seven rows four can be queried, the rest have plenty; physics' questions begin alike."""
    write_rows(folder / "target.jsonl", rows(60, seed=1))
    write_rows(folder / "physics.jsonl", rows(80, seed=2, opening="seven train "))
    write_rows(folder / "law.jsonl", rows(7, seed=3))
    write_rows(folder / "law_demos.jsonl", rows(4, seed=4))
    model_folder = save_model(folder / "tiny-llama", "llama", style, **changes)
    return World(folder, model_folder, save_sae(folder / "sae", architecture, model_name="tiny-llama"))


def as_toml(values: dict[str, Any]) -> str:
    """Tables of plain values in TOML; a JSON string is a TOML string too."""
    plain = [f"{key} = {_toml(value)}" for key, value in values.items() if not _is_tables(value)]
    for key, value in values.items():
        for table in value if isinstance(value, list) and _is_tables(value) else [value] if _is_tables(value) else []:
            head = f"[[{key}]]" if isinstance(value, list) else f"[{key}]"
            plain += [head, *(f"{name} = {_toml(entry)}" for name, entry in table.items())]
    return "\n".join(plain) + "\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(entry)}" for key, entry in value.items()) + " }"
    return json.dumps(value)
