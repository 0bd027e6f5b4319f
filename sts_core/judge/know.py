"""Everything a feature's page shows, in one go: examples of all features, what they write, names by provenance.

What is there already is taken as it is, so the same order after a kill, or twice, costs only what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sts_core.bundle import embedded
from sts_core.judge.order import TOKENS, LabelOrder, label_result
from sts_core.measure.gallery import make_gallery
from sts_core.measure.gallery_sources import Texts, Wish, resolved_again
from sts_core.progress import Watcher, silent
from sts_core.results.folder import Result
from sts_core.results.gallery_shipped import Where
from sts_core.text.label_corpora import LABEL_CORPORA, SOURCE, label_corpora, target_texts


def know_features(
    result: Path, runs: Mapping[str, str] | None = None, k: int = 10, watch: Watcher = silent, fresh: bool = False
) -> Path:
    """Make the gallery of all features of a result, the dictionary of its SAE and its labels; the gallery's folder.

    `runs` names fine-tuned models whose examples stand beside the model's own.
    """
    from sts_core.measure import dictionary

    wish = Wish(texts=label_texts(result), runs=dict(runs or {}), k=k)
    gallery = make_gallery(result, wish, watch=watch, fresh=fresh)
    resolved = resolved_again(Result(result))
    dictionary.make(resolved.model, resolved.sae, device=resolved.spec.run.device, watch=watch)
    if wish.texts:
        label_result(LabelOrder(str(result)), watch)
    return gallery


def where_texts_lie() -> dict[str, Where]:
    """The label corpora whose text the bundle holds, as a gallery that ships refers to it."""
    held = {
        "gsm-symbolic": Where("train/gsm-symbolic.jsonl", ("question", "answer")),
        "prose": Where("prose/wikipedia.jsonl", ("text",)),
    }
    return {SOURCE + label: held[data] for label, data in LABEL_CORPORA.items() if data in held}


def label_texts(result: Path) -> tuple[Texts, ...]:
    """The corpora that features are named after, in the form a gallery takes them; none while they are not fetched."""
    if not embedded.ready():
        return ()
    left_out = target_texts(Result(result).manifest)
    return tuple(Texts(corpus.name, corpus, TOKENS) for corpus in label_corpora(left_out=left_out))
