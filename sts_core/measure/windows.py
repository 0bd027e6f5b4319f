"""The two passes of a gallery: which tokens a feature fires on, then the feature's values around those tokens.

The second pass reads the batches that hold a chosen token exactly as the first did, so that the values agree. A row's
own tokens are those of its prompt without demonstrations; behind demonstrations the same tokens stand at the end of the
prompt, and what the template puts before the first demonstration stands at its head in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sts_core.measure.examples import BANDS, Examples
from sts_core.measure.fold import tokens_at_once
from sts_core.measure.passes import Arm, Reader, open_arm, places, pooled_residuals, reading_order
from sts_core.nets.device import hand_back, steady_memory
from sts_core.nets.saes import encode
from sts_core.results.gallery_files import Chosen
from sts_core.text.pairs import Pair, PairSet

BASE, ICL = "base", "icl"
Hear = Callable[[int], None]


class Voice(NamedTuple):
    """An arm of a gallery: who reads which prompts."""

    name: str
    reader: Reader
    prompts: str
    """`base` or `icl`."""


class Frame(NamedTuple):
    """How much of a row is shown around a chosen token."""

    before: int
    after: int

    @property
    def width(self) -> int:
        """Tokens of a whole window."""
        return self.before + 1 + self.after


class Windows(NamedTuple):
    """Stretches of rows in which a feature is looked at; each once, sorted by feature."""

    feature: np.ndarray
    pair: np.ndarray
    """The row, by the position of its pair."""
    start: np.ndarray
    length: np.ndarray


def gather(
    voices: Sequence[Voice], sae: Any, pairs: PairSet, most_norm: float | None, none: Examples, ran: Hear
) -> dict[str, Examples]:
    """The first pass: the examples of every arm. `none` says for which features and how many.

    A token whose norm is too large in the base arm or in an arm's own reading is left out there, and in the base
    arm when it is too large behind the demonstrations: as it is where the shift is measured.
    """
    steady_memory()
    arms = {voice.name: open_arm(voice.reader, pairs, voice.prompts) for voice in voices}
    ran(sum(arm.prefix.length for arm in arms.values()))
    found = {name: none.copy(arm.reader.device) for name, arm in arms.items()}
    place = places(pairs)
    for batch in reading_order(pairs, voices[0].reader.device):
        streams = {name: pooled_residuals(arm, batch).float() for name, arm in arms.items()}
        hand_back()
        calm = {name: _calm(stream, most_norm) for name, stream in streams.items()}
        numbers = torch.cat([torch.arange(pair.pooled) + place[id(pair)][1] for pair in batch])
        for name, stream in streams.items():
            keep = calm[name] & calm[BASE].to(stream.device)
            if name == BASE and ICL in calm:
                keep &= calm[ICL]
            _look(found[name], sae, stream[keep], numbers.to(stream.device)[keep])
        ran(sum(len(getattr(p, arm.prompts).ids) - arm.prefix.length for p in batch for arm in arms.values()))
    return {name: examples.copy() for name, examples in found.items()}


def _calm(stream: Tensor, most_norm: float | None) -> Tensor:
    norms = stream.norm(dim=-1)
    return torch.ones_like(norms, dtype=torch.bool) if most_norm is None else norms <= most_norm


def _look(examples: Examples, sae: Any, stream: Tensor, numbers: Tensor) -> None:
    """Show a batch to the examples, a bounded piece of features at a time."""
    every = sae.cfg.d_sae
    step = tokens_at_once(every, stream.device)
    for start in range(0, len(stream), step):
        features = encode(sae, stream[start : start + step])
        if len(examples.names) < every:
            features = features[:, examples.names]
        examples.add(features, numbers[start : start + step])


def choose(found: dict[str, Examples], pairs: PairSet, frame: Frame) -> tuple[Chosen, Windows]:
    """Every example of a source by feature, arm, band and rank, and the windows that they are shown in."""
    lengths = np.array([len(pair.base.ids) for pair in pairs.pairs])
    shared = np.array([shared_from(pair) for pair in pairs.pairs])
    pair_of = np.repeat(np.arange(len(lengths)), [pair.pooled for pair in pairs.pairs])
    place_of = np.concatenate([np.arange(a, b) for pair in pairs.pairs for a, b in pair.base.spans])
    rows = np.array([pair.row for pair in pairs.pairs])
    columns: list[np.ndarray] = []
    for arm, (name, examples) in enumerate(found.items()):
        names = examples.names.numpy()
        for band, picked in examples.bands().items():
            which, rank = np.nonzero(picked.values.numpy() > 0)
            number = picked.tokens.numpy()[which, rank]
            pair, token = pair_of[number], place_of[number]
            # Behind demonstrations a window begins where the row's own tokens do: nothing between is passed over.
            start = np.maximum(token - frame.before, shared[pair] if name == ICL else 0)
            length = np.minimum(token + frame.after + 1, lengths[pair]) - start
            value = picked.values.numpy()[which, rank].view(np.int32)
            same = (np.full(len(pair), n) for n in (arm, BANDS.index(band)))
            columns.append(np.stack([names[which], *same, rank + 1, pair, token, start, length, value]))
    table = np.concatenate(columns, axis=1)
    table = table[:, np.lexsort(table[3::-1])]
    feature, arm_of, band_of, ranks, pair, token, start, length, value = table
    stretches, window = np.unique(table[[0, 4, 6, 7]], axis=1, return_inverse=True)
    chosen = Chosen(
        feature.astype(np.int32), arm_of.astype(np.int8), band_of.astype(np.int8), ranks.astype(np.int32),
        value.astype(np.int32).view(np.float32), rows[pair].astype(np.int64), token.astype(np.int32),
        start.astype(np.int32), length.astype(np.int32), window.reshape(-1).astype(np.int64),
    )  # fmt: skip
    return chosen, Windows(*stretches)


def shared_from(pair: Pair) -> int:
    """The first of the row's own tokens from which on both arms read the same to the end."""
    base, icl = (np.asarray(list(prompt.ids)[::-1]) for prompt in (pair.base, pair.icl))
    short = min(len(base), len(icl))
    differ = np.flatnonzero(base[:short] != icl[:short])
    return len(base) - int(differ[0] if len(differ) else short)


