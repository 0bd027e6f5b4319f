"""What a gallery is made of: the sets of a finished result, drawn again, and other texts, cut into rows.

The very queries of the result are used; a model, SAE or file that has changed since is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from sts_core import folders
from sts_core.errors import UserError, nearest
from sts_core.measure.resolve import Resolved, resolve
from sts_core.nets.device import choose_device, choose_dtype
from sts_core.results.folder import TARGET, Result
from sts_core.spec import Spec
from sts_core.text.corpora import Corpus, Document
from sts_core.text.pairs import Pair, PairSet, build_pairs
from sts_core.text.prompts import Prompt, Prompter
from sts_core.text.sources import locate

PIECE = 512
"""Longer documents are cut into pieces of this many tokens."""
_SHORTEST = 8
"""Pieces below this many tokens are nearly all beginning."""


class Texts(NamedTuple):
    """Texts beside a result's sets, read without demonstrations: what labels are made from."""

    name: str
    corpus: Corpus
    tokens: int
    """Budget, met in whole pieces."""


class Wish(NamedTuple):
    """What a gallery shall hold."""

    features: tuple[int, ...] | None = None
    """Only these; None for all."""
    sets: tuple[str, ...] | None = None
    """Which of the result's sets; None for all, empty for none."""
    texts: tuple[Texts, ...] = ()
    """Texts beside them, read without demonstrations."""
    runs: Mapping[str, str] = MappingProxyType({})
    """Name -> folder, adapter or hub id of a fine-tuned model: an arm each, reading what the base arm reads."""
    k: int = 10
    """The strongest tokens of a feature, in every source and arm."""
    samples: int = 2
    """Tokens from each other band."""
    before: int = 24
    """Tokens shown before an example's own, at most."""
    after: int = 12


class Source(NamedTuple):
    """Rows of a gallery, ready to be read."""

    name: str
    data: str
    sha256: str
    file: str
    """Where an embedded set lies in the bundle; empty for any other."""
    pairs: PairSet
    alone: bool
    """Whether there is no arm behind demonstrations."""


def resolved_again(result: Result) -> Resolved:
    """What a result was measured with, on this machine; UserError when it is no longer that."""
    try:
        spec = Spec.from_dict(result.manifest["spec"])
        then = result.manifest["resolved"]
        before = {"model": then["model"]["revision"], "SAE": then["sae"]["revision"], **then["files"]}
    except (KeyError, TypeError):
        raise UserError(f"The manifest in {result.folder} is not whole", "Measure again with `sts run`.") from None
    if spec.run.preset == "reference":
        raise UserError(
            "A result of the reference preset pairs tokens that are not the same ones",
            "Measure it with the default preset.",
        )
    try:
        device = choose_device(spec.run.device)
        dtype = choose_dtype(spec.run.dtype, device)
    except UserError:  # it was measured on another machine
        device, dtype = choose_device("auto"), "auto"
    resolved = resolve(replace(spec, run=replace(spec.run, device=device, dtype=dtype)))
    now = {"model": resolved.model.revision, "SAE": resolved.sae.revision, **resolved.files}
    for what, revision in now.items():
        if revision != before.get(what):
            called = what if what in ("model", "SAE") else f"data of {what}"
            raise UserError(f"The {called} of {result.folder} has changed since it was measured", "Measure it again.")
    return resolved


def result_sources(result: Result, resolved: Resolved, prompter: Prompter, sets: Sequence[str] | None) -> list[Source]:
    """The queries of a result's sets, of all if not told which."""
    spec = resolved.spec
    names = [part.name for part in spec.sets]
    for name in sets or ():
        if name not in names:
            raise UserError(f'The result has no set "{name}"{nearest(name, names)}', f"It has {', '.join(names)}.")
    found = []
    for part in spec.sets:
        if sets is not None and part.name not in sets:
            continue
        pairs = build_pairs(part, prompter, spec.pool.tokens, resolved.model.context, spec.run.seed, 0)
        if [pair.row for pair in pairs.pairs] != result.manifest["sets"][part.name]["query_rows"]:
            raise UserError(f"The queries of {result.folder} cannot be drawn again", "Measure it again.")
        path, bundle = locate(part.data).resolve(), folders.bundle().resolve()
        file = path.relative_to(bundle).as_posix() if path.is_relative_to(bundle) else ""
        data = part.data if file else Path(part.data).name
        found.append(Source(part.name, data, resolved.files[part.name]["data"], file, pairs, alone=False))
    return found


