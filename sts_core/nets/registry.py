"""What SAELens' registry of public SAEs says, read from its data file alone: neither sae_lens nor torch is imported.

The registry names a release, an id and a path; where a SAE reads, how wide it is and which model it belongs to follows
from rules that lie in SAELens' loaders. They are applied here once, and the digest is kept beside the other caches: the
data file takes a second to parse, the digest some milliseconds. What the registry does not state stays unknown.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
import sys
from functools import cache as remembered
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sts_core import folders

_FORMAT = 1
"""Counted up when the digest's shape or one of the rules changes."""

_PATIENCE = 60.0
"""Seconds that a helper may take to parse the registry."""

HUB_IDS = {
    "gpt2-small": "openai-community/gpt2",
    "pythia-70m-deduped": "EleutherAI/pythia-70m-deduped",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    **{f"gemma-{of}": f"google/gemma-{of}" for of in ("2b", "2b-it", "2-2b", "2-2b-it", "2-9b", "2-9b-it", "2-27b")},
    **{f"qwen3-{of}b": f"Qwen/Qwen3-{of}B" for of in ("0.6", "1.7", "4", "8", "14")},
}
"""The hub's ids of the models that the registry calls by a short name."""
_OTHER_NAMES = {
    "openai-community/gpt2": ("gpt2",),
    "meta-llama/Meta-Llama-3-8B-Instruct": ("meta-llama/Llama-3-8B-Instruct", "Llama-3-8B-Instruct"),
    "meta-llama/Llama-3.1-8B": ("meta-llama/Meta-Llama-3.1-8B", "Meta-Llama-3.1-8B"),
    "meta-llama/Llama-3.1-8B-Instruct": ("meta-llama/Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-8B-Instruct"),
}
"""Names that people use, beside those of the registry."""

_RESIDUAL_LOADERS = (
    "dictionary_learning_1", "qwen_scope", "goodfire", "deepseek_r1", "temporal", "llama_scope_r1_distill",
)  # fmt: skip
"""Loaders whose SAEs all read the residual stream after a block."""
_ARCHITECTURES = {
    "gemma_2": "jumprelu", "llama_scope": "jumprelu", "llama_scope_r1_distill": "jumprelu", "qwen_scope": "topk",
    "goodfire": "standard", "deepseek_r1": "standard", "connor_rob_hook_z": "standard", "temporal": "temporal",
    "gemma_2_transcoder": "jumprelu_transcoder", "mwhanna_transcoder": "transcoder",
    "mntss_clt_layer_transcoder": "transcoder",
}  # fmt: skip
_FILES = {
    **dict.fromkeys(("dictionary_learning_1", "qwen_scope", "goodfire", "deepseek_r1", "connor_rob_hook_z"), "pt"),
    **dict.fromkeys(("gemma_2", "gemma_2_transcoder"), "npz"),
}


class Row(NamedTuple):
    """One SAE, as far as the registry tells."""

    id: str
    hook: str | None
    """Where it reads, in SAELens' words: `blocks.25.hook_resid_post`."""
    layer: int | None
    width: int | None
    """How many features it has."""
    l0: float | None
    neuronpedia: str | None
    architecture: str | None
    """As SAELens loads it, where the registry or the loader fixes it."""
    needs: str
    """`sequence`: it encodes whole sequences; `centred`: it reads a model whose weights were centred; else empty."""


class Release(NamedTuple):
    """SAEs that were published together."""

    name: str
    model: str
    """The hub id of the model they were trained on."""
    repo: str
    loader: str
    """SAELens' name for how it reads them."""
    saes: list[list[Any]]
    """Fields of `Row`, one list a SAE: fourteen thousand are cheap to keep so, and few are ever looked at."""

    @property
    def files(self) -> str:
        """How the weights are stored: `safetensors`, `npz`, or `pt` (which torch reads in its tensors-only mode)."""
        return _FILES.get(self.loader, "safetensors")

    def rows(self) -> list[Row]:
        return [Row(*values) for values in self.saes]


