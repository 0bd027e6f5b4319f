"""A sweep in one figure and one sentence: how well scores rank what happened, as one setting varies.

Without an outcome it shows how alike the points rank the domains. Every dot is a mean over seeds, its whisker ± 1 sd;
grey lines are what simpler numbers reach, the grey band is where 95 of 100 shuffled outcomes lie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

from sts_core.figures.frame import add_notes, short
from sts_core.figures.lines import Series, step_lines
from sts_core.figures.numbers import count, fixed, known, p_value
from sts_core.figures.theme import HUES, SMALL_SIZE, TOKENS, Mode, blend
from sts_core.figures.words import METRICS
from sts_core.results.sweeps import BASELINE, MEASURES, PROBE, SCORE, Sweep, over_seeds, values_of

Measure = Literal["spearman", "r", "same_order"]
AXES = {
    "sae": "SAE",
    "choice": "features averaged over: the top N, or ranks by shift",
    "pool": "pooled tokens",
    "power": "power",
    "seed": "seed",
}
"""What can vary -> what the axis under the figure says."""
_HELD = {"sae": "SAE", "choice": "Features averaged over", "pool": "Pooled tokens", "power": "Power"}
VERTICAL = {
    "spearman": "Spearman ρ with harm", "r": "Pearson r with harm", "same_order": "Spearman ρ with the first setting",
}  # fmt: skip
HARM = "harm"
LIKELY = 0.05
_BAND = 0.13
_LONGEST, _BESIDE = 14, 20
"""Letters of a place's name, and of all names together that still stand beside each other on a phone."""
_QUIET = (
    "all features, active", "busiest features, active", "random features, active", "similarity to the training set",
)  # fmt: skip
"""Baselines that the figure shows; the others stand in the table."""


def title(axis: str, outcome: bool) -> str:
    """The question the figure answers."""
    what = {
        "sae": "the SAE", "choice": "which features count", "pool": "which tokens count", "power": "the power",
        "seed": "the seed",
    }  # fmt: skip
    return f"Does the {'ranking of harm' if outcome else 'order of the domains'} depend on {what[axis]}?"


def caption(sweep: Sweep, axis: str, held: Mapping[str, Any]) -> list[str]:
    """What stands still, how many seeds, what the grey means."""
    seeds = len(values_of(sweep.table, "seed"))
    named = short_names(values_of(sweep.table, "sae"))
    rest = [
        f"{_HELD[name]}: {named.get(str(value), value)}"
        for name, value in held.items()
        if name not in (axis, "seed") and len(values_of(sweep.table, name)) > 1
    ]
    many = "One seed" if seeds == 1 else f"Mean ± 1 sd over {count(seeds)} seeds"
    many = "Each seed by itself" if axis == "seed" else many
    lines = [". ".join([many, *(["; ".join(rest)] if rest else [])]) + "."]
    if (actual := sweep.manifest.get("actual")) is not None:
        lines.append(
            f"n = {count(actual['domains'])} domains. Band: 95 of 100 shuffled outcomes, one point at a time. "
            f"What happened: {actual['source']} ({actual['metric']})"
        )
    return lines


def sweep_figure(
    sweep: Sweep, axis: str, held: Mapping[str, Any], measure: Measure = "spearman", mode: Mode = "light"
) -> go.Figure:
    """`measure` along one axis, every other setting at what `held` says."""
    places = _places(sweep.table, axis)
    table = over_seeds(sweep.table) if axis != "seed" else _each_seed(sweep.table)
    tokens = TOKENS[mode]
    colors = {"sts_act": tokens.accent, "sts_icl": HUES[4][mode == "dark"]}
    series, hovers = [], []
    for name, quiet in _lines(table, measure, axis):
        found = [_at(table, name, {**held, axis: value}, quiet) for value in places]
        shown = [i for i, row in enumerate(found) if row is not None and known(row[measure])]
        if not shown:
            continue
        rows = [row for i in shown if (row := found[i]) is not None]
        color = tokens.muted if quiet else colors.get(name, tokens.ink)
        series.append(_series(name, [i + 1 for i in shown], rows, measure, color, quiet))
        hovers.append([_hover(series[-1].name, places[i], row, measure) for i, row in zip(shown, rows, strict=True)])
    words = title(axis, sweep.has_outcome)
    figure = step_lines(
        series, words, VERTICAL[measure], caption(sweep, axis, held), mode, span=(-1.0, 1.0), steps=len(places),
        over=AXES[axis],
    )  # fmt: skip
    _say_hovers(figure, series, hovers)
    _name_places(figure, axis, places)
    if measure != "same_order":
        _add_chance(figure, sweep, measure, mode)
    return figure


