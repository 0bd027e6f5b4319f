"""A result held against what happened: planted worlds, names, filters, every kind of source, the command."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from scipy import stats

from sts_core.cli import correlating
from sts_core.errors import UserError
from sts_core.results.actual import ERRORS, HALVES, read_actual
from sts_core.results.agreement import SELECTED, hold_against
from sts_core.results.baselines import baselines
from sts_core.results.folder import DOMAIN_SUMS, RAW, TARGET, TARGET_SUMS, Result, write_result
from sts_core.results.outcomes.outcome import Outcome
from sts_core.results.outcomes.rows import AFTER, BEFORE, RowValue, write_rows
from sts_core.results.sums import SetSums
from sts_core.stats.correlation import correlate
from sts_core.stats.ridge import PENALTIES, LeftOut

FEATURES, GROUPS, SHIFTED = 300, 20, 100
DOMAINS = (
    "biology", "business", "chemistry", "computer science", "economics", "engineering", "health", "history", "law",
    "math", "other", "philosophy", "physics", "psychology",
)  # fmt: skip


def sums(quantities: tuple[str, ...], means: np.ndarray, random: np.random.Generator) -> SetSums:
    """Twenty groups of 30 tokens whose sums scatter by a twentieth about these means."""
    noisy = {name: 30 * means * random.gamma(400, 1 / 400, (GROUPS, len(means))) for name in quantities}
    return SetSums(noisy, np.full(GROUPS, 30.0), np.full(GROUPS, 2.0))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result where training shifts the first 100 features, and the domains live on them to differing degrees."""
    folder = tmp_path_factory.mktemp("planted") / "result"
    random = np.random.default_rng(0)
    moved = np.where(np.arange(FEATURES) < SHIFTED, 1.0, 0.01)
    sets = {TARGET: sums(TARGET_SUMS, moved, random), RAW: sums(TARGET_SUMS, np.ones(8), random)}
    for i, name in enumerate(DOMAINS):
        busy = np.full(FEATURES, 0.5 + 0.1 * random.random())
        busy[:SHIFTED] = 0.2 + 0.1 * ((5 * i) % len(DOMAINS))
        sets[name] = sums(DOMAIN_SUMS, busy * random.lognormal(0, 0.3, FEATURES), random)
    manifest = {"key": "planted", "seed": 0, "spec": {"domains": [{"name": name} for name in DOMAINS]}}
    write_result(folder, manifest, sets)
    return folder


def truth(folder: Path) -> dict[str, float]:
    """How active the planted features are on each domain: known from the stored means, without any score."""
    table = pd.read_parquet(folder / "domains.parquet")
    planted_ones = table[table["feature"] < SHIFTED]
    return {str(name): float(value) for name, value in planted_ones.groupby("domain")["mean_act"].mean().items()}


def csv(path: Path, changes: dict[str, float], extra: str = "") -> Path:
    lines = ["domain,change", *(f"{name},{value!r}" for name, value in changes.items())]
    path.write_text("\n".join(lines) + "\n" + extra, encoding="utf-8")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """What the command prints, in words unless JSON is asked for."""
    program = typer.Typer()
    correlating.add_to(program)
    told = [str(argument) for argument in arguments]
    program(args=told if "--json" in told else [*told, "--table"], standalone_mode=False)
    return capsys.readouterr().out


def test_changes_made_from_the_planted_features_are_recovered(planted: Path) -> None:
    random = np.random.default_rng(1)
    harm = {name: 3 * value + 0.02 * random.normal() for name, value in truth(planted).items()}
    found = Result(planted).correlate({name: -value for name, value in harm.items()})
    assert found.n == 14
    assert found.r > 0.95
    assert found.spearman > 0.9
    assert found.p_spearman < 0.001
    assert found.hits is not None
    assert found.hits.shared == 3
    assert found.se_measured is not None
    assert 0 < found.se_measured < 0.05


def test_the_baselines_without_selection_are_told_beside_it_and_see_less(planted: Path) -> None:
    changes = {name: -value for name, value in truth(planted).items()}
    found = hold_against(Result(planted), read_actual(changes))
    act = next(c.correlation for c in found.comparisons if c.score == "sts_act")
    compared = {b.name: c for b, c in found.baselines}
    assert compared["busiest features, active"].r > 0.9  # here the shifted features are the busy ones
    assert act.r > compared["similarity to the training set"].r
    assert compared["ridge probe"].r > 0.9  # what was planted is linear in the features
    assert compared["ridge probe"].p_perm < 0.01
    assert compared["ridge probe"].ci is None
    assert found.best_baseline is not None
    assert found.best_baseline[0].foretells


