"""A sweep on a tiny model: it says what its points say, measures nothing twice, and finds the layer planted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from sts_core.errors import UserError
from sts_core.measure.run import run
from sts_core.measure.sweep import arranging
from sts_core.measure.sweep import run as sweeping
from sts_core.measure.sweep.points import Measured, overlaps
from sts_core.measure.sweep.run import run_sweep
from sts_core.measure.sweep.spec import SweepSpec
from sts_core.progress import Progress
from sts_core.results import shelf
from sts_core.results.actual import read_actual
from sts_core.results.agreement import ALL, hold_against
from sts_core.results.baselines import baselines
from sts_core.results.folder import Result
from sts_core.results.overlap import compare
from sts_core.results.sweeps import BASELINE, PROBE, SCORE, Sweep, over_seeds, read_sweep
from sts_core.spec import Spec
from sts_core.stats.correlation import correlate
from tests import tiny
from tests.sae_world import Killed
from tests.sweep_world import BANDS, DOMAINS, N, SweepWorld, make_sweep_world


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SweepWorld]:
    """A world, with a cache that all of this module's sweeps share, so that little is measured."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STS_CACHE", str(folder / "cache"))
        world = make_sweep_world(folder)
        run_sweep(SweepSpec.from_dict(world.spec()), folder / "whole")
        yield world


@pytest.fixture
def whole(measured: SweepWorld) -> Sweep:
    """Two SAEs × two seeds × (one N + two bands), held against a file."""
    return read_sweep(measured.folder / "whole")


@pytest.fixture
def count_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that were measured from now on, in order."""
    keys: list[str] = []
    real = sweeping.run

    def counted(spec: Spec, out: Path, *more: Any) -> Result:
        keys.append(out.name)
        return real(spec, out, *more)

    monkeypatch.setattr(sweeping, "run", counted)
    return keys


def test_every_point_is_what_the_single_run_gives(
    whole: Sweep, measured: SweepWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the four measured by itself, in an empty cache, and held against the same file: to the last digit."""
    monkeypatch.setenv("STS_CACHE", str(tmp_path / "other"))
    actual = read_actual(measured.folder / "changes.csv")
    compared = 0
    for sae in ("low", "high"):
        for seed in (0, 1):
            name = str(measured.folder / sae)
            spec = measured.base(sae=name, run={"seed": seed, "device": "cpu", "dtype": "float32"})
            result = run(Spec.from_dict(spec), tmp_path / f"{sae}{seed}")
            rows = whole.table[(whole.table["sae"] == name) & (whole.table["seed"] == seed)]
            assert set(rows["key"]) == {result.manifest["key"]}
            choices = [("top 8", N, None), *((f"ranks {a}–{b}", b - a + 1, (a - 1, b)) for a, b in BANDS)]
            for words, n, ranks in choices:
                alone = hold_against(result, actual, n=n, ranks=ranks, filters=(ALL,), with_baselines=False)
                for one in alone.comparisons:
                    row = at(rows, choice=words, score=one.score, outcome=one.outcome)
                    c = one.correlation
                    assert (row["spearman"], row["r"]) == (c.spearman, c.r)
                    assert (row["p_spearman"], row["p_r"]) == (c.p_spearman, c.p_perm)
                    assert (row["loo_min"], row["loo_max"]) == c.loo_range
                    assert ((row["r_low"], row["r_high"]), row["spearman_low"]) == (c.ci, (c.ci_spearman or [None])[0])
                    assert (row["domains"], row["most_influential"]) == (c.n, c.most_influential)
                    compared += 1
            for baseline, c in hold_against(result, actual, n=N, filters=(ALL,)).baselines:
                own = rows[(rows["kind"] == BASELINE) & (rows["score"] == baseline.name)]
                found = own[own["n"].isna() | (own["n"] == N)].iloc[0]
                assert (found["spearman"], found["p_spearman"]) == (c.spearman, c.p_spearman)
                assert found["foretells"] == baseline.foretells
            for size in (N, BANDS[1][1] - BANDS[1][0] + 1):  # those that depend on how many features there are
                busiest = next(b for b in baselines(result.folder, size) if b.name.startswith("busiest"))
                drawn = result.scores(n=size, dims="random").query("metric == 'sts_act'").set_index("domain")["value"]
                for name, values in ((busiest.name, busiest.values), ("random features, active", drawn.to_dict())):
                    (found,) = rows[(rows["score"] == name) & (rows["n"] == size)].to_dict("records")
                    x = [values[one.domain] for one in actual.outcomes]
                    y = [one.harm for one in actual.outcomes]
                    assert found["spearman"] == pytest.approx(correlate(list(DOMAINS), x, y, draws=1).spearman)
    assert compared == 4 * 3 * 4