def answer(sweep: Sweep) -> str:
    """One sentence: which setting ranks harm best, and whether that is more than having looked at many."""
    table = over_seeds(sweep.table[sweep.table["kind"] == SCORE])
    if not sweep.has_outcome:
        return _without_outcome(table)
    best = sweep.manifest.get("best", {}).get("sts_act")
    if not best:
        return "No correlation can be told: the scores or the outcomes do not differ between domains."
    own = table[(table["score"] == "sts_act") & (table["outcome"] == HARM)]
    row = own[_where(own, best)].iloc[0]
    spread = f" ± {fixed(row['spearman_sd'], 2)} over {count(row['seeds'])} seeds" if known(row["spearman_sd"]) else ""
    rho = f"Spearman ρ = {fixed(best['spearman'], 2)}{spread}"
    where = _setting_words(best, sweep)
    if best["settings"] == 1:
        return f"STS act ({where}) against harm: {rho}; as much by chance with {p_value(best['p_alone'])} (one-sided)."
    head = f"Of {count(best['settings'])} settings of STS act, {where} ranks harm best: {rho}."
    told = p_value(best["p_best"])
    if best["p_best"] >= LIKELY:
        return f"{head} By chance alone the best of as many does as well with {told}: no setting stands out."
    return f"{head} Chance alone would bring the best of as many that far with {told}."


def beside(sweep: Sweep) -> str:
    """What the best of the simpler numbers reaches: baselines and probes that need no outcome; nothing where none is.

    It is picked from many as the best setting is.
    """
    means = over_seeds(sweep.table[sweep.table["foretells"].astype(bool) & (sweep.table["kind"] != SCORE)])
    means = means[(means["outcome"] == HARM) & means["spearman"].notna()]
    if not sweep.has_outcome or means.empty:
        return ""
    best = means.sort_values("spearman", ascending=False, kind="stable").iloc[0]
    name = METRICS.get(best["score"], str(best["score"]))
    of = short_names(values_of(sweep.table, "sae")).get(str(best["sae"]), _last(str(best["sae"])))
    what = f"{name} of {of}" + (f", {best['choice']}" if best["choice"] else "")
    spread = f" ± {fixed(best['spearman_sd'], 2)}" if known(best["spearman_sd"]) else ""
    told = f"Spearman ρ = {fixed(best['spearman'], 2)}{spread}, picked from {count(len(means))}"
    return f"Best of the simpler numbers: {what} ({told})."


def row_name(row: Mapping[str, Any]) -> str:
    """A row of the table in words: the SAE, and what is not as usual."""
    more = [f"pool {row['pool']}"] if row["pool"] != "query" else []
    more += ["squares"] if row["power"] == 2 else []
    return ", ".join([_last(str(row["sae"])), *more])


def short_names(values: Sequence[Any]) -> dict[str, str]:
    """Names without what all of them begin with; whole where that leaves two alike, or nothing."""
    names = [str(value) for value in values]
    last = [_last(name) for name in names]
    begins = 0
    if len(last) > 1:
        while all(len(one) > begins and one[begins] == last[0][begins] for one in last):
            begins += 1
        while begins and (last[0][begins - 1].isalnum()):  # never within a word
            begins -= 1
    cut = [one[begins:] for one in last]
    good = len(set(cut)) == len(set(names)) and all(cut)
    return dict(zip(names, cut if good else names, strict=True))


