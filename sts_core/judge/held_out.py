"""Texts that no label was made from, and where features fire in them: what labels are tested on.

They are the documents that the label corpora keep aside, read as those are, by the model or by a fine-tuned one, and
cut into short windows. Kept is each asked feature's strongest value in each window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sts_core.errors import UserError
from sts_core.nets.describe import ModelInfo, SaeInfo
from sts_core.progress import Progress, Watcher, silent

if TYPE_CHECKING:
    from sts_core.text.corpora import Corpus
    from sts_core.text.pairs import Pair

WINDOW = 32
"""Tokens of a window."""
TOKENS_EACH = 20_000
"""Read of every corpus, in whole pieces."""
MOST_FEATURES = 8_192
"""Tested at once: their values in all windows are held in memory."""


class Stretch(NamedTuple):
    """A window of a held-out piece."""

    source: str
    row: int
    start: int
    """The place of its first token in the piece."""
    texts: Sequence[str]
    peak: int = 0
    """Nothing is marked in it."""


class HeldOut:
    """Windows, and how strongly each of the asked features fires in each: found out when it is first asked."""

    def __init__(self, windows: list[Stretch], features: list[int], read: Callable[[], np.ndarray]) -> None:
        self.windows, self.features, self._read = windows, features, read

    @cached_property
    def strongest(self) -> np.ndarray:
        """[windows, features] float32; 0 where a feature is silent in the window."""
        return self._read()


def read_held_out(
    model: ModelInfo,
    sae: SaeInfo,
    corpora: Sequence[Corpus],
    features: Sequence[int],
    device: str,
    dtype: str,
    *,
    sae_dtype: str = "float32",
    most_norm: float | None = None,
    tokens_each: int = TOKENS_EACH,
    watch: Watcher = silent,
) -> HeldOut:
    """Read `corpora` (`label_corpora(…, held_out=True)`) with a model; tokens longer than `most_norm` are passed over.

    A piece that the chat template would change, or that does not fit half the model's context, is left out. The texts
    are cut at once, the model runs when values are first asked for.
    """
    if len(features) > MOST_FEATURES:
        raise UserError(f"{len(features):,} features cannot be tested at once", f"At most {MOST_FEATURES:,}.")
    pieces = [piece for corpus in corpora for piece in _pieces(model, corpus, tokens_each)]
    if not pieces:
        raise UserError("The label corpora hold no text that can be tested on", "Give larger corpora.")
    pairs = [pair for pair, _ in pieces]

    def read() -> np.ndarray:
        return _strongest(model, sae, pairs, features, device, dtype, sae_dtype, most_norm, watch)

    return HeldOut([window for _, own in pieces for window in own], list(features), read)


def _strongest(
    model: ModelInfo,
    sae: SaeInfo,
    pairs: list[Pair],
    features: Sequence[int],
    device: str,
    dtype: str,
    sae_dtype: str,
    most_norm: float | None,
    watch: Watcher,
) -> np.ndarray:
    """The features' largest values in each window of each piece: [windows, features]."""
    import torch

    from sts_core.measure.fold import tokens_at_once
    from sts_core.measure.passes import batches, open_arm, pooled_residuals
    from sts_core.nets.decoder import load_decoder
    from sts_core.nets.saes import encode, load_sae
    from sts_core.text.pairs import PairSet

    total = sum(pair.pooled for pair in pairs)
    decoder, dictionary = load_decoder(model, sae.layer, device, dtype, sae.site), load_sae(sae, device, sae_dtype)
    arm = open_arm(decoder, PairSet("held out", pairs, [], {}, len(pairs), total, []), "base")
    wanted = torch.tensor(list(features), dtype=torch.long, device=decoder.device)
    chunk = tokens_at_once(sae.features, decoder.device)
    strongest: dict[int, np.ndarray] = {}
    done = 0
    for batch in batches(pairs, 2_048 if decoder.device.type == "cpu" else 16_384):
        stream = pooled_residuals(arm, batch).float()
        values = torch.cat([encode(dictionary, part)[:, wanted] for part in stream.split(chunk)]).clamp_min_(0)
        if most_norm is not None:
            values[stream.norm(dim=-1) > most_norm] = 0
        for pair, own in zip(batch, values.split([pair.pooled for pair in batch]), strict=True):
            strongest[id(pair)] = np.stack([part.amax(dim=0).cpu().numpy() for part in own.split(WINDOW)])
        done += len(stream)
        watch(Progress("reading held-out texts", done, total))
    return np.concatenate([strongest[id(pair)] for pair in pairs])


def _pieces(model: ModelInfo, corpus: Corpus, budget: int) -> list[tuple[Pair, list[Stretch]]]:
    """The first pieces of a corpus up to the budget, each as a prompt with its windows."""
    from sts_core.nets.tokenizer import load_tokenizer
    from sts_core.text.label_corpora import SOURCE
    from sts_core.text.pairs import Pair
    from sts_core.text.probed import as_turn
    from sts_core.text.prompts import Prompt, Prompter

    tokenizer = load_tokenizer(model)
    prompter = Prompter(tokenizer)
    found: list[tuple[Pair, list[Stretch]]] = []
    pooled = 0
    for row, document in enumerate(corpus.documents()):
        if pooled >= budget:
            break
        try:
            read = as_turn(document.turns[0][1], prompter, tokenizer)
        except UserError:  # markers of the template, or a text that it changes
            continue
        if len(read.ids) > model.context // 2:
            continue
        prompt = Prompt("", read.ids, [[read.first, len(read.ids)]], 0)
        starts = range(0, len(read.tokens), WINDOW)
        name = corpus.name.removeprefix(SOURCE)
        windows = [Stretch(name, row, start, read.tokens[start : start + WINDOW]) for start in starts]
        found.append((Pair(row, prompt, prompt), windows))
        pooled += len(read.tokens)
    return found
