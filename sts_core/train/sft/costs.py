"""What a fine-tune's parts cost: training, scoring before and after, and what each checkpoint is held against.

Guessed from the device until this machine has done such work; then by its own rates, which every run leaves.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from sts_core import rates
from sts_core.nets.describe import ModelInfo
from sts_core.progress import Progress, Watcher
from sts_core.results.folder import TARGET, Result
from sts_core.train.evaluation.preparing import prepare
from sts_core.train.sft.beforehand import check_prediction
from sts_core.train.sft.evaluated import evaluation_sets
from sts_core.train.sft.spec import SftSpec

TRAIN, SCORE, HOLD = "train", "score", "hold"
"""The kinds of work a rate is kept for: training, scoring answers, holding a checkpoint against the prediction."""
_FIRST_GUESS = {"cpu": 150.0, "mps": 800.0, "cuda": 8_000.0}
"""Tokens a second that a 135M model trains on, until this machine has measured its own."""
_GUESSED_FOR = 135e6
_CHEAPER = {"full": 3.0, "lora": 2.0}
"""Reading a token costs a third of training a whole model on it, half of training an adapter."""
_START_UP = 15.0
"""Seconds until the first step."""
_SEEN = 3.0
"""Seconds a stage must have taken for its rate to be kept."""


class Part(NamedTuple):
    """Work of one kind."""

    tokens: int
    rate: float
    """Tokens a second."""

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.tokens / self.rate


class Costs(NamedTuple):
    """The parts of one run."""

    train: Part
    before: Part
    """What of the scoring before is not kept from an earlier run."""
    after: Part
    hold: Part
    """One checkpoint's."""
    checkpoints: int
    measured: bool
    """Whether the rates are this machine's own."""
    unasked: dict[str, dict[str, int]]
    """A set's name -> why some of its questions cannot be asked, and how many."""

    @property
    def seconds(self) -> dict[str, float]:
        """What takes how long."""
        return {
            "training": self.train.seconds + _START_UP,
            "evaluation": self.before.seconds + self.after.seconds,
            "checkpoints": self.checkpoints * self.hold.seconds,
        }


def costs(
    spec: SftSpec, info: ModelInfo, tokenizer: Any, how: tuple[str, str], parameters: int, tokens: int, checkpoints: int
) -> Costs:
    """Of a run that trains on so many tokens and makes so many checkpoints; `how` is the device and number format."""
    kept = rates.known(rates.TRAINING)
    known = {kind: kept.get(_key(kind, spec, info, *how)) for kind in (TRAIN, SCORE, HOLD)}
    guess = _FIRST_GUESS[how[0].split(":")[0]] * _GUESSED_FOR / max(parameters, 1) * spec.processes
    train = known[TRAIN] or guess
    reads = train / spec.processes * _CHEAPER[spec.method]
    before, after, unasked = _scored(spec, info, tokenizer, how)
    hold = _held_tokens(spec)
    wanted = [TRAIN, *([SCORE] if after else []), *([HOLD] if hold else [])]
    return Costs(
        Part(tokens, train), Part(before, known[SCORE] or reads), Part(after, known[SCORE] or reads),
        Part(hold, known[HOLD] or reads), checkpoints if hold else 0, all(known[kind] for kind in wanted),
        unasked,
    )  # fmt: skip


def remember_rate(kind: str, spec: SftSpec, info: ModelInfo, how: tuple[str, str], rate: float) -> None:
    """Keep what a run reached, for the next plan."""
    rates.keep(rates.TRAINING, _key(kind, spec, info, *how), rate)


