"""What to fine-tune on what, and how: one frozen, validated choice, read from TOML or a job's plain table.

The defaults suit a small model on one machine; `preset = "paper"` takes the paper's settings, and explicit keys win
over it. The learning rate has no default: the paper gives none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.spec import DOMAIN_NAME, DTYPES, FIELDS, MMLU_DOMAINS
from sts_core.spec_checks import device, is_number, known_keys, one_of, positive, table, whole
from sts_core.spec_file import apply_change, located, read_table
from sts_core.train.evaluation.spec import DEFAULT_METRICS, known_metrics, words_of

METHODS = ("lora", "full")
ANSWERS = ("answer", "cot")
SCHEDULES = ("cosine", "linear", "constant")
REPORTS = ("wandb", "tensorboard")
PRESETS = ("default", "paper")
MOST_EPOCHS = 1_000_000
TRAINING_DTYPES = tuple(name for name in DTYPES if name != "float16")
"""float16 would need its loss scaled, which bfloat16 does without."""
ALL_LINEAR = "all-linear"
PAPER: dict[str, Any] = {
    "epochs": 10, "batch": 256, "max_tokens": 8192, "betas": [0.9, 0.95], "weight_decay": 0.01, "clip": 1.0,
    "schedule": "cosine", "warm_up": 0.1,
}  # fmt: skip
"""AdamW as the paper sets it; the effective batch comes about by accumulation."""


@dataclass(frozen=True)
class SetSpec:
    """One set of rows: the training set, or a domain that is evaluated."""

    data: str = "gsm-symbolic"
    """An embedded name, a hub id, or a .jsonl/.json/.csv/.parquet file; to train on also a mixture's manifest.json, or
    the folder it lies in."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our field -> the file's column; what is left out is found under its own name."""
    answer: str = "answer"
    """What is trained on: the `answer`, or the `cot`, the worked answer, where a row has one."""
    name: str = "target"

    def __post_init__(self) -> None:
        if not isinstance(self.data, str) or not self.data.strip():
            raise UserError(f"{self.name}: data must name a set or a file", 'For example data = "questions.jsonl".')
        if not isinstance(self.columns, Mapping) or not all(isinstance(v, str) for v in self.columns.values()):
            hint = 'For example { question = "prompt" }.'
            raise UserError(f"{self.name}: columns must map fields to column names", hint)
        known_keys(self.columns, FIELDS, f"{self.name}: columns")
        one_of(f"{self.name}: answer", self.answer, ANSWERS)


@dataclass(frozen=True)
class LoraSpec:
    """The adapter's size and place."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str | tuple[str, ...] = ALL_LINEAR
    """Names of the modules it lies over, or all linear ones but the head."""

    def __post_init__(self) -> None:
        whole("lora.rank", self.rank, 1)
        positive("lora.alpha", self.alpha)
        if not is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise UserError(f"lora.dropout is {self.dropout!r}", "Give a number from 0 up to, but not, 1.")
        if isinstance(self.targets, list):
            object.__setattr__(self, "targets", tuple(self.targets))
        named = isinstance(self.targets, tuple) and self.targets and all(isinstance(t, str) for t in self.targets)
        if not named and self.targets != ALL_LINEAR:
            hint = f'Use "{ALL_LINEAR}", or names as in ["q_proj", "v_proj"].'
            raise UserError(f"lora.targets is {self.targets!r}", hint)


@dataclass(frozen=True)
class EvaluateSpec:
    """What is evaluated before and after."""

    domains: tuple[SetSpec, ...] = ()
    rows: int = 120
    """At most so many of a domain."""
    target_rows: int = 100
    """So many of the training set's own rows are kept back from training."""
    metrics: tuple[str, ...] = DEFAULT_METRICS
    """What is scored."""

    def __post_init__(self) -> None:
        whole("evaluate.rows", self.rows, 1)
        whole("evaluate.target_rows", self.target_rows, 0)
        known_metrics(self.metrics)


