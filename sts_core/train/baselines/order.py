"""Which baselines to measure for which result, and how: one frozen, validated choice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.errors import UserError, nearest
from sts_core.results.folder import Result
from sts_core.results.kept_baselines import AFTER, PARTS, PROBE, RAW
from sts_core.spec import Spec
from sts_core.spec_checks import device, known_keys, one_of, positive, whole
from sts_core.spec_file import apply_change, located, read_table
from sts_core.train.sft.spec import ANSWERS, EvaluateSpec, SftSpec

STEPS, ROWS = 15, 40
LEARNING_RATE = 5e-4
"""Of the probe, where no run tells one: that of the demo's fine-tune. So few steps of a lower rate move little."""
MOST_STEPS = 200
"""Beyond this it is no short probe but a fine-tune."""
_FROM_RUN = (
    "learning_rate", "batch", "micro_batch", "max_tokens", "betas", "weight_decay", "clip", "schedule", "warm_up",
    "gradient_checkpointing", "lora",
)  # fmt: skip
"""What the probe takes over from a LoRA run, so that it is that run's own beginning."""


class Run(NamedTuple):
    """A fine-tuned model and, where it is a run of ours, what it was asked for."""

    folder: Path
    """The run's, or the model's own."""
    model: str
    """What `find_model` takes."""
    manifest: Mapping[str, Any]
    """Empty where the model came from elsewhere."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The run's settings; empty where they are not known."""
        told = self.manifest.get("spec")
        return told if isinstance(told, Mapping) else {}


@dataclass(frozen=True)
class BaselinesOrder:
    """The whole choice. Every key has a default but the result."""

    result: str
    """A finished result's folder."""
    run: str | None = None
    """A fine-tune's folder, or a model that was made from the result's: needed for what is told after a training."""
    parts: tuple[str, ...] = ()
    """Only these; all that can be measured where left out."""
    lora_steps: int = STEPS
    rows: int = ROWS
    """Questions of each domain that the probe is scored on, at most."""
    learning_rate: float | None = None
    """The run's, else 5e-4."""
    answer: str | None = None
    """What the probe is trained on: the run's, else the `answer`."""
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("result", "run"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value.strip()) and not (name == "run" and value is None):
                raise UserError(f"{name} is {value!r}", "Name a folder.")
        for part in self.parts:
            if part not in PARTS:
                close = nearest(str(part), PARTS)
                raise UserError(f"There is no part {part!r}{close}", f"Choose of: {', '.join(PARTS)}.")
        whole("lora_steps", self.lora_steps, 1, MOST_STEPS)
        whole("rows", self.rows, 2)
        whole("seed", self.seed, 0)
        if self.learning_rate is not None:
            positive("learning_rate", self.learning_rate)
        if self.answer is not None:
            one_of("answer", self.answer, ANSWERS)
        device("device", self.device)
        if AFTER in self.parts and self.run is None:
            raise UserError("What lies after a training needs the trained model", "Name it: --run RUN_OR_FOLDER.")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The parts to measure, in their order."""
        usual = (RAW, AFTER, PROBE) if self.run is not None else (RAW, PROBE)
        return tuple(part for part in PARTS if part in (self.parts or usual))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in TOML; `from_dict` reads them back to an equal order."""
        plain = {key: value for key, value in asdict(self).items() if value not in (None, ())}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], base: Path | None = None) -> BaselinesOrder:
        """Check every key and value. Relative folders are taken from `base`."""
        known_keys(values, [f.name for f in fields(cls)], "the order")
        if "result" not in values:
            raise UserError("The order does not say which result", "Add result, the folder of a finished one.")
        given = dict(values)
        for name in ("result", "run"):
            if given.get(name) is not None:
                given[name] = located(given[name], base)
        parts = given.get("parts", ())
        if not isinstance(parts, list | tuple):
            raise UserError(f"parts is {parts!r}", 'Write a list, as in parts = ["raw"].')
        return cls(**{**given, "parts": tuple(parts)})

    @classmethod
    def from_toml(cls, path: Path, changes: Iterable[str] = ()) -> BaselinesOrder:
        """Read a file; `changes` are `key=value` lines that win over it."""
        values = read_table(path)
        for change in changes:
            apply_change(values, change)
        return cls.from_dict(values, base=path.resolve().parent)


def find_run(name: str) -> Run:
    """A fine-tune by the folder of its job or of what came of it; else a model's own folder or name."""
    path = Path(name).expanduser()
    folder = next((place for place in (path, path / "result") if (place / "model").is_dir()), None)
    if folder is None:
        if path.is_dir() and not any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise UserError(
                f"{path} holds no fine-tuned model", "Name a finished fine-tune, or a saved model's folder."
            )
        return Run(path.resolve() if path.is_dir() else path, name, {})
    try:
        told = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        told = None
    return Run(folder.resolve(), str(folder / "model"), told if isinstance(told, dict) else {})


def probe_spec(order: BaselinesOrder, result: Result, run: Run | None) -> SftSpec:
    """The short training: the fine-tune's own settings, or its defaults, cut to so many steps on the target set.

    Rows are those that every fine-tune of this set may train on; what a run keeps back for evaluation stays back.
    """
    base = Spec.from_dict(result.manifest["spec"])
    like = run.spec if run is not None else {}
    own = {key: like[key] for key in _FROM_RUN if key in like} if like.get("method") == "lora" else {}
    of_run = like.get("target") if isinstance(like.get("target"), Mapping) else {}
    kept = like.get("evaluate") if isinstance(like.get("evaluate"), Mapping) else {}
    rate = order.learning_rate if order.learning_rate is not None else own.get("learning_rate", LEARNING_RATE)
    answer = order.answer or (of_run or {}).get("answer", ANSWERS[0])
    return SftSpec.from_dict({
        **own, "model": base.model, "learning_rate": rate, "method": "lora", "steps": order.lora_steps,
        "checkpoint_every": order.lora_steps, "seed": order.seed, "device": order.device,
        "dtype": like.get("dtype", base.run.dtype),
        "target": {"data": base.target.data, "columns": dict(base.target.columns), "answer": answer},
        "evaluate": {"target_rows": (kept or {}).get("target_rows", EvaluateSpec().target_rows)},
    })  # fmt: skip
