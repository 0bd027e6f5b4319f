"""Token-aligned pairs: the same query without and with demonstrations before it (METHOD 2).

What cannot be paired is dropped and counted, never silently bent into shape.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sts_core.errors import UserError
from sts_core.spec import DataSpec
from sts_core.text.prompts import Prompt, Prompter, is_unicode
from sts_core.text.sides import split
from sts_core.text.sources import Row, Rows, demonstration_source, locate, read_rows
from sts_core.text.tokens import Tokens


class Pair(NamedTuple):
    """One query in both arms. The pooled token ids are equal in both."""

    row: int
    base: Prompt
    icl: Prompt

    @property
    def pooled(self) -> int:
        """Tokens that count."""
        return sum(end - start for start, end in self.base.spans)


class PairSet(NamedTuple):
    """A set, ready to be measured."""

    name: str
    pairs: list[Pair]
    demo_rows: list[int]
    dropped: dict[str, int]
    records: int
    asked: int
    warnings: list[str]

    @property
    def tokens(self) -> int:
        """Pooled tokens over all pairs."""
        return sum(pair.pooled for pair in self.pairs)

    def public(self) -> dict[str, object]:
        """For manifests: which rows of the file were used."""
        return {
            "demo_rows": self.demo_rows, "query_rows": [pair.row for pair in self.pairs], "dropped": self.dropped,
            "records": self.records, "tokens_asked": self.asked, "tokens": self.tokens,
        }  # fmt: skip


def build_pairs(
    spec: DataSpec, prompter: Prompter, pool: str, context: int, seed: int, texts: int | None = None
) -> PairSet:
    """Draw demonstrations and queries with the seed and pair them until the token budget is reached, in whole items.

    Demonstrations come from a file of their own, else, for the target, from the half that is trained on, and for a
    domain from the queried half; a demonstration is never a query. The first `texts` pairs keep their prompts as text,
    all of them if not told otherwise.
    """
    own = demonstration_source(spec)
    need = ("question",) + (("answer",) if pool != "query" else ()) + (() if own else ("worked",))
    read = read_rows(locate(spec.data), spec.columns, need)
    sides = split(read.rows)
    # Each draw has a generator of its own, seeded by name: another budget or another set changes none of the others.
    draw = random.Random(f"{seed}/{spec.name}")
    demo_pool = (
        read_rows(locate(own[0], demos=True), own[1], ("question", "worked")).rows
        if own
        else (sides.kept if spec.name == "target" else sides.queried)
    )
    _enough(spec, read, len(demo_pool), len(sides.queried), shared=not own and spec.name != "target")
    demos = _draw_demos(demo_pool, spec.demos, prompter, draw)
    if len(demos) < spec.demos:
        raise UserError(
            f"{spec.name}: {_so_many(len(demos))} can serve as demonstrations; the others hold markers of the chat "
            "template, or are not valid Unicode",
            "Check the rows" + (", or lower demos." if spec.demos > 1 else "."),
        )
    demo_questions = {row.question.strip() for row in demos}
    queries = [row for row in sides.queried if row.question.strip() not in demo_questions]
    draw.shuffle(queries)
    pairs, dropped = _pair_until(queries, demos, spec.tokens, prompter, pool, context, texts)
    dropped.update(read.dropped)
    if same := len(sides.queried) - len(queries):
        dropped["the question of a demonstration"] = same
    if not pairs:
        raise UserError(f"{spec.name}: no row can be used ({_reasons(dropped)})", "Check the rows and their columns.")
    warnings = []
    tokens = sum(pair.pooled for pair in pairs)
    if tokens < spec.tokens:
        warnings.append(
            f"{spec.name}: {tokens:,} of the {spec.tokens:,} tokens asked for; the set has no more rows to query."
        )
    pairs, cut = _shorten(pairs, context, prompter)
    if cut:
        warnings.append(
            f"{spec.name}: the demonstrations were cut by {cut:,} tokens from the left to fit the model's context."
        )
    return PairSet(spec.name, pairs, [row.number for row in demos], dict(dropped), read.records, spec.tokens, warnings)


def _pair_until(
    queries: list[Row], demos: list[Row], budget: int, prompter: Prompter, pool: str, context: int, texts: int | None
) -> tuple[list[Pair], Counter[str]]:
    before = [text for demo in demos for text in (demo.question, demo.worked or "")]
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    pooled = 0
    for row in queries:
        if pooled >= budget:
            break
        pair = _pair(row, before, prompter, pool, context)
        if isinstance(pair, str):
            dropped[pair] += 1
        else:
            pairs.append(compact(pair, pairs[:1], text=texts is None or len(pairs) < texts))
            pooled += pair.pooled
    return pairs, dropped


def _pair(row: Row, before: list[str], prompter: Prompter, pool: str, context: int) -> Pair | str:
    """The pair, or the reason why there is none."""
    texts = [row.question] + ([row.answer or ""] if pool != "query" else [])
    if not all(is_unicode(text) for text in texts):
        return "not valid Unicode"
    base = prompter.prompt(texts, pooled=len(texts))
    # Queries longer than half the context are left out rather than letting one of them cut everybody's demonstrations.
    if len(base.ids) > context // 2:
        return "too long"
    if not (prompter.passes(texts) and prompter.passes(before + texts)):
        return "changed by the chat template"
    icl = prompter.prompt(before + texts, pooled=len(texts))
    if pool == "answer":
        base, icl = base._replace(spans=base.spans[1:]), icl._replace(spans=icl.spans[1:])
    tokens = [_pooled_ids(prompt) for prompt in (base, icl)]
    if tokens[0] != tokens[1]:
        return "tokenised differently after demonstrations"
    if not all(tokens[0]):
        return "no token of its own"
    if any(token in prompter.special_ids for span in tokens[0] for token in span):
        return "holds the template's special tokens"
    return Pair(row.number, base, icl)


def compact(pair: Pair, others: Sequence[Pair], text: bool = True) -> Pair:
    """The pair as it is kept: its ids share the beginning of the first of the others, and without text if so told."""

    def kept(arm: str) -> Prompt:
        prompt: Prompt = getattr(pair, arm)
        like = getattr(others[0], arm).ids if others else None
        ids = Tokens(prompt.ids, like if isinstance(like, Tokens) else None, prompt.spans[0][0])
        return prompt._replace(text=prompt.text if text else "", ids=ids)

    return pair._replace(base=kept("base"), icl=kept("icl"))


def _draw_demos(rows: list[Row], wanted: int, prompter: Prompter, draw: random.Random) -> list[Row]:
    """The first rows of a seeded order whose texts are plain: no broken Unicode, nothing the template would change."""
    demos: list[Row] = []
    for row in draw.sample(rows, len(rows)):
        if len(demos) == wanted:
            break
        texts = [row.question, row.worked or ""]
        if all(prompter.is_plain(text) for text in texts) and prompter.passes(texts):
            demos.append(row)
    return demos


def _pooled_ids(prompt: Prompt) -> list[list[int]]:
    return [list(prompt.ids[start:end]) for start, end in prompt.spans]


def _shorten(pairs: list[Pair], context: int, prompter: Prompter) -> tuple[list[Pair], int]:
    """Cut the demonstrations from the left, equally for the whole set, until the longest prompt fits the context."""
    cut = max(0, max(len(pair.icl.ids) for pair in pairs) - context)
    if not cut:
        return pairs, 0
    shortened: list[Pair] = []
    for pair in pairs:
        head, ids = pair.icl.head, pair.icl.ids
        spans = [[start - cut, end - cut] for start, end in pair.icl.spans]
        ids = [*ids[:head], *ids[head + cut :]]
        text = prompter.text(ids) if pair.icl.text else ""
        cut_pair = pair._replace(icl=Prompt(text, ids, spans, head))
        shortened.append(compact(cut_pair, shortened[:1]))
    return shortened, cut


def _enough(spec: DataSpec, read: Rows, demo_rows: int, query_rows: int, shared: bool) -> None:
    if demo_rows < spec.demos or query_rows < 1 + (spec.demos if shared else 0):
        lacking = f" ({_reasons(Counter(read.dropped))})" if read.dropped else ""
        different = len({row.question.strip() for row in read.rows})
        alike = f", {different} of them different" if different < len(read.rows) else ""
        raise UserError(
            f"{spec.name}: {len(read.rows)} usable rows of {read.records}{lacking}{alike} are too few for {spec.demos} "
            f"demonstrations and a query ({demo_rows} rows may demonstrate, {query_rows} may be queried; half a set is "
            "kept unscored)",
            "Add rows, "
            + ("lower demos, " if spec.demos > 1 else "")
            + "or name a file of demonstrations (demo_data).",
        )


def _so_many(rows: int) -> str:
    return "no row" if not rows else "only one row" if rows == 1 else f"only {rows} rows"


def _reasons(dropped: Counter[str]) -> str:
    return ", ".join(f"{reason}: {n}" for reason, n in dropped.items()) or "none was left after the demonstrations"