def test_unrelated_changes_give_a_uniform_p(planted: Path) -> None:
    scores = Result(planted).scores().query("metric == 'sts_act'")
    random = np.random.default_rng(3)
    p = [
        correlate(scores["domain"], scores["value"], random.normal(size=14), draws=1000, resamples=1, seed=i).p_perm
        for i in range(500)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_baselines_equal_their_definitions(planted: Path) -> None:
    table = pd.read_parquet(planted / "domains.parquet")
    target = pd.read_parquet(planted / "shift.parquet").sort_values("feature")["mean_base"].to_numpy(np.float64)
    found = {one.name: one for one in baselines(planted, 50)}
    busiest = np.argsort(-target, kind="stable")[:50]
    for name in DOMAINS:
        own = table[table["domain"] == name].sort_values("feature")
        act, moved = own["mean_act"].to_numpy(np.float64), own["mean_absdiff"].to_numpy(np.float64)
        cosine = act @ target / np.linalg.norm(act) / np.linalg.norm(target)
        assert found["all features, active"].values[name] == pytest.approx(act.mean(), rel=1e-5)
        assert found["all features, moved"].values[name] == pytest.approx(moved.mean(), rel=1e-5)
        assert found["busiest features, active"].values[name] == pytest.approx(act[busiest].mean(), rel=1e-5)
        assert found["similarity to the training set"].values[name] == pytest.approx(cosine, rel=1e-5)
        assert all(one.se[name] for one in found.values())
    assert "ridge probe" not in found


def test_the_ridge_probe_is_ridge_regression_left_one_out(planted: Path) -> None:
    """The same predictions from the normal equations with the features spelled out, penalty and all."""
    random = np.random.default_rng(5)
    harm = dict(zip(DOMAINS, random.normal(size=14).tolist(), strict=True))
    found = next(one for one in baselines(planted, 100, harm) if one.name == "ridge probe")
    assert not found.foretells
    table = pd.read_parquet(planted / "domains.parquet")
    vectors = {name: part.sort_values("feature")["mean_act"].to_numpy(float) for name, part in table.groupby("domain")}

    def fit(names: list[str], penalty: float, wanted: str) -> float:
        x, y = np.stack([vectors[name] for name in names]), np.array([harm[name] for name in names])
        middle, level = x.mean(axis=0), y.mean()
        x = x - middle
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(FEATURES), x.T @ (y - level))
        return float(level + (vectors[wanted] - middle) @ weights)

    for wanted in DOMAINS[:1]:
        others = [name for name in DOMAINS if name != wanted]
        x = np.stack([vectors[name] for name in others])
        scale = float(np.sum((x - x.mean(axis=0)) ** 2)) / len(others)
        errors = [
            sum((harm[name] - fit([o for o in others if o != name], penalty * scale, name)) ** 2 for name in others)
            for penalty in PENALTIES
        ]
        assert found.values[wanted] == pytest.approx(
            fit(others, PENALTIES[int(np.argmin(errors))] * scale, wanted), rel=1e-3
        )


def test_the_probes_own_p_is_right_where_the_features_say_nothing() -> None:
    """200 worlds; the probe's r is far below 0 in most, and an ordinary permutation p would call that a finding."""
    random = np.random.default_rng(11)
    found, r = [], []
    for seed in range(200):
        probe, y = LeftOut(random.normal(size=(14, 40))), random.normal(size=14)
        found.append(probe.refitted(y, seed, 99))
        r.append(np.corrcoef(probe.predict(y[None])[0], y)[0, 1])
    assert np.mean(r) < -0.3
    assert stats.kstest([one.pearson for one in found], "uniform").pvalue > 0.001
    # The strongest penalty gives exactly the wrong order, ρ = −1, in many worlds: p then heaps up at 1, never below.
    assert stats.kstest([one.spearman for one in found], "uniform", alternative="greater").pvalue > 0.001


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_a_probe_does_not_depend_on_the_outcomes_size(size: float) -> None:
    random = np.random.default_rng(3)
    probe, y = LeftOut(random.normal(size=(14, 40))), random.normal(size=14)
    np.testing.assert_allclose(probe.predict(size * y[None]) / size, probe.predict(y[None]), rtol=1e-9)
    assert probe.refitted(size * y, 0, 99) == probe.refitted(y, 0, 99)


