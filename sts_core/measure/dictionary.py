"""What every feature of a SAE writes: tokens it promotes and suppresses, and features near it (`sts dictionary`).

A feature's decoder direction goes through the model's final norm (its linear part) and the unembedding; of the model
only these two are read. Everything is done in pieces: neither all logits nor all cosines are ever there at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sts_core.errors import UserError
from sts_core.folders import alone_in
from sts_core.nets.describe import ModelInfo, SaeInfo, find_model, fit
from sts_core.nets.head import HOW, Head, load_head
from sts_core.progress import Progress, Watcher, silent
from sts_core.results.dictionary import Dictionary, Meaning, dictionary_of, place_of, write_dictionary

TOP = 10
"""How many tokens and near features a feature is told with."""
MOST_TOP = 100
_FEATURES_AT_ONCE = {"cpu": 512, "mps": 1_024, "cuda": 4_096}
_ROWS_AT_ONCE = {"cpu": 2_048, "mps": 4_096, "cuda": 16_384}
"""Rows of the unembedding, or features to compare with, that are looked at together; a CPU's fit its cache."""


class Loaded(NamedTuple):
    """What the dictionary of a SAE on a model is read from."""

    head: Head
    decoder: Tensor
    """[features, width], as it lies in the file."""


class _Best(NamedTuple):
    """The largest values a feature, so far."""

    values: Tensor
    numbers: Tensor

    def merge(self, values: Tensor, numbers: Tensor, top: int) -> _Best:
        """With more candidates [n, m], numbered [m]; of equal values the lower number is the better one."""
        best = values.topk(min(top, values.shape[1]), dim=1)
        together = torch.cat([self.values, best.values], dim=1)
        whose = torch.cat([self.numbers, numbers[best.indices]], dim=1)
        order = torch.argsort(whose, dim=1, stable=True)
        together, whose = together.gather(1, order), whose.gather(1, order)
        order = torch.argsort(together, dim=1, descending=True, stable=True)[:, :top]
        return _Best(together.gather(1, order), whose.gather(1, order))

    @classmethod
    def none(cls, count: int, device: torch.device) -> _Best:
        return cls(torch.empty(count, 0, device=device), torch.empty(count, 0, dtype=torch.long, device=device))


def load(model: ModelInfo, sae: SaeInfo) -> Loaded:
    """Open a model's head and a SAE's decoder; the last ones stay open."""
    fit(model, sae, None)
    return Loaded(_head(_below(model)), _decoder(sae))


def meanings(loaded: Loaded, features: Sequence[int], top: int = TOP, device: str = "cpu") -> list[Meaning]:
    """What these features write. Memory does not grow with the words or the features there are."""
    chosen = torch.tensor(list(features), dtype=torch.long)
    written = loaded.decoder[chosen].to(device).float()
    head = loaded.head
    directions = head.directions(written)
    most = least = _Best.none(len(chosen), written.device)
    for numbers, logits in head.logits(directions, _ROWS_AT_ONCE[written.device.type]):
        most, least = most.merge(logits, numbers, top), least.merge(-logits, numbers, top)
    near = _near(loaded.decoder, written, chosen.to(device), top)
    words = head.words
    return [
        Meaning(
            feature, [words[i] for i in up], [float(v) for v in rise], [words[i] for i in down],
            [-float(v) for v in fall], [int(i) for i in others], [float(v) for v in alike],
        )
        for feature, up, rise, down, fall, others, alike in zip(
            chosen.tolist(), most.numbers.tolist(), most.values.tolist(), least.numbers.tolist(),
            least.values.tolist(), near.numbers.tolist(), near.values.tolist(), strict=True,
        )
    ]  # fmt: skip