def text_source(texts: Texts, prompter: Prompter, tokenizer: Any, context: int) -> Source:
    """Pieces of a corpus until its budget is reached, one of every document before a second of any.

    Documents come in the order of a hash of their content; so do a document's pieces begin anywhere in it.
    """
    if texts.name == TARGET or not texts.name.strip():
        raise UserError(f"Texts cannot be named {texts.name!r}", "Choose another name.")
    if texts.tokens < 1:
        raise UserError(f"{texts.name}: the budget is {texts.tokens} tokens", "Give at least 1.")
    pairs: list[Pair] = []
    pooled = 0
    for prompt in _pieces(texts, prompter, tokenizer, min(PIECE, context)):
        pairs.append(Pair(len(pairs), prompt, prompt))
        pooled += pairs[-1].pooled
        if pooled >= texts.tokens:
            break
    if not pairs:
        raise UserError(f"{texts.name} holds no text that can be read", "Give it more, or leave it out.")
    warnings = [f"{texts.name}: {pooled:,} of the {texts.tokens:,} tokens asked for."] if pooled < texts.tokens else []
    held = PairSet(texts.name, pairs, [], {}, len(pairs), texts.tokens, warnings)
    return Source(texts.name, texts.corpus.name, texts.corpus.sha256, "", held, alone=True)


def _pieces(texts: Texts, prompter: Prompter, tokenizer: Any, most: int) -> Iterator[Prompt]:
    """First a piece of every document, then a second of those that have one, and so on."""
    ordered = sorted((_place(document), document) for document in texts.corpus.documents())
    turn = 0
    while ordered:
        left = []
        for place, document in ordered:
            prompts = _chat(document, prompter, most) if document.turns else _plain(document, prompter, tokenizer, most)
            if turn < len(prompts):
                yield prompts[(place + turn) % len(prompts)]
            if turn + 1 < len(prompts):
                left.append((place, document))
        ordered, turn = left, turn + 1


def _place(document: Document) -> int:
    content = repr((document.text, document.turns)).encode("utf-8", "backslashreplace")
    return int.from_bytes(hashlib.sha256(content).digest()[:8])


def _plain(document: Document, prompter: Prompter, tokenizer: Any, most: int) -> list[Prompt]:
    """The pieces of a text, each behind what the tokenizer itself puts at a beginning; without the model's markers."""
    bare, whole = (tokenizer("a", add_special_tokens=add)["input_ids"] for add in (False, True))
    head = list(whole[: whole.index(bare[0])]) if bare and bare[0] in whole else []
    if not prompter.is_plain(document.text):
        return []
    ids = list(tokenizer(document.text, add_special_tokens=False)["input_ids"])
    step = most - len(head)
    parts = [head + ids[start : start + step] for start in range(0, len(ids), step)]
    return [Prompt("", part, [[len(head), len(part)]], len(head)) for part in parts if len(part) >= _SHORTEST]


def _chat(document: Document, prompter: Prompter, most: int) -> list[Prompt]:
    """A chat whole, its turns' own tokens counting; nothing when it is too long or not plain."""
    contents = [content for _, content in document.turns]
    if not all(prompter.is_plain(text) for text in contents) or not prompter.passes(contents):
        return []
    prompt = prompter.prompt(contents, pooled=len(contents))
    spans = [span for span in prompt.spans if span[0] < span[1]]
    return [prompt._replace(text="", spans=spans)] if spans and len(prompt.ids) <= max(most, 2 * PIECE) else []
