"""What to mix: one frozen, validated choice, read from TOML (`sts mix SPEC.toml`) or a job's plain table.

A mixture is the target set's own training rows and a budget of rows of other domains, shared out by a measured result's
scores. Sets, files and columns are the result's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.results.scores import METRICS
from sts_core.spec import DTYPES
from sts_core.spec_checks import device, is_number, known_keys, one_of, table, whole
from sts_core.spec_file import apply_change, located, read_table
from sts_core.stats.allocation import ALLOCATIONS

ALL = "all"
SOURCE, WORKED, MODEL = "source", "cot", "model"
ANSWERS = (SOURCE, WORKED, MODEL)
_MOST_TAU = 100


@dataclass(frozen=True)
class ScoreSpec:
    """Which score of a domain steers its share (METHOD 4)."""

    metric: str = "sts_act"
    n: int = 100
    """The score is over so many of the features that shift most."""
    power: int = 1

    def __post_init__(self) -> None:
        one_of("score.metric", self.metric, tuple(METRICS))
        whole("score.n", self.n, 1)
        whole("score.power", self.power, 1, 2)


@dataclass(frozen=True)
class TargetRows:
    """Which of the target set's own rows are trained on."""

    rows: int | str = ALL
    """So many of those that may train, or all of them; 0 mixes the domains alone."""
    evaluate_rows: int = 100
    """So many of the last kept rows stay out, for evaluation: as `evaluate.target_rows` of a fine-tune."""
    answer: str = "answer"
    """What is learned: the `answer`, or the `cot`, the worked answer, where a row has one."""

    def __post_init__(self) -> None:
        if self.rows != ALL:
            if isinstance(self.rows, str):
                raise UserError(f"target.rows is {self.rows!r}", f'Give a number of rows, or "{ALL}".')
            whole("target.rows", self.rows, 0)
        whole("target.evaluate_rows", self.evaluate_rows, 0)
        one_of("target.answer", self.answer, ("answer", "cot"))


@dataclass(frozen=True)
class GenerateSpec:
    """How the model answers where `answers = "model"`."""

    max_tokens: int = 256
    """An answer is cut there, and the cut ones are counted."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; above it tokens are drawn, with the seed."""
    device: str = "auto"
    dtype: str = "auto"
    batch: int | None = None
    """Questions answered at once; chosen by device where left out."""

    def __post_init__(self) -> None:
        whole("generate.max_tokens", self.max_tokens, 1)
        if self.batch is not None:
            whole("generate.batch", self.batch, 1)
        if not is_number(self.temperature) or not 0 <= self.temperature <= 10:
            hint = "Give a number from 0 (the likeliest tokens) to 10; 1 draws as the model says."
            raise UserError(f"generate.temperature is {self.temperature!r}", hint)
        one_of("generate.dtype", self.dtype, DTYPES)
        device("generate.device", self.device)


