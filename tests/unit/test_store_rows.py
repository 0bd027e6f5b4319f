"""What a line of events means: nothing that can stand in a line may keep the others from the tables."""

from __future__ import annotations

import json
import math
import random
from datetime import datetime
from typing import Any

import pytest

from sts_core.store.batch import Batch, Place
from sts_core.store.database import Database
from sts_core.store.rows import understood


def line(**said: Any) -> bytes:
    return json.dumps({"seq": 1, "time": "2026-01-02T05:04:05.678+02:00", "event": "log", **said}).encode()


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"not json", b"[1]", b"1", b"{}", b'{"seq": "1"}', b'{"seq": 1.0}', b'{"seq": true}', b'{"seq": 0}',
        b'{"seq": 9223372036854775808}', b"\xff\xfe", b"[" * 100_000, b'{"seq": 1', b'{"seq": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_event(bad: bytes) -> None:
    assert understood(bad) is None


def test_an_event_keeps_all_it_says() -> None:
    event = understood(line(stage="eating", total=3, note="ü\u0000😀"))
    assert event is not None
    assert (event.seq, event.kind) == (1, "log")
    assert event.time == datetime(2026, 1, 2, 3, 4, 5, 678000)
    assert json.loads(event.payload) == {"stage": "eating", "total": 3, "note": "ü\u0000😀"}
    assert event.metrics == ()


@pytest.mark.parametrize("time", [None, 5, "yesterday", "", "9999-12-31T23:59:59-23:59", []])
def test_a_time_that_is_none_is_left_out(time: object) -> None:
    event = understood(line(time=time))
    assert event is not None
    assert event.time is None


def test_numbers_of_a_step_are_metrics() -> None:
    event = understood(
        line(step=7, loss=2, lr=1e-5, grad=math.nan, up=math.inf, big=10**400, ok=True, words="no", many=[1, 2],
             overlap={"100": 0.5, "of": {"null": 0.1}})
    )  # fmt: skip
    assert event is not None
    found = {metric.name: metric.value for metric in event.metrics}
    assert math.isnan(found.pop("grad"))
    assert found == {
        "loss": 2.0, "lr": 1e-5, "up": math.inf, "big": math.inf, "overlap/100": 0.5, "overlap/of/null": 0.1,
    }  # fmt: skip
    assert {metric.step for metric in event.metrics} == {7}
    assert json.loads(event.payload, parse_constant=pytest.fail)["grad"] == "NaN"


@pytest.mark.parametrize("step", [None, 1.5, "7", True, 2**70])
def test_without_a_whole_step_there_are_none(step: object) -> None:
    event = understood(line(step=step, loss=2))
    assert event is not None
    assert event.metrics == ()


def test_evaluations_and_predictions() -> None:
    said = {"phase": "after", "domain": "law", "metric": "accuracy", "value": 0.5, "se": None, "n": 40, "source": "own"}
    event = understood(line(event="evaluation", step=3, **said))
    assert event is not None
    assert event.evaluation is not None
    assert event.evaluation._asdict() == said
    assert event.metrics == ()
    for wrong in ({"phase": "during"}, {"domain": ""}, {"metric": 5}, {"phase": ["after"]}):
        event = understood(line(event="evaluation", **said | wrong))
        assert event is not None
        assert event.evaluation is None
    event = understood(line(event="prediction", key="k", dims=[1, 2], scores={"law": math.nan}, measure="sts_icl"))
    assert event is not None
    assert event.prediction == ("k", "[1, 2]", '{"law": "NaN"}', "sts_icl")
    event = understood(line(event="prediction", scores={}))
    assert event is not None
    assert event.prediction is None


def test_whatever_stands_in_a_line_can_be_kept() -> None:
    """Random values of every kind JSON has, the odd ones often; DuckDB must take each, or a batch would be stuck."""
    rng = random.Random(5)
    odd = [
        "\ud800", "a\udfff", "\x00", "'; drop table events; --", '"', "\\", "\u2028", "", math.nan, -math.inf, 1e308,
        -0.0, 2**63, -(2**64), 10**300, True, None, [], {}, {"\ud800": 1}, {"": {"": {"": {"": 1}}}}, "NaN",
    ]  # fmt: skip

    def value(depth: int) -> Any:
        if depth and rng.random() < 0.5:
            parts = [value(depth - 1) for _ in range(rng.randrange(4))]
            return parts if rng.random() < 0.5 else {str(value(0)): part for part in parts}
        return rng.choice(odd)

    names = ("time", "event", "step", "loss", "phase", "domain", "metric", "value", "se", "n", "source", "key", "dims")
    batch, kept = Batch(), 0
    for seq in range(1, 1001):
        said = {name: value(3) for name in rng.sample(names, 8)} | {"seq": seq}
        if rng.random() < 0.5:
            said["event"] = rng.choice(["evaluation", "prediction"])
        if rng.random() < 0.3:
            said["step"] = seq
        event = understood(json.dumps(said).encode())
        assert event is not None
        batch.add_events([event], Place("a", 1))
        kept += len(event.metrics)
    with Database(None) as db:
        assert db.write(batch.save).result() == 1000
        with db.reading() as connection:
            assert connection.execute("select count(*) from metrics").fetchone() == (kept,)
            payloads = connection.execute("select payload from events").fetchall()
    assert all(isinstance(json.loads(text), dict) for (text,) in payloads)


def test_a_number_given_twice_counts_once() -> None:
    first, second = understood(line(step=1, loss=1)), understood(line(step=1, loss=2))
    assert first is not None
    assert second is not None
    with Database(None) as db:
        for events in ([first, second], [second]):
            batch = Batch()
            batch.add_events(events, Place("a", 1))
            db.write(batch.save).result()
        with db.reading() as connection:
            assert connection.execute("select job, seq, value from metrics").fetchall() == [("a", 1, 1.0)]
            assert connection.execute("select count(*) from events").fetchone() == (1,)
