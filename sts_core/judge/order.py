"""`sts label`: a finished result's features are named by a judge, and the names tested on texts kept aside."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sts_core.errors import UserError
from sts_core.judge.batch import Counts, Price, Work, label_features
from sts_core.judge.chat import ChatJudge
from sts_core.judge.detection import detect, fingerprint
from sts_core.judge.endpoint import KEY_VARIABLE, Endpoint
from sts_core.judge.held_out import MOST_FEATURES, HeldOut, read_held_out
from sts_core.judge.judges import Judge, label_set
from sts_core.judge.provenance import Provenance
from sts_core.judge.shown import about, label_gallery, sources_only, strongest, unequal
from sts_core.progress import Progress, Watcher, silent
from sts_core.results.folder import Result
from sts_core.results.labels import Label, read_labels, write_labels
from sts_core.spec_checks import is_number, known_keys, whole
from sts_core.stats.ranking import top
from sts_core.text.label_corpora import LABEL_CORPORA, label_corpora, target_texts

if TYPE_CHECKING:
    from sts_core.measure.resolve import Resolved

PROVENANCE, LOCAL = "provenance", "local"
TOP = 500
"""Features that a judge which takes its time is asked about, if not told otherwise."""
TOKENS = 40_000
"""Read of every corpus."""


@dataclass(frozen=True)
class LabelOrder:
    """What is to be labelled, and by whom."""

    result: str
    """A finished result's folder."""
    judge: str = PROVENANCE
    """`provenance`, `local`, or the address of an OpenAI-compatible endpoint."""
    labels: tuple[str, ...] = tuple(LABEL_CORPORA)
    """Labels; `name=data` brings a corpus of one's own, named as a corpus of `sts sae train` is."""
    features: tuple[int, ...] = ()
    """Only these."""
    top: int | None = None
    """Else the first so many by shift: all that fire for `provenance`, 500 for any other."""
    model: str | None = None
    """Which model judges: a name for `local`, the endpoint's own name for an address."""
    check: bool = True
    """Test the labels on held-out texts."""
    tokens: int = TOKENS
    key_variable: str = KEY_VARIABLE
    """The environment variable that holds an endpoint's key."""
    price: tuple[float, float] | None = None
    """Of a million tokens in and out."""
    timeout: float = 60.0
    """Seconds an endpoint has for an answer."""

    def __post_init__(self) -> None:
        whole("tokens", self.tokens, least=1)
        if self.top is not None:
            whole("top", self.top, least=1)
        for feature in self.features:
            whole("feature", feature, least=0)
        if self.price is not None and not all(is_number(p) and p >= 0 for p in self.price):
            raise UserError("The price is not two numbers", "Of a million tokens in and out: --price 0.15,0.60.")
        if not is_number(self.timeout) or not 0 < self.timeout <= 3_600:
            raise UserError(f"The timeout is {self.timeout}", "Give seconds, up to 3,600.")
        self.names_and_corpora()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LabelOrder:
        """Check every key; lists become tuples."""
        known_keys(values, [f.name for f in fields(cls)], "the order")
        if not isinstance(values.get("result"), str):
            raise UserError("The order does not say which result", "Add result, the folder of a finished one.")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)

    def names_and_corpora(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """The label set, and label -> corpus.

        A word without a corpus of its own is an embedded corpus where it is called so. Labels that are words alone
        are given to the embedded corpora's examples, by a judge that can read.
        """
        pairs = [entry.partition("=") for entry in self.labels]
        names = label_set([name.strip() for name, _, _ in pairs])
        given = {name: data.strip() for name, (_, _, data) in zip(names, pairs, strict=True) if data.strip()}
        corpora = {name: given.get(name) or LABEL_CORPORA[name] for name in names if name in {**given, **LABEL_CORPORA}}
        wordy = [name for name in names if name not in corpora]
        if wordy and self.judge == PROVENANCE:
            raise UserError(
                f"There is no corpus {wordy[0]!r}, and provenance names a feature after its corpus",
                f"Use {', '.join(LABEL_CORPORA)}, or bring one: --labels {wordy[0]}=texts.jsonl.",
            )
        return names, corpora if not wordy and len(corpora) > 1 else {**LABEL_CORPORA, **given}


class Labelled(NamedTuple):
    """What came of an order."""

    judge: str
    counts: Counts
    sae: str
    """Revisions that the labels belong to."""
    model: str
    warnings: list[str]


class Held(NamedTuple):
    """How labels hold on a fine-tuned model's examples, beside how they do on the model's own."""

    judge: str
    model: str
    """The fine-tuned model's revision."""
    features: int
    """Labels that could be tested on both."""
    before: float
    """Mean score on the model's own examples; NaN without any."""
    after: float
    difference: float
    se: float | None
    """Of the difference, features taken for independent."""
    untested: int
    """Labels with too few held-out texts on either."""


def label_result(order: LabelOrder, watch: Watcher = silent) -> Labelled:
    """Label the features of a result; what was asked before in the same words is not asked again."""
    from sts_core.measure.gallery_sources import resolved_again

    folder = Path(order.result)
    result = Result(folder)
    resolved = resolved_again(result)
    names, corpora = order.names_and_corpora()
    features = chosen_features(result, order)
    left_out = target_texts(result.manifest)
    judge, warnings = make_judge(order)
    gallery = label_gallery(folder, label_corpora(corpora, left_out), features, order.tokens, watch)
    warnings += [*unequal(gallery), *gallery.manifest.get("warnings", [])]
    held_out = None
    if order.check:
        tested = list(features[:MOST_FEATURES])
        if len(tested) < len(features):
            warnings.append(f"The labels of the first {len(tested):,} features are tested, not of all.")
        held_out = _held_out(resolved, resolved.model, result, corpora, tested, watch)
    instant = order.judge == PROVENANCE
    question = (sources_only if instant else strongest)(gallery, names)
    work = Work(
        resolved.sae.revision, resolved.model.revision, features, question, about(gallery), names, held_out, instant
    )
    counts = label_features(judge, work, watch, Price(*order.price) if order.price else None)
    return Labelled(judge.name, counts, work.sae, work.model, warnings)


def rescore(order: LabelOrder, tuned: str, watch: Watcher = silent) -> Held:
    """Do the judge's labels hold on a fine-tuned model's examples? The same held-out texts, read by that model."""
    from sts_core.measure.gallery_sources import resolved_again
    from sts_core.nets.describe import find_model, fit

    result = Result(Path(order.result))
    resolved, info = resolved_again(result), find_model(tuned)
    fit(info, resolved.sae, None)
    judge, _ = make_judge(order)
    _, corpora = order.names_and_corpora()
    own = read_labels(resolved.sae.revision, resolved.model.revision, judge.name)
    wanted = set(chosen_features(result, order)[:MOST_FEATURES])
    labels = [label for label in own if label.label and label.feature in wanted]
    if not labels:
        raise UserError(f"{judge.name} has labelled none of these features", "Label them first, without --on.")
    held_out = _held_out(resolved, info, result, corpora, [label.feature for label in labels], watch)
    on = fingerprint(held_out.windows)
    again: list[Label] = []
    for number, label in enumerate(labels):
        watch(Progress("testing the labels again", number, len(labels), "features"))
        instant = order.judge == PROVENANCE
        found = detect(judge, label.label or "", label.explanation, label.feature, held_out, instant)
        evidence = {"model": info.name.rstrip("/").rsplit("/", 1)[-1], "detection": {**found.public(), "on": on}}
        again.append(label._replace(detection=found.score, evidence=json.dumps(evidence), at="", asked=""))
    write_labels(resolved.sae.revision, info.revision, judge.name, again, again=True)
    return _compared(judge.name, info.revision, labels, again)


def chosen_features(result: Result, order: LabelOrder) -> list[int]:
    """The features of an order: those named, else the first by shift, of those that fire at all."""
    shift = result.shift.sort_values("feature", ignore_index=True)
    if order.features:
        worst = max(order.features)
        if worst >= len(shift):
            raise UserError(f"There is no feature {worst}", f"Choose one from 0 to {len(shift) - 1}.")
        return list(dict.fromkeys(order.features))
    ranked = top(shift["shift_icl"].to_numpy(), len(shift))
    fires = ((shift["mean_base"] > 0) | (shift["shift_icl"] > 0)).to_numpy()
    limit = order.top or (len(shift) if order.judge == PROVENANCE else TOP)
    return [int(feature) for feature in ranked if fires[feature]][:limit]


def make_judge(order: LabelOrder) -> tuple[Judge, list[str]]:
    """Who is asked, and what is to be known of them."""
    if order.judge == PROVENANCE:
        return Provenance(), []
    if order.judge == LOCAL:
        from sts_core.judge.local import LocalModel

        talker = LocalModel(order.model) if order.model else LocalModel()
        return ChatJudge(talker), talker.warnings
    endpoint = Endpoint(order.judge, order.model or "", order.key_variable, order.timeout)
    endpoint.reach()
    return ChatJudge(endpoint), []


def _held_out(
    resolved: Resolved, model: Any, result: Result, corpora: dict[str, str], features: Sequence[int], watch: Watcher
) -> HeldOut:
    aside = label_corpora(corpora, target_texts(result.manifest), held_out=True)
    run = resolved.spec.run
    return read_held_out(
        model, resolved.sae, aside, features, run.device, run.dtype,
        sae_dtype=resolved.sae_dtype, most_norm=result.manifest.get("outlier_norm"), watch=watch,
    )  # fmt: skip


def _compared(judge: str, model: str, before: Sequence[Label], after: Sequence[Label]) -> Held:
    pairs = np.array([(a.detection, b.detection) for a, b in zip(before, after, strict=True)], dtype=float)
    both = pairs[np.isfinite(pairs).all(axis=1)]
    if not len(both):
        return Held(judge, model, 0, math.nan, math.nan, math.nan, None, len(pairs))
    change = both[:, 1] - both[:, 0]
    se = float(change.std(ddof=1) / math.sqrt(len(change))) if len(change) > 1 else None
    means = both.mean(axis=0)
    return Held(
        judge, model, len(both), float(means[0]), float(means[1]), float(change.mean()), se, len(pairs) - len(both)
    )