@dataclass(frozen=True)
class MixtureSpec:
    """The whole choice. Equal specs are equal values."""

    result: str
    """The measured result whose scores steer the shares: its folder, or its key in the store."""
    budget: int | None = None
    """Rows of all domains together; left out where the quotas are given one by one."""
    allocation: str | Mapping[str, int] = "sts"
    """How it is shared out: sts, uniform, inverse, or a table of rows by domain."""
    tau: float = 1.0
    """Shares go with score ^ tau."""
    floor: int = 0
    """At least so many rows of every domain."""
    cap: int | None = None
    """At most so many of one; a domain's own rows are always a cap."""
    domains: str | tuple[str, ...] = ALL
    """Names of the result's domains, or all of them."""
    answers: str = SOURCE
    """What is learned of a domain's row: the source's answer, its cot (worked answer), or what the model itself says
    before it is fine-tuned."""
    seed: int = 0
    score: ScoreSpec = field(default_factory=ScoreSpec)
    target: TargetRows = field(default_factory=TargetRows)
    generate: GenerateSpec = field(default_factory=GenerateSpec)

    def __post_init__(self) -> None:
        if not isinstance(self.result, str) or not self.result.strip():
            raise UserError(f"result is {self.result!r}", 'Name a finished result, as in result = "cache/demo/result".')
        if isinstance(self.domains, list):
            object.__setattr__(self, "domains", tuple(self.domains))
        if self.domains != ALL:
            self._check_domains()
        one_of("answers", self.answers, ANSWERS)
        whole("seed", self.seed, 0)
        whole("floor", self.floor, 0)
        if self.cap is not None:
            whole("cap", self.cap, 0)
        if not is_number(self.tau) or self.tau < 0:
            raise UserError(f"tau is {self.tau!r}", "Give a finite number of at least 0.")
        if self.tau > _MOST_TAU:
            raise UserError(f"tau is {self.tau!r}", f"Give at most {_MOST_TAU}: more gives all to one domain anyway.")
        self._check_allocation()

        if self.target.rows == 0 == self.rows_shared_out:
            raise UserError("The mixture would be empty", "Raise budget, or take rows of the target set.")

    def _check_domains(self) -> None:
        names = self.domains
        if not isinstance(names, tuple) or not names or not all(isinstance(n, str) and n.strip() for n in names):
            raise UserError(f"domains is {names!r}", f'Give names as in ["physics", "law"], or "{ALL}".')
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"domains names {twice!r} twice", "Name each domain once.")

    def _check_allocation(self) -> None:
        if not isinstance(self.allocation, Mapping):
            if not isinstance(self.allocation, str):
                hint = f"Use {', '.join(ALLOCATIONS)}, or a table such as [allocation] with physics = 20."
                raise UserError(f"allocation is {self.allocation!r}", hint)
            one_of("allocation", self.allocation, ALLOCATIONS)
            if self.budget is None:
                raise UserError("The spec does not say how many rows are shared out", "Add budget, as in budget = 220.")
            whole("budget", self.budget, 0)
            return
        if not self.allocation:
            raise UserError("[allocation] names no domain", "Add rows by domain, as in physics = 20.")
        for name, rows in self.allocation.items():
            whole(f"allocation.{name}", rows, 0)
        if self.floor or self.cap is not None:
            raise UserError("floor and cap do not apply to quotas of one's own", "Leave floor and cap out.")
        total = sum(self.allocation.values())
        if self.budget is None:
            object.__setattr__(self, "budget", total)
        if self.budget != total:
            raise UserError(
                f"The quotas add up to {total:,}, but budget is {self.budget!r}", "Leave budget out, or correct it."
            )

    @property
    def rows_shared_out(self) -> int:
        """The budget, which is also there where it was left out."""
        return int(self.budget or 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the TOML; `from_dict` reads them back to an equal spec."""
        plain = {key: value for key, value in asdict(self).items() if value is not None}
        if isinstance(self.domains, tuple):
            plain["domains"] = list(self.domains)
        if isinstance(self.allocation, Mapping):
            plain["allocation"] = dict(self.allocation)
        plain["generate"] = {key: value for key, value in plain["generate"].items() if value is not None}
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], base: Path | None = None) -> MixtureSpec:
        """Check every key and value. A relative result is taken from `base`."""
        known_keys(values, [f.name for f in fields(cls)], "the spec")
        if "result" not in values:
            hint = 'Add result = "…", the folder of a finished `sts run`.'
            raise UserError("The spec names no measured result to take the scores from", hint)
        given = {**values, "result": located(values["result"], base)}
        for name, kind in (("score", ScoreSpec), ("target", TargetRows), ("generate", GenerateSpec)):
            section = table(given, name)
            known_keys(section, [f.name for f in fields(kind)], f"[{name}]")
            given[name] = kind(**section)
        return cls(**given)

    @classmethod
    def from_toml(cls, path: Path | str, changes: Iterable[str] = ()) -> MixtureSpec:
        """Read a file; `changes` are `key=value` lines such as `tau=2` that win over it."""
        values = read_table(Path(path))
        for change in changes:
            apply_change(values, change)
        return cls.from_dict(values, base=Path(path).resolve().parent)
