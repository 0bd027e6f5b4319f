"""`sts correlate`: do the scores follow what really happened? Plain words first, then the tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sts_core.cli.measuring import ranks_band
from sts_core.cli.telling import for_a_program, print_json, table
from sts_core.cli.terminal import visible
from sts_core.errors import UserError

if TYPE_CHECKING:
    from sts_core.results.actual import Actual, Given
    from sts_core.results.agreement import Agreement
    from sts_core.results.baselines import Baseline
    from sts_core.stats.correlation import Correlation

PAPER = "paper"
_HEADER = ("", "r", "R²", "95 % interval", "p", "Spearman", "p", "leave one out", "most influential", "r without it")
_COST = "took"


def add_to(app: typer.Typer) -> None:
    """Hang this command on the program."""
    app.command("correlate")(correlate)


def correlate(
    result: Annotated[
        str,
        typer.Argument(metavar="DIR", help="A finished result folder; or the word paper, for its published scores."),
    ],
    actual: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="What happened: a CSV, a run's or evaluation's folder, a job's id, or the word paper. Given twice: "
            "lm-eval results or MMLU-Pro outputs, before then after.",
        ),
    ] = None,
    filter: Annotated[str, typer.Option(help="all, paper8 (the four that changed most and least), or both.")] = (
        "all,paper8"
    ),
    paper: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="Which of the paper's models: all three when left out.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Which metric of FILE; nll when it is there.")] = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="How many features to average over: 100.")] = None,
    ranks: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="A rank band instead: 101-200, or 100:200 as a slice.")
    ] = None,
    dims: Annotated[str, typer.Option(help="icl, sft (the run's own), random, or a file of feature numbers.")] = "icl",
    power: Annotated[int, typer.Option(min=1, max=2, help="1, or 2 for squares.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of permutations and resampling.")] = 0,
    json: Annotated[
        bool | None,
        typer.Option(
            "--json/--table", help="JSON, or words and a table; if not said, these on a terminal and else JSON."
        ),
    ] = None,
) -> None:
    """Hold scores against what really happened: both correlations, their p, intervals, and what one point does to them.

    Example: sts correlate cache/demo/result --actual paper --paper qwen --table
    """
    from sts_core.results.actual import read_actual
    from sts_core.results.agreement import hold_against, of_paper
    from sts_core.results.folder import Result

    filters = [part.strip() for part in filter.split(",")]
    whole = result == PAPER and not Path(result).is_dir()
    if whole:
        if actual or metric or ranks or (n, dims, power) != (None, "icl", 1):
            raise UserError(
                "The paper's scores are as they were published, and held against its own changes",
                "Leave out --actual, --metric, --n, --dims, --ranks and --power: they are for a result of your own.",
            )
        found = [of_paper(model, _paper_filters(filters), seed) for model in _models(paper)]
    else:
        if n is not None and ranks is not None:
            raise UserError("--n and --ranks are two choices of features", "Leave one of them out.")
        folder = Result(Path(result))
        size = n if n is not None else min(100, len(folder.shift))
        found = [
            hold_against(
                folder, _checked(read_actual(given, metric)), n=size, dims=dims, ranks=ranks_band(ranks), power=power,
                filters=filters, seed=seed,
            )
            for given in _given(actual, paper)
        ]  # fmt: skip
    if for_a_program(json):
        told = [one.public() for one in found]
        print_json(told[0] if len(told) == 1 else told)
        return
    typer.echo("\n\n".join(_words(one) for one in found))


def _models(names: list[str] | None) -> list[str]:
    from sts_core.results import paper

    return [paper.find(name) for name in names] if names else paper.models()


def _paper_filters(filters: list[str]) -> list[str]:
    """The paper shows scores of eight domains only: all of them are those eight."""
    from sts_core.results.agreement import ALL, PAPER8

    return [PAPER8] if set(filters) <= {ALL, PAPER8} else filters


def _given(actual: list[str] | None, paper: list[str] | None) -> list[Given]:
    """What to read: one source, or one for each of the paper's models."""
    from sts_core.results.actual import PAPER as PREFIX

    places = list(actual or ())
    if paper and not places:
        places = [PAPER]
    if not places:
        raise UserError(
            "What happened is not given", "Name it with --actual FILE: a CSV, a pair, a run's folder or id, or paper."
        )
    if len(places) == 1 and places[0].startswith(PREFIX) and not paper:  # as `sts export` takes it
        return [f"{PREFIX}{model}" for model in _models([places[0].removeprefix(PREFIX)])]
    if places == [PAPER] and not Path(PAPER).exists():
        return [f"{PREFIX}{model}" for model in _models(paper)]
    if paper:
        raise UserError("--paper belongs to --actual paper", "Leave one of the two out.")
    if len(places) == 1 and "," in places[0] and not Path(places[0]).exists():
        places = [part.strip() for part in places[0].split(",")]
    if len(places) > 2:
        raise UserError(f"--actual is given {len(places)} times", "Name one source, or two files: before, then after.")
    found = [_place(place) for place in places]
    return [found[0] if len(found) == 1 else found]


