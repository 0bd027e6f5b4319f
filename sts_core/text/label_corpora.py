"""Corpora whose names are labels: by where a feature fires most strongly, it can be named (METHOD 10).

All of them are read alike, as the user turn of a chat and in pieces of like length, so that what tells them apart is
what they say and not how they are wrapped. Rows that the target set's measurement used are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.spec import DOMAIN_NAME
from sts_core.text.corpora import Corpus, Document, find
from sts_core.text.sources import locate, read_rows

LABEL_CORPORA: Mapping[str, str] = {"math": "gsm-symbolic", "code": "stdlib", "prose": "prose"}
"""Label -> embedded corpus: question with worked answer, Python's own library source, passages of Wikipedia."""
SOURCE = "labels/"
"""What stands before a label in the name of its corpus: no domain can be called so."""
MOST_CHARACTERS, FEWEST_CHARACTERS = 600, 40
"""Of a piece. What is left of a document and shorter is dropped."""
MOST_PIECES = 12
"""Of one document, so that no long file speaks for its corpus."""


def label_corpora(
    chosen: Mapping[str, str] | None = None,
    left_out: Collection[str] = (),
    base: Path | None = None,
    held_out: bool = False,
) -> list[Corpus]:
    """Label -> corpus becomes a list of corpora `labels/LABEL`, each in a fixed order that is mixed well.

    `chosen` names corpora as `corpora.find` takes them (the embedded three when left out), files relative to `base`.
    A document that is one of the questions `left_out`, or begins with one as its first turn, is not in them. With
    `held_out` they hold the one document in twelve that they else keep aside: what a label is tested on.
    """
    chosen = LABEL_CORPORA if chosen is None else chosen
    if len(chosen) < 2:
        raise UserError("Labels need at least two corpora to tell apart", "For example --labels math,code,prose.")
    for name in chosen:
        if not DOMAIN_NAME.fullmatch(name) or name != name.strip():
            raise UserError(
                f"A label cannot be named {name[:80]!r}", 'Use 1 to 64 letters, digits, spaces, "_", "&" or "-".'
            )
    questions = frozenset(question.strip() for question in left_out)
    return [_corpus(SOURCE + name, find(data, base or Path()), questions, held_out) for name, data in chosen.items()]


def target_texts(manifest: Mapping[str, Any]) -> frozenset[str]:
    """The texts of a result's target rows, demonstrations too, by the manifest: what a label corpus leaves out.

    Questions and answers: a corpus may hold a row as a chat, which its question begins, or its answer as plain text.
    """
    try:
        target, used = manifest["spec"]["target"], manifest["sets"]["target"]
        numbers = {*used["demo_rows"], *used["query_rows"]}
        data, columns = str(target["data"]), dict(target.get("columns", {}))
    except (KeyError, TypeError, ValueError):
        raise UserError("The manifest does not say which target rows were used", "Measure the result again.") from None
    rows = read_rows(locate(data), columns, ("question",)).rows
    used_rows = [row for row in rows if row.number in numbers]
    return frozenset(text.strip() for row in used_rows for text in (row.question, row.answer) if text)


def _corpus(name: str, source: Corpus, questions: frozenset[str], held_out: bool) -> Corpus:
    settings = f"{source.sha256} {held_out} {MOST_CHARACTERS} {FEWEST_CHARACTERS} {MOST_PIECES}"
    digest = hashlib.sha256("\n".join([settings, *sorted(questions)]).encode("utf-8", "surrogatepass"))

    def documents() -> Iterator[Document]:
        pieces: list[tuple[str, str]] = []
        for document in source.documents():
            if document.held_out == held_out and _opening(document) not in questions:
                pieces += _leading(_cut(_whole(document)))
        for _, piece in sorted(pieces):
            yield Document(turns=(("user", piece),))

    return Corpus(name, digest.hexdigest(), documents)


def _whole(document: Document) -> str:
    return document.text or "\n".join(content for _, content in document.turns)


def _opening(document: Document) -> str:
    return (document.turns[0][1] if document.turns else document.text).strip()


def _leading(pieces: Iterator[str]) -> list[tuple[str, str]]:
    """At most `MOST_PIECES` of a document, with the hash that puts all pieces of a corpus in order."""
    placed = ((hashlib.sha256(piece.encode("utf-8", "surrogatepass")).hexdigest(), piece) for piece in pieces)
    return sorted(placed)[:MOST_PIECES]


def _cut(text: str) -> Iterator[str]:
    """Pieces that end where a line does, else a word; one that does neither is cut where it is too long."""
    text = text.strip()
    while len(text) > MOST_CHARACTERS:
        end = next((at for at in (text.rfind(sign, 0, MOST_CHARACTERS) for sign in "\n ") if at > 0), MOST_CHARACTERS)
        yield from _long_enough(text[:end])
        text = text[end:].strip("\n") if text[end] == "\n" else text[end:].strip()
    yield from _long_enough(text)


def _long_enough(piece: str) -> Iterator[str]:
    if len(piece.strip()) >= FEWEST_CHARACTERS:
        yield piece.strip("\n").rstrip()