@dataclass(frozen=True)
class SftSpec:
    """The whole choice. Equal specs are equal values."""

    model: str
    learning_rate: float
    target: SetSpec = field(default_factory=SetSpec)
    preset: str = "default"
    method: str = "lora"
    steps: int | None = None
    """Optimiser steps; or leave it out and give epochs."""
    epochs: float | None = None
    """Passes over the training rows; 1 where neither is given."""
    batch: int = 8
    """Rows an optimiser step."""
    micro_batch: int | None = None
    """Rows that go through the model at once; the batch is a multiple. Left out: the largest divisor up to 4."""
    max_tokens: int = 1024
    """Longer rows lose the beginning of their question."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0
    """The gradient's norm is cut to this."""
    schedule: str = "cosine"
    warm_up: float = 0.1
    """The share of the steps over which the learning rate rises from nothing."""
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    processes: int = 1
    """More than one train together, each on a GPU of its own, the model's weights split over them (FSDP)."""
    gradient_checkpointing: bool = False
    """Less memory for more time."""
    lora: LoraSpec = field(default_factory=LoraSpec)
    checkpoint_every: int | None = None
    """Steps between two checkpoints; a fifth of the run where left out. The last step always gets one."""
    keep_checkpoints: int | None = None
    """So many of the newest stay; all where left out."""
    prediction: str | None = None
    """A finished result, by folder or key of the store, that the run is held against."""
    report: str | None = None
    """Where numbers are reported besides our own files."""
    evaluate: EvaluateSpec = field(default_factory=EvaluateSpec)

    def __post_init__(self) -> None:
        for name in ("model", "prediction"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value.strip()) and not (name == "prediction" and value is None):
                raise UserError(f"{name} is {value!r}", f'Name it, as in {name} = "{_EXAMPLE[name]}".')
        self._check_numbers()
        for name, choices in _CHOICES.items():
            if not (name == "report" and self.report is None):
                one_of(name, getattr(self, name), choices)
        device("device", self.device)
        if not isinstance(self.gradient_checkpointing, bool):
            raise UserError(f"gradient_checkpointing is {self.gradient_checkpointing!r}", "Write true or false.")
        self._check_length()
        self._check_batch()

    def _check_numbers(self) -> None:
        positive("learning_rate", self.learning_rate)
        if self.learning_rate > 1:
            raise UserError(f"learning_rate is {self.learning_rate!r}", "Common ones are 1e-5 (full) to 1e-3 (LoRA).")
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            if value is not None or name in _NEEDED:
                whole(name, value, least)
        positive("clip", self.clip)
        if not is_number(self.weight_decay) or self.weight_decay < 0:
            raise UserError(f"weight_decay is {self.weight_decay!r}", "Give a number of at least 0.")
        if not is_number(self.warm_up) or not 0 <= self.warm_up <= 1:
            raise UserError(f"warm_up is {self.warm_up!r}", "Give a share of the steps, from 0 to 1.")
        if isinstance(self.betas, list):
            object.__setattr__(self, "betas", tuple(self.betas))
        if not isinstance(self.betas, tuple) or len(self.betas) != 2 or not all(map(_below_one, self.betas)):
            raise UserError(f"betas is {self.betas!r}", "Give two numbers from 0 up to, but not, 1: [0.9, 0.95].")

    def _check_length(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise UserError("Both steps and epochs are given", "Keep one of them.")
        if self.steps is None and self.epochs is None:
            object.__setattr__(self, "epochs", 1.0)
        if self.epochs is not None:
            positive("epochs", self.epochs)
            if self.epochs > MOST_EPOCHS:
                raise UserError(f"epochs is {self.epochs!r}", f"Give at most {MOST_EPOCHS:,} passes over the rows.")
            object.__setattr__(self, "epochs", float(self.epochs))

    def _check_batch(self) -> None:
        if self.micro_batch is None:
            each = max(1, self.batch // self.processes)
            object.__setattr__(self, "micro_batch", next(n for n in (4, 3, 2, 1) if each % n == 0))
        if self.batch % (self.rows_at_once * self.processes):
            many = f" in {self.processes} processes" if self.processes > 1 else ""
            raise UserError(
                f"batch is {self.batch}, which cannot be made of micro_batch {self.micro_batch}{many}",
                "Choose a batch that is a multiple of micro_batch times processes.",
            )
        if self.processes > 1 and ":" in self.device:
            raise UserError(f"{self.device} is one device, but processes is {self.processes}", 'Write device = "cuda".')

    @property
    def rows_at_once(self) -> int:
        """Rows that go through the model at once, on each device."""
        return int(self.micro_batch or 1)

    @property
    def accumulation(self) -> int:
        """Micro-batches an optimiser step, on each device."""
        return self.batch // (self.rows_at_once * self.processes)

    def total_steps(self, rows: int) -> int:
        """Optimiser steps for so many training rows; an epoch's last step may be a smaller batch."""
        return self.steps if self.steps is not None else max(1, math.ceil(self._epochs * math.ceil(rows / self.batch)))

    @property
    def _epochs(self) -> float:
        return self.epochs or 1.0

    def checkpoint_steps(self, total: int) -> int:
        """Steps between two checkpoints of a run of so many."""
        return self.checkpoint_every or max(1, math.ceil(total / 5))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the TOML; `from_dict` reads them back to an equal spec."""
        plain = asdict(self)
        plain["target"].pop("name")
        plain["betas"] = list(self.betas)
        if isinstance(self.lora.targets, tuple):
            plain["lora"]["targets"] = list(self.lora.targets)
        plain["evaluate"] |= {name: list(plain["evaluate"][name]) for name in ("domains", "metrics")}
        return {key: value for key, value in plain.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], base: Path | None = None) -> SftSpec:
        """Check every key and value. Relative data files, models and predictions are taken from `base`."""
        known_keys(values, [f.name for f in fields(cls)], "the spec")
        if "model" not in values:
            raise UserError("The spec does not say which model", f'Add model = "{_EXAMPLE["model"]}".')
        if "learning_rate" not in values:
            raise UserError(
                "The spec gives no learning_rate; it has no default, and the paper names none",
                "Add learning_rate: about 2e-4 suits LoRA, about 1e-5 a full fine-tune; try a few steps first.",
            )
        given = _with_preset(values)
        given["model"] = located(given["model"], base)
        if given.get("prediction") is not None:
            given["prediction"] = located(given["prediction"], base)
        given["target"] = _set_spec(table(given, "target"), "target", base)
        given["lora"] = _section(given, "lora", LoraSpec)
        given["evaluate"] = _evaluate(table(given, "evaluate"), base)
        return cls(**given)

    @classmethod
    def from_toml(cls, path: Path | str, changes: Iterable[str] = ()) -> SftSpec:
        """Read a file; `changes` are `key=value` lines such as `seed=1` that win over it."""
        values = read_table(Path(path))
        for change in changes:
            apply_change(values, change)
        return cls.from_dict(values, base=Path(path).resolve().parent)


_EXAMPLE = {"model": "smollm2-135m-instruct", "prediction": "cache/demo/result"}
_CHOICES = {
    "method": METHODS, "schedule": SCHEDULES, "preset": PRESETS, "dtype": TRAINING_DTYPES, "report": REPORTS,
}  # fmt: skip
_WHOLE = {
    "steps": 1, "batch": 1, "micro_batch": 1, "max_tokens": 8, "seed": 0, "processes": 1, "checkpoint_every": 1,
    "keep_checkpoints": 1,
}  # fmt: skip
_NEEDED = ("batch", "max_tokens", "seed", "processes")


def _with_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """The paper's settings below the explicit ones, when asked for; steps take the place of its epochs."""
    if values.get("preset", "default") != "paper":
        return dict(values)
    own = {key: value for key, value in PAPER.items() if not (key == "epochs" and values.get("steps") is not None)}
    return {**own, **values}


def _evaluate(values: Mapping[str, Any], base: Path | None) -> EvaluateSpec:
    known_keys(values, [f.name for f in fields(EvaluateSpec)], "[evaluate]")
    given = dict(values)
    domains = given.get("domains", [])
    if domains == "mmlu":
        domains = [{"name": name, "data": f"mmlu/{name}"} for name in MMLU_DOMAINS]
    if not isinstance(domains, list) or not all(isinstance(entry, Mapping) for entry in domains):
        hint = 'Or write domains = "mmlu" for the embedded fourteen.'
        raise UserError("evaluate.domains must be [[evaluate.domains]] tables", hint)
    for number, entry in enumerate(domains):
        if not isinstance(entry.get("name"), str) or "data" not in entry:
            hint = 'Add name = "…" and data = "…" to its [[evaluate.domains]] table.'
            raise UserError(f"Domain number {number + 1} lacks a name or its data", hint)
    names = [entry["name"] for entry in domains]
    _check_names(names)
    given["domains"] = tuple(_set_spec(entry, name, base) for name, entry in zip(names, domains, strict=True))
    if "metrics" in given:
        given["metrics"] = words_of(given["metrics"], "evaluate.metrics", 'metrics = ["nll"]')
    return EvaluateSpec(**given)


def _check_names(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not DOMAIN_NAME.fullmatch(name) or name == "target" or name != name.strip():
            hint = 'Use 1 to 64 letters, digits, spaces, "_", "&" or "-", and not the word target.'
            raise UserError(f"A domain cannot be named {name!r}", hint)
        if name.casefold() in seen:
            raise UserError(f"Two domains are named {name!r}", "Give every domain a name of its own.")
        seen.add(name.casefold())


def _set_spec(values: Mapping[str, Any], name: str, base: Path | None) -> SetSpec:
    known_keys(values, [f.name for f in fields(SetSpec) if f.name != "name" or name != "target"], f"[{name}]")
    given = {**values, "name": name}
    if "data" in given:
        given["data"] = located(given["data"], base)
    return SetSpec(**given)


def _section(values: Mapping[str, Any], name: str, kind: type) -> Any:
    section = table(values, name)
    known_keys(section, [f.name for f in fields(kind)], f"[{name}]")
    return kind(**section)


def _below_one(value: Any) -> bool:
    return is_number(value) and 0 <= value < 1
