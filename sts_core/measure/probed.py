"""The pass of a probe: residuals of every arm, then the features of a few tokens at a time, named and summed."""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sts_core.errors import UserError
from sts_core.measure.demonstrations import Shown, demonstrations, usual_activity
from sts_core.measure.fold import tokens_at_once
from sts_core.measure.probe import BASE, ICL, MEDIANS, MOST_TOKENS, Found, vocabulary
from sts_core.nets.decoder import Decoder, Prefix, Side, load_decoder
from sts_core.nets.describe import ModelInfo
from sts_core.nets.saes import encode, load_sae
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.text.probed import Probed, as_it_is, as_turn, bounded, cut_before
from sts_core.text.prompts import Prompter

_MOST_NAMED = 60_000
"""Features named by token in all, so that an answer stays some megabytes."""
_PREFIXES_KEPT = 4
"""Beginnings that are kept a model; the one that was not asked for longest goes."""
_prefixes: WeakKeyDictionary[Decoder, OrderedDict[tuple[bool, tuple[int, ...]], Prefix]] = WeakKeyDictionary()
_prompters: WeakKeyDictionary[Any, Prompter] = WeakKeyDictionary()


class Reading(NamedTuple):
    """A model of an arm, its adapter acting or not."""

    decoder: Decoder
    adapted: bool

    def residuals(self, read: Probed) -> Tensor:
        """The stream at the text's tokens: [tokens, width]. What stands before them is run once and kept."""
        reader = Side(self.decoder, self.adapted)
        kept = _prefixes.setdefault(self.decoder, OrderedDict())
        key = (self.adapted, tuple(read.ids[: read.first]))
        if key not in kept:
            kept[key] = reader.prefix(list(key[1]))
            if len(kept) > _PREFIXES_KEPT:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return reader.residuals([read.own], kept[key])[0]


class Prompts(NamedTuple):
    """The text in the prompt of every arm, and what a person should know of it."""

    base: Probed
    icl: Probed | None
    notes: list[str]