class Registry(NamedTuple):
    """The whole registry."""

    names: dict[str, list[str]]
    """Every model's hub id, and all it may be called by, the id included."""
    releases: dict[str, Release]

    def ids(self) -> dict[str, list[str]]:
        """Release → its SAEs' ids; together, `release:id`, they are a SAE's name in a spec."""
        return {name: [values[0] for values in release.saes] for name, release in self.releases.items()}


@remembered
def read() -> Registry:
    """The installed SAELens' registry; empty when SAELens is not installed."""
    source = _data_file()
    if source is None:
        return Registry({}, {})
    found = _from_digest(_kept(), source.stat().st_size)
    if found is None:
        _have_it_made()
        found = _from_digest(_kept(), source.stat().st_size)
    return found or make_digest()


def _have_it_made() -> None:
    """By a helper: the data file takes a second and much memory to parse, too much for what draws the pages."""
    command = [sys.executable, "-c", f"from {__name__} import make_digest; make_digest()"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, cwd=folders.PROJECT, capture_output=True, timeout=_PATIENCE, check=False)


def make_digest() -> Registry:
    """Parse the installed SAELens' data file, keep its digest, and return it."""
    source = _data_file()
    if source is None:
        return Registry({}, {})
    found = digest(_parse(source))
    value = {
        "format": _FORMAT, "bytes": source.stat().st_size, "names": found.names,
        "releases": list(found.releases.values()),
    }  # fmt: skip
    with contextlib.suppress(OSError):  # a cache that cannot be written costs a second, nothing else
        folders.atomic_write(_kept(), json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    return found


def digest(releases: dict[str, dict[str, Any]]) -> Registry:
    """The registry's own shape, with SAELens' rules applied."""
    found: dict[str, Release] = {}
    names: dict[str, list[str]] = {}
    for name, entry in releases.items():
        loader, repo = entry.get("conversion_func") or "sae_lens", str(entry["repo_id"])
        model = _model(str(entry["model"]), loader, repo)
        rows = [_row(name, entry, loader, sae) for sae in entry["saes"]]
        found[name] = Release(name, model, repo, loader, [list(row) for row in rows])
        known = names.setdefault(model, [])
        others = [model, model.rsplit("/", 1)[-1], *_OTHER_NAMES.get(model, ())]
        others += [str(entry["model"])] if HUB_IDS.get(entry["model"], entry["model"]) == model else []
        others += sorted({row.neuronpedia.split("/")[0] for row in rows if row.neuronpedia})
        for other in others:
            if other.casefold() not in map(str.casefold, known):
                known.append(other)
    return Registry(names, found)


def _kept() -> Path:
    return folders.cache() / f"catalogue-{version('sae-lens')}.json"


def _data_file() -> Path | None:
    try:
        version("sae-lens")
        spec = find_spec("sae_lens")
    except (PackageNotFoundError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "pretrained_saes.yaml"


def _parse(source: Path) -> dict[str, dict[str, Any]]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    parsed: dict[str, dict[str, Any]] = yaml.load(source.read_text(encoding="utf-8"), Loader=loader)
    return parsed


def _from_digest(kept: Path, size: int) -> Registry | None:
    """The kept digest, or None when there is none of this registry or it is damaged."""
    try:
        value = json.loads(kept.read_bytes())
        if value["format"] != _FORMAT or value["bytes"] != size:
            return None
        releases = {entry[0]: Release(*entry) for entry in value["releases"]}
        names: dict[str, list[str]] = value["names"]
        models = {release.model for release in releases.values()}
        whole = all(len(row) == len(Row._fields) for release in releases.values() for row in release.saes)
        return Registry(names, releases) if whole and releases and models == set(names) else None
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def _model(stated: str, loader: str, repo: str) -> str:
    """The hub id of the model. Gemma Scope's loader takes it from the repository, and the registry is wrong for one."""
    scope = re.search(r"gemma-scope-(\d+b)-(it|pt)", repo) if loader.startswith("gemma_2") else None
    if scope:
        stated = f"gemma-2-{scope[1]}" + ("-it" if scope[2] == "it" else "")
    return HUB_IDS.get(stated, stated)


def _row(release: str, entry: dict[str, Any], loader: str, sae: dict[str, Any]) -> Row:
    name, path = str(sae["id"]), str(sae["path"])
    neuronpedia = sae.get("neuronpedia") or None
    layer, hook = _place(loader, str(entry["repo_id"]), name, path)
    l0 = sae.get("l0") or _number(r"average_l0_(\d+)", path)
    overrides = entry.get("config_overrides") or {}
    centred = "center_writing_weights" in str(overrides.get("model_from_pretrained_kwargs", ""))
    return Row(
        id=name, hook=hook, layer=layer, l0=l0, neuronpedia=neuronpedia,
        width=_width(release, str(entry["repo_id"]), name, path, neuronpedia or ""),
        architecture=_architecture(loader, release, path),
        needs="sequence" if loader == "temporal" else "centred" if centred else "",
    )  # fmt: skip


def _place(loader: str, repo: str, name: str, path: str) -> tuple[int | None, str | None]:
    """Layer and hook, by the rule of each of SAELens' loaders."""
    # A canonical Gemma Scope id is an alias: its path says what it is.
    layer = _number(r"(?:blocks\.|layer_?|^l)(\d+)", path if loader.startswith("gemma") else name)
    if loader == "gemma_2" and path.startswith("embedding"):
        return None, "hook_embed"
    stated = re.match(r"blocks\.\d+\.(hook_[a-z]+(?:_[a-z]+)*)", name)
    tail: str | None
    if loader in _RESIDUAL_LOADERS:
        tail = "hook_resid_post"
    elif loader == "gemma_2":
        tail = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}.get(repo.rsplit("-", 1)[-1])
    elif loader == "gemma_3":
        parts = {"resid_post": "hook_resid_post", "mlp_out": "hook_mlp_out", "attn_out": "attn.hook_z"}
        parts |= {"transcoder": "hook_mlp_in", "clt": "hook_mlp_in"}
        tail = next((hook for part, hook in parts.items() if path.startswith(part)), None)
    elif loader == "llama_scope":
        kind = re.match(r"l\d+([rma])_", name)
        tail = {"r": "hook_resid_post", "m": "hook_mlp_out", "a": "hook_attn_out"}[kind[1]] if kind else None
    elif loader == "connor_rob_hook_z":
        tail = "attn.hook_z"
    elif loader in ("gemma_2_transcoder", "mwhanna_transcoder"):
        tail = "ln2.hook_normalized" if loader == "gemma_2_transcoder" else "mlp.hook_in"
    else:
        tail = stated[1] if stated else None
    return layer, None if tail is None or layer is None else f"blocks.{layer}.{tail}"


def _width(release: str, repo: str, name: str, path: str, neuronpedia: str) -> int | None:
    """The number of features where a name states it. `131k` is the power of two that is meant: 131,072."""
    text = f"{name} {path} {release} {repo}"
    if power := _number(r"width-2pow(\d+)", text):
        return 1 << power
    if exact := _number(r"(?:hook_[a-z_]+_|_ds)(\d{3,7})(?!\d)", text):
        return exact
    if qwen := _number(r"SAE-Res-.*-W(\d+)K", repo):
        return qwen * 1024
    rounded = re.search(r"width_(\d+)([km])", text) or re.search(r"-(\d+)(k)-", repo)
    rounded = rounded or re.search(r"[-_](\d+)(k)(?=[-_]|$)", neuronpedia)
    if rounded is None:
        return None
    return 1 << round(math.log2(int(rounded[1]) * (1_000 if rounded[2] == "k" else 1_000_000)))


def _architecture(loader: str, release: str, path: str) -> str | None:
    if loader == "gemma_3":
        if path.startswith(("transcoder", "clt")):
            return "jumprelu_skip_transcoder" if "affine" in path else "jumprelu_transcoder"
        return "jumprelu"
    if loader == "dictionary_learning_1":
        words = {"matryoshka": "jumprelu", "topk": "topk", "gated": "gated"}
        words |= dict.fromkeys(("vanilla", "standard", "panneal"), "standard")
        return next((kind for word, kind in words.items() if word in f"{release} {path}".lower()), None)
    return _ARCHITECTURES.get(loader)


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(found[1]) if found else None
