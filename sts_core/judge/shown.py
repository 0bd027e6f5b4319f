"""What judges are shown: a feature's strongest examples in the label corpora, from a gallery made for that.

A gallery of the result that already holds these very corpora is used; else one of the corpora alone is made, for all
features at once where that costs no more than for a few.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sts_core.errors import UserError
from sts_core.judge.judges import SHOWN, Question
from sts_core.progress import Watcher, silent
from sts_core.results.folder import Result
from sts_core.results.gallery import EXAMPLES, FORMAT, Example, Gallery, gallery_of, home, key_of, open_gallery
from sts_core.text.label_corpora import SOURCE

if TYPE_CHECKING:
    from sts_core.text.corpora import Corpus

ALL_UP_TO = 32_768
"""Features of a SAE up to which the gallery is made for all of them."""
UNEQUAL = 0.05
"""Corpora whose token counts differ by more than this share are warned of."""


class Seen(NamedTuple):
    """An example of which only the corpus matters."""

    source: str
    texts: Sequence[str] = ()
    peak: int = 0


def label_gallery(
    result: Path, corpora: Sequence[Corpus], features: Sequence[int], tokens: int, watch: Watcher = silent
) -> Gallery:
    """The gallery with these corpora's examples of these features, `tokens` read of each; made when there is none."""
    from sts_core.measure.gallery import Wish, make_gallery
    from sts_core.measure.gallery_sources import Texts

    finished = Result(result)
    wanted = {corpus.name: corpus.sha256 for corpus in corpora}
    only = None if len(finished.shift) <= ALL_UP_TO else tuple(sorted(features))
    named = hashlib.sha256(repr((FORMAT, sorted(wanted.items()), only, tokens)).encode()).hexdigest()[:12]
    own = home() / f"labels-{finished.manifest['key']}-{named}"
    for folder in (gallery_of(result), own):
        if folder is not None and key_of(folder) == finished.manifest["key"]:
            gallery = open_gallery(folder)
            if _serves(gallery, wanted, tokens) and all(gallery.holds(feature) for feature in features):
                return gallery
    alike = sorted(corpora, key=lambda corpus: corpus.name)  # label sets in another order share a gallery
    wish = Wish(only, (), tuple(Texts(corpus.name, corpus, tokens) for corpus in alike), k=SHOWN)
    return open_gallery(make_gallery(result, wish, own, watch, fresh=own.exists()))


def unequal(gallery: Gallery) -> list[str]:
    """A warning where one corpus is larger than another: its label would win too often."""
    tokens = {s["name"].removeprefix(SOURCE): int(s["tokens"]) for s in _label_sources(gallery)}
    if min(tokens.values()) >= (1 - UNEQUAL) * max(tokens.values()):
        return []
    told = ", ".join(f"{name} {count:,}" for name, count in tokens.items())
    return [f"The corpora are not equally large ({told} tokens), which favours the larger: lower --tokens."]


def about(gallery: Gallery) -> str:
    """Names the examples: the same texts, read by the same model, shown as far."""
    sources = [(s["name"], s["sha256"], s["tokens"]) for s in _label_sources(gallery)]
    shape = (gallery.manifest.get("window"), gallery.manifest.get("model"), gallery.manifest.get("sae"))
    return hashlib.sha256(repr((sources, shape)).encode()).hexdigest()[:16]


def strongest(gallery: Gallery, labels: Sequence[str]) -> Callable[[int], Question]:
    """Questions with text: the strongest examples over all label corpora, one of each row before a second of any."""
    names = {s["name"] for s in _label_sources(gallery)}

    def question(feature: int) -> Question:
        found = [e for e in gallery.examples(feature) if e.source in names and e.arm == "base" and e.band == "top"]
        found.sort(key=lambda e: (-e.value, e.source, e.row, e.token))
        if found and all(e.trouble for e in found):
            raise UserError(f"The examples' texts are not to be had: {found[0].trouble}", "Make the gallery again.")
        shown = _rows_first([e for e in found if not e.trouble])[:SHOWN]
        return Question(feature, [e._replace(source=e.source.removeprefix(SOURCE)) for e in shown], labels)

    return question


def sources_only(gallery: Gallery, labels: Sequence[str]) -> Callable[[int], Question]:
    """Questions without text, of all features in one reading: the corpora of the ten strongest tokens."""
    names = [s["name"] for s in _label_sources(gallery)]
    kept = (pc.field("arm") == "base") & (pc.field("band") == "top") & pc.field("source").isin(names)
    try:
        table = pq.read_table(
            gallery.folder / EXAMPLES, columns=["feature", "source", "value", "row", "token"], filters=kept
        )
    except (OSError, pa.ArrowException):
        raise UserError(f"{EXAMPLES} in {gallery.folder} is gone or damaged", "Delete it and label again.") from None
    table = table.set_column(1, "source", table["source"].cast(pa.string()))
    order = [("feature", "ascending"), ("value", "descending"), ("source", "ascending"), ("row", "ascending")]
    table = table.sort_by([*order, ("token", "ascending")])
    lines = zip(table["feature"].to_pylist(), table["source"].to_pylist(), strict=True)
    found = {
        feature: [Seen(source.removeprefix(SOURCE)) for _, source in itertools.islice(own, SHOWN)]
        for feature, own in itertools.groupby(lines, key=lambda line: line[0])
    }
    return lambda feature: Question(feature, found.get(feature, []), labels)


def _serves(gallery: Gallery, wanted: Mapping[str, str], tokens: int) -> bool:
    """Whether a gallery holds these corpora, enough of each and of every feature's strongest tokens."""
    held = {s["name"]: s for s in _label_sources(gallery)}
    return (
        {name: source["sha256"] for name, source in held.items()} == dict(wanted)
        and all(int(source["tokens"]) >= (1 - UNEQUAL) * tokens for source in held.values())
        and int(gallery.manifest.get("k", 0)) >= SHOWN
    )


def _label_sources(gallery: Gallery) -> list[dict[str, Any]]:
    return [source for source in gallery.manifest["sources"] if str(source["name"]).startswith(SOURCE)]


def _rows_first(found: list[Example]) -> list[Example]:
    seen: set[tuple[str, int]] = set()
    first: list[Example] = []
    later: list[Example] = []
    for example in found:
        (later if (example.source, example.row) in seen else first).append(example)
        seen.add((example.source, example.row))
    return first + later