class Course:
    """Where a run stands among its parts: every step of its work is told with what is still to come."""

    def __init__(self, costs: Costs, spec: SftSpec, info: ModelInfo, how: tuple[str, str], watch: Watcher) -> None:
        self._spec, self._info, self._how, self._watch = spec, info, how, watch
        self._train, self._after, self._hold = costs.train.seconds, costs.after.seconds, costs.hold.seconds
        self._before, self._holds = costs.before.seconds, costs.checkpoints
        self._held = 0
        self._trained = 0.0
        """Share of the training that is done."""
        self._stretch: tuple[float, float] | None = None
        """When, and with what share done, the training was begun or gone on with last."""

    def before(self, step: Progress) -> None:
        """While the model is scored before the training."""
        self._tell(step, self._before, self._train + self._to_hold + self._after)

    def train(self, step: Progress) -> None:
        """While it is trained."""
        if step.total:
            self._trained = step.done / step.total
            self._pace()
        self._tell(step, self._train, self._to_hold + self._after)

    def hold(self, step: Progress) -> None:
        """While a checkpoint is held against the prediction."""
        self._stretch = None
        rest = max(0, self._holds - self._held - 1) * self._hold
        self._tell(step, self._hold, self._train * (1 - self._trained) + rest + self._after)

    def after(self, step: Progress) -> None:
        """While it is scored after the training."""
        self._tell(step, self._after, 0.0)

    def timed(self, kind: str, watch: Watcher) -> Timed:
        """A stage whose rate is kept when it is over."""
        return Timed(kind, watch, self)

    def took(self, kind: str, tokens: float, seconds: float) -> None:
        """A stage is over: the next of its kind will take as long."""
        self._held += kind == HOLD
        if seconds < _SEEN or not tokens:
            return
        remember_rate(kind, self._spec, self._info, self._how, tokens / seconds)
        if kind == HOLD:
            self._hold = seconds

    def _pace(self) -> None:
        """Learn from a stretch how long all of it takes; a run gone on with has held its checkpoints before."""
        now = time.monotonic()
        if self._stretch is None:
            self._stretch = (now, self._trained)
            self._held = max(self._held, int(self._trained * self._holds + 1e-9))
        began, first = self._stretch
        if now - began > _SEEN and self._trained > first:
            self._train = (now - began) / (self._trained - first)

    @property
    def _to_hold(self) -> float:
        return max(0, self._holds - self._held) * self._hold

    def _tell(self, step: Progress, expected: float, later: float) -> None:
        self._watch(step._replace(expected=expected, later=later))


class Timed:
    """A stage that is counted in tokens: how fast it goes is kept when it has come to its end."""

    def __init__(self, kind: str, watch: Watcher, course: Course) -> None:
        self._kind, self._watch, self._course = kind, watch, course
        self._steps: list[tuple[float, float]] = []
        """When how much was done: at first and at last."""

    def __enter__(self) -> Watcher:
        return self._see

    def __exit__(self, trouble: type[BaseException] | None, *_: object) -> None:
        if trouble is None and self._steps:
            (began, first), (ended, last) = self._steps[0], self._steps[-1]
            self._course.took(self._kind, last - first, ended - began)

    def _see(self, step: Progress) -> None:
        self._steps = [*self._steps[:1], (time.monotonic(), step.done)]
        self._watch(step)


def _scored(
    spec: SftSpec, info: ModelInfo, tokenizer: Any, how: tuple[str, str]
) -> tuple[int, int, dict[str, dict[str, int]]]:
    """Tokens of the scoring before, without what is kept from an earlier run, and after; what cannot be asked."""
    from sts_core.train.evaluation.remembered import missing

    if not spec.evaluate.domains and not spec.evaluate.target_rows:
        return 0, 0, {}
    metrics = spec.evaluate.metrics
    prepared = prepare(evaluation_sets(spec).sets, tokenizer, info.context, metrics)
    return missing(info, how, prepared, metrics).tokens, prepared.tokens, prepared.dropped


def _held_tokens(spec: SftSpec) -> int:
    """About as many as run through the two models at a checkpoint."""
    prediction = check_prediction(spec)
    if prediction is None:
        return 0
    return 2 * int(Result(prediction).manifest["sets"][TARGET].get("tokens", 0))


def _key(kind: str, spec: SftSpec, info: ModelInfo, device: str, dtype: str) -> str:
    if kind != TRAIN:
        return f"{info.revision}/{kind}/{device}/{dtype if kind == SCORE else 'float32'}"
    again = "/checkpointing" if spec.gradient_checkpointing else ""
    return f"{info.revision}/{spec.method}/{device}x{spec.processes}/{dtype}{again}"
