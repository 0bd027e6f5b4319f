"""What a longer work tells where there is no terminal: a line a stage, one a minute, and the time left."""

from __future__ import annotations

import pytest

from sts_core.cli import telling
from sts_core.progress import Progress


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(telling, "time", clock)
    return clock


def told(clock: Clock, capsys: pytest.CaptureFixture[str], steps: list[tuple[float, Progress]]) -> list[str]:
    """The lines, each step being told so many seconds after the one before."""
    tell = telling.Teller()
    for wait, step in steps:
        clock.now += wait
        tell(step)
    return [line.strip() for line in capsys.readouterr().err.splitlines()]


def test_a_work_that_goes_on_is_timed_from_where_it_went_on(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(clock, capsys, [(0, Progress("training", 500, 1000)), (100, Progress("measuring", 700, 1000))])
    assert lines == ["50%  training", "70%  measuring, 2 min 30 s left"]


def test_what_is_counted_anew_is_timed_anew(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Filling a buffer tells nothing of how fast training is."""
    steps = [
        (0, Progress("filling", 0, 64)), (10, Progress("filling", 64, 64)), (0, Progress("training", 0, 1000)),
        (60, Progress("training", 100, 1000)),
    ]  # fmt: skip
    assert told(clock, capsys, steps) == ["0%  filling", "0%  training", "10%  training, 9 min 0 s left"]


def test_a_long_stage_is_told_once_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [(1.0, Progress("training", done, 1000)) for done in range(0, 150)]
    assert told(clock, capsys, steps) == [
        "0%  training",
        "6%  training, 15 min 40 s left",
        "12%  training, 14 min 40 s left",
    ]


def test_a_stage_of_unknown_length_is_named_alone(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(clock, capsys, [(0, Progress("loading the model", 0, 0))]) == ["loading the model"]
