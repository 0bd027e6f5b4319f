"""What a process that keeps a model loaded can be asked, by name: JSON in, JSON out (`jobs.warm_worker`).

A UserError tells what the one who asks must change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sts_core.errors import UserError
from sts_core.measure.probe import ProbeRequest, probe
from sts_core.measure.resolve import resolve
from sts_core.nets.describe import find_model, find_sae
from sts_core.results.shelf import find
from sts_core.spec import Spec
from sts_core.spec_checks import known_keys, whole

MOST_FEATURES = 64
"""Features that one question may ask for."""


def _probe(values: dict[str, Any]) -> dict[str, Any]:
    return probe(ProbeRequest.from_dict(values))


def _feature(values: dict[str, Any]) -> dict[str, Any]:
    """`{model, sae, feature, top}` -> `{feature, promotes, promoted, suppresses, suppressed, near, cosine, how}`.

    `features`, a list in place of `feature`, gives `{features: […], how}`.
    """
    from sts_core.measure import dictionary  # torch

    known_keys(values, ("model", "sae", "feature", "features", "top"), "the request")
    for need in ("model", "sae"):
        if not isinstance(values.get(need), str):
            raise UserError(f"The request does not say which {need}", f"Add {need}.")
    if ("feature" in values) == ("features" in values):
        raise UserError("The request must name a feature, or a list of features", "Add feature, a whole number.")
    asked = values["features"] if "features" in values else [values["feature"]]
    if not isinstance(asked, list) or not 1 <= len(asked) <= MOST_FEATURES:
        raise UserError("features is no list of features", f"Give 1 to {MOST_FEATURES} whole numbers.")
    for feature in asked:
        whole("feature", feature, least=0)
    top = values.get("top", dictionary.TOP)
    whole("top", top, least=1)
    if top > dictionary.MOST_TOP:
        raise UserError(f"top is {top}", f"At most {dictionary.MOST_TOP} tokens are named.")
    model, sae = find_model(values["model"]), find_sae(values["sae"])
    found = [dictionary.public(one) for one in dictionary.meaning(model, sae, asked, top)]
    told = {"features": found} if "features" in values else found[0]
    return {**told, "how": dictionary.HOW}


def planned(spec: Spec, prompts: int = 0) -> dict[str, Any]:
    """What a run of this spec will do, and whether its result is there already; nothing is computed."""
    resolved = resolve(spec)
    from sts_core.measure.plan import plan
    from sts_core.nets.tokenizer import load_tokenizer

    told = plan(resolved, load_tokenizer(resolved.model), prompts)
    return {**told, "stored": find(resolved.key) is not None}


def _plan(values: dict[str, Any]) -> dict[str, Any]:
    """`{spec, prompts}` -> what `sts plan` prints as JSON."""
    known_keys(values, ("spec", "prompts"), "the request")
    prompts = values.get("prompts", 0)
    whole("prompts", prompts, least=0)
    return planned(Spec.from_dict(values.get("spec", {})), prompts)


ANSWERS: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "probe": _probe,
    "feature": _feature,
    "plan": _plan,
}