def test_it_varies_as_told_and_means_are_over_seeds(whole: Sweep, measured: SweepWorld) -> None:
    scores = whole.table[whole.table["kind"] == SCORE]
    assert len(scores) == 2 * 2 * 3 * 2 * 2
    assert set(scores["varied"]) == {"", "sae", "seed", "choice", "sae, seed", "sae, choice", "seed, choice",
                                     "sae, seed, choice"}  # fmt: skip
    low = scores[scores["sae"] == str(measured.folder / "low")]
    pair = low[(low["choice"] == "top 8") & (low["score"] == "sts_act") & (low["outcome"] == "harm")]["spearman"]
    mean = at(over_seeds(low), choice="top 8", score="sts_act", outcome="harm")
    assert (mean["spearman"], mean["seeds"]) == (pair.mean(), 2)
    assert mean["spearman_sd"] == pytest.approx(abs(pair.iloc[0] - pair.iloc[1]) / 2**0.5)
    told = pd.read_csv(whole.folder / "sweep.csv")
    assert told["spearman"].tolist() == pytest.approx(whole.table["spearman"].tolist(), nan_ok=True)
    assert len(pd.read_csv(whole.folder / "summary.csv")) == len(over_seeds(whole.table))


def test_l0_and_what_seeds_share_are_those_of_the_results(whole: Sweep, measured: SweepWorld) -> None:
    name = str(measured.folder / "high")
    rows = whole.table[(whole.table["sae"] == name) & (whole.table["kind"] == SCORE)]
    results = [Result(shelf.find(key)) for key in dict.fromkeys(rows["key"]) if shelf.find(key)]  # type: ignore[arg-type]
    first, second = (set(r.shift.sort_values("shift_icl", ascending=False)["feature"][:10]) for r in results)
    assert rows[rows["seed"] == 0]["seed_overlap_10"].isna().all()
    assert set(rows[rows["seed"] == 1]["seed_overlap_10"]) == {len(first & second) / 10}
    assert rows["l0"].iloc[0] == pytest.approx(results[0].shift["rate_base"].sum())
    chance = rows[rows["seed"] == 1]["seed_chance_10"].iloc[0]
    fires = results[1].shift[["mean_base", "mean_icl"]].max(axis=1) > 0
    assert chance == pytest.approx(10 / fires.sum())


def test_what_a_run_shifted_itself_is_held_against_every_ranking(measured: SweepWorld, tmp_path: Path) -> None:
    """The overlap is that of `sts overlap`, its highest null beside it; a run over other features has none."""
    one = arranging.arrange(SweepSpec.from_dict(measured.spec()))[0].beside
    folder = Path(shelf.find(one.key) or "")
    actual = read_actual(measured.folder / "changes.csv")._replace(folder=tmp_path)
    shifted = pd.DataFrame(
        {"feature": range(tiny.FEATURES), "shift_sft": np.random.default_rng(0).random(tiny.FEATURES)}
    )
    shifted.to_parquet(tmp_path / "shift.parquet")
    point = Measured("low", False, one, folder)
    found = overlaps(point, point, actual)
    alone = compare(folder, tmp_path, [10, 50]).rows
    assert found == {
        name: value
        for row in alone
        for name, value in ((f"overlap_{row.k}", row.value), (f"overlap_null_{row.k}", row.nulls[row.highest].upper))
    }
    shifted.iloc[:40].to_parquet(tmp_path / "shift.parquet")
    assert overlaps(point, point, actual) == {}
    assert overlaps(point._replace(probe=True), point, actual) == {}


def test_what_the_store_has_is_never_measured_again(
    measured: SweepWorld, count_runs: list[str], tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in (measured.folder / "whole").iterdir() if path.is_file()}
    run_sweep(SweepSpec.from_dict(measured.spec()), measured.folder / "whole")
    run_sweep(SweepSpec.from_dict(measured.spec(n=[4], powers=[1, 2], actual=None)), tmp_path / "other")
    assert count_runs == []
    assert {path: path.read_bytes() for path in before} == before
    assert all(one["was_stored"] for one in read_sweep(tmp_path / "other").manifest["results"])


