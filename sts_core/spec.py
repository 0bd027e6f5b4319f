"""What to compute: one frozen, validated choice of model, SAE, data and budgets (CONTRACT "A spec").

A spec is read from TOML, checked whole, and refused in words a person can act on. What it resolves to on a
machine (data hashes, revisions, device) is added by `measure.resolve`; the two together are a result's key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.spec_checks import device, is_number, known_keys, one_of, whole
from sts_core.spec_file import apply_change, located, read_table

DOMAIN_NAME = re.compile(r"[\w &-]{1,64}")
FIELDS = ("question", "answer", "options", "cot")
POOLS = ("query", "answer", "query+answer")
PRESETS = ("default", "reference")
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class DataSpec:
    """One set of rows: the target set, or a domain."""

    name: str
    data: str
    """An embedded name, a hub id, or a .jsonl/.json/.csv/.parquet file."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our field -> the file's column; what is left out is found under its own name."""
    demos: int = 2
    """How many rows stand before the query as demonstrations."""
    tokens: int = 20_000
    """Budget in pooled tokens; whole items until it is reached."""
    demo_data: str | None = None
    """Demonstrations from a file of their own."""
    demo_columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"{self.name}"
        whole(f"{where}: demos", self.demos, least=1)
        whole(f"{where}: tokens", self.tokens, least=1)
        for key, value in (("data", self.data), ("demo_data", self.demo_data)):
            if (not isinstance(value, str) and not (key == "demo_data" and value is None)) or value == "":
                raise UserError(f"{where}: {key} must name a set or a file", f'For example {key} = "physics.jsonl".')
        for label, columns in (("columns", self.columns), ("demo_columns", self.demo_columns)):
            if not isinstance(columns, Mapping) or not all(isinstance(v, str) for v in columns.values()):
                raise UserError(
                    f"{where}: {label} must map fields to column names", 'For example { question = "prompt" }.'
                )
            known_keys(columns, FIELDS, f"{where}: {label}")


@dataclass(frozen=True)
class PoolSpec:
    """Which tokens count (METHOD 2)."""

    tokens: str = "query"
    outliers: float | str = 8.0
    """Drop tokens whose residual norm exceeds this many medians, in both arms; or "off"."""

    def __post_init__(self) -> None:
        one_of("pool.tokens", self.tokens, POOLS)
        good = self.outliers == "off" or (is_number(self.outliers) and 1 < self.outliers < 1e6)  # type: ignore[operator]
        if not good:
            raise UserError(
                f"pool.outliers is {repr(self.outliers)[:40]}",
                'Give a number above 1 (medians of the norm), or "off".',
            )


MOST_EXAMPLES = 1_000


@dataclass(frozen=True)
class RunSpec:
    """How it is computed."""

    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    preset: str = "default"
    examples: int = 0
    """How many strongest tokens to keep a feature, with a histogram of its values; 0 keeps none."""

    def __post_init__(self) -> None:
        whole("run.seed", self.seed, least=0)
        one_of("run.dtype", self.dtype, DTYPES)
        one_of("run.preset", self.preset, PRESETS)
        whole("run.examples", self.examples, least=0)
        if self.examples > MOST_EXAMPLES:
            raise UserError(f"run.examples is {self.examples}", f"At most {MOST_EXAMPLES} a feature are kept.")
        if self.examples and self.preset == "reference":
            raise UserError("The reference preset keeps no examples", "Leave run.examples out.")
        device("run.device", self.device)