def make(model: ModelInfo, sae: SaeInfo, out: Path | None = None, device: str = "cpu", watch: Watcher = silent) -> Path:
    """Write the dictionary of all features, to the cache if not told otherwise; one already there is taken as it is."""
    if out is None and (there := dictionary_of(model, sae)) is not None:
        return there
    model = _below(model)
    out = out or place_of(model.revision, sae.revision)
    loaded = load(model, sae)
    about = {
        "model": model.name, "model_revision": model.revision, "sae": sae.name, "sae_revision": sae.revision,
        "layer": sae.layer, "top": TOP, "how": HOW,
    }  # fmt: skip

    def parts() -> Iterator[list[Meaning]]:
        step = _FEATURES_AT_ONCE[device.split(":")[0]]
        for start in range(0, sae.features, step):
            watch(Progress("reading what features write", start, sae.features, "features"))
            yield meanings(loaded, range(start, min(start + step, sae.features)), TOP, device)

    with alone_in(out):
        return write_dictionary(out, about, parts())


def meaning(model: ModelInfo, sae: SaeInfo, features: Sequence[int], top: int = TOP) -> list[Meaning]:
    """What some features write: from the dictionary where it was made, else computed for these alone."""
    for feature in features:
        if not 0 <= feature < sae.features:
            raise UserError(
                f"There is no feature {feature} in {sae.name}", f"Its features are 0 to {sae.features - 1}."
            )
    there = dictionary_of(model, sae) if top <= TOP else None
    if there is None:
        return meanings(load(model, sae), features, top)
    return [_first(one, top) for one in Dictionary(there).several(features)]


def _first(one: Meaning, top: int) -> Meaning:
    return Meaning(
        one.feature, one.promotes[:top], one.promoted[:top], one.suppresses[:top], one.suppressed[:top],
        one.near[:top], one.cosine[:top],
    )  # fmt: skip


def _near(decoder: Tensor, written: Tensor, own: Tensor, top: int) -> _Best:
    """The features whose decoder directions have the largest cosine with these, themselves left out."""
    unit = torch.nn.functional.normalize(written, dim=1)
    best = _Best.none(len(unit), unit.device)
    step = _ROWS_AT_ONCE[unit.device.type]
    for start in range(0, len(decoder), step):
        others = decoder[start : start + step].to(unit.device).float()
        cosines = unit @ torch.nn.functional.normalize(others, dim=1).T
        here = (own >= start) & (own < start + len(others))
        cosines[here, own[here] - start] = float("-inf")
        numbers = torch.arange(start, start + len(others), device=unit.device)
        best = best.merge(cosines, numbers, top)
    return _without_itself(best, len(decoder))


def _without_itself(best: _Best, features: int) -> _Best:
    """A SAE with few features has fewer others than were asked for."""
    most = features - 1
    return _Best(best.values[:, :most], best.numbers[:, :most])


def _below(model: ModelInfo) -> ModelInfo:
    """The model under an adapter, whose head is taken to be its own."""
    if model.adapter is None:
        return model
    settings = json.loads((model.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return _below(find_model(str(settings["base_model_name_or_path"])))


@lru_cache(maxsize=1)
def _head(model: ModelInfo) -> Head:
    return load_head(model)


@lru_cache(maxsize=1)
def _decoder(sae: SaeInfo) -> Tensor:
    for path in sorted(sae.folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                if "W_dec" in file.keys():  # noqa: SIM118
                    tensor: Tensor = file.get_tensor("W_dec")
                    return _finite(tensor, sae)
        except (OSError, SafetensorError) as error:
            raise UserError(f"The weights of {sae.name} cannot be read", "Copy or save the SAE again.") from error
    raise UserError(f"{sae.name} has no decoder that can be read (W_dec)", "Save the SAE again with SAELens.")


def _finite(decoder: Tensor, sae: SaeInfo) -> Tensor:
    for part in decoder.split(_ROWS_AT_ONCE["cpu"]):
        if not bool(torch.isfinite(part.float()).all()):
            raise UserError(f"The weights of {sae.name} hold values that are not finite (W_dec)", "Save the SAE again.")
    return decoder


def public(one: Meaning) -> dict[str, Any]:
    """As JSON values, numbers to four digits."""
    return {
        name: [float(f"{v:.4g}") for v in value] if name in ("promoted", "suppressed", "cosine") else value
        for name, value in one._asdict().items()
    }
