"""What a model and a SAE are, read from their small JSON files alone: no weights, no torch.

This is where a SAE that does not fit is refused, before anything is loaded.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sts_core import folders, hub
from sts_core.bundle import embedded
from sts_core.errors import UserError, nearest
from sts_core.fingerprint import sha256_folder
from sts_core.nets import local, registry

SITES = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_post": "resid_post",
    "hook_mlp_out": "mlp_out",
    "hook_attn_out": "attn_out",
}
"""SAELens' name of a place in a block -> ours."""
SAE_FILES = (".safetensors", "cfg.json")
"""What makes a SAE what it is; reports and specs beside it do not."""
MODEL_FILES = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""What decides a model's numbers: weights, settings, the chat template, and the tokenizer in any of its forms."""
_HOOK = re.compile(r"blocks\.(\d+)\.(\w+)")
_MODULE = re.compile(r"(?:\w+\.)*?(?:layers|h)\.(\d+)(?:\.([\w.]+))?")
"""A block, or a module in it, under transformers' name, with or without the names of what holds the blocks."""
_PARTS = {"mlp": "mlp_out", "self_attn": "attn_out", "attn": "attn_out", "attention": "attn_out"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ModelInfo:
    """A language model, before it is loaded."""

    name: str
    folder: Path
    revision: str
    family: str
    layers: int
    width: int
    context: int
    chat: bool
    """Whether its tokenizer brings a chat template."""
    parameters: int
    """Estimated from the weights' size on disk."""
    adapter: Path | None = None
    """The folder of a PEFT adapter that lies over the model."""

    def public(self) -> dict[str, Any]:
        """For manifests: everything but the places on this machine."""
        return {k: v for k, v in asdict(self).items() if k not in ("folder", "adapter")}


@dataclass(frozen=True)
class SaeInfo:
    """A sparse autoencoder, before it is loaded."""

    name: str
    folder: Path
    revision: str
    architecture: str
    features: int
    width: int
    hook: str
    layer: int
    model_name: str | None
    """The model its metadata says it was trained on."""
    site: str = "resid_post"
    """Which stream of the block it reads: one of `SITES`' values, or the path of the module whose output it is."""

    def public(self) -> dict[str, Any]:
        """For manifests: everything but the place on this machine."""
        return {k: v for k, v in asdict(self).items() if k != "folder"}


def find_model(name: str) -> ModelInfo:
    """The model behind an embedded name, a folder, or a hub id."""
    if name == embedded.MODEL_NAME:
        embedded.require()
        return _read_model(name, embedded.model_dir(), embedded.model_revision())
    path = Path(name).expanduser()
    if (path / "adapter_config.json").is_file():
        return _with_adapter(name, path)
    if path.is_dir():
        return _read_model(name, path, sha256_folder(path, MODEL_FILES)[:16])
    if _HUB_ID.fullmatch(name) and not path.exists():
        folder, revision = _from_hub(name)
        return _read_model(name, folder, revision)
    raise UserError(
        f"There is no model {name!r}{nearest(name, [embedded.MODEL_NAME])}",
        f'Use "{embedded.MODEL_NAME}" (embedded), a saved model\'s folder, or a hub id ("Qwen/Qwen2.5-7B-Instruct").',
    )


def find_sae(name: str) -> SaeInfo:
    """The SAE behind `demo/NAME`, a folder SAELens saved, or `release:id` of its registry."""
    shipped = shipped_saes()
    if name in shipped:
        return _read_sae(name, folders.DEMO / name.removeprefix("demo/"))
    path = Path(name).expanduser()
    if path.is_dir():
        return _read_sae(name, path)
    if ":" in name and not path.exists():
        return _read_sae(name, _sae_from_hub(name))
    raise UserError(
        f"There is no SAE {name!r}{nearest(name, shipped)}",
        f'Use {" or ".join(shipped) or "demo/…"} (embedded), a folder SAELens saved, or "release:id" of its registry.',
    )


def shipped_saes() -> list[str]:
    """The embedded SAEs, as `demo/NAME`."""
    return sorted(f"demo/{cfg.parent.name}" for cfg in folders.DEMO.glob("*/cfg.json"))


def check_made_from(base: ModelInfo, tuned: ModelInfo) -> None:
    """Refuse a model that cannot have been made from the prediction's."""
    if (tuned.width, tuned.layers) != (base.width, base.layers):
        raise UserError(
            f"{tuned.name} has {tuned.layers} layers, {tuned.width} wide; {base.name} has {base.layers}, {base.width}",
            "Name a model that was fine-tuned from the prediction's.",
        )


def fit(model: ModelInfo, sae: SaeInfo, layer: int | None) -> list[str]:
    """Refuse a SAE that cannot read this model; return what is only worth a warning."""
    if layer is not None and layer != sae.layer:
        raise UserError(
            f"The spec says layer {layer}, but {sae.name} reads layer {sae.layer} ({sae.hook})",
            f"Leave layer out, or choose a SAE of layer {layer}.",
        )
    if sae.layer >= model.layers:
        raise UserError(
            f"{sae.name} reads layer {sae.layer}, but {model.name} has only layers 0 to {model.layers - 1}",
            "Choose a SAE that was trained on this model.",
        )
    if sae.width != model.width:
        raise UserError(
            f"{sae.name} expects residuals {sae.width} wide, but {model.name} is {model.width} wide",
            "Choose a SAE that was trained on this model.",
        )
    if sae.model_name and not _same_model(sae.model_name, model):
        return [f"The SAE says it was trained on {sae.model_name}, not on {model.name}."]
    return []


def _same_model(trained_on: str, model: ModelInfo) -> bool:
    own = {model.name.casefold(), model.name.rsplit("/", 1)[-1].casefold(), model.folder.name.casefold()}
    return trained_on.casefold() in own or trained_on.rsplit("/", 1)[-1].casefold() in own


def _read_model(name: str, folder: Path, revision: str) -> ModelInfo:
    config = _read_json(folder / "config.json", f"{name} is not a saved model")
    text = config.get("text_config") or config
    try:
        layers = int(_first(text, "num_hidden_layers", "n_layer"))
        width = int(_first(text, "hidden_size", "n_embd"))
        context = int(_first(text, "max_position_embeddings", "n_positions", "n_ctx"))
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"The config.json of {name} does not describe a decoder",
            "Use a causal language model that transformers can load.",
        ) from None
    tokenizer = folder / "tokenizer_config.json"
    chat = (folder / "chat_template.jinja").exists() or (
        tokenizer.exists() and "chat_template" in tokenizer.read_text()
    )
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return ModelInfo(
        name, folder, revision, str(config.get("model_type", "?")), layers, width, context, chat, size // 2
    )