def test_names_are_matched_and_one_sided_domains_told(planted: Path, tmp_path: Path, capsys: Any) -> None:
    changes = {name.replace(" ", "_").upper(): -i for i, name in enumerate(DOMAINS) if name != "law"}
    path = csv(tmp_path / "own.csv", {**changes, "poetry": -3.0, "target": 9.0})
    told = json.loads(run(capsys, planted, "--actual", path, "--json"))
    assert told["only_scored"] == ["law"]
    assert told["only_changed"] == ["poetry"]
    assert told["target"]["change"] == 9
    assert told["comparisons"][0]["correlation"]["n"] == 13
    assert {point["domain"] for point in told["points"]} == set(DOMAINS) - {"law"}
    words = run(capsys, planted, "--actual", path)
    assert "law" in words
    assert "poetry" in words
    assert "n = 13" in words


def test_the_eight_are_the_four_that_changed_most_and_least(planted: Path) -> None:
    changes = {name: float((-1) ** i * (i + 1)) for i, name in enumerate(DOMAINS)}
    found = hold_against(Result(planted), read_actual(changes), with_baselines=False)
    eight = next(c.correlation for c in found.comparisons if c.filter == "paper8")
    assert set(eight.names) == {*DOMAINS[:4], *DOMAINS[-4:]}
    assert SELECTED in found.notes


def test_a_runs_own_evaluation_is_primary_and_its_reliability_told(planted: Path, tmp_path: Path, capsys: Any) -> None:
    random, folder = np.random.default_rng(2), tmp_path / "job"
    harm = truth(planted)
    for phase in (BEFORE, AFTER):
        rows = [
            RowValue(name, row, metric, 1.0 + (harm.get(name, -0.5) if phase == AFTER else 0) + 0.1 * random.normal())
            for name in (*DOMAINS, "target")
            for row in range(40)
            for metric in ("nll", "accuracy")
        ]
        write_rows(folder / "result", phase, rows)
    actual = read_actual(folder)
    assert (actual.metric, actual.reliability_from) == ("nll", HALVES)
    assert actual.reliability is not None
    assert actual.reliability > 0.9
    found = hold_against(Result(planted), actual)
    primary = [c for c in found.comparisons if c.primary]
    assert [(c.score, c.outcome, c.filter) for c in primary] == [("sts_act", "harm", "all")]
    assert primary[0].correlation.r > 0.9
    assert not [c for c in hold_against(Result(planted), actual, n=50).comparisons if c.primary]
    assert not [c for c in hold_against(Result(planted), read_actual(folder, "accuracy")).comparisons if c.primary]
    words = run(capsys, planted, "--actual", folder)
    assert "STS act ranks harm better than chance" in words
    assert re.search(r"The training set itself: harm −0\.(4[5-9]|5[0-5])", words)


def test_errors_tell_the_reliability_where_rows_do_not(tmp_path: Path) -> None:
    path = tmp_path / "errors.csv"
    path.write_text("domain,change,se\na,-1,1\nb,-2,1\nc,-6,1\n", encoding="utf-8")
    actual = read_actual(path)
    assert actual.reliability_from == ERRORS
    assert actual.reliability == pytest.approx(1 - 1 / np.var([1, 2, 6], ddof=1))


def test_a_pair_of_evaluations(planted: Path, tmp_path: Path, capsys: Any) -> None:
    places = []
    for side, share in (("before", 0.0), ("after", 0.1)):
        results = {
            f"mmlu_pro_{name.replace(' ', '_')}": {"acc,none": 0.6 - share * value, "acc_stderr,none": 0.02}
            for name, value in truth(planted).items()
        }
        places.append(tmp_path / f"{side}.json")
        groups = {"mmlu_pro": list(results)}
        places[-1].write_text(json.dumps({"results": results, "group_subtasks": groups}), encoding="utf-8")
    twice = json.loads(run(capsys, planted, "--actual", places[0], "--actual", places[1], "--json"))
    once = json.loads(run(capsys, planted, "--actual", f"{places[0]},{places[1]}", "--json"))
    assert twice == once
    assert twice["comparisons"][0]["correlation"]["r"] > 0.95


