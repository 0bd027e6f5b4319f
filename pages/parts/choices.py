"""What a person chose on the page, as a spec, and back: plain values only, so that a link can hold them.

The names of the values are the names in the URL. Whatever stands there is checked again when it becomes a spec.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.spec import DOMAIN_NAME, MMLU_DOMAINS, POOLS, Spec
from sts_core.spec_file import to_toml

FILE_TYPES = ("jsonl", "json", "csv", "parquet")
MOST_DOMAIN_FILES = 200
FIELDS = ("question", "answer", "options", "cot")
DEFAULTS: dict[str, Any] = {
    "model": "smollm2-135m-instruct",
    "sae": "demo/smollm2-l15",
    "target": "gsm-symbolic",
    "domains": list(MMLU_DOMAINS),
    "domain_folder": "",
    "target_tokens": 20_000,
    "domain_tokens": 10_000,
    "target_demos": 2,
    "domain_demos": 5,
    "seed": 0,
    "pool": POOLS[0],
    **{f"target_{field}": "" for field in FIELDS},
    **{f"domain_{field}": "" for field in FIELDS},
}
"""Every choice of the page with the value it has when nobody chose. An empty text means: not used."""
QUICK = {"target_tokens": 400, "domain_tokens": 200}
FULL = {"target_tokens": 20_000, "domain_tokens": 10_000}


def spec_from(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The checked spec of these choices; a UserError says which choice cannot be."""
    target = {"data": _text(chosen["target"]), **_set_values(chosen, "target")}
    values: dict[str, Any] = {
        "model": _text(chosen["model"]),
        "sae": _text(chosen["sae"]),
        "target": target,
        "domains": _domains(chosen),
        "pool": {"tokens": chosen["pool"]},
        "run": {"seed": chosen["seed"]},
    }
    return Spec.from_dict(values).to_dict()


def choices_from(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """The choices that make this spec; None when the page has no choices that do."""
    try:
        chosen = _guess(Spec.from_dict(spec))
        same = same_choice(spec_from(chosen), spec)
    except (UserError, TypeError, AttributeError):
        return None
    return chosen if same else None


def same_choice(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two specs ask for the same: the layer follows from the SAE, device and dtype from the machine."""
    return _asked(one) == _asked(other)


def as_toml(spec: Mapping[str, Any]) -> str:
    """The spec as the file `sts plan` and `sts run` read."""
    shared = _fourteen_alike(spec)
    return to_toml({**spec, "domains": shared} if shared else spec)


def domain_files(folder: str) -> dict[str, str]:
    """The domains of a folder: each file's name without its ending -> the file."""
    place = Path(folder).expanduser()
    try:
        found = sorted(p for p in place.iterdir() if p.is_file() and p.suffix.lstrip(".").lower() in FILE_TYPES)
    except (OSError, ValueError):
        raise UserError(
            f"The folder {folder} cannot be read", "Name a folder with one file of questions a domain."
        ) from None
    if not found:
        raise UserError(
            f"{folder} holds no file of questions", f"Put one file a domain there: {', '.join(FILE_TYPES)}."
        )
    if len(found) > MOST_DOMAIN_FILES:
        raise UserError(f"{folder} holds {len(found)} files", f"Put at most {MOST_DOMAIN_FILES} domains in a folder.")
    return {_domain_name(path.stem): str(path.resolve()) for path in found}


def short(place: str, letters: int = 28) -> str:
    """A name for a small button: the last part of a path, the middle left out where it is long."""
    name = place.rstrip("/").rsplit("/", 1)[-1] if place.startswith(("/", "~", ".")) else place
    if len(name) <= letters:
        return name
    head = letters // 2
    return f"{name[:head]}…{name[-(letters - head - 1) :]}"


def _domains(chosen: Mapping[str, Any]) -> list[dict[str, Any]]:
    shared = _set_values(chosen, "domain")
    if folder := _text(chosen["domain_folder"]):
        return [{"name": name, "data": path, **shared} for name, path in domain_files(folder).items()]
    shared.pop("columns", None)
    wanted = [name for name in MMLU_DOMAINS if name in chosen["domains"]]
    if not wanted:
        raise UserError("No domain is chosen", "Choose at least one domain to score.")
    return [{"name": name, "data": f"mmlu/{name}", **shared} for name in wanted]


def _set_values(chosen: Mapping[str, Any], side: str) -> dict[str, Any]:
    values: dict[str, Any] = {"demos": chosen[f"{side}_demos"], "tokens": chosen[f"{side}_tokens"]}
    columns = {field: _text(chosen[f"{side}_{field}"]) for field in FIELDS if _text(chosen[f"{side}_{field}"])}
    return {**values, "columns": columns} if columns else values


def _guess(spec: Spec) -> dict[str, Any]:
    first = spec.domains[0]
    embedded = all(domain.data == f"mmlu/{domain.name}" for domain in spec.domains)
    return {
        **DEFAULTS,
        "model": spec.model,
        "sae": spec.sae,
        "target": spec.target.data,
        "domains": [domain.name for domain in spec.domains] if embedded else list(MMLU_DOMAINS),
        "domain_folder": "" if embedded else str(Path(first.data).parent),
        "target_tokens": spec.target.tokens,
        "domain_tokens": first.tokens,
        "target_demos": spec.target.demos,
        "domain_demos": first.demos,
        "seed": spec.run.seed,
        "pool": spec.pool.tokens,
        **{f"target_{field}": spec.target.columns.get(field, "") for field in FIELDS},
        **{f"domain_{field}": first.columns.get(field, "") for field in FIELDS},
    }


def _domain_name(stem: str) -> str:
    name = re.sub(r"[^\w &-]", " ", stem)[:64].strip()
    if not DOMAIN_NAME.fullmatch(name):
        raise UserError(f"A domain cannot be named after the file {stem!r}", "Use letters, digits, spaces, _, & or -.")
    return name


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _fourteen_alike(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the embedded fourteen share, when the domains are just these: then one table stands for them."""
    domains = spec.get("domains") or [{}]
    shared = {"data": "mmlu", "demos": domains[0].get("demos"), "tokens": domains[0].get("tokens")}
    alike = [{**shared, "name": name, "data": f"mmlu/{name}"} for name in MMLU_DOMAINS]
    return shared if domains == alike else None


def _asked(spec: Mapping[str, Any]) -> dict[str, Any]:
    asked = {key: value for key, value in Spec.from_dict(spec).to_dict().items() if key != "layer"}
    return {**asked, "run": {k: v for k, v in asked["run"].items() if k not in ("device", "dtype")}}