def test_a_killed_sweep_goes_on_with_what_is_missing(
    measured: SweepWorld, count_runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the third of four measures its fourth set: only that and the fourth are run afterwards."""
    monkeypatch.setenv("STS_CACHE", str(tmp_path / "cache"))
    spec, out, told = SweepSpec.from_dict(measured.spec()), tmp_path / "out", []

    def kill(step: Progress) -> None:
        if step.done >= 2 and "measuring biology" in step.stage:
            raise Killed

    with pytest.raises(Killed):
        run_sweep(spec, out, kill, lambda event, details: told.append((event, details["key"])))
    assert len(told) == 2
    with pytest.raises(UserError, match="no finished sweep"):
        read_sweep(out)
    plan = arranging.plan(spec)
    assert [row["stored"] for row in plan["measurements"]] == [True, True, False, False]
    assert json.loads((out / "measuring" / count_runs[2] / "parts" / "key.json").read_text()) == count_runs[2]
    run_sweep(spec, out)
    assert len(set(count_runs)) == 4
    assert [count_runs.count(key) for key in dict.fromkeys(count_runs)] == [1, 1, 2, 1]
    third = Result(Path(shelf.find(count_runs[2]) or ""))
    assert third.manifest["tokens"]["run_in_this_sitting"] < third.manifest["tokens"]["run"]
    assert not (out / "measuring").exists()
    same = read_sweep(measured.folder / "whole").table
    pd.testing.assert_frame_equal(read_sweep(out).table, same)


def test_the_layer_that_was_planted_is_found(measured: SweepWorld, tmp_path: Path) -> None:
    """Harm is made from what the features of the high layer do, seed by seed the same: no other setting ranks it so."""
    bare = read_sweep(run_sweep(SweepSpec.from_dict(measured.spec(actual=None)), tmp_path / "bare"))
    high = [row for row in bare.manifest["results"] if row["sae"] == str(measured.folder / "high")]
    scores = [Result(Path(shelf.find(row["key"]) or "")).scores(n=N) for row in high]
    act = [one[one["metric"] == "sts_act"].set_index("domain")["value"] for one in scores]
    harm = act[0].rank() + act[1].rank()
    path = tmp_path / "planted.csv"
    path.write_text("domain,change\n" + "".join(f"{name},{-harm[name] - act[0][name] / 1e3}\n" for name in DOMAINS))
    found = read_sweep(run_sweep(SweepSpec.from_dict(measured.spec(actual=str(path))), tmp_path / "out"))
    best = found.manifest["best"]["sts_act"]
    assert (best["sae"], best["settings"]) == (str(measured.folder / "high"), 6)
    # Ranks 1–8 are the first 8: the two settings say the same, and either may be named.
    assert best["choice"] in ("top 8", "ranks 1–8")
    assert best["spearman"] > 0.8
    means = over_seeds(found.table[found.table["kind"] == SCORE])
    own = means[(means["score"] == "sts_act") & (means["outcome"] == "harm")]
    assert own["spearman"].max() == pytest.approx(best["spearman"])
    assert (own[own["sae"] != best["sae"]]["spearman"] < best["spearman"] - 0.2).all()
    from sts_core.figures.sweep import answer

    assert answer(found).startswith("Of 6 settings of STS act, high with the ")


def test_without_an_outcome_it_tells_how_alike_the_points_rank(measured: SweepWorld, tmp_path: Path) -> None:
    from scipy.stats import spearmanr

    from sts_core.figures.sweep import answer

    bare = read_sweep(run_sweep(SweepSpec.from_dict(measured.spec(actual=None)), tmp_path / "bare"))
    assert not bare.has_outcome
    assert bare.table["spearman"].isna().all()
    assert set(bare.table["kind"]) == {SCORE}
    keys = [row["key"] for row in bare.manifest["results"]]
    results = [Result(Path(shelf.find(key) or "")) for key in keys]
    icl = [one.scores(n=N).query("metric == 'sts_icl'")["value"] for one in results]
    told = [at(bare.table[bare.table["key"] == key], choice="top 8", score="sts_icl", outcome="") for key in keys]
    seen = [row["same_order"] for row in told]
    assert np.isnan(seen[0])
    # The first setting's other seed against its first; the other SAE against the first with the same seed.
    assert seen[1:] == pytest.approx([spearmanr(icl[i], icl[j]).statistic for i, j in ((1, 0), (2, 0), (3, 1))])
    assert "no outcome was named" in answer(bare)


def test_probes_read_the_residual_itself(measured: SweepWorld, tmp_path: Path) -> None:
    """Raw: positive minus negative part is the residual. Principal: the residual about its mean, turned."""
    spec = measured.spec(probes=["raw", "random", "pca"], saes=[str(measured.folder / "high")], seeds=[0, 1])
    found = read_sweep(run_sweep(SweepSpec.from_dict(spec), tmp_path / "out"))
    results = {(r["sae"], r["seed"]): Result(Path(shelf.find(r["key"]) or "")) for r in found.manifest["results"]}
    own = results[(str(measured.folder / "high"), 0)]
    raw, turned = results[("raw residual", 0)], results[("principal directions", 0)]
    assert (len(raw.shift), len(turned.shift)) == (2 * tiny.WIDTH, 2 * tiny.WIDTH)
    assert len(results[("random directions", 0)].shift) == tiny.FEATURES
    mean = raw.shift["mean_base"].to_numpy()
    np.testing.assert_allclose(mean[: tiny.WIDTH] - mean[tiny.WIDTH :], own.shift_raw["mean_base"], atol=1e-5)
    means = turned.groups["target"].mean("base")
    ahead, back = means[: tiny.WIDTH], means[tiny.WIDTH :]
    np.testing.assert_allclose(ahead - back, 0, atol=1e-4)  # the middle is taken away
    assert (ahead + back)[:4].min() > 2 * (ahead + back)[-4:].max()  # the first directions vary most
    axes = load_file(Path(turned.manifest["spec"]["sae"]) / "sae_weights.safetensors")["W_dec"][: tiny.WIDTH]
    np.testing.assert_allclose(axes @ axes.T, np.eye(tiny.WIDTH), atol=1e-5)
    kinds = found.table[found.table["kind"] == PROBE]
    assert set(kinds["sae"]) == {"raw residual", "random directions", "principal directions"}
    assert len({one.manifest["resolved"]["sae"]["revision"] for (name, _), one in results.items()
                if name == "random directions"}) == 2  # fmt: skip
    assert "raw activation" not in found.manifest["baselines_not_stored"]
    assert found.manifest["baselines_not_stored"].keys() == {"similarity before and after", "short LoRA probe"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"saes": ["nowhere"]}, "no SAE 'nowhere'"),
        ({"n": [65]}, "too few for top 65"),
        ({"rank_bands": [[60, 65]]}, "too few for ranks 60–65"),
        ({"actual": "nowhere.csv"}, "nowhere.csv"),
        ({"actual": "paper"}, "no changes of"),
        ({"actual": "paper:gpt"}, "has no model"),
        ({"metric": "bleu"}, "bleu"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_measured(
    measured: SweepWorld, tmp_path: Path, count_runs: list[str], changes: dict[str, Any], told: str
) -> None:
    spec = SweepSpec.from_dict(measured.spec(**changes))
    for does in (lambda: arranging.plan(spec), lambda: run_sweep(spec, tmp_path / "out")):
        with pytest.raises(UserError, match=told) as error:
            does()
        assert error.value.hint
    assert count_runs == []
    assert not (tmp_path / "out").exists()


def test_outcomes_of_other_or_too_few_domains_are_refused(measured: SweepWorld, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    for rows, told in (("a,1\nb,2\nc,3\n", "No domain stands on both sides"), ("law,1\nmath,2\n", "Only 2 of the")):
        path.write_text(f"domain,change\n{rows}")
        with pytest.raises(UserError, match=told):
            arranging.plan(SweepSpec.from_dict(measured.spec(actual=str(path))))


def test_a_folder_of_something_else_is_left_alone(measured: SweepWorld, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="something else"):
        run_sweep(SweepSpec.from_dict(measured.spec()), out)
    (out / "letter.txt").unlink()
    run_sweep(SweepSpec.from_dict(measured.spec()), out)
    with pytest.raises(UserError, match="another sweep"):
        run_sweep(SweepSpec.from_dict(measured.spec(seeds=[0])), out)
    changes = (measured.folder / "changes.csv").read_text()
    try:  # the same file by name, but it tells something else now
        measured.tell_changes(dict.fromkeys(DOMAINS, 1.0) | {"law": 2.0})
        with pytest.raises(UserError, match="files that have changed"):
            run_sweep(SweepSpec.from_dict(measured.spec()), out)
    finally:
        (measured.folder / "changes.csv").write_text(changes)


def test_a_damaged_sweep_is_told(whole: Sweep, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole.folder, copy)
    (copy / "sweep.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read"):
        read_sweep(copy)
    (copy / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        read_sweep(copy)


def test_the_plan_counts_what_is_missing(measured: SweepWorld) -> None:
    there = arranging.plan(SweepSpec.from_dict(measured.spec()))
    assert (there["missing"], there["seconds"], there["bytes"], there["points"]) == (0, 0, 0, 12)
    more = arranging.plan(SweepSpec.from_dict(measured.spec(seeds=[0, 1, 2], probes=["raw"])))
    assert [row["stored"] for row in more["measurements"]].count(True) >= 4
    assert more["missing"] == sum(not row["stored"] for row in more["measurements"]) >= 2
    missing = [row for row in more["measurements"] if not row["stored"]]
    assert more["tokens"] == sum(row["tokens"] for row in missing) > 0
    assert more["bytes"] > 0


def at(table: pd.DataFrame, **where: Any) -> dict[str, Any]:
    """The one score row with these values."""
    rows = table[table["kind"] == SCORE]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1
    return {str(name): value for name, value in rows.iloc[0].to_dict().items()}
