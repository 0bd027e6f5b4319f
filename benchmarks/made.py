"""Models and dictionaries of random weights: their cost is that of trained ones of the same shape."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel

TINY_VOCABULARY = 512


def tiny_config() -> LlamaConfig:
    """A Llama so small that what is around the model is what gets measured."""
    return LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=TINY_VOCABULARY, max_position_embeddings=8192, pad_token_id=None, bos_token_id=None,
        eos_token_id=None,
    )  # fmt: skip


def random_model(config: PreTrainedConfig, device: str, dtype: str, seed: int, head: bool = False) -> PreTrainedModel:
    """A model built on the device from its configuration; with `head`, with its language-model head."""
    torch.manual_seed(seed)
    kind = AutoModelForCausalLM if head else AutoModel
    with torch.device(device):
        model: PreTrainedModel = kind.from_config(config, dtype=getattr(torch, dtype))
    return model.eval()


def random_sae(architecture: str, layer: int, width: int, features: int, device: str, dtype: str, seed: int) -> Any:
    """A dictionary of SAELens that reads the stream after `layer`; about half of its features fire."""
    from sae_lens import registry
    from sae_lens.saes.sae import SAEMetadata

    kind, configured = registry.get_sae_class(architecture)
    told = SAEMetadata(hook_name=f"blocks.{layer}.hook_resid_post")
    sae = kind(configured(d_in=width, d_sae=features, dtype=dtype, device=device, metadata=told))
    draw = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, weight in sae.named_parameters():
            weight.normal_(0.0, 0.1 if weight.ndim == 1 else width**-0.5, generator=draw)
            if name == "threshold":
                weight.abs_()
    return sae.eval()
