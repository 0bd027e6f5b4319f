"""What to evaluate, on what: one frozen, validated choice, read from TOML (`sts eval SPEC.toml`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sts_core.errors import UserError, nearest
from sts_core.spec import DTYPES, DataSpec, Spec
from sts_core.spec_checks import device, known_keys, whole
from sts_core.spec_file import apply_change, located, read_table
from sts_core.train.evaluation.sets import ROWS, EvalSet, domain_set, names, target_set

METRICS = ("nll", "accuracy", "nll_choice", "nll_text", "first_choice")
"""What our own scorer measures (`evaluate`)."""
DEFAULT_METRICS = ("nll", "accuracy")


def known_metrics(asked: Sequence[str]) -> None:
    """Refuse none at all and a metric that our scorer does not measure."""
    if not asked:
        raise UserError("No metric is asked for", f"Choose from: {', '.join(METRICS)}.")
    unknown = next((metric for metric in asked if metric not in METRICS), None)
    if unknown is not None:
        close = nearest(str(unknown), METRICS)
        raise UserError(f"There is no metric {unknown!r}{close}", f"Choose from: {', '.join(METRICS)}.")


@dataclass(frozen=True)
class HarnessSpec:
    """Benchmarks that lm-eval runs: those that generate, above all."""

    tasks: tuple[str, ...]
    """lm-eval's names, of its own tasks (their data come from the hub) or of those in `folder`."""
    folder: str | None = None
    """Tasks of one's own. Such a folder may bring Python code, which lm-eval runs."""
    shots: int | None = None
    """Demonstrations; None leaves them to the task."""
    limit: int | None = None
    """At most so many rows a task."""
    batch: int = 8
    chat: bool = True
    """Ask through the model's chat template, where it has one."""

    def __post_init__(self) -> None:
        if not self.tasks or not all(isinstance(task, str) and task.strip() for task in self.tasks):
            raise UserError("harness.tasks names no task", 'For example tasks = ["mmlu_pro_law"].')
        for name, value, least in (("shots", self.shots, 0), ("limit", self.limit, 1), ("batch", self.batch, 1)):
            if value is not None or name == "batch":
                whole(f"harness.{name}", value, least)
        if self.folder is not None and not (isinstance(self.folder, str) and Path(self.folder).is_dir()):
            raise UserError(
                f"There is no folder {self.folder!r} with tasks", "Correct harness.folder, or leave it out."
            )
        if not isinstance(self.chat, bool):
            raise UserError(f"harness.chat is {self.chat!r}", "Write true or false.")


@dataclass(frozen=True)
class EvalSpec:
    """The whole choice. Every key has a default but the model."""

    model: str
    tuned: str | None = None
    """A model made from it: then both are evaluated, and the change is told."""
    target: DataSpec | None = None
    """The set that is trained on: its last kept rows are evaluated."""
    domains: tuple[DataSpec, ...] = ()
    rows: int = ROWS
    """At most so many of each domain."""
    target_rows: int = ROWS
    metrics: tuple[str, ...] = DEFAULT_METRICS
    demos: int = 0
    """Demonstrations before every question; 0 is zero-shot."""
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    harness: HarnessSpec | None = None

    def __post_init__(self) -> None:
        for name, least in (("rows", 1), ("target_rows", 1), ("demos", 0), ("seed", 0)):
            whole(name, getattr(self, name), least)
        if self.tuned is not None and (not isinstance(self.tuned, str) or not self.tuned.strip()):
            raise UserError(f"tuned is {self.tuned!r}", "Name a model's folder, an adapter's folder or a hub id.")
        known_metrics(self.metrics)
        if self.dtype not in DTYPES:
            raise UserError(f"dtype is {self.dtype!r}", f"Choose one of: {', '.join(DTYPES)}.")
        device("device", self.device)
        if not self.domains and self.target is None and self.harness is None:
            raise UserError("There is nothing to evaluate on", 'Add domains = "mmlu", a [target] or a [harness] table.')

    def sets(self) -> list[EvalSet]:
        """The target set, then the domains, read and cut."""
        found = [target_set(self.target, self.target_rows, self.demos, self.seed)] if self.target else []
        found += [domain_set(domain, self.rows, self.demos, self.seed) for domain in self.domains]
        names(found)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the TOML; `from_dict` reads them back to an equal spec."""
        plain = {key: value for key, value in asdict(self).items() if value is not None}
        plain["metrics"], plain["domains"] = list(self.metrics), [_plain(domain) for domain in self.domains]
        if self.target is not None:
            plain["target"] = {key: value for key, value in _plain(self.target).items() if key != "name"}
        if self.harness is not None:
            own = {key: value for key, value in asdict(self.harness).items() if value is not None}
            plain["harness"] = {**own, "tasks": list(self.harness.tasks)}
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], base: Path | None = None) -> EvalSpec:
        """Check every key and value. Relative files and folders are taken from `base`."""
        known_keys(values, [f.name for f in fields(cls)], "the spec")
        if "model" not in values:
            raise UserError("The spec does not say which model", 'Add model = "smollm2-135m-instruct".')
        given = dict(values)
        domains, target = given.pop("domains", "mmlu"), given.pop("target", None)
        # A measurement's spec holds the same tables, so it checks them; what it needs beside them is filled in.
        asked = {"model": given["model"], "sae": "none", "domains": domains if domains != [] else "mmlu"}
        like = Spec.from_dict(asked | ({"target": target} if target is not None else {}), base)
        given["model"], given["domains"] = like.model, like.domains if domains != [] else ()
        given["target"] = like.target if target is not None else None
        if given.get("tuned") is not None:
            given["tuned"] = located(given["tuned"], base)
        if "metrics" in given:
            given["metrics"] = words_of(given["metrics"], "metrics", 'metrics = ["nll"]')
        if given.get("harness") is not None:
            given["harness"] = _harness(given["harness"], base)
        return cls(**given)

    @classmethod
    def from_toml(cls, path: Path | str, changes: Iterable[str] = ()) -> EvalSpec:
        """Read a file; `changes` are `key=value` lines such as `rows=40` that win over it."""
        values = read_table(Path(path))
        for change in changes:
            apply_change(values, change)
        return cls.from_dict(values, base=Path(path).resolve().parent)


def _harness(values: Any, base: Path | None) -> HarnessSpec:
    if not isinstance(values, Mapping):
        raise UserError("[harness] must be a table", 'For example [harness] with tasks = ["mmlu_pro_law"].')
    known_keys(values, [f.name for f in fields(HarnessSpec)], "[harness]")
    tasks = words_of(values.get("tasks", []), "harness.tasks", 'tasks = ["mmlu_pro_law"]')
    folder = values.get("folder")
    if isinstance(folder, str) and base is not None and folder:
        folder = str((base / Path(folder).expanduser()).resolve())
    return HarnessSpec(**{**values, "tasks": tasks, "folder": folder})


def _plain(data: DataSpec) -> dict[str, Any]:
    """A set's keys, without those that are empty."""
    return {key: dict(v) if isinstance(v, Mapping) else v for key, v in asdict(data).items() if v not in (None, {})}


def words_of(value: Any, name: str, example: str) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise UserError(f"{name} must be a list of names", f"For example {example}.")
    return tuple(words)