def test_the_papers_changes_against_another_models_scores_say_so(planted: Path, capsys: Any) -> None:
    told = json.loads(run(capsys, planted, "--actual", "paper", "--json"))
    assert [one["source"].split(",")[1].split()[0] for one in told] == [
        "Llama3-8B-Instruct", "Qwen2.5-7B-Instruct", "Gemma2-9B-Instruct",
    ]  # fmt: skip
    assert all(one["comparisons"][0]["correlation"]["n"] == 14 for one in told)
    assert all(any("not of this model" in note for note in one["notes"]) for one in told)


def test_the_papers_own_panels_in_plain_words(capsys: Any) -> None:
    words = run(capsys, "paper", "--paper", "gemma")
    assert "r = 0.77, n = 8, p = .055; without engineering 0.05: one point carries this" in words
    assert "health, math, business, history, economics, chemistry: not published" in words


def test_a_program_that_reads_along_is_given_json(capsys: Any) -> None:
    program = typer.Typer()
    correlating.add_to(program)
    program(args=["paper", "--paper", "gemma"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out) == json.loads(run(capsys, "paper", "--paper", "gemma", "--json"))


def test_the_papers_scores_cannot_be_made_anew() -> None:
    for arguments in (["--n", "5"], ["--actual", "x.csv"], ["--power", "2"]):
        program = typer.Typer()
        correlating.add_to(program)
        with pytest.raises(UserError, match="as they were published"):
            program(args=["paper", *arguments], standalone_mode=False)


def test_the_runs_own_dimensions(planted: Path, tmp_path: Path) -> None:
    """`sft` takes the features that the run shifted; a run that did not measure that is refused."""
    folder = tmp_path / "run"
    rows = [RowValue(name, row, "nll", float(row)) for name in DOMAINS for row in range(5)]
    for phase in (BEFORE, AFTER):
        write_rows(folder, phase, [row._replace(value=row.value + len(row.set) * (phase == AFTER)) for row in rows])
    with pytest.raises(UserError, match="does not come from a run"):
        Result(planted).correlate(folder, dims="sft", n=10)
    shift = pd.DataFrame({"feature": np.arange(FEATURES)[::-1], "shift_sft": np.arange(FEATURES, dtype=float)})
    shift.to_parquet(folder / "shift.parquet")
    own = Result(planted).correlate(folder, dims="sft", n=10)
    assert own == Result(planted).correlate(folder, dims=list(range(10)))
    band = Result(planted).correlate(folder, dims="sft", ranks=(5, 15))
    assert band == Result(planted).correlate(folder, dims=list(range(5, 15)))


def test_a_job_is_named_by_its_id(planted: Path, own_cache: Path, capsys: Any) -> None:
    name = "20260102-030405-000006-abcdef"
    rows = [RowValue(domain, row, "nll", float(row)) for domain in DOMAINS for row in range(5)]
    for phase in (BEFORE, AFTER):
        grown = [row._replace(value=row.value + len(row.set) * (phase == AFTER)) for row in rows]
        write_rows(own_cache / "jobs" / name / "result", phase, grown)
    told = json.loads(run(capsys, planted, "--actual", name, "--json"))
    assert told == json.loads(run(capsys, planted, "--actual", name[-6:], "--json"))
    with pytest.raises(UserError, match="before and after by itself"):
        run(capsys, planted, "--actual", name, "--actual", name)
    assert told["metric"] == "nll"
    assert {point["domain"]: point["harm"] for point in told["points"]} == {domain: len(domain) for domain in DOMAINS}
    with pytest.raises(UserError, match="no job"):
        run(capsys, planted, "--actual", name.replace("abcdef", "fedcba"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "not given"),
        (["--actual", "nowhere.csv"], "no file"),
        (["--actual", ""], "is empty"),
        (["--actual", "a", "--actual", "b", "--actual", "c"], "3 times"),
        (["--actual", "OWN", "--filter", "paper9"], "no filter 'paper9'"),
        (["--actual", "OWN", "--n", "5", "--ranks", "1:2"], "two choices"),
        (["--actual", "OWN", "--ranks", "5"], "is no band of ranks"),
        (["--actual", "OWN", "--metric", "nll"], "no metric"),
        (["--actual", "OWN", "--paper", "qwen"], "belongs to"),
        (["--actual", "paper", "--paper", "gpt"], "no model"),
        (["--actual", "OTHER"], "No domain stands on both sides"),
        (["--actual", "OWN", "--n", "301"], "301"),
    ],
)
def test_what_a_person_must_change_is_told(planted: Path, tmp_path: Path, arguments: list[str], told: str) -> None:
    places = {
        "OWN": csv(tmp_path / "own.csv", dict.fromkeys(DOMAINS, 1.0) | {"law": 2.0}),
        "OTHER": csv(tmp_path / "other.csv", {"poetry": 1.0, "song": 2.0}),
    }
    program = typer.Typer()
    correlating.add_to(program)
    given = [str(places.get(argument, argument)) for argument in arguments]
    with pytest.raises(UserError, match=told) as error:
        program(args=[str(planted), *given], standalone_mode=False)
    assert error.value.hint