def answer(found: Found) -> dict[str, Any]:
    """What the request asked for, as JSON values."""
    began = time.monotonic()
    request = found.request
    shown = demonstrations(Path(request.result)) if request.result is not None else None
    prompts = build_prompts(found, load_tokenizer(found.model), shown)
    for info in (found.model, *found.runs.values()):
        known = vocabulary(info)
        if known is not None and max(prompts.base.ids) >= known:
            raise UserError(
                f"{info.name} knows only {known:,} tokens, fewer than {found.model.name}'s tokenizer has",
                "Name a model that was fine-tuned from this one.",
            )
    sae = load_sae(found.sae, found.device, found.sae_dtype)
    streams = _streams(found, prompts)
    same = shown if shown is not None and shown[2:4] == (found.model.revision, found.sae.revision) else None
    kept = _kept(streams, same.outlier_norm if same else _most_norm(streams[BASE]))
    base = prompts.base
    named = max(1, min(request.top, _MOST_NAMED // (len(base.tokens) * len(streams))))
    if named < request.top:
        prompts.notes.append(f"The text is long: of each token only the {named} strongest features are named.")
    sums = Sums(sae, streams, kept, request.top, named, request.feature)
    value: dict[str, Any] = {
        "model": found.model.name, "sae": found.sae.name, "layer": found.sae.layer, "features": found.sae.features,
        "chat": request.chat, "device": found.device, "dtype": found.dtype, "text": base.text, "notes": prompts.notes,
        "tokens": base.tokens, "pieces": base.pieces, "outliers": torch.nonzero(~kept).flatten().tolist(),
        "arms": sums.named, "strongest": sums.strongest(), "changed": sums.changed(),
    }  # fmt: skip
    if request.feature is not None:
        value |= {"feature": request.feature, "values": sums.values}
    if same is not None and request.result is not None:
        value["risen"] = sums.risen(torch.from_numpy(usual_activity(Path(request.result).absolute(), same.key)))
    return {**value, "seconds": round(time.monotonic() - began, 4)}


def build_prompts(found: Found, tokenizer: Any, shown: Shown | None) -> Prompts:
    """The prompts of base and icl, their text tokens the same; without icl, and saying so, where they are not."""
    request, notes = found.request, list(found.warnings)
    context = found.model.context
    most = min(MOST_TOKENS, context // 2)
    prompter = _prompter(tokenizer) if request.chat else None
    text, cut = bounded(request.text, tokenizer, most)
    if cut:
        notes.append(f"The text was cut to its first {len(text):,} characters (at most {most:,} tokens are read).")
    if prompter is None:
        return Prompts(as_it_is(text, tokenizer), None, notes)
    base = as_turn(text, prompter, tokenizer)
    if shown is None:
        return Prompts(base, None, notes)
    icl, over = cut_before(as_turn(text, prompter, tokenizer, shown.turns), _head(prompter), context)
    if over:
        notes.append(f"The demonstrations were cut by {over:,} tokens from the left to fit the model's context.")
    if icl.own != base.own:
        notes.append("Behind the demonstrations the text is cut into other tokens, so that arm is left out.")
        return Prompts(base, None, notes)
    return Prompts(base, icl, notes)


def _prompter(tokenizer: Any) -> Prompter:
    if tokenizer not in _prompters:
        _prompters[tokenizer] = Prompter(tokenizer)
    return _prompters[tokenizer]


def _head(prompter: Prompter) -> int:
    """Tokens that the template itself sets before the first turn."""
    return prompter.prompt(["x"], pooled=1).head


def _streams(found: Found, prompts: Prompts) -> dict[str, Tensor]:
    """Arm -> residuals of the text's tokens [tokens, width]."""
    readings = _readings(found)
    streams = {BASE: readings[BASE].residuals(prompts.base)}
    if prompts.icl is not None:
        streams[ICL] = readings[BASE].residuals(prompts.icl)
    return streams | {name: readings[name].residuals(prompts.base) for name in found.runs}


def _readings(found: Found) -> dict[str, Reading]:
    """Who reads in which arm. An adapter over the model is toggled on the one model, not loaded beside it."""

    def load(info: ModelInfo) -> Reading:
        sae = found.sae
        return Reading(load_decoder(info, sae.layer, found.device, found.dtype, sae.site), info.adapter is not None)

    readings = {name: load(info) for name, info in found.runs.items()}
    model = found.model
    over = [
        name for name, info in found.runs.items() if info.adapter and info.revision.startswith(f"{model.revision}+")
    ]
    readings[BASE] = load(model) if model.adapter or not over else Reading(readings[over[0]].decoder, False)
    return readings


def _most_norm(base: Tensor) -> float:
    """Some medians of the text's own norms; where a result of this model and SAE is named, its threshold counts."""
    return MEDIANS * float(base.float().norm(dim=-1).quantile(0.5))


def _kept(streams: dict[str, Tensor], most_norm: float | None) -> Tensor:
    """Which tokens are no outlier in any arm: [tokens], on the CPU."""
    norms = torch.stack([stream.float().norm(dim=-1) for stream in streams.values()]).amax(dim=0)
    return (norms <= (float("inf") if most_norm is None else most_norm)).cpu()


class Sums:
    """What every arm's features come to: by token named, over the text summed. Outliers are named, but not summed."""

    def __init__(
        self, sae: Any, streams: dict[str, Tensor], kept: Tensor, top: int, named: int, feature: int | None = None
    ) -> None:
        self._top, self._named = top, named
        self._tokens = int(kept.sum())
        self.named: dict[str, list[list[dict[str, Any]]]] = {arm: [] for arm in streams}
        """Arm -> a token's strongest features."""
        self.values: dict[str, list[float]] = {arm: [] for arm in streams}
        """Arm -> a token's value of the feature that was asked for."""
        features = sae.cfg.d_sae
        self._sum = {arm: torch.zeros(features, dtype=torch.float64) for arm in streams}
        self._max = {arm: torch.zeros(features) for arm in streams}
        self._firing = {arm: torch.zeros(features, dtype=torch.long) for arm in streams}
        self._moved = {arm: torch.zeros(features, dtype=torch.float64) for arm in streams if arm != BASE}
        step = tokens_at_once(features, streams[BASE].device)
        for start in range(0, len(kept), step):
            part = slice(start, start + step)
            self._add({arm: encode(sae, stream[part]) for arm, stream in streams.items()}, kept[part], feature)

    def _add(self, active: dict[str, Tensor], kept: Tensor, feature: int | None) -> None:
        for arm, values in active.items():
            self.named[arm] += _strongest_of_tokens(values, self._named)
            if feature is not None:
                self.values[arm] += [_short(value) for value in values[:, feature].tolist()]
        if not bool(kept.any()):
            return
        active = {arm: values[kept.to(values.device)] for arm, values in active.items()}
        for arm, values in active.items():
            self._sum[arm] += values.sum(dim=0).cpu()  # a few tokens in float32, the text in float64
            self._max[arm] = torch.maximum(self._max[arm], values.amax(dim=0).cpu())
            self._firing[arm] += (values > 0).sum(dim=0).cpu()
            if arm != BASE:
                self._moved[arm] += (values - active[BASE]).abs().sum(dim=0).cpu()

    def strongest(self) -> dict[str, list[dict[str, Any]]]:
        """Arm -> the features with the largest mean over the text. Equal means: lower index first."""
        return {arm: [self._told(arm, i) for i in _leading(total, self._top)] for arm, total in self._sum.items()}

    def risen(self, usual: Tensor) -> dict[str, list[dict[str, Any]]]:
        """Arm -> the features whose mean over the text lies furthest above their usual one [features]."""
        return {
            arm: [
                {**self._told(arm, i), "usual": _short(float(usual[i]))}
                for i in _leading(total / max(1, self._tokens) - usual, self._top)
            ]
            for arm, total in self._sum.items()
        }

    def changed(self) -> dict[str, list[dict[str, Any]]]:
        """Arm but base -> the features that moved most against base: the mean |difference|, and both arms' means."""
        return {
            arm: [
                {
                    "feature": i, "shift": _short(float(moved[i]) / self._tokens), "base": self._mean(BASE, i),
                    "here": self._mean(arm, i),
                }
                for i in _leading(moved, self._top)
            ]
            for arm, moved in self._moved.items()
        }  # fmt: skip

    def _told(self, arm: str, i: int) -> dict[str, Any]:
        """A feature's mean over the text, its largest value, and on how many tokens it fires."""
        return {
            "feature": i, "mean": self._mean(arm, i), "max": _short(float(self._max[arm][i])),
            "tokens": int(self._firing[arm][i]),
        }  # fmt: skip

    def _mean(self, arm: str, i: int) -> float:
        return _short(float(self._sum[arm][i]) / self._tokens)


def _strongest_of_tokens(values: Tensor, top: int) -> list[list[dict[str, Any]]]:
    """For every token its strongest features, those that are active at all."""
    best = values.topk(min(top, values.shape[1]), dim=1)
    return [
        [{"feature": i, "value": _short(value)} for value, i in zip(row, indices, strict=True) if value > 0]
        for row, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _leading(totals: Tensor, top: int) -> list[int]:
    order = torch.sort(totals, descending=True, stable=True).indices[:top].tolist()
    return [i for i in order if float(totals[i]) > 0]


def _short(value: float) -> float:
    """Six digits: more is noise, and a text of many tokens has many values."""
    return float(f"{value:.6g}")