def _with_adapter(name: str, folder: Path) -> ModelInfo:
    """A base model with a PEFT adapter over it; the adapter's own settings name the base."""
    config = _read_json(folder / "adapter_config.json", f"{name} is not a PEFT adapter")
    base = str(config.get("base_model_name_or_path") or "")
    if not base or Path(base).expanduser().resolve() == folder.resolve():
        raise UserError(f"The adapter {name} does not say which model it lies over", "Save it again with PEFT.")
    below = find_model(base)
    revision = f"{below.revision}+{sha256_folder(folder, MODEL_FILES)[:12]}"
    return replace(below, name=name, revision=revision, adapter=folder)


def _read_sae(name: str, folder: Path) -> SaeInfo:
    config = _read_json(folder / "cfg.json", f"{name} is not a SAE that SAELens saved")
    metadata = config.get("metadata") or {}
    hook, layer, site = _place(name, metadata, config)
    if (metadata.get("model_from_pretrained_kwargs") or {}).get("center_writing_weights"):
        raise UserError(
            f"{name} reads a model whose weights were centred first, which a saved model's are not",
            "Use a SAE that was trained on the model as it is saved.",
        )
    features, width = config.get("d_sae"), config.get("d_in")
    if type(features) is not int or type(width) is not int:
        raise UserError(f"The cfg.json of {name} does not give d_in and d_sae", "Save the SAE again with SAELens.")
    _check_weights(name, folder, features, width)
    return SaeInfo(
        name=name, folder=folder, revision=sha256_folder(folder, SAE_FILES)[:16],
        architecture=str(config.get("architecture", "standard")), features=features, width=width,
        hook=hook, layer=layer, site=site,
        model_name=metadata.get("model_name") or config.get("model_name"),
    )  # fmt: skip


