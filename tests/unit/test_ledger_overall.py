"""All predictions together: medians, sign test, hit rates and groups by hand, by brute force and by scipy; the CSV."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sts_core.results.actual import MIXED
from sts_core.results.ledger import CANNOT, COLUMNS, Entry, Evaluated, Foretold, score, to_csv
from sts_core.results.ledger_overall import overall, sign_p
from sts_core.results.outcomes.outcome import Outcome
from tests.pages.made_ledger import KEY, MEASURE, make_foretold
from tests.unit.test_ledger import DOMAINS, ledger, world


def foretold(scores: Mapping[str, float], run: str = "run", key: str = KEY, training_set: str = "set") -> Foretold:
    rows = [{"domain": name, "metric": "sts_act", "value": value, "se": None} for name, value in scores.items()]
    return Foretold(run, run, datetime(2026, 1, 2), key, MEASURE, [1, 2], rows, "m", "data", training_set)


def evaluated(harm: Mapping[str, float]) -> Evaluated:
    outcomes = [Outcome(k, None, None, v, None, None, "nll", "own", "nats", True) for k, v in harm.items()]
    return Evaluated("run", datetime(2026, 1, 3), {"nll": outcomes}, {"nll": (None, "")})


def line(rho: int, run: str, key: str = "", training_set: str = "") -> Entry:
    """A line whose Spearman is 1 or −1."""
    scores = dict(zip(DOMAINS, range(8), strict=True))
    return score(
        foretold(scores, run, key or f"key of {run}", training_set or f"set of {run}"),
        evaluated({name: rho * value for name, value in scores.items()}),
    )


def test_all_together_by_hand() -> None:
    whole = overall([line(1, "a"), line(-1, "b"), line(1, "c")])
    assert (whole.predictions, whole.scored, whole.median, whole.above) == (3, 3, pytest.approx(1), 2)
    assert (whole.groups, whole.groups_above, whole.p) == (3, 2, 1.0)
    assert (whole.asked, whole.hit) == (9, 6.0)
    assert whole.hit_rate == pytest.approx(2 / 3)
    assert whole.chance == pytest.approx(3 / 8)
    aside = [line(1, "a"), line(-1, "b")._replace(notes=(MIXED,))]
    assert (overall(aside).scored, overall(aside).mixed, overall(aside).above) == (1, 1, 1)
    nothing = overall([])
    assert (nothing.median, nothing.p, nothing.hit_rate, nothing.chance) == (None, None, None, None)


def test_runs_of_one_training_set_or_of_one_result_count_once_in_the_sign_test() -> None:
    lines = [line(1, f"run {i}", training_set="one") for i in range(8)] + [line(-1, "other")]
    whole = overall(lines)
    assert (whole.above, whole.groups, whole.groups_above, whole.p) == (8, 2, 1, 1.0)
    chained = [line(1, "a", "k", "x"), line(1, "b", "l", "y"), line(1, "c", "l", "z"), line(1, "d", "k", "z")]
    assert overall(chained).groups == 1
    assert overall(list(reversed(chained))).groups == 1
    assert overall(chained[:2]).groups == 2


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=9))
@settings(max_examples=60, deadline=None)
def test_groups_are_the_connected_parts(marks: list[tuple[int, int]]) -> None:
    lines = [line(1, f"run {i}", f"k{key}", f"s{name}") for i, (key, name) in enumerate(marks)]
    parts = [{i} for i in range(len(marks))]
    for i, j in itertools.combinations(range(len(marks)), 2):
        if marks[i][0] == marks[j][0] or marks[i][1] == marks[j][1]:
            one, other = (next(part for part in parts if k in part) for k in (i, j))
            if one is not other:
                parts.remove(other)
                one |= other
    assert overall(lines).groups == len(parts)


@given(st.lists(st.sampled_from([-0.5, 0.0, 0.25, 1.0]), max_size=12))
def test_the_sign_test_is_scipys(values: list[float]) -> None:
    signs = [value > 0 for value in values if value]
    expected = stats.binomtest(sum(signs), len(signs)).pvalue if signs else None
    assert sign_p(values) == (expected if expected is None else pytest.approx(expected))


def test_unrelated_changes_give_uniform_p_and_related_ones_are_found() -> None:
    ps, rhos = [], []
    for seed in range(150):
        scores, harm = world(1000 + seed, follows=0.0, names=DOMAINS[:7])
        found = score(foretold(scores), evaluated(harm)).found
        assert found is not None
        ps.append(found.p_spearman)
    assert stats.kstest(ps, "uniform").pvalue > 1e-3
    for seed in range(10):
        scores, _ = world(seed)
        found = score(foretold(scores), evaluated({name: 3 * value + 1 for name, value in scores.items()})).found
        rhos.append(found.r if found else 0.0)
    assert min(rhos) > 0.95


@pytest.mark.usefixtures("own_cache")
def test_a_csv_holds_every_line_and_no_formula() -> None:
    scores, harm = world(17)
    make_foretold(scores, harm, title='=HYPERLINK("http://x")')
    make_foretold(scores, None, title="+1", state="failed")
    make_foretold(scores, harm, title='a "quoted", name\nof two lines')
    rows = list(csv.DictReader(io.StringIO(to_csv(ledger()))))
    assert [row["title"] for row in rows] == ['a "quoted", name\nof two lines', "'+1", '\'=HYPERLINK("http://x")']
    assert float(rows[0]["spearman"]) == pytest.approx(stats.spearmanr(list(scores.values()), list(harm.values()))[0])
    assert rows[1]["spearman"] == ""
    assert rows[1]["state"] == CANNOT
    assert to_csv([]).strip() == ",".join(f'"{name}"' for name in COLUMNS)
