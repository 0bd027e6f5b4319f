"""The benchmarks at tiny sizes: they run, both sides find the same, and every table has its rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import engine, engine_gpu, items, made, meter, rival, work
from benchmarks.findings import OURS, RIVAL, compare
from benchmarks.harms_alike import against_mean, harm
from benchmarks.same_order import alike, named, scores
from benchmarks.scaled_scores import ways
from benchmarks.side import run
from benchmarks.task import TINY, Report, Task
from sts_core.folders import DEMO, demo_runs
from sts_core.results.vectors import Vectors
from tests import tiny

TASK = Task("ours", TINY, "", 1, 96, "float32", prefix=30, items=3, repeats=2, batches=(1, 2))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model's folder and a file of rows."""
    folder = tmp_path_factory.mktemp("benchmarks")
    model = tiny.save_model(folder / "model", "qwen2")
    return model, tiny.write_rows(folder / "rows.jsonl", tiny.rows(400, words=(8, 20)))


def options(place: tuple[Path, Path], *more: str) -> list[str]:
    """A run of seconds."""
    return [
        "--model", str(place[0]), "--data", str(place[1]), "--random", "--layer", "1", "--features", "64",
        "--dtype", "float32", "--prefixes", "40,120", "--items", "6", "--rival-items", "3", "--rival-batches", "1,2",
        "--repeats", "1", "--memory-tokens", "4000", "--memory-features", "256", "--flat-features", "128",
        "--flat-tokens", "200,400,4000", *more,
    ]  # fmt: skip


