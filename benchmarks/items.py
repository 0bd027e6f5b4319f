"""The questions that both sides measure: a set of pairs whose second arm begins with exactly so many tokens.

From rows of text for a real model, from random tokens for a random one. The beginning stands where demonstrations
stand, and a query's own tokens are the pooled ones, the same in both arms.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.text.pairs import Pair, PairSet, compact
from sts_core.text.prompts import Prompt, Prompter

HEAD, TAIL = 4, 5
"""Tokens around a query of random tokens, as a chat template would put them."""


def from_rows(path: Path, tokenizer: Any, prefix: int, items: int, tokens: int, seed: int) -> PairSet:
    """Queries drawn from a JSON-lines file with `question` and `answer`, at least `items` and `tokens` pooled tokens.

    The second arm begins with `prefix` tokens: the template's head and the text of rows that are not queried.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    random.Random(seed).shuffle(rows)
    prompter = Prompter(tokenizer)
    bases: list[Prompt] = []
    pooled = 0
    while rows and (len(bases) < items or pooled < tokens):
        base = prompter.prompt([rows.pop()["question"]], pooled=1)
        bases.append(base)
        pooled += sum(end - start for start, end in base.spans)
    filler: list[int] = []
    wanted = prefix - bases[0].head
    while rows and len(filler) < wanted:
        row = rows.pop()
        text = f"{row['question']}\n{row['answer']}\n\n"
        filler += tokenizer(text, add_special_tokens=False)["input_ids"]
    if not 0 <= wanted <= len(filler) or len(bases) < items or pooled < tokens:
        raise UserError(
            f"{path.name} has too few rows for {items} queries of {tokens} tokens behind a beginning of {prefix}",
            "Name a larger file with --data, or ask for less.",
        )
    return _set(_behind(i, base, filler[:wanted]) for i, base in enumerate(bases))


def from_noise(vocabulary: int, prefix: int, query: int, tokens: int, seed: int) -> PairSet:
    """Queries of `query` random tokens each, as many as pool at least `tokens` tokens."""
    draw = random.Random(seed)

    def some(count: int) -> list[int]:
        return [draw.randrange(vocabulary) for _ in range(count)]

    head, tail, filler = some(HEAD), some(TAIL), some(prefix - HEAD)
    bases = (
        Prompt("", head + some(query) + tail, [[HEAD, HEAD + query]], HEAD) for _ in range(max(1, -(-tokens // query)))
    )
    return _set(_behind(i, base, filler) for i, base in enumerate(bases))


def prompt_tokens(pairs: PairSet) -> int:
    """Tokens of all prompts of both arms, as whoever encodes every prompt whole has to run them."""
    return sum(len(pair.base.ids) + len(pair.icl.ids) for pair in pairs.pairs)


def _behind(row: int, base: Prompt, filler: list[int]) -> Pair:
    """The query without and with the filler after the template's head."""
    ids = [*base.ids[: base.head], *filler, *base.ids[base.head :]]
    spans = [[start + len(filler), end + len(filler)] for start, end in base.spans]
    return Pair(row, base, base._replace(ids=ids, spans=spans))


def _set(found: Iterable[Pair]) -> PairSet:
    pairs: list[Pair] = []
    for pair in found:
        pairs.append(compact(pair, pairs[:1], text=False))
    return PairSet(
        name="target", pairs=pairs, demo_rows=[], dropped={}, records=len(pairs),
        asked=sum(pair.pooled for pair in pairs), warnings=[],
    )  # fmt: skip
