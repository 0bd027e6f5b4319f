"""A whole language model, head and adapter included, as it is evaluated."""

from __future__ import annotations

from typing import Any

from sts_core.errors import UserError
from sts_core.nets.describe import ModelInfo
from sts_core.nets.saes import check_finite, first_line


def load_language_model(info: ModelInfo, device: str, dtype: str) -> Any:
    """Load a model, its adapter over it. Weights that are not finite are refused."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from sts_core.nets.narrow import ease_products

    logging.disable_progress_bar()  # we tell progress ourselves
    kind = getattr(torch, dtype)
    try:
        model = AutoModelForCausalLM.from_pretrained(info.folder, dtype=kind, use_safetensors=True)
        if info.adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(info.adapter)).get_base_model().to(kind)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(
            f"transformers cannot load {info.name}: {first_line(error)}",
            "Save the model again as safetensors, or choose another.",
        ) from error
    hint = "Its training may have diverged: evaluate an earlier checkpoint, or save the model again."
    check_finite(info.name, model.named_parameters(), hint)
    ease_products(model.to(device))
    return model.eval()