def _check_weights(name: str, folder: Path, features: int, width: int) -> None:
    """Read the header of the weights: a file that is torn, or of another size, is told before a model is loaded."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                shape = file.get_slice("W_dec").get_shape() if "W_dec" in file.keys() else None  # noqa: SIM118
        except (OSError, SafetensorError):
            raise UserError(f"The weights of {name} cannot be read", "Copy or save the SAE again.") from None
        if shape is not None and list(shape) != [features, width]:
            raise UserError(
                f"The weights of {name} are {' × '.join(map(str, shape))}, its cfg.json says {features} × {width}",
                "Copy or save the SAE again.",
            )


def _place(name: str, metadata: dict[str, Any], config: dict[str, Any]) -> tuple[str, int, str]:
    """Where a SAE reads: its own word for it, the block, and the site in it.

    SAELens may name the place twice, in its own words and by transformers' module; the module is the exact one.
    """
    hook = metadata.get("hook_name") or config.get("hook_name") or ""
    module = metadata.get("hf_hook_name") or ""
    if not isinstance(hook, str) or not isinstance(module, str):
        raise UserError(f"The cfg.json of {name} does not name a hook in words", "Save the SAE again with SAELens.")
    own, inside = _HOOK.fullmatch(hook), _MODULE.fullmatch(module.removesuffix(".output"))
    known = (int(own[1]), SITES[own[2]]) if own and own[2] in SITES else None
    if known is not None and not module:
        return hook, *known
    if inside is None or (inside[2] or "").endswith(".input"):
        raise UserError(
            f"{name} reads {module or hook or 'an unnamed place'}, which is not supported",
            f"Use a SAE on one of: {', '.join(f'blocks.L.{site}' for site in SITES)}.",
        )
    layer, path = int(inside[1]), {None: "resid_post", "input": "resid_pre"}.get(inside[2], inside[2])
    # What goes into a block is what comes out of the one before.
    same = {(layer, path), (layer + 1, "resid_pre") if path == "resid_post" else (layer - 1, "resid_post")}
    if known is not None and path in ("resid_pre", "resid_post") and known in same:
        return hook, *known
    if known is not None and (known[0] != layer or known[1].startswith("resid") or path.startswith("resid")):
        raise UserError(
            f"{name} names two places: {hook} and {module}", "Correct hook_name or hf_hook_name in its cfg.json."
        )
    return hook or module, layer, path


def place_of_module(module: str) -> str | None:
    """The SAELens name of a place that is given as transformers' module, where there is one."""
    inside = _MODULE.fullmatch(module.removesuffix(".output"))
    site = ("resid_post" if inside[2] is None else _PARTS.get(inside[2])) if inside else None
    return f"blocks.{inside[1]}.hook_{site}" if inside and site else None


def _read_json(path: Path, otherwise: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{otherwise}: no {path.name} in it", "Name the folder that holds it.") from None
    except (ValueError, RecursionError, OSError):
        raise UserError(f"{otherwise}: its {path.name} cannot be read", "Save it again.") from None
    if not isinstance(value, dict):
        raise UserError(f"{otherwise}: its {path.name} is not a JSON object", "Save it again.")
    return value


def _first(config: dict[str, Any], *names: str) -> Any:
    """The value under the first of these names that is there; KeyError when none is."""
    return config[next((name for name in names if name in config), names[0])]


def _from_hub(name: str) -> tuple[Path, str]:
    """The hub's snapshot of a model, downloaded or already there, and its commit."""
    hub.prepare()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    wanted = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted))
    except GatedRepoError:
        raise UserError(
            f"{name} is gated: its licence must be accepted first",
            f"Accept it at https://huggingface.co/{name} and set HF_TOKEN.",
        ) from None
    except RepositoryNotFoundError:
        raise UserError(f"The hub has no model {name!r}", "Check the id; a private one needs HF_TOKEN.") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{name} is neither on this machine nor to be had from the hub now ({type(error).__name__})",
            f'Check the connection, name a folder with the saved model, or use "{embedded.MODEL_NAME}" (embedded).',
        ) from None
    return folder, folder.name[:16]


def _sae_from_hub(name: str) -> Path:
    """Download `release:id` once through SAELens and keep it as a folder SAELens can load."""
    release, sae_id = name.split(":", 1)
    known = registry.read().ids()
    if release not in known:
        raise UserError(
            f"SAELens knows no release {release!r}{nearest(release, known)}",
            "`sts saes MODEL` lists what there is for a model; or name a folder.",
        )
    if sae_id not in known[release]:
        raise UserError(
            f"{release} has no SAE {sae_id!r}{nearest(sae_id, known[release])}",
            f"`sts saes {registry.read().releases[release].model}` lists what there is.",
        )
    folder = local.sae_folder(name)
    if not (folder / "cfg.json").exists():
        from sts_core.nets.saes import download_sae

        download_sae(release, sae_id, folder)
    return folder