def _places(table: pd.DataFrame, axis: str) -> list[Any]:
    """The values in the order of the spec; SAEs by layer, then width, then how many features are active."""
    values = values_of(table, axis)
    if axis != "sae":
        return values
    own = table[table["kind"] == SCORE].groupby("sae", sort=False)[["layer", "features", "l0"]].mean()
    return sorted(values, key=lambda name: tuple(own.loc[name]))


def _lines(table: pd.DataFrame, measure: str, axis: str) -> list[tuple[str, bool]]:
    """The names of what is drawn: scores first, then, quiet, probes and baselines."""
    own = table[table["kind"] == SCORE]
    found = [(name, False) for name in dict.fromkeys(own["score"])]
    if measure == "same_order" and axis != "sae":
        return found
    kinds = list(dict.fromkeys(_kind_of_probe(name) for name in table[table["kind"] == PROBE]["sae"]))
    found += [(name, True) for name in kinds]
    there = set(table[table["kind"] == BASELINE]["score"])
    return found + [(name, True) for name in _QUIET if name in there and measure != "same_order"]


def _at(table: pd.DataFrame, name: str, setting: Mapping[str, Any], quiet: bool) -> dict[str, Any] | None:
    """The row of this line at this setting; None where there is none."""
    rows = table[table["outcome"].isin((HARM, ""))]
    rows = rows[rows["pool"] == setting["pool"]]
    if "seed" in rows:
        rows = rows[rows["seed"] == setting["seed"]]
    if not quiet:
        mask = (rows["kind"] == SCORE) & (rows["score"] == name)
        rows = rows[mask & _where(rows, setting)]
    elif name in _QUIET:
        rows = rows[(rows["kind"] == BASELINE) & (rows["score"] == name) & (rows["sae"] == setting["sae"])]
        rows = rows[rows["n"].isna() | (rows["n"] == _size(table, setting["choice"]))]
    else:
        layer = table[(table["kind"] == SCORE) & (table["sae"] == setting["sae"])]["layer"].iloc[0]
        mask = (rows["kind"] == PROBE) & (rows["score"] == "sts_act") & (rows["layer"] == layer)
        mask &= (rows["choice"] == setting["choice"]) & (rows["power"] == setting["power"])
        rows = rows[mask & (rows["sae"].map(_kind_of_probe) == name)]
    return None if rows.empty else {str(key): value for key, value in rows.iloc[0].to_dict().items()}


def _where(rows: pd.DataFrame, setting: Mapping[str, Any]) -> Any:
    mask = (rows["sae"] == setting["sae"]) & (rows["pool"] == setting["pool"])
    return mask & (rows["choice"] == setting["choice"]) & (rows["power"] == setting["power"])


def _size(table: pd.DataFrame, choice: str) -> int:
    """How many features a choice averages over."""
    row = table[(table["kind"] == SCORE) & (table["choice"] == choice)].iloc[0]
    return int(row["n"]) if pd.notna(row["n"]) else int(row["last"]) - int(row["first"]) + 1


