"""A chat model on this machine as a judge, through transformers: greedy, so the same question gets the same answer."""

from __future__ import annotations

from typing import Any

from sts_core.bundle import embedded
from sts_core.errors import UserError
from sts_core.judge.chat import ANSWER_TOKENS, Answer
from sts_core.nets.describe import ModelInfo, find_model
from sts_core.nets.device import choose_device, choose_dtype
from sts_core.nets.saes import first_line
from sts_core.nets.tokenizer import load_tokenizer

EXPERIMENTAL = (
    f"The embedded {embedded.MODEL_NAME} is a small model: as a judge it is experimental. Trust a label of its as far "
    "as its detection score reaches."
)


class LocalModel:
    """A model of this machine that answers prompts."""

    def __init__(self, name: str = embedded.MODEL_NAME, device: str = "auto", dtype: str = "auto") -> None:
        info = find_model(name)
        if not info.chat:
            raise UserError(f"{name} has no chat template, so it cannot be asked", "Choose an instruct or chat model.")
        self.name = f"local:{info.name if name == embedded.MODEL_NAME else _short(info)}"
        self.warnings = [EXPERIMENTAL] if name == embedded.MODEL_NAME else []
        self._context = info.context
        self._tokenizer = load_tokenizer(info)
        self._model = _load(info, choose_device(device), dtype)

    def say(self, prompt: str, opening: str = "") -> Answer:
        """The answer, of at most so many tokens. A prompt that does not fit the model is no answer, and told."""
        import torch

        chat = [{"role": "user", "content": prompt}]
        text = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids = self._tokenizer(text + opening, add_special_tokens=False, return_tensors="pt")["input_ids"].to(
            self._model.device
        )
        asked = int(ids.shape[1])
        if asked + ANSWER_TOKENS > self._context:
            return Answer("", trouble=f"the prompt of {asked} tokens does not fit the model's {self._context}")
        with torch.inference_mode():
            out = self._model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=ANSWER_TOKENS, do_sample=False,
                pad_token_id=self._tokenizer.eos_token_id,
            )  # fmt: skip
        new = out[0, asked:].tolist()
        return Answer(opening + str(self._tokenizer.decode(new, skip_special_tokens=True)), asked, len(new))


def _short(info: ModelInfo) -> str:
    """A model's name without its place on this machine, and its revision."""
    return f"{info.name.rstrip('/').rsplit('/', 1)[-1]}@{info.revision[:24]}"


def _load(info: ModelInfo, device: str, dtype: str) -> Any:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        kind = getattr(torch, choose_dtype(dtype, device))
        model = AutoModelForCausalLM.from_pretrained(info.folder, dtype=kind, use_safetensors=True)
        if info.adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(info.adapter))
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(
            f"transformers cannot load {info.name}: {first_line(error)}",
            "Save the model again as safetensors, or choose another.",
        ) from error
    return model.to(device).eval()
