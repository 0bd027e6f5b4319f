"""What there is to choose from: models, and the SAEs that read them. Nothing is loaded and nothing is fetched.

Embedded ones come first, then those on this machine, then the rest of SAELens' registry. Each SAE says whether it can
be measured with here, or why not; each model says whether the hub asks for a licence first.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path
from typing import Any, Literal

from sts_core import folders
from sts_core.bundle import embedded
from sts_core.errors import UserError, nearest
from sts_core.nets import local, registry
from sts_core.nets.describe import SITES, place_of_module, shipped_saes
from sts_core.nets.registry import Release, Row

Source = Literal["embedded", "here", "registry"]
Kind = Literal["residual", "mlp", "attention", "transcoder", "crosscoder", "other"]

_EMBEDDED_NAMES = (embedded.MODEL_NAME, "HuggingFaceTB/SmolLM2-135M-Instruct")
_GATED = (
    (re.compile(r"meta-llama/.+", re.I), "Meta's Llama licence"),
    (re.compile(r"google/(?!gemma-scope)[\w-]*gemma[\w.-]*", re.I), "Google's Gemma terms"),
    (re.compile(r"CohereLabs/(?:c4ai-|aya-).+", re.I), "Cohere's licence"),
)
"""Families that their makers hand out only after a licence was accepted; copies under other names are not."""
_PLACES = {
    "resid_pre": "the stream before a block", "resid_mid": "the stream in the middle of a block",
    "mlp_out": "the output of the MLP", "attn_out": "the output of attention", "attn.z": "the heads of attention",
    "embed": "the embedding",
}  # fmt: skip
_TUNING = re.compile(r"-(?:it|pt|instruct|base|chat)(?=-|$)")
"""What tells a base model's name from its tuned sibling's."""


@dataclass(frozen=True)
class ModelEntry:
    """A model to choose."""

    name: str
    """What a spec calls it."""
    names: tuple[str, ...]
    """All it may be called by here, `name` included."""
    source: Source
    saes: int
    """How many SAEs were trained on it."""
    usable: int
    """How many of them can be measured with here."""
    gated: bool
    """Whether a licence must be accepted before the hub hands it out."""
    note: str
    """What to do before it can be used; empty when nothing."""


@dataclass(frozen=True)
class SaeEntry:
    """A SAE to choose. What its source does not state is None."""

    name: str
    """What a spec calls it: `demo/NAME`, a folder, or `release:id`."""
    source: Source
    """`here` also for one of the registry that was fetched before."""
    release: str | None
    id: str | None
    model: str
    """The model it was trained on; for the registry's, the hub id."""
    hook: str | None
    """Where it reads, in SAELens' words."""
    layer: int | None
    site: str | None
    """The same without the block: `resid_post`."""
    kind: Kind
    width: int | None
    """How many features it has."""
    l0: float | None
    """How many of them are active on a token, on average, as its makers measured it."""
    neuronpedia: str | None
    architecture: str | None
    loader: str
    """SAELens' name for how it is read."""
    files: str
    """How its weights are stored: safetensors, npz or pt."""
    gated: bool
    """Whether its model is (see `ModelEntry`)."""
    usable: bool
    why_not: str
    """Why it cannot be measured with here; empty when it can."""


def models(text: str = "") -> list[ModelEntry]:
    """Every model known here whose names hold all words of the text: embedded, on this machine, then the registry's."""
    known = registry.read()
    here = local.models()
    total, usable = _counts()
    found = [_embedded_model()]
    for name in [*here, *sorted((hub for hub in known.names if hub not in here), key=str.casefold)]:
        hub = _hub_id(name) or name
        source: Source = "here" if name in here else "registry"
        names = tuple(dict.fromkeys([name, *known.names.get(hub, ())]))
        asked = gate(name) if source == "registry" else None
        found.append(ModelEntry(name, names, source, total[hub], usable[hub], asked is not None, asked or ""))
    words = text.casefold().split()
    return [entry for entry in found if all(any(word in name.casefold() for name in entry.names) for word in words)]


def saes(model: str) -> list[SaeEntry]:
    """The SAEs that were trained on a model, whether usable here or not: embedded, on this machine, the registry's.

    The model is an embedded name, a hub id, a name the registry or Neuronpedia uses, or a saved model's folder. A model
    that is here, but has no SAE, gives an empty list; a name nobody knows is refused.
    """
    names = _names(model)
    found = [_folder_sae(name, folders.DEMO / name.removeprefix("demo/"), "embedded") for name in shipped_saes()]
    found += [_folder_sae(str(folder), folder, "here") for folder in local.saes()]
    own = [sae for sae in found if sae is not None and sae.model and names & _names(sae.model)]
    hub = _hub_id(model)
    own += sorted(_registered(hub), key=_order) if hub else []
    if not own and not _is_known(model):
        near = siblings(model)
        hint = f"Those of {near[0].name} may serve: `sts saes {near[0].name}`." if near else "See `sts models`."
        every = [name for names in registry.read().names.values() for name in names]
        raise UserError(f"No SAE of {model!r} is known{'' if near else nearest(model, every)}", hint)
    return own


def siblings(model: str) -> list[ModelEntry]:
    """The base model or the tuned one of the same name, where it has SAEs: they fit its shape."""
    own, stem = _names(model), _stem(_hub_id(model) or model)
    return [entry for entry in models() if entry.saes and _stem(entry.name) == stem and not own & _names(entry.name)]


def gate(model: str) -> str | None:
    """What must be accepted before the hub hands the model out, and where; None when nothing is known to be asked."""
    # A copy under another owner is not asked for; only a short name stands for the original.
    hub = model if "/" in model else _hub_id(model) or registry.HUB_IDS.get(model, model)
    for family, licence in _GATED:
        if family.fullmatch(hub):
            return f"Accept {licence} at https://huggingface.co/{hub}, then set HF_TOKEN."
    return None


