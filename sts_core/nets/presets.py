"""The paper's three models, each with SAEs that are really published for it.

The paper reads Qwen2.5 and Llama at layer 25, Gemma at layer 31. Where the SAE it used is not public, that is said, and
the nearest public ones are offered; no number of the paper is expected to come out the same with another SAE.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A model, and what to read it with."""

    name: str
    """What a person chooses it by."""
    model: str
    """Its hub id."""
    paper_layer: int
    """The layer that the paper reads."""
    saes: tuple[str, ...]
    """`release:id` in SAELens' registry, the one we would take first."""
    same_layer: bool
    """Whether these SAEs read the paper's layer."""
    note: str
    """What a person should know before comparing with the paper."""


_GEMMA_L0S = (22, 13, 37, 63, 109)

PRESETS = (
    Preset(
        name="Qwen2.5-7B-Instruct",
        model="Qwen/Qwen2.5-7B-Instruct",
        paper_layer=25,
        saes=(
            "qwen2.5-7b-instruct-andyrdt:resid_post_layer_23_trainer_1",
            "qwen2.5-7b-instruct-andyrdt:resid_post_layer_27_trainer_1",
        ),
        same_layer=False,
        note=(
            "The paper reads layer 25, of which no public SAE is known: these read layers 23 and 27. They were trained "
            "on the instruct model itself. Their weights come as .pt files, which torch reads as plain tensors only."
        ),
    ),
    Preset(
        name="Llama-3-8B-Instruct",
        model="meta-llama/Meta-Llama-3-8B-Instruct",
        paper_layer=25,
        saes=("llama-3-8b-it-res-jh:blocks.25.hook_resid_post",),
        same_layer=True,
        note=(
            "The only SAE of this model in SAELens' registry; it was trained on the instruct model itself. Those of "
            "Llama 3.1 are of another model."
        ),
    ),
    Preset(
        name="Gemma-2-9B-it",
        model="google/gemma-2-9b-it",
        paper_layer=31,
        saes=tuple(f"gemma-scope-9b-it-res:layer_31/width_131k/average_l0_{l0}" for l0 in _GEMMA_L0S),
        same_layer=True,
        note=(
            "131,072 features, in the five sparsities the paper compares (C.7); it does not say which its main figure "
            "uses, and the mean of 22 active features has that figure's correlation. They were trained on the instruct "
            "model; those of the base model (gemma-scope-9b-pt-res) fit too and cover every layer."
        ),
    ),
)


def preset_for(model: str) -> Preset | None:
    """The preset of a model, by its hub id, its last part or the preset's own name."""
    asked = model.casefold().rsplit("/", 1)[-1]
    return next((p for p in PRESETS if asked in (p.name.casefold(), p.model.casefold().rsplit("/", 1)[-1])), None)
