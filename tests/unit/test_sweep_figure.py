"""The figure of a sweep and its sentence: what is drawn where, from a table that is written down here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sts_core.figures.sweep import answer, beside, caption, row_name, short_names, sweep_figure, title
from sts_core.results.sweeps import COLUMNS, Sweep, over_seeds, varied_axes

SAES = ("demo/smollm2-l9", "demo/smollm2-l15", "demo/smollm2-l15-wide")
HELD = {"sae": SAES[0], "choice": "top 100", "pool": "query", "power": 1, "seed": 0}


def point(sae: str, choice: str, seed: int, score: str, rho: float, **more: Any) -> dict[str, Any]:
    n, first, last = (100, None, None) if choice == "top 100" else (None, 101, 200)
    layer = 9 if sae.endswith("l9") else 15
    return {
        "kind": "score", "sae": sae, "layer": layer, "features": 4096, "l0": 32.0, "seed": seed, "pool": "query",
        "choice": choice, "n": n, "first": first, "last": last, "power": 1, "score": score, "outcome": "harm",
        "domains": 14, "spearman": rho, "r": rho / 2, "foretells": True, "primary": False, "key": "0" * 20,
        "same_order": 0.5, **more,
    }  # fmt: skip


def made(outcome: bool = True, p_best: float = 0.4) -> Sweep:
    rows = []
    for i, sae in enumerate(SAES):
        for seed in (0, 1):
            for j, choice in enumerate(("top 100", "ranks 101–200")):
                rows.append(point(sae, choice, seed, "sts_act", 0.1 * i + 0.3 * j + 0.02 * seed))
                rows.append(point(sae, choice, seed, "sts_icl", -0.1 * i))
            quiet = {"kind": "baseline", "choice": "", "n": None, "same_order": math.nan}
            rows.append(point(sae, "top 100", seed, "all features, active", 0.2) | quiet)
            rows.append(point(sae, "top 100", seed, "ridge probe", -0.9) | quiet)
            probe = {"kind": "probe", "layer": 9 if i == 0 else 15}
            if i < 2:
                rows.append(point(f"raw residual, layer {probe['layer']}", "top 100", seed, "sts_act", -0.4) | probe)
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n": "Int64", "first": "Int64", "last": "Int64"})
    if not outcome:
        table = table[table["kind"] == "score"].assign(outcome="", spearman=math.nan, r=math.nan)
    best = {"setting": 5, "spearman": 0.51, "p_alone": 0.01, "p_best": p_best, "settings": 6, "sae": SAES[2],
            "pool": "query", "choice": "ranks 101–200", "power": 1}  # fmt: skip
    actual = {"source": "a run", "metric": "nll", "domains": 14}
    manifest = {"actual": actual, "best": {"sts_act": best}, "chance": {"sts_act": {"spearman": 0.54, "r": 0.5}}}
    return Sweep(Path("nowhere"), table, manifest if outcome else {"actual": None, "best": {}, "chance": {}})


def lines(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data if trace.hoverinfo == "text"}


def test_it_draws_means_over_seeds_at_each_place() -> None:
    found = lines(sweep_figure(made(), "sae", HELD))
    assert found["STS act"].y == pytest.approx((0.01, 0.11, 0.21))
    assert found["STS act"].x == (1, 2, 3)
    assert found["STS icl"].y == pytest.approx((0, -0.1, -0.2))
    bands = lines(sweep_figure(made(), "choice", HELD))
    assert bands["STS act"].y == pytest.approx((0.01, 0.31))
    seeds = lines(sweep_figure(made(), "seed", HELD))
    assert seeds["STS act"].y == pytest.approx((0.0, 0.02))
    assert lines(sweep_figure(made(), "sae", HELD, "r"))["STS act"].y == pytest.approx((0.005, 0.055, 0.105))


def test_pools_do_not_mix() -> None:
    sweep = made()
    other = sweep.table.assign(pool="answer", spearman=sweep.table["spearman"] + 0.5)
    both = sweep._replace(table=pd.concat([other, sweep.table], ignore_index=True))
    assert lines(sweep_figure(both, "sae", HELD))["all features"].y == pytest.approx((0.2, 0.2, 0.2))
    assert lines(sweep_figure(both, "pool", HELD))["STS act"].y == pytest.approx((0.51, 0.01))
    assert lines(sweep_figure(both, "pool", HELD))["all features"].y == pytest.approx((0.7, 0.2))


def test_whiskers_are_one_sd_over_seeds() -> None:
    figure = sweep_figure(made(), "sae", HELD)
    (whisker,) = [trace for trace in figure.data if trace.name == "STS act, interval"]
    assert whisker.error_y.array == pytest.approx([0.02 / 2**0.5] * 3)


def test_baselines_and_probes_are_quiet_lines_at_their_own_places() -> None:
    found = lines(sweep_figure(made(), "sae", HELD))
    assert found["all features"].y == pytest.approx((0.2, 0.2, 0.2))
    assert found["raw residual"].y == pytest.approx((-0.4, -0.4, -0.4))
    assert found["all features"].line.dash == "dot"
    assert "ridge probe" not in found  # it has seen the outcomes
    assert list(lines(sweep_figure(made(), "choice", HELD))["raw residual"].x) == [1]  # not asked of the band


def test_the_range_is_whole_and_chance_is_a_band() -> None:
    figure = sweep_figure(made(), "sae", HELD)
    assert tuple(figure.layout.yaxis.range) == (-1, 1)
    (shape,) = figure.layout.shapes
    assert (shape.y0, shape.y1) == (-0.54, 0.54)
    assert list(figure.layout.xaxis.ticktext) == ["l9", "<br>l15", "l15-wide"]
    assert "r 0.01" in lines(figure)["STS act"].hovertext[0]
    assert not sweep_figure(made(outcome=False), "sae", HELD, "same_order").layout.shapes


def test_the_answer_counts_how_many_were_tried() -> None:
    said = answer(made())
    assert said.startswith(
        "Of 6 settings of STS act, l15-wide with the features of ranks 101–200 ranks harm best: Spearman ρ = 0.51"
    )
    assert "± 0.01 over 2 seeds" in said
    assert said.endswith("as well with p = .400: no setting stands out.")
    assert answer(made(p_best=0.01)).endswith("that far with p = .010.")
    assert "no outcome was named" in answer(made(outcome=False))


def test_the_best_of_the_simpler_numbers_stands_beside_it() -> None:
    """The ridge probe, which has seen outcomes, would be the best of them."""
    sweep = made()
    ridge = sweep.table["score"] == "ridge probe"
    sweep.table.loc[ridge, ["spearman", "foretells"]] = [0.99, False]
    assert beside(sweep) == (
        "Best of the simpler numbers: all features, active of l9 (Spearman ρ = 0.20 ± 0.00, picked from 5)."
    )
    assert beside(made(outcome=False)) == ""


def test_saes_stand_by_layer_whatever_order_the_spec_has() -> None:
    sweep = made()
    turned = sweep._replace(table=sweep.table.iloc[::-1].reset_index(drop=True))
    first, second = lines(sweep_figure(sweep, "sae", HELD)), lines(sweep_figure(turned, "sae", HELD))
    assert first["STS act"].y[0] == second["STS act"].y[0] == pytest.approx(0.01)


def test_title_and_caption_say_what_stands_still() -> None:
    sweep = made()
    assert title("sae", True) == "Does the ranking of harm depend on the SAE?"
    told = " ".join(caption(sweep, "sae", HELD))
    assert "ean ± 1 sd over 2 seeds" in told
    assert "Features averaged over: top 100" in told
    assert "n = 14 domains" in told
    assert "SAE: l9" in " ".join(caption(sweep, "choice", HELD))
    assert varied_axes(sweep.table) == ["sae", "choice", "seed"]


def test_names_lose_what_all_of_them_begin_with() -> None:
    assert list(short_names(SAES).values()) == ["l9", "l15", "l15-wide"]
    assert list(short_names(["one"]).values()) == ["one"]
    assert list(short_names(["/a/sae", "/b/sae"]).values()) == ["/a/sae", "/b/sae"]
    assert list(short_names(["layer9", "layer15"]).values()) == ["layer9", "layer15"]
    assert row_name(over_seeds(made().table).iloc[0]) == "smollm2-l9"
