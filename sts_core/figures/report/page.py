"""The report as one HTML file: answer, scores, what happened, the shift, how it was done, how to do it again.

It holds no script and asks for nothing: its policy allows its own style sheet and nothing else. All that comes from
data, labels, files and people is text, escaped where it enters.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from sts_core.errors import UserError
from sts_core.figures import words
from sts_core.figures.concentration import Curve
from sts_core.figures.correlation_words import harm_words
from sts_core.figures.numbers import count, day, number
from sts_core.figures.report import curves, drawing, origin, tables, telling
from sts_core.figures.report.gathering import Gathered, gather
from sts_core.figures.report.ink import HALF, Sheet, figure, shown
from sts_core.figures.report.style import digest, sheet
from sts_core.figures.transfer import Dot
from sts_core.results.actual import Given

MOST_BYTES = 6_000_000
"""No report is larger: it is to be sent by mail."""
_ICON = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M1 2h22v5H1zM1 9.5h15v5H1zM1 17h9v5H1z"/></svg>'


def report(folder: Path, given: Given | None = None, metric: str | None = None, name: str = "") -> str:
    """The report of a result, held against what happened where that is given; equal inputs give equal bytes."""
    text = page(gather(folder, given, metric, name))
    if len(text.encode()) > MOST_BYTES:
        raise UserError("The report would be larger than 6 MB", "Export the tables: --format csv or parquet.")
    return text


def page(found: Gathered) -> str:
    """The whole file."""
    style = sheet()
    first, below = telling.answer(found)
    policy = f"default-src 'none'; style-src '{digest(style)}'; base-uri 'none'; form-action 'none'"
    sections = [_scores(found), _happened(found), _overlap(found), _shift(found), _method(found), _again(found)]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="STS Explorer">
<title>{shown(f"Training on {telling.target_of(found)}: which domains will it touch?")}</title>
<style>{style}</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">{_ICON}<span>{shown(_eyebrow(found))}</span></p>
<h1>{shown(first)}</h1>
<ul class="badges">{"".join(f'<li class="{kind}">{shown(text)}</li>' for text, kind in telling.badges(found))}</ul>
<p class="lead">{shown(below)}</p>
{origin.summary(found)}
</header>
{"".join(sections)}
<footer>{shown(_foot(found))}</footer>
</main>
</body>
</html>
"""


def _scores(found: Gathered) -> str:
    """What was foretold: both scores of every domain, as bars and as numbers."""
    act, icl = (telling.of_metric(found, metric) for metric in words.METRICS)
    bars = [_bars(found, metric, rows) for metric, rows in (("sts_act", act), ("sts_icl", icl))]
    lead = words.explanation("sts_act", found.n, telling.target_of(found)) if found.agreement is not None else ""
    return f"""<section>
<h2>{"What was foretold" if found.agreement else "Scores of the domains"}</h2>
{f"<p>{shown(lead)}</p>" if lead else ""}
<div class="pair">{"".join(bars)}</div>
{tables.scores(found, act, icl)}
</section>
"""


def _bars(found: Gathered, metric: str, rows: pd.DataFrame) -> str:
    def draw(width: int) -> Sheet:
        return drawing.score_bars(rows, words.bars_axis(metric), width)

    return figure(draw, words.bars_title(metric, found.n), [f"{words.error_caption(rows)}."], HALF)


def _happened(found: Gathered) -> str:
    """Scores against what happened, in a figure, in words and in tables; nothing where nothing happened yet."""
    agreement, actual, first = found.agreement, found.actual, telling.primary(found)
    if agreement is None or actual is None or first is None:
        return ""
    dots = [
        Dot(
            p.domain,
            p.score.get(first.score, math.nan),
            p.score_se.get(first.score),
            p.outcome.harm,
            p.outcome.harm_se,
        )
        for p in agreement.points
    ]
    c = first.correlation
    ring = f" Ringed: without {c.most_influential}, r changes most." if c.most_influential else ""
    caption = [
        f"n = {count(c.n)} domains; ± 1 s.e. where known; band: 95 % of the line’s mean.{ring} Above 0 is harm.",
        f"What happened: {actual.source} ({actual.metric}).",
    ]
    axes = (words.bars_axis(first.score), harm_words(actual))
    drawn = figure(
        lambda width: drawing.scatter(dots, c.line, c.most_influential, axes, width),
        f"Does a higher {words.METRICS[first.score]} go with more harm?", caption,
    )  # fmt: skip
    said = "".join(f"<li>{shown(text)}</li>" for text in telling.statistics(found))
    return f"""<section>
<h2>What really happened</h2>
{drawn}
<ul>{said}</ul>
{tables.outcomes(found)}
{tables.comparisons(found)}
{tables.baselines(found)}
</section>
"""


def _overlap(found: Gathered) -> str:
    """Whether the features that were foretold are those that shifted, beside the nulls."""
    if found.overlap is None:
        return ""
    rows = found.overlap.rows
    row = next((one for one in rows if one.k == found.n), rows[-1])
    caption = [
        "Line with dots: shared by demonstrations and the fine-tune, with 95 % from drawing groups of questions again. "
        "Grey: what other reasons give. Claimed only where the interval lies above all of them."
    ]
    drawn = figure(
        lambda width: curves.overlaps(rows, width), "How many of the leading features do both share?", caption
    )
    return f"""<section>
<h2>Are the shifted features the ones foretold?</h2>
<p>{shown(telling.overlap_sentence(row))}</p>
{drawn}
{tables.overlaps(found)}
</section>
"""


def _shift(found: Gathered) -> str:
    """How few features hold most of the shift, and which lead it."""
    spread = found.spread
    drawn = ""
    if spread.moved:
        raw = Curve("raw dimensions", spread.raw, spread.raw_needed(spread.held(found.n))) if len(spread.raw) else None
        sae = Curve("SAE features", spread.sae, found.n)
        caption = [telling.held_sentence(found), telling.noise_sentence(found)]
        drawn = figure(lambda width: curves.concentration(sae, raw, width), words.curve_title(found.n), caption)
    return f"""<section>
<h2>Where the scores come from</h2>
<p>{shown(telling.spread_sentence(found))} {shown(words.spread_explanation(telling.target_of(found)))}</p>
{drawn}
{tables.leading(found)}
</section>
"""


def _method(found: Gathered) -> str:
    """Two paragraphs, and what limits it all."""
    told = "".join(f"<p>{shown(text)}</p>" for text in telling.method(found))
    limits = "".join(f"<li>{shown(text)}</li>" for text in telling.limits(found))
    return (
        f"<section>\n<h2>How it was done</h2>\n{told}\n<h2>What this does not say</h2>\n<ul>{limits}</ul>\n</section>\n"
    )


def _again(found: Gathered) -> str:
    """What it takes to do it again, and to the byte what it was done with."""
    return f"""<section>
<h2>To do it again</h2>
{origin.commands(found)}
{origin.facts(found)}
</section>
"""


def _eyebrow(found: Gathered) -> str:
    kind = "Prediction held against a fine-tune" if found.agreement else "Prediction"
    if found.actual is not None and found.run is None:
        kind = "Prediction held against what happened"
    return f"STS Explorer report · {kind} · {telling.target_of(found)}"


def _foot(found: Gathered) -> str:
    key, when = str(found.manifest.get("key", "")), day(found.manifest.get("finished"))
    held = number(found.n)
    return f"Made by STS Explorer from result {key}, measured {when}; scores over the {held} most shifted features."