def read_windows(
    voices: Sequence[Voice], sae: Any, pairs: PairSet, windows: Windows, out: np.ndarray, ran: Hear
) -> None:
    """The second pass: fill `out` [windows, arms, width] with the feature's value on each token of each window.

    NaN stands behind a window's end, and where an arm did not read a token.
    """
    steady_memory()
    shown = [_Shown(voice, pairs) for voice in voices]
    order = np.argsort(windows.pair, kind="stable")
    first = np.searchsorted(windows.pair[order], np.arange(len(pairs.pairs) + 1))
    at = {id(pair): number for number, pair in enumerate(pairs.pairs)}
    for batch in reading_order(pairs, voices[0].reader.device):
        numbers = [at[id(pair)] for pair in batch]
        own = [order[first[n] : first[n + 1]] for n in numbers]
        which = np.concatenate(own)
        if len(which):
            member = np.repeat(np.arange(len(batch)), [len(some) for some in own])
            tokens = windows.start[which][:, None] + np.arange(out.shape[2])
            tokens[np.arange(out.shape[2]) >= windows.length[which][:, None]] = -1
            filled = np.stack([s.values(sae, batch, numbers, member, tokens, windows.feature[which]) for s in shown], 1)
            _complete(filled, [voice.name for voice in voices], [batch[i] for i in member], tokens)
            out[which] = filled
            hand_back()
        ran(sum(len(getattr(p, s.arm.prompts).ids) - s.arm.prefix.length for p in batch for s in shown))


