"""Prompts as the paper's code makes them, for `preset = "reference"` (METHOD 8).

Items in the order of the file, the items 30 and 31 before every one of them (themselves included), every token of the
prompt counted. The two arms hold different tokens then; who uses these pairs them row by row, whatever they are.
"""

from __future__ import annotations

from collections import Counter

from sts_core.errors import UserError
from sts_core.spec import DataSpec
from sts_core.text.pairs import Pair, PairSet
from sts_core.text.prompts import Prompt, Prompter
from sts_core.text.sources import locate, read_rows

DEMOS = (30, 31)
MOST_ROWS = 10_000
"""Tokens of each arm that are used."""


def reference_pairs(spec: DataSpec, prompter: Prompter, context: int) -> PairSet:
    """Pair items in file order until the base arm has its 10,000 tokens."""
    read = read_rows(locate(spec.data), spec.columns, ("question", "worked"))
    if len(read.rows) <= DEMOS[-1]:
        raise UserError(
            f"{spec.name}: the reference preset demonstrates with items 30 and 31 of {len(read.rows)} usable rows",
            'Add rows, or use preset = "default".',
        )
    demos = [read.rows[number] for number in DEMOS]
    before = [text for demo in demos for text in (demo.question, demo.worked or "")]
    pairs: list[Pair] = []
    dropped = Counter(read.dropped)
    tokens = 0
    for row in read.rows:
        if tokens >= MOST_ROWS:
            break
        if not prompter.passes([row.question]):
            dropped["changed by the chat template"] += 1
            continue
        base, icl = prompter.prompt([row.question], 1), prompter.prompt([*before, row.question], 1)
        if len(icl.ids) > context:
            dropped["too long"] += 1
            continue
        pairs.append(Pair(row.number, _whole(base), _whole(icl)))
        tokens += len(base.ids)
    if not pairs:
        raise UserError(f"{spec.name}: no row can be used", "Check the rows and their columns.")
    warnings = (
        [f"{spec.name}: {tokens:,} of the {MOST_ROWS:,} rows that the reference uses."] if tokens < MOST_ROWS else []
    )
    return PairSet(spec.name, pairs, [row.number for row in demos], dict(dropped), read.records, MOST_ROWS, warnings)


def _whole(prompt: Prompt) -> Prompt:
    """The prompt with all its tokens marked."""
    return prompt._replace(spans=[[0, len(prompt.ids)]])