def _place(name: str) -> Path:
    """A file or folder, outcomes imported under this name, or what came of a job that is named by its id or a part."""
    from sts_core.jobs.folder import result_meant
    from sts_core.results import imported

    if not name.strip():
        raise UserError("--actual is empty", "Name a CSV, a pair, a run's folder or id, or paper.")
    if Path(name).exists() or imported.find(name) is not None:
        return Path(name)
    if (folder := result_meant(name)) is not None:
        return folder
    missing = f"There is no file, no run and nothing imported called {name!r}"
    raise UserError(missing, "Check it; `sts jobs` lists runs with their ids.")


def _checked(actual: Actual) -> Actual:
    if not actual.outcomes:
        raise UserError(f"{actual.source} tells of no domain", "Name an evaluation of the domains.")
    return actual


def _words(found: Agreement) -> str:
    """What was found, the comparisons, the domains, the baselines, what limits it all."""
    from sts_core.figures import correlation_words as words
    from sts_core.figures.numbers import DASH, fixed, known

    actual = found.actual
    first = next((c for c in found.comparisons if c.primary), None)
    lines = [words.verdict(first)] if first else []
    for one in found.comparisons:
        mark = "primary" if one.primary else "exploratory"
        lines.append(f"{words.comparison_title(one)} ({mark}): {words.correlation_words(one.correlation)}")
    lines += [told] if first and (told := words.disagreement_words(first.correlation)) else []
    told = words.hits_words(found.comparisons[0].correlation.hits)
    lines += [f"{words.comparison_title(found.comparisons[0])}: {told}."] if told else []
    lines.append(words.reliability_words(actual.reliability, actual.reliability_from))
    if (best := found.best_baseline) is not None:
        lines.append(words.baseline_words(best[0].name, best[1]))
    blocks = [visible(f"{actual.source} ({actual.metric})"), "\n".join(visible(line) for line in lines)]
    rows = [_row(words.comparison_title(c), c.correlation) for c in found.comparisons]
    blocks.append(table([_HEADER, *rows]))
    blocks.append(_domains(found))
    if found.baselines:
        rows = [(*_row(_named(b), c), words.baseline_cost(b, found.cost)) for b, c in found.baselines]
        blocks.append(table([("baseline against harm", *_HEADER[1:], _COST), *rows]))
        costs = [f"STS took {words.cost_words(*found.cost)}, and with it all baselines that are read from its result."]
        costs += [f"{DASH} {name}: {why}." for name, why in found.missing.items()]
        costs += ["`sts baselines` measures those that need a model."] if found.missing else []
        blocks.append("\n".join(visible(line) for line in costs))
    notes = list(found.notes)
    if actual.target is not None:
        se = actual.target.harm_se
        error = f" ± {fixed(se, 3)}" if known(se) else ""
        notes.append(f"The training set itself: harm {fixed(actual.target.harm, 3)}{error} (below 0: it got better).")
    notes += [f"Only scored, no outcome: {', '.join(found.only_scored)}."] if found.only_scored else []
    without = "Only an outcome, STS not published" if found.actual.from_paper else "Only an outcome, not scored"
    if found.only_changed and not any("not published" in note for note in notes):
        notes.append(f"{without}: {', '.join(found.only_changed)}.")
    notes += [note for c in found.comparisons[:1] for note in c.correlation.notes]
    blocks += ["\n".join(visible(f"note: {note}") for note in dict.fromkeys(notes))] if notes else []
    return "\n\n".join(blocks)


def _named(one: Baseline) -> str:
    return one.name if one.foretells else f"{one.name} ({'refitted p' if one.refitted else 'after the training'})"


def _row(title: str, c: Correlation) -> tuple[str, ...]:
    from sts_core.figures.correlation_words import interval_words
    from sts_core.figures.numbers import DASH, fixed, p_value

    p, p_rank = (p_value(value).removeprefix("p = ").removeprefix("p ") for value in (c.p_perm, c.p_spearman))
    return (
        title, fixed(c.r, 2), fixed(c.r2, 2), interval_words(c.ci), p, fixed(c.spearman, 2), p_rank,
        interval_words(c.loo_range), c.most_influential or DASH, fixed(c.r_without_it, 2),
    )  # fmt: skip


def _domains(found: Agreement) -> str:
    from sts_core.figures.correlation_words import harm_words
    from sts_core.figures.numbers import DASH, number, with_error
    from sts_core.figures.words import METRICS

    metrics = [metric for metric in METRICS if any(metric in point.score for point in found.points)]
    rows = [("domain", *(METRICS[metric] for metric in metrics), harm_words(found.actual), "questions")]
    for point in sorted(found.points, key=lambda one: -one.outcome.harm):
        one = point.outcome
        scores = [_value(point.score.get(metric), point.score_se.get(metric)) for metric in metrics]
        harm = number(one.harm) if one.harm_se is None else with_error(one.harm, one.harm_se)
        rows.append((point.domain, *scores, harm, DASH if one.n is None else str(one.n)))
    return table(rows)


def _value(value: float | None, se: float | None) -> str:
    from sts_core.figures.numbers import number, with_error

    return number(value) if se is None else with_error(value, se)