def rows_of(table: str) -> list[list[str]]:
    """The cells of every row of every table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]


def test_every_part_gives_its_rows(place: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert engine.main(options(place), start=run) == 0
    shown = capsys.readouterr().out
    rows = rows_of(shown)
    for prefix in ("40", "120"):
        sides = [row[1:3] for row in rows if row[0] == prefix and len(row) == 11]
        assert sides == [["ours", "3"], ["rival", "3"], ["ours", "6"], ["rival, extrapolated", "6"]]
        assert [row[-1] for row in rows if row[0] == prefix and len(row) == 5] == ["yes"]
        assert [row[-1] for row in rows if row[0] == f"same shift at {prefix}"] == ["yes"]
    assert [row[0] for row in rows if row[0] in ("ours", "rival")] == ["ours", "rival"]
    assert [row[0] for row in rows if row[0] in ("200", "400", "4,000")] == ["200", "400", "4,000"]
    assert "seed 0" in shown
    assert "float32" in shown


def test_the_rival_finds_what_we_find(tmp_path: Path) -> None:
    ours = run(Task(**{**TASK.__dict__, "keep": str(tmp_path / OURS)}))
    theirs = run(Task(**{**TASK.__dict__, "side": "rival", "keep": str(tmp_path / RIVAL)}))
    cell = compare(TASK, ours, ours, theirs, tmp_path)
    assert cell.difference < 1e-5
    assert cell.agrees
    np.save(tmp_path / RIVAL, np.load(tmp_path / RIVAL) * 1.01)
    assert not compare(TASK, ours, ours, theirs, tmp_path).agrees


def test_a_disagreement_ends_with_one(place: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(task: Task) -> Report:
        report = run(task)
        if task.side == "rival":
            np.save(task.keep, np.load(task.keep) + 1)
        return report

    assert engine.main(options(place, "--parts", "speed", "--prefixes", "40"), start=wrong) == 1
    assert "NO" in capsys.readouterr().out


def test_a_side_runs_in_a_process_of_its_own() -> None:
    report = engine.in_child(TASK)
    assert (report.items, report.pooled, report.cost.repeats) == (3, 300, 2)
    assert report.cost.beyond > 0
    assert 0 < report.share < 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--model", "no-such-model"], "no model"),
        (["--data", "no-such-file.jsonl"], "no file"),
        (["--prefixes", "1000000"], "too few rows"),
    ],
)
def test_what_a_person_must_change(
    place: tuple[Path, Path], more: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert engine.main(options(place, "--parts", "speed", *more), start=run) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "hint: " in error


def test_the_rival_measures_no_more_than_sixteen(place: tuple[Path, Path]) -> None:
    with pytest.raises(SystemExit):
        engine.main(options(place, "--rival-items", "17"))


def test_padding_changes_nothing_for_the_rival() -> None:
    model = made.random_model(made.tiny_config(), "cpu", "float32", 0, head=True)
    sae = made.random_sae("standard", 1, 64, 96, "cpu", "float32", 0)
    pairs = items.from_noise(made.TINY_VOCABULARY, 20, 7, 21, 0).pairs
    pairs[1] = pairs[1]._replace(icl=items.from_noise(made.TINY_VOCABULARY, 9, 7, 7, 1).pairs[0].icl)
    alone, padded = (rival.shift(model, sae, 1, pairs, batch) for batch in (1, 3))
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)


def test_counted_arithmetic_is_that_of_the_products() -> None:
    sizes = work.sizes_of(made.tiny_config(), 2)
    weights = sum(
        p.numel() for name, p in made.random_model(made.tiny_config(), "cpu", "float32", 0).named_parameters()
        if p.ndim == 2 and name.startswith(("layers.0.", "layers.1."))
    )  # fmt: skip
    pairs = items.from_noise(512, 20, 10, 10, 0)
    # One query: each arm is run once, 19 and 35 tokens, whatever of them is called shared.
    keys = 19 * 20 // 2 + 35 * 36 // 2
    assert work.model_flops(sizes, pairs) == 2 * weights * (19 + 35) + 2 * 4 * 64 * keys
    assert work.sae_flops(64, 96, 10) == 2 * 2 * 64 * 96 * 10


def test_a_beginning_has_exactly_the_tokens_asked_for(place: tuple[Path, Path]) -> None:
    from transformers import AutoTokenizer

    pairs = items.from_rows(place[1], AutoTokenizer.from_pretrained(place[0]), 50, items=4, tokens=0, seed=1).pairs
    assert len(pairs) == 4
    for pair in pairs:
        assert pair.icl.ids[:50] == pairs[0].icl.ids[:50]
        assert len(pair.icl.ids) - len(pair.base.ids) == 50 - pair.base.head
        (a, b), (c, d) = pair.base.spans[0], pair.icl.spans[0]
        assert pair.base.ids[a:b] == pair.icl.ids[c:d]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be reset on Linux alone")
def test_the_peak_is_that_of_the_work() -> None:
    _, small = meter.measured(lambda: bytes(1 << 20), 1, 60)
    _, large = meter.measured(lambda: len(bytearray(b"x") * (64 << 20)), 3, 60)
    _, again = meter.measured(lambda: bytes(1 << 20), 1, 60)
    assert large.beyond > 60e6
    assert max(small.beyond, again.beyond) < 30e6
    assert large.repeats == 3


def test_the_gpu_benchmark_shrunk(capsys: pytest.CaptureFixture[str]) -> None:
    assert engine_gpu.main(["--shrink"]) == 0
    shown = capsys.readouterr().out
    first, *_ = [row for row in rows_of(shown) if row[0] == "256"]
    assert [row[0] for row in rows_of(shown)] == ["features", "---", "256", "512"]
    assert first[3] == "400"
    assert "mean nothing" in shown


def test_the_gpu_benchmark_asks_for_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert engine_gpu.main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "hint: " in error


def test_the_gpu_budget_is_the_papers() -> None:
    sets = engine_gpu.budget(engine_gpu.PAPER, 0)
    assert [pairs.tokens for pairs in sets] == [20_000] + [10_000] * 14
    before = [pairs.pairs[0].icl.spans[0][0] - items.HEAD for pairs in sets]
    assert before == [8_000] + [1_250] * 14


def test_a_feature_by_its_own_scale_counts_as_much_as_any_other() -> None:
    """One feature is a hundred times as active as the other: it rules the plain mean, and not the relative one."""
    active = np.array([[300.0, 1.0, 0.0], [100.0, 3.0, 0.0]])
    plain, relative, weighted, share = ways(active, np.array([1.0, 3.0, 9.0]), np.array([0, 1, 2]))
    assert list(plain) == [301, 103]
    assert list(relative) == [1.5 + 0.5, 0.5 + 1.5]  # the feature that is silent everywhere has no scale
    assert list(weighted) == [1.5 + 3 * 0.5, 0.5 + 3 * 1.5]
    assert list(share) == [1, 1]


def test_the_order_of_domains_is_that_of_the_product() -> None:
    of = Vectors(DEMO / "result")
    told = of.scores(n=100, metrics=["sts_act"]).set_index("domain")["value"]
    assert named(DEMO / "result") == "gsm-symbolic"
    assert scores(of, "sts_act").to_dict() == pytest.approx(told.to_dict())
    assert alike(told, told.iloc[::-1]) == pytest.approx(1)
    assert alike(told, -told) == pytest.approx(-1)
    assert 0 < alike(told, scores(of, "sts_act", whole=True)) < 1


def test_the_mean_harm_of_one_run_is_its_own() -> None:
    folder = demo_runs() / "20261130-174918-177930-b7a004" / "result"
    harms = harm(folder)
    assert (len(harms), harms.idxmax()) == (14, "math")
    once, twice = against_mean(folder, [harms]), against_mean(folder, [harms, harms])
    assert (once.n, once.spearman) == (14, pytest.approx(twice.spearman))
    assert against_mean(folder, [-harms]).spearman == pytest.approx(-once.spearman)
