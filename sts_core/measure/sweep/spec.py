"""What to sweep: a measurement as of `sts run`, and lists of what to vary in it (METHOD 4 and 6, the paper's Figure 4).

SAEs, seeds, pools and probes each need passes of the model; numbers of features, rank bands and powers are answered
from stored vectors. All lists are crossed with each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.errors import UserError, nearest
from sts_core.spec import POOLS, Spec
from sts_core.spec_checks import known_keys, one_of, whole
from sts_core.spec_file import apply_change, located, read_table

USUAL_N = 100
MOST_MEASUREMENTS = 500
MOST_POINTS = 5_000
PROBES = ("raw", "random", "pca")
"""Dictionaries that no training made: the residual's own dimensions, directions drawn by chance, principal ones."""
PAPER = "paper"


class Choice(NamedTuple):
    """Which features a score is averaged over, and how: answered from stored vectors."""

    n: int | None
    ranks: tuple[int, int] | None
    """In place of the first n; counted from 0, the last not included."""
    power: int

    @property
    def size(self) -> int:
        """How many features."""
        return self.n or (self.ranks[1] - self.ranks[0] if self.ranks else 0)

    @property
    def last(self) -> int:
        """The rank that must be there."""
        return self.n or (self.ranks[1] if self.ranks else 0)

    @property
    def words(self) -> str:
        """`top 100` or `ranks 101–200`."""
        return f"ranks {self.ranks[0] + 1}–{self.ranks[1]}" if self.ranks else f"top {self.n}"


@dataclass(frozen=True)
class SweepSpec:
    """The whole choice. Equal specs are equal values; a list left out holds what the base says."""

    base: Spec
    """What is measured, but for what the lists vary."""
    saes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    pools: tuple[str, ...] = ()
    n: tuple[int, ...] = ()
    """So many of the features that shift most; 100 where no rank band is asked for either."""
    rank_bands: tuple[tuple[int, int], ...] = ()
    """First and last rank of each band, counted from 1, both in it."""
    powers: tuple[int, ...] = (1,)
    probes: tuple[str, ...] = ()
    actual: str | tuple[str, str] | None = None
    """What happened: a file, an evaluation's or run's folder or id, two files (before, after), or the paper."""
    metric: str | None = None
    """Which metric of it; the answer's log-likelihood where it was measured."""

    def __post_init__(self) -> None:
        for name in ("saes", "seeds", "pools", "n", "rank_bands", "powers", "probes"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise UserError(f"{name} is {value!r}", f"Give a list, as in {name} = {_EXAMPLES[name]}.")
            _freeze(self, name, tuple(tuple(one) if isinstance(one, list) else one for one in value))
            for one in getattr(self, name):
                _CHECKS[name](one)
            _no_doubles(name, getattr(self, name))
        self._fill()
        _check_actual(self.actual, self.metric)
        if self.base.run.preset == "reference" and self.pools != ("query",):
            raise UserError("The reference preset pools query tokens alone", "Leave pools out, or the preset.")
        for what, have, most in (
            ("measurements", self.measurements, MOST_MEASUREMENTS),
            ("points", self.measurements * len(self.choices), MOST_POINTS),
        ):
            if have > most:
                raise UserError(f"The sweep has {have:,} {what}", f"At most {most:,} are done in one: shorten a list.")

    def _fill(self) -> None:
        """What was left out is what the base says."""
        if not self.saes:
            _freeze(self, "saes", (self.base.sae,))
        if not self.seeds:
            _freeze(self, "seeds", (self.base.run.seed,))
        if not self.pools:
            _freeze(self, "pools", (self.base.pool.tokens,))
        if not self.powers:
            _freeze(self, "powers", (1,))
        if not self.n and not self.rank_bands:
            _freeze(self, "n", (USUAL_N,))
        # What the lists say is not said twice: equal sweeps have equal bases.
        run, pool = replace(self.base.run, seed=self.seeds[0]), replace(self.base.pool, tokens=self.pools[0])
        _freeze(self, "base", replace(self.base, sae=self.saes[0], layer=None, run=run, pool=pool))

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Everything that one measurement's vectors are asked."""
        first = [(n, None) for n in self.n] + [(None, (first - 1, last)) for first, last in self.rank_bands]
        return tuple(Choice(n, ranks, power) for n, ranks in first for power in self.powers)

    @property
    def measurements(self) -> int:
        """How many results the sweep reads; as many passes of the model where none of them is stored.

        A probe stands beside every layer, of which there may be as many as SAEs.
        """
        return (len(self.saes) * (1 + len(self.probes))) * len(self.seeds) * len(self.pools)

    @property
    def title(self) -> str:
        """A line that tells a sweep from its neighbours: `4 SAEs × 3 seeds on gsm-symbolic`."""
        lists = {"SAEs": self.saes, "seeds": self.seeds, "pools": self.pools, "choices of features": self.choices}
        many = [f"{len(values)} {name}" for name, values in lists.items() if len(values) > 1]
        return f"{' × '.join(many) or 'one point'} on {Path(self.base.target.data).name}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the TOML; `from_dict` reads them back to an equal spec."""
        plain: dict[str, Any] = {"base": self.base.to_dict()}
        for name in ("saes", "seeds", "pools", "n", "powers", "probes"):
            plain[name] = list(getattr(self, name))
        plain["rank_bands"] = [list(band) for band in self.rank_bands]
        if self.actual is not None:
            plain["actual"] = self.actual if isinstance(self.actual, str) else list(self.actual)
        if self.metric is not None:
            plain["metric"] = self.metric
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], base: Path | None = None, changes: Iterable[str] = ()) -> SweepSpec:
        """Check every key and value. Relative files are taken from `base`, those of a base file from its own place.

        `changes` are those of the base alone, such as `domains.tokens=200`.
        """
        known_keys(values, [f.name for f in fields(cls)], "the spec")
        given = dict(values)
        _refuse_empty(given)
        if "saes" in given and isinstance(given["saes"], list | tuple):
            given["saes"] = [located(one, base) for one in given["saes"]]
        given["base"] = _base(given, base, changes)
        if "actual" in given:
            given["actual"] = _actual(given["actual"], base)
        return cls(**given)

    @classmethod
    def from_toml(cls, path: Path | str, changes: Iterable[str] = ()) -> SweepSpec:
        """Read a file; `changes` are `key=value` lines that win over it, `base.key=value` for what is measured."""
        values, of_base = read_table(Path(path)), []
        for change in changes:
            if change.startswith("base."):
                of_base.append(change.removeprefix("base."))
            else:
                apply_change(values, change)
        return cls.from_dict(values, Path(path).resolve().parent, of_base)