def test_a_domain_that_is_there_twice_is_refused_and_one_without_a_number_left_out(planted: Path) -> None:
    twice = [Outcome(name, None, None, 1.0, None, None, "accuracy", "own") for name in ("Law", "law", "math")]
    with pytest.raises(UserError, match="one domain twice"):
        Result(planted).correlate(twice)
    changes = {name: float(i) for i, name in enumerate(DOMAINS)} | {"law": float("nan")}
    found = hold_against(Result(planted), read_actual(changes), with_baselines=False)
    assert all("law" not in one.correlation.names for one in found.comparisons)
    assert found.comparisons[0].correlation.left_out == ("law",)
    assert all(one.correlation.n == (8 if one.filter == "paper8" else 13) for one in found.comparisons)


def test_what_lm_eval_found_in_an_evaluation_is_read_with_its_rows(planted: Path, tmp_path: Path) -> None:
    """An evaluation's folder may hold both; a metric of either can be named, and a damaged file is told."""
    theirs = [
        Outcome(name, 0.5, 0.5 - value / 10, -value / 10, 0.01, 90, "acc", "lm-eval", "share")
        for name, value in truth(planted).items()
    ]
    told = {"outcomes": [one._asdict() | {"harm": one.harm, "harm_se": one.harm_se} for one in theirs]}
    (tmp_path / "evaluation.json").write_text(json.dumps(told), encoding="utf-8")
    assert read_actual(tmp_path).outcomes == theirs
    for phase in (BEFORE, AFTER):
        write_rows(tmp_path, phase, [RowValue(name, row, "nll", 1.0) for name in DOMAINS for row in range(5)])
    assert read_actual(tmp_path).metrics == ("nll", "acc")
    found = Result(planted).correlate(tmp_path, metric="acc")
    assert found.r > 0.95
    assert found.reliability is not None
    for damaged in ("{", '{"outcomes": 3}', '{"outcomes": [{"source": "x", "domain": 4}]}'):
        (tmp_path / "evaluation.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(UserError, match="cannot be read"):
            read_actual(tmp_path)


def test_equal_changes_have_no_correlation_no_p_and_no_reliability(planted: Path, tmp_path: Path) -> None:
    harms = [0.1 + 0.2, 0.3, 0.3, 0.30000000000000004]
    path = tmp_path / "equal.csv"
    rows = "\n".join(f"{name},{harms[i % 4]!r},0.01" for i, name in enumerate(truth(planted)))
    path.write_text(f"domain,change,se\n{rows}", encoding="utf-8")
    found = hold_against(Result(planted), read_actual(path), n=50)
    assert found.actual.reliability is not None
    assert math.isnan(found.actual.reliability)
    for _, one in [*((c.score, c.correlation) for c in found.comparisons), *found.baselines]:
        assert math.isnan(one.r)
        assert math.isnan(one.p_perm)
        assert math.isnan(one.p_spearman)
    assert any("All changes are equal" in note for c in found.comparisons for note in c.correlation.notes)


def test_two_common_domains_have_no_correlation_and_say_so(planted: Path, tmp_path: Path, capsys: Any) -> None:
    words = run(capsys, planted, "--actual", csv(tmp_path / "two.csv", {"law": 1.0, "math": 2.0}))
    assert "2 points: a correlation needs at least 3" in words
