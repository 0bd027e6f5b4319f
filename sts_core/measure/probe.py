"""Which features a text lights up: on the model as it is, behind demonstrations, and on fine-tuned ones (`sts probe`).

The text goes once through every arm, its tokens aligned: the same ids, one under another. What stands before the text
is run once and kept for the next one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.nets.describe import ModelInfo, SaeInfo, find_model, find_sae, fit
from sts_core.nets.device import choose_device, choose_dtype
from sts_core.spec import DTYPES
from sts_core.spec_checks import device as check_device
from sts_core.spec_checks import known_keys, one_of, whole
from sts_core.text.probed import check_text

BASE, ICL = "base", "icl"
MOST_TOKENS = 2_000
"""A longer text is cut, and that is told."""
MOST_TOP, MOST_RUNS = 100, 3
MEDIANS = 8.0
"""A token whose residual is longer than this many medians of the text's own is an outlier, where no result says."""
_RUN = re.compile(r"[\w .&+-]{1,64}")


@dataclass(frozen=True)
class ProbeRequest:
    """A text and who reads it."""

    model: str
    sae: str
    text: str
    feature: int | None = None
    """A feature whose value on every token is wanted, however weak."""
    result: str | None = None
    """A finished result's folder: its demonstrations stand before the text in the arm `icl`."""
    runs: Mapping[str, str] = field(default_factory=dict)
    """Name of an arm -> a fine-tuned model's folder, or an adapter's."""
    top: int = 10
    """How many features to name a token, and for the whole text."""
    chat: bool = True
    """As a user's turn in the model's chat template; else the text alone."""
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        for name, value in (("model", self.model), ("sae", self.sae)):
            if not isinstance(value, str) or not value.strip():
                raise UserError(f"{name} must be named", "`sts models` and `sts saes MODEL` list what there is.")
        if not isinstance(self.text, str):
            raise UserError("The text is no text", "Give a sentence.")
        check_text(self.text)
        if self.feature is not None:
            whole("feature", self.feature, least=0)
        if self.result is not None and (not isinstance(self.result, str) or not self.result):
            raise UserError("result must name a folder", "Name the folder of a finished result, or leave it out.")
        _check_runs(self.runs)
        whole("top", self.top, least=1)
        if self.top > MOST_TOP:
            raise UserError(f"top is {self.top}", f"At most {MOST_TOP} features a token are named.")
        if not isinstance(self.chat, bool):
            raise UserError(f"chat is {str(self.chat)[:40]!r}", "Give true or false.")
        if self.result is not None and not self.chat:
            raise UserError(
                "A result's demonstrations stand in a chat, but the text is to be read raw",
                "Leave the result out, or read the text as a chat turn.",
            )
        check_device("device", self.device)
        one_of("dtype", self.dtype, DTYPES)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProbeRequest:
        """Check every key and value."""
        known_keys(values, [f.name for f in fields(cls)], "the request")
        for need in ("model", "sae", "text"):
            if need not in values:
                raise UserError(f"The request does not say which {need}", f"Add {need}.")
        return cls(**values)


def _check_runs(runs: Any) -> None:
    good = isinstance(runs, Mapping) and all(isinstance(v, str) and v for kv in runs.items() for v in kv)
    if not good:
        raise UserError("runs must map names to folders", "For example {run-12: folder of its model or adapter}.")
    if len(runs) > MOST_RUNS:
        raise UserError(f"There are {len(runs)} runs", f"At most {MOST_RUNS} are held side by side.")
    for name in runs:
        if name in (BASE, ICL) or not _RUN.fullmatch(name):
            raise UserError(
                f"A run cannot be named {name[:80]!r}",
                f'Use 1 to 64 letters, digits, spaces, ".", "&", "+", "_" or "-", and neither {BASE} nor {ICL}.',
            )


class Found(NamedTuple):
    """What a request names, before any weight is loaded."""

    request: ProbeRequest
    model: ModelInfo
    sae: SaeInfo
    runs: dict[str, ModelInfo]
    device: str
    dtype: str
    warnings: list[str]

    @property
    def sae_dtype(self) -> str:
        """As a measurement has it: float32 on a CPU, else the model's."""
        return "float32" if self.device == "cpu" else self.dtype


def find(request: ProbeRequest) -> Found:
    """Find the model, the SAE and the runs; refuse what does not fit. Light: no torch."""
    model, sae = find_model(request.model), find_sae(request.sae)
    warnings = fit(model, sae, None)
    if request.feature is not None and request.feature >= sae.features:
        raise UserError(
            f"There is no feature {request.feature} in {sae.name}", f"Its features are 0 to {sae.features - 1}."
        )
    runs = {name: find_model(folder) for name, folder in request.runs.items()}
    for name, info in runs.items():
        if (info.width, info.layers) != (model.width, model.layers):
            raise UserError(
                f"{name} has {info.layers} layers, {info.width} wide; {model.name} has {model.layers}, {model.width}",
                "Name a model that was fine-tuned from this one.",
            )
    device = choose_device(request.device)
    return Found(request, model, sae, runs, device, choose_dtype(request.dtype, device), warnings)


def probe(request: ProbeRequest) -> dict[str, Any]:
    """Read a text in every arm and name its strongest features, as JSON values (docs/SPEC.md "What a probe says")."""
    from sts_core.measure.probed import answer  # torch

    return answer(find(request))


def vocabulary(info: ModelInfo) -> int | None:
    """How many tokens a model knows, if its settings say."""
    config = json.loads((info.folder / "config.json").read_text(encoding="utf-8"))
    size = (config.get("text_config") or config).get("vocab_size")
    return size if type(size) is int else None