def _each_seed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows themselves, as means over one seed."""
    return table.assign(seeds=1, **{f"{measure}_sd": math.nan for measure in MEASURES})


def _series(
    name: str, steps: list[int], rows: Sequence[Mapping[str, Any]], measure: str, color: str, quiet: bool
) -> Series:
    values = [float(row[measure]) for row in rows]
    spread = [sd if known(sd := float(row[f"{measure}_sd"])) else 0.0 for row in rows]
    label = METRICS.get(name, name.removesuffix(", active").removesuffix(" to the training set"))
    if quiet:
        return Series(label, steps, values, color, dash="dot")
    low = [v - s for v, s in zip(values, spread, strict=True)] if any(spread) else []
    high = [v + s for v, s in zip(values, spread, strict=True)] if any(spread) else []
    return Series(label, steps, values, color, low, high, points=True)


def _hover(name: str, place: Any, row: Mapping[str, Any], measure: str) -> str:
    other = "r" if measure == "spearman" else "spearman"
    beside = f"<br>{'Pearson r' if other == 'r' else 'Spearman ρ'} {fixed(row[other], 2)}" if known(row[other]) else ""
    sd = row[f"{measure}_sd"]
    spread = f" ± {fixed(sd, 2)} ({count(row['seeds'])} seeds)" if known(sd) else ""
    place = _last(str(place))
    about = f"layer {row['layer']}, {count(row['features'])} features, L0 {fixed(row['l0'], 1)}"
    return f"<b>{escape(name)}</b>, {escape(place)}<br>{fixed(row[measure], 2)}{spread}{beside}<br>{about}"


def _say_hovers(figure: go.Figure, series: Sequence[Series], hovers: Sequence[list[str]]) -> None:
    told = {escape(one.name): texts for one, texts in zip(series, hovers, strict=True)}
    for trace in figure.data:
        if trace.hoverinfo == "text" and trace.name in told:
            trace.hovertext = told[trace.name]


def _name_places(figure: go.Figure, axis: str, places: Sequence[Any]) -> None:
    """A name below every place, those of neighbours in two lines where they would touch on a narrow screen."""
    named = short_names(places) if axis == "sae" else {str(value): str(value) for value in places}
    texts = [escape(short(named[str(value)].removeprefix("ranks "), _LONGEST), quote=False) for value in places]
    if len(texts) * max(map(len, texts)) > _BESIDE:
        texts = [f"<br>{text}" if i % 2 else text for i, text in enumerate(texts)]
    figure.update_xaxes(
        tickmode="array", tickvals=list(range(1, len(places) + 1)), ticktext=texts, range=[0.6, len(places) + 0.4],
        showgrid=False, automargin=False, tickangle=0, tickfont={"size": SMALL_SIZE - 1}, title={"standoff": 2},
    )  # fmt: skip
    figure.update_yaxes(zeroline=True)


def _add_chance(figure: go.Figure, sweep: Sweep, measure: str, mode: Mode) -> None:
    """Where chance alone would put the score of one point."""
    wide = sweep.manifest.get("chance", {}).get("sts_act", {}).get(measure)
    if not known(wide):
        return
    tokens = TOKENS[mode]
    figure.add_hrect(y0=-wide, y1=wide, fillcolor=blend(tokens.muted, tokens.paper, _BAND), line_width=0, layer="below")
    words = {"x": 0, "xref": "paper", "xanchor": "left", "xshift": 4, "yref": "y", "y": -wide, "yanchor": "top"}
    add_notes(figure, [{**words, "text": "chance", "font": {"size": SMALL_SIZE, "color": tokens.muted}}])


def _without_outcome(table: pd.DataFrame) -> str:
    """How alike the settings rank the domains; where there is one setting, how alike its seeds do."""
    values = table[table["score"] == "sts_act"]["same_order"]
    several = len(values) > 1
    others = values.iloc[1 if several else 0 :].dropna().tolist()
    if not others:
        return "One setting, and no outcome to hold it against: vary something, or name what happened with actual."
    least, most = fixed(min(others), 2), fixed(max(others), 2)
    span = f"ρ = {least}" if least == most else f"ρ from {least} to {most}"
    many = "Its other seeds rank" if not several else "The other setting ranks"
    many = f"{count(len(others))} other settings rank" if len(others) > 1 else many
    return f"{many} the domains as the first does with Spearman {span}; no outcome was named to hold them against."


def _setting_words(best: Mapping[str, Any], sweep: Sweep) -> str:
    """The setting by what varies; the SAE alone where nothing does."""
    varies = {name for name in ("sae", "pool", "choice", "power") if len(values_of(sweep.table, name)) > 1}
    named = short_names(values_of(sweep.table, "sae")) if "sae" in varies else {}
    words = named.get(str(best["sae"]), _last(str(best["sae"])))
    if "choice" in varies:
        choice = str(best["choice"])
        words += f" with the {choice} features" if choice.startswith("top") else f" with the features of {choice}"
    if "pool" in varies:
        words += f" on {best['pool']} tokens"
    return words + (f", power {best['power']}" if "power" in varies else "")


def _kind_of_probe(name: str) -> str:
    """`raw residual` of `raw residual, layer 15`."""
    return str(name).split(", layer", 1)[0]


def _last(name: str) -> str:
    return Path(name).name if "/" in name else name