def _base(given: Mapping[str, Any], beside: Path | None, changes: Iterable[str]) -> Spec:
    """The measurement, from a table or from the file that holds it."""
    value = given.get("base")
    if value is None:
        raise UserError(
            "The spec does not say what is measured", 'Add base = "demo.toml", a spec of `sts run`, or a [base] table.'
        )
    if isinstance(value, str) and value.strip():
        path = (beside or Path()) / Path(value).expanduser()
        table, beside = read_table(path), path.resolve().parent
    elif isinstance(value, Mapping):
        table = dict(value)
    else:
        raise UserError(f"base is {value!r}", 'Name a spec of `sts run`, as in base = "demo.toml", or write a table.')
    saes = given.get("saes")
    if "sae" not in table and isinstance(saes, list | tuple) and saes:
        table = {**table, "sae": saes[0]}
    for change in changes:
        apply_change(table, change)
    return Spec.from_dict(table, beside)


def _refuse_empty(given: Mapping[str, Any]) -> None:
    """A list of nothing would be swept over as if it had been left out."""
    for name in ("saes", "seeds", "pools", "powers", *(() if given.get("rank_bands") else ("n",))):
        if isinstance(value := given.get(name), list | tuple) and not value:
            raise UserError(
                f"{name} is an empty list", f"Name something, as in {name} = {_EXAMPLES[name]}, or leave it out."
            )


def _actual(value: Any, base: Path | None) -> Any:
    """Files beside the spec become absolute; ids and the paper stay as they are."""
    if isinstance(value, list | tuple):
        return tuple(_actual(one, base) for one in value)
    if not isinstance(value, str) or not value.strip() or base is None:
        return value
    found = located(value, base)
    return str((base / value).resolve()) if found == value and "\0" not in value and (base / value).exists() else found


def _check_actual(value: Any, metric: Any) -> None:
    named = isinstance(value, str) and value.strip()
    pair = isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, str) and v.strip() for v in value)
    if value is not None and not named and not pair:
        raise UserError(
            f"actual is {value!r}", 'Name a file, an evaluation\'s folder or id, two files, or "paper:qwen".'
        )
    if metric is not None and (not isinstance(metric, str) or not metric.strip()):
        raise UserError(f"metric is {metric!r}", 'For example metric = "accuracy".')
    if metric is not None and value is None:
        raise UserError("metric is given, but not what happened", "Add actual, or leave metric out.")


def _named(one: Any) -> None:
    if not isinstance(one, str) or not one.strip():
        raise UserError(f"saes names {one!r}", f"Give names, as in saes = {_EXAMPLES['saes']}.")


def _band(one: Any) -> None:
    good = isinstance(one, tuple) and len(one) == 2 and all(type(rank) is int for rank in one)
    if not good or not 1 <= one[0] <= one[1]:
        shown = list(one) if isinstance(one, tuple) else one
        raise UserError(
            f"rank_bands has {shown!r}", f"Give first and last rank from 1 on, as in {_EXAMPLES['rank_bands']}."
        )
    whole("rank_bands", one[1], 1)


def _probe(one: Any) -> None:
    if one not in PROBES:
        raise UserError(f"There is no probe {one!r}{nearest(str(one), PROBES)}", f"Choose from: {', '.join(PROBES)}.")


def _no_doubles(name: str, values: tuple[Any, ...]) -> None:
    twice, times = Counter(values).most_common(1)[0] if values else (None, 0)
    if times > 1:
        shown = list(twice) if isinstance(twice, tuple) else twice
        raise UserError(f"{name} holds {shown!r} twice", "Give each value once.")


def _freeze(spec: SweepSpec, name: str, value: Any) -> None:
    object.__setattr__(spec, name, value)


_CHECKS = {
    "saes": _named,
    "seeds": lambda one: whole("seeds", one, 0),
    "pools": lambda one: one_of("pools", one, POOLS),
    "n": lambda one: whole("n", one, 1),
    "rank_bands": _band,
    "powers": lambda one: whole("powers", one, 1, 2),
    "probes": _probe,
}
_EXAMPLES = {
    "saes": '["demo/smollm2-l9", "demo/smollm2-l15"]',
    "seeds": "[0, 1, 2]",
    "pools": '["query", "answer"]',
    "n": "[50, 100, 200]",
    "rank_bands": "[[1, 100], [101, 200]]",
    "powers": "[1, 2]",
    "probes": '["raw", "random"]',
}
