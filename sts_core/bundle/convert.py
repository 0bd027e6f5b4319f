"""GGUF in, a plain model folder out: `python -m sts_core.bundle.convert FILE.gguf FOLDER`.

The weights are the quantised ones, unpacked to bfloat16, so every library that reads safetensors loads them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CONTEXT = 8192
TITLE = "SmolLM2-135M-Instruct (from Q4_1)"


def convert(gguf: Path, folder: Path) -> None:
    """Write config, generation config, tokenizer with chat template, and weights in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    model.config._name_or_path = TITLE
    model.save_pretrained(str(folder))
    _name(folder / "config.json")
    _tokenizer(gguf).save_pretrained(str(folder))
    for path in folder.iterdir():
        path.chmod(0o644)


def _tokenizer(gguf: Path) -> Any:
    """The tokenizer of the GGUF file, splitting text as the model was trained.

    The file names the split "smollm" (every digit alone, then GPT-2's); the reader knows GPT-2's alone, and would
    cut the white space before a number in another place.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.model_max_length = CONTEXT
    tokenizer.clean_up_tokenization_spaces = False
    return tokenizer


def _name(config: Path) -> None:
    """Drop what the reader took from the GGUF file's title, which is not the model's name."""
    values = json.loads(config.read_text(encoding="utf-8"))
    values["_model_name_or_path"] = TITLE
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