def _complete(filled: np.ndarray, names: list[str], pairs: list[Pair], tokens: np.ndarray) -> None:
    """At the head both arms read the same tokens in the same places, nothing before them: the values are the same."""
    if ICL not in names:
        return
    base, icl = names.index(BASE), names.index(ICL)
    heads: dict[int, int] = {}
    for pair in pairs:
        if id(pair) not in heads:
            until = shared_from(pair)
            heads[id(pair)] = until if pair.base.ids[:until] == pair.icl.ids[:until] else 0
    at_head = (tokens >= 0) & (tokens < np.array([heads[id(pair)] for pair in pairs])[:, None])
    filled[:, icl][at_head] = filled[:, base][at_head]


class _Shown:
    """The part of an arm's prompts that a window may show: all of a row's own tokens that stand together."""

    def __init__(self, voice: Voice, pairs: PairSet) -> None:
        self.arm: Arm = open_arm(voice.reader, pairs, voice.prompts)
        behind = voice.prompts == ICL
        self._own_from = np.array([shared_from(pair) if behind else 0 for pair in pairs.pairs])
        """Among the row's own tokens."""
        self._moved = np.array([len(pair.icl.ids) - len(pair.base.ids) if behind else 0 for pair in pairs.pairs])
        """How much later they stand in the arm's prompt."""
        self._from = self._own_from + self._moved
        prefix = self.arm.prefix.length
        self._head_from = min(int(self._from.min()), prefix)
        ids = getattr(pairs.pairs[0], voice.prompts).ids
        # The shared beginning was run without its residuals: the part of it that may be shown is run once more.
        self._head = (
            voice.reader.residuals([ids[self._head_from : prefix]], voice.reader.prefix(ids[: self._head_from]))[0]
            if self._head_from < prefix
            else None
        )

    def values(
        self,
        sae: Any,
        batch: list[Pair],
        numbers: list[int],
        member: np.ndarray,
        tokens: np.ndarray,
        feature: np.ndarray,
    ) -> np.ndarray:
        """The features' values [windows, width] on a row's own tokens; a negative token stands for none."""
        prefix, prompts = self.arm.prefix.length, self.arm.prompts
        begins = np.maximum(self._from[numbers], prefix)
        widened = []
        for pair, begin in zip(batch, begins, strict=True):
            prompt = getattr(pair, prompts)
            widened.append(pair._replace(**{prompts: prompt._replace(spans=[[int(begin), len(prompt.ids)]])}))
        stream = pooled_residuals(self.arm, widened).float()
        if self._head is not None:
            stream = torch.cat([self._head.float(), stream])
        head = prefix - self._head_from
        sizes = [len(getattr(pair, prompts).ids) - int(b) for pair, b in zip(batch, begins, strict=True)]
        offsets = head + np.cumsum([0, *sizes[:-1]]) - begins
        there = (tokens >= 0) & (tokens >= self._own_from[numbers][member][:, None])
        place = tokens + self._moved[numbers][member][:, None]
        place = np.where(place < prefix, place - self._head_from, place + offsets[member][:, None])
        found = np.full(tokens.shape, np.nan, np.float32)
        wide = np.broadcast_to(feature[:, None], tokens.shape)
        found[there] = _at(sae, stream, place[there], wide[there])
        return found


def _at(sae: Any, stream: Tensor, token: np.ndarray, feature: np.ndarray) -> np.ndarray:
    """The values of features on tokens of a stream; only those tokens are encoded."""
    needed = np.zeros(len(stream), dtype=bool)
    needed[token] = True
    among = (np.cumsum(needed) - 1)[token]
    stream = stream[torch.from_numpy(needed).to(stream.device)]
    found = np.empty(len(token), np.float32)
    step = tokens_at_once(sae.cfg.d_sae, stream.device)
    for start in range(0, len(stream), step):
        values = encode(sae, stream[start : start + step])
        here = np.flatnonzero((among >= start) & (among < start + step))
        where = (
            torch.from_numpy(among[here] - start).to(values.device),
            torch.from_numpy(feature[here]).to(values.device),
        )
        found[here] = values[where].cpu().numpy()
    return found