@dataclass(frozen=True)
class Spec:
    """The whole choice. Equal specs are equal values."""

    model: str
    sae: str
    target: DataSpec
    domains: tuple[DataSpec, ...]
    layer: int | None = None
    pool: PoolSpec = field(default_factory=PoolSpec)
    run: RunSpec = field(default_factory=RunSpec)

    def __post_init__(self) -> None:
        for name, value in (("model", self.model), ("sae", self.sae)):
            if not isinstance(value, str) or not value.strip():
                raise UserError(f"{name} must be named", f'For example {name} = "{_EXAMPLE[name]}".')
        if self.layer is not None:
            whole("layer", self.layer, least=0)
        if not self.domains:
            raise UserError("No domain to score", 'Add [[domains]] tables, or domains = "mmlu".')
        _check_domain_names([domain.name for domain in self.domains])

    @property
    def sets(self) -> tuple[DataSpec, ...]:
        """The target set, then the domains."""
        return (self.target, *self.domains)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the TOML; `Spec.from_dict` reads them back to an equal spec."""
        plain = asdict(self)
        plain["target"].pop("name")
        if not self.run.examples:  # a result that keeps none is the same result as before there were any
            plain["run"].pop("examples")
        plain["domains"] = list(plain["domains"])
        return _without_empty(plain)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], base: Path | None = None) -> Spec:
        """Check every key and value. Relative data files are taken from `base`."""
        known_keys(values, [f.name for f in fields(cls)], "the spec")
        for need in ("model", "sae"):
            if need not in values:
                raise UserError(f"The spec does not say which {need}", f'Add {need} = "{_EXAMPLE[need]}".')
        target = _data_spec(values.get("target", {"data": "gsm-symbolic"}), "target", 2, 20_000, base)
        return cls(
            model=located(values["model"], base),
            sae=located(values["sae"], base),
            layer=values.get("layer"),
            target=target,
            domains=_domains(values.get("domains", "mmlu"), base),
            pool=PoolSpec(**_section(values, "pool", PoolSpec)),
            run=RunSpec(**_section(values, "run", RunSpec)),
        )

    @classmethod
    def from_toml(cls, path: Path | str, changes: Iterable[str] = ()) -> Spec:
        """Read a file; `changes` are `key=value` lines such as `run.seed=1` that win over it."""
        values = read_table(Path(path))
        for change in changes:
            apply_change(values, change)
        return cls.from_dict(values, base=Path(path).resolve().parent)

    def with_budget(self, target: int, domain: int) -> Spec:
        """The same spec with other token budgets, for a quick look."""
        domains = tuple(replace(d, tokens=domain) for d in self.domains)
        return replace(self, target=replace(self.target, tokens=target), domains=domains)


_EXAMPLE = {"model": "smollm2-135m-instruct", "sae": "demo/smollm2-l15"}

MMLU_DOMAINS = (
    "biology", "business", "chemistry", "computer science", "economics", "engineering", "health",
    "history", "law", "math", "other", "philosophy", "physics", "psychology",
)  # fmt: skip
"""The fourteen domains of MMLU-Pro, which `domains = "mmlu"` stands for."""


def _domains(value: Any, base: Path | None) -> tuple[DataSpec, ...]:
    if isinstance(value, str):
        value = {"data": value}
    if isinstance(value, Mapping):  # domains = "mmlu", or a table with the fourteen's shared settings
        return _mmlu(value)
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise UserError("domains must be [[domains]] tables", 'Or write domains = "mmlu" for the embedded fourteen.')
    for number, entry in enumerate(value):
        if not isinstance(entry.get("name"), str):
            raise UserError(f"Domain number {number + 1} has no name", 'Add name = "…" to its [[domains]] table.')
    _check_domain_names([entry["name"] for entry in value])
    return tuple(_data_spec(entry, entry["name"], 5, 10_000, base) for entry in value)


def _mmlu(shared: Mapping[str, Any]) -> tuple[DataSpec, ...]:
    known_keys(shared, ("data", "demos", "tokens"), "domains")
    if shared.get("data", "mmlu") != "mmlu":
        raise UserError(f'domains = "{shared["data"]}" is not known', 'Write domains = "mmlu", or [[domains]] tables.')
    demos, tokens = shared.get("demos", 5), shared.get("tokens", 10_000)
    return tuple(DataSpec(name=n, data=f"mmlu/{n}", demos=demos, tokens=tokens) for n in MMLU_DOMAINS)


def _check_domain_names(names: list[str]) -> None:
    for name in names:
        if not DOMAIN_NAME.fullmatch(name) or name == "target" or name != name.strip():
            raise UserError(
                f"A domain cannot be named {name!r}",
                'Use 1 to 64 letters, digits, spaces, "_", "&" or "-", and not the word target.',
            )
    seen: dict[str, str] = {}
    for name in names:
        if name.casefold() in seen:
            raise UserError(f"Two domains are named {name!r}", "Give every domain a name of its own.")
        seen[name.casefold()] = name


def _data_spec(values: Any, name: str, demos: int, tokens: int, base: Path | None) -> DataSpec:
    if not isinstance(values, Mapping):
        raise UserError(f"[{name}] must be a table", f'For example [{name}] with data = "…".')
    allowed = [f.name for f in fields(DataSpec) if f.name != "name" or name != "target"]
    known_keys(values, allowed, f"[{name}]")
    if "data" not in values:
        raise UserError(
            f"{name} does not say where its rows are", 'Add data = "file.jsonl" (or an embedded name, or a hub id).'
        )
    given = {"demos": demos, "tokens": tokens, **values, "name": name}
    for key in ("data", "demo_data"):
        if given.get(key) is not None:
            given[key] = located(given[key], base)
    return DataSpec(**given)


def _section(values: Mapping[str, Any], name: str, kind: type) -> dict[str, Any]:
    section = values.get(name, {})
    if not isinstance(section, Mapping):
        raise UserError(f"[{name}] must be a table", f"Write its keys under a line [{name}].")
    known_keys(section, [f.name for f in fields(kind)], f"[{name}]")
    return dict(section)


def _without_empty(value: Any) -> Any:
    """Drop None and empty tables, so that a spec with and without an optional key is one spec."""
    if isinstance(value, dict):
        kept = {key: _without_empty(entry) for key, entry in value.items()}
        return {key: entry for key, entry in kept.items() if entry is not None and entry != {}}
    if isinstance(value, list | tuple):
        return [_without_empty(entry) for entry in value]
    return value