def _embedded_model() -> ModelEntry:
    own = saes(embedded.MODEL_NAME)
    note = "" if embedded.ready() else "Fetch it once: `sts demo fetch`."
    return ModelEntry(
        embedded.MODEL_NAME, _EMBEDDED_NAMES, "embedded", len(own), sum(s.usable for s in own), False, note
    )


def _names(model: str) -> set[str]:
    """What a model is known by, for comparing: all names of the registry, and the last part of each."""
    hub = _hub_id(model)
    names = [model.rstrip("/"), *(registry.read().names[hub] if hub else ())]
    return {name.casefold().rsplit("/", 1)[-1] for name in names}


def _hub_id(model: str) -> str | None:
    """The registry's model behind a name, a folder called like it, or a copy of it under another owner."""
    return _known_names().get(model.rstrip("/").casefold().rsplit("/", 1)[-1])


@remembered
def _known_names() -> dict[str, str]:
    return {name.casefold().rsplit("/", 1)[-1]: hub for hub, names in registry.read().names.items() for name in names}


def _stem(model: str) -> str:
    return _TUNING.sub("", model.casefold().rsplit("/", 1)[-1])


def _is_known(model: str) -> bool:
    return model in (*_EMBEDDED_NAMES, *local.models()) or os.path.isdir(os.path.expanduser(model))


@remembered
def _counts() -> tuple[Counter[str], Counter[str]]:
    """How many SAEs the registry has of a model, and how many of them are usable."""
    total: Counter[str] = Counter()
    usable: Counter[str] = Counter()
    for release in registry.read().releases.values():
        total[release.model] += len(release.saes)
        usable[release.model] += sum(not _why_not(release, row) for row in release.rows())
    return total, usable


def _registered(hub: str) -> list[SaeEntry]:
    fetched = {folder.name for folder in local.fetched_saes()}
    gated = gate(hub) is not None and hub not in local.models()
    found = []
    for release in registry.read().releases.values():
        for row in release.rows() if release.model == hub else ():
            name = f"{release.name}:{row.id}"
            why_not = _why_not(release, row)
            found.append(
                SaeEntry(
                    name=name, source="here" if local.sae_folder_name(name) in fetched else "registry",
                    release=release.name, id=row.id, model=hub, hook=row.hook, layer=row.layer, site=_site(row.hook),
                    kind=_kind(row.hook, f"{release.name} {row.architecture}"), width=row.width, l0=row.l0,
                    neuronpedia=row.neuronpedia, architecture=row.architecture, loader=release.loader,
                    files=release.files, gated=gated, usable=not why_not, why_not=why_not,
                )
            )  # fmt: skip
    return found


def _folder_sae(name: str, folder: Path, source: Source) -> SaeEntry | None:
    """A SAE from the configuration SAELens saved with it; None when that cannot be read."""
    config = local.read_json(folder / "cfg.json")
    if config is None:
        return None
    metadata: dict[str, Any] = config["metadata"] if isinstance(config.get("metadata"), dict) else {}
    hook = str(metadata.get("hook_name") or config.get("hook_name") or "") or None
    hook = hook or place_of_module(str(metadata.get("hf_hook_name") or ""))
    match = re.match(r"blocks\.(\d+)\.", hook or "")
    architecture = str(config.get("architecture", "standard"))
    width = config.get("d_sae")
    kind = _kind(hook, architecture)
    why_not = _unfit(hook, kind)
    return SaeEntry(
        name=name, source=source, release=None, id=None, hook=hook, layer=int(match[1]) if match else None,
        model=str(metadata.get("model_name") or config.get("model_name") or ""), site=_site(hook), kind=kind,
        width=width if isinstance(width, int) else None, l0=None, neuronpedia=metadata.get("neuronpedia_id"),
        architecture=architecture, loader="sae_lens", files="safetensors", gated=False,
        usable=not why_not, why_not=why_not,
    )  # fmt: skip


def _site(hook: str | None) -> str | None:
    return re.sub(r"^blocks\.\d+\.", "", hook).replace("hook_", "") if hook else None


def _kind(hook: str | None, words: str) -> Kind:
    site = _site(hook) or ""
    for kind in ("crosscoder", "transcoder"):
        if kind in words:
            return kind
    if site.startswith("resid"):
        return "residual"
    return "mlp" if site.startswith("mlp") else "attention" if site.startswith("attn") else "other"


def _why_not(release: Release, row: Row) -> str:
    if row.needs == "sequence":
        return "It encodes whole sequences, not single tokens."
    why_not = _unfit(row.hook, _kind(row.hook, f"{release.name} {row.architecture}"))
    if not why_not and row.needs == "centred":
        return "It reads a model whose weights were centred first, which a saved model's are not."
    return why_not


def _unfit(hook: str | None, kind: Kind) -> str:
    if kind in ("transcoder", "crosscoder"):
        return f"It is a {kind}: what it gives back is not what it reads."
    if hook is None:
        return "Where it reads is not stated."
    if hook.rsplit(".", 1)[-1] in SITES and hook.startswith("blocks."):
        return ""
    return f"It reads {_PLACES.get(_site(hook) or '', hook)}, where the engine does not look."


def _order(sae: SaeEntry) -> tuple[Any, ...]:
    """By layer, then width, then how sparse; what is not stated comes last."""
    place = (-1 if sae.layer is None else sae.layer, sae.kind != "residual", sae.kind)
    return (*place, sae.width or float("inf"), sae.l0 or float("inf"), sae.name)
