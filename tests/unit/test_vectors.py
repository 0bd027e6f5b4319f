"""Scores from mapped vectors: equal to the last bit to those of the whole file, soon, and told when damaged."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from sts_core.errors import UserError
from sts_core.results.folder import DOMAIN_SUMS, RAW, TARGET, TARGET_SUMS, Result, write_result
from sts_core.results.sums import SetSums
from sts_core.results.vectors import Vectors
from sts_core.stats.jackknife import MOST_GROUPS

FEATURES, DOMAINS = 257, ("law", "math", "no token")
WIDE = 131_072


def made(folder: Path, features: int, names: tuple[str, ...], preset: str = "", items: int = 40) -> Path:
    """A result of random sums; the last domain has no token where it says so."""
    random = np.random.default_rng(features)

    def sums(quantities: tuple[str, ...], tokens: float, width: int = features) -> SetSums:
        held = np.full(MOST_GROUPS, tokens) * (np.arange(MOST_GROUPS) < 17)
        made = {name: random.random((MOST_GROUPS, width)) * held[:, None] for name in quantities}
        return SetSums(made, held, np.bincount(np.arange(items if tokens else 0) % 17, minlength=20).astype(float))

    sets = {TARGET: sums(TARGET_SUMS, 7.0), RAW: sums(TARGET_SUMS, 7.0, 8)}
    sets |= {name: sums(DOMAIN_SUMS, 0.0 if name == "no token" else 11.0) for name in names}
    spec: dict[str, Any] = {"domains": [{"name": name} for name in names], "run": {"preset": preset}}
    write_result(folder, {"key": "made", "seed": 3, "spec": spec}, sets)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("vectors") / "result", FEATURES, DOMAINS)


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[Result, Vectors]:
    return Result(folder), Vectors(folder)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, check_exact=True)


CHOICES = some.one_of(
    some.fixed_dictionaries({"n": some.integers(1, FEATURES), "dims": some.sampled_from(["icl", "random"])}),
    some.fixed_dictionaries(
        {"ranks": some.tuples(some.integers(0, 200), some.integers(1, 57)).map(lambda r: (r[0], r[0] + r[1]))}
    ),
    some.fixed_dictionaries({"dims": some.lists(some.integers(0, FEATURES - 1), min_size=1, unique=True)}),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choice=CHOICES, power=some.sampled_from([1, 2]))
def test_every_choice_gives_exactly_the_scores_of_the_whole_file(
    both: tuple[Result, Vectors], choice: dict[str, Any], power: int
) -> None:
    same(both[1].scores(**choice, power=power), both[0].scores(**choice, power=power))


def test_the_reference_preset_ranks_by_squares(tmp_path: Path) -> None:
    place = made(tmp_path / "result", 60, ("law",), preset="reference")
    same(Vectors(place).scores(n=7), Result(place).scores(n=7))
    assert Vectors(place).choose(7).tolist() != Vectors(made(tmp_path / "plain", 60, ("law",))).choose(7).tolist()


def test_few_questions_have_no_error(tmp_path: Path) -> None:
    place = made(tmp_path / "result", 20, ("law",), items=4)
    assert Vectors(place).scores(n=5)["se"].isna().all()


def test_what_the_features_bring_adds_up_to_the_score(both: tuple[Result, Vectors]) -> None:
    chosen = both[1].choose(30)
    scores = both[1].scores(n=30, power=2).set_index(["metric", "domain"])["value"]
    means = both[1].means("sts_icl", chosen, power=2)
    assert list(means.columns) == chosen.tolist()
    assert means.loc["math"].mean() == pytest.approx(scores["sts_icl", "math"], rel=1e-12)
    assert means.loc["no token"].isna().all()


@pytest.mark.parametrize(
    "choice", [{"n": 0}, {"n": FEATURES + 1}, {"ranks": (9, 9)}, {"dims": [1, 1]}, {"dims": "sft"}, {"power": 3}]
)
def test_what_cannot_be_chosen_is_told_alike(both: tuple[Result, Vectors], choice: dict[str, Any]) -> None:
    with pytest.raises(UserError) as whole:
        both[0].scores(**choice)
    with pytest.raises(UserError) as mapped:
        both[1].scores(**choice)
    assert mapped.value.message == whole.value.message


@pytest.mark.parametrize("spoil", ["gone", "cut", "no header", "another"])
def test_a_damaged_file_is_told(tmp_path: Path, spoil: str) -> None:
    place = made(tmp_path / "result", 20, ("law",))
    path = place / "groups.safetensors"
    content = path.read_bytes()
    if spoil == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-9], "no header": b"\xff" * 40, "another": b"\2\0\0\0\0\0\0\0{}"}[spoil])
    with pytest.raises(UserError, match=r"groups\.safetensors"):
        Vectors(place).scores(n=5)


def widen(place: Path, names: tuple[str, ...]) -> Path:
    """Give a result the vectors of 131,072 features for power 1, written piece by piece."""
    random = np.random.default_rng(0)
    block = random.random((MOST_GROUPS, WIDE), np.float32)
    header: dict[str, Any] = {}
    end = 0
    for name in names:
        for part in ("base", "absdiff"):
            header[f"{name}/{part}"] = {"dtype": "F32", "shape": block.shape, "data_offsets": [end, end + block.nbytes]}
            end += block.nbytes
        for part in ("tokens", "items"):
            header[f"{name}/{part}"] = {"dtype": "F64", "shape": [MOST_GROUPS], "data_offsets": [end, end + 160]}
            end += 160
    text = json.dumps(header).encode()
    with (place / "groups.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for i, _ in enumerate(names):
            scaled = (block * np.float32(1 + i / 10)).tobytes()
            file.write(scaled + scaled + np.full(2 * MOST_GROUPS, 9.0).tobytes())
    shift = pd.DataFrame({"feature": np.arange(WIDE, dtype=np.int32), "shift_icl": random.random(WIDE, np.float32)})
    shift.to_parquet(place / "shift.parquet", index=False)
    return place


def test_a_wide_result_answers_within_a_tenth_of_a_second(tmp_path: Path) -> None:
    """14 domains of 131,072 features: the slowest of several choices, the file in the system's cache."""
    names = tuple(f"d{i}" for i in range(14))
    of = Vectors(widen(made(tmp_path / "wide", 16, names), names))
    assert of.scores(n=100)["value"].iloc[0] == pytest.approx(0.5 / 9, abs=0.1 / 9)
    choices: list[dict[str, Any]] = [{"n": 10}, {"n": 2000}, {"n": 731}, {"ranks": (100, 200)}]
    took = [min(_seconds(of, choice) for _ in range(3)) for choice in choices]
    assert max(took) < 0.1, took


def _seconds(of: Vectors, choice: dict[str, Any]) -> float:
    began = time.process_time()
    of.scores(**choice)
    return time.process_time() - began
