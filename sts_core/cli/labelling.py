"""`sts label`: name features by a judge, test the names, change them by hand, take them in and out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sts_core.cli.telling import Teller, print_json, table
from sts_core.cli.terminal import visible
from sts_core.errors import UserError

if TYPE_CHECKING:
    from sts_core.judge.order import LabelOrder
    from sts_core.results.label_tables import Line, Rate, Tables
    from sts_core.results.labels import Label


def add_to(app: typer.Typer) -> None:
    """Hang this command on the program."""
    app.command("label")(label)


def label(
    result: Annotated[Path, typer.Argument(metavar="DIR", help="A finished result folder.")],
    judge: Annotated[
        str, typer.Option(help="provenance, local, or an OpenAI-compatible endpoint's address: https://host/v1.")
    ] = "provenance",
    top: Annotated[
        int | None, typer.Option(min=1, help="The first so many by shift; all for provenance, 500 for other judges.")
    ] = None,
    feature: Annotated[list[int] | None, typer.Option(help="This feature. May be repeated.")] = None,
    labels: Annotated[
        str, typer.Option(metavar="A,B,…", help="The label set; NAME=DATA brings a corpus of one's own.")
    ] = "math,code,prose",
    model: Annotated[str | None, typer.Option(help="The model that judges: for local, or the endpoint's name.")] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Test the labels on held-out texts.")] = True,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens read of every corpus.")] = 40_000,
    key_env: Annotated[
        str, typer.Option(metavar="NAME", help="The environment variable with the endpoint's key.")
    ] = "STS_JUDGE_KEY",
    price: Annotated[
        str | None, typer.Option(metavar="IN,OUT", help="Price of a million tokens, to tell the cost.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds an endpoint has for an answer.")] = 60.0,
    on: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Test the labels again on a fine-tuned model (folder, adapter or hub id)."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FEATURE=LABEL", help="Your own label, which wins; empty takes it back."),
    ] = None,
    export: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all labels as .json or .csv.")] = None,
    import_: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Read .json, .csv, or Neuronpedia's exported explanations."),
    ] = None,
    forget: Annotated[
        str | None,
        typer.Option(metavar="JUDGE", help="Remove this judge's labels made here, or those of an imported file."),
    ] = None,
    tables: Annotated[
        bool, typer.Option("--tables", help="How many of the most shifted features carry which label, and back.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Name features by their strongest examples in corpora of equal size, and test each name on texts kept aside.

    provenance names a feature after the corpus that most of its ten strongest examples come from; it needs no model
    to judge. What was asked before is not asked again, and your own labels are never changed.

    Example: sts label cache/demo/result --top 20 --tokens 4000
    """
    ways = {
        "--set": bool(set_), "--export": export, "--import": import_, "--forget": forget, "--tables": tables, "--on": on
    }  # fmt: skip
    given = [name for name, value in ways.items() if value]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} do not go together", "Give one at a time.")
    if set_:
        show = _set(result, set_)
    elif export:
        show = _export(result, export)
    elif import_:
        show = _import(result, import_)
    elif forget:
        show = _forget(result, forget)
    elif tables:
        show = _tables(result, judge, _words(labels), model)
    else:
        from sts_core.judge.order import LabelOrder

        order = LabelOrder(
            str(result), judge, tuple(_words(labels)), tuple(feature or ()), top, model, check, tokens, key_env,
            _price(price), timeout,
        )  # fmt: skip
        show = _again(order, on) if on else _label(order)
    value, lines = show
    print_json(value) if json else typer.echo(lines)


Shown = tuple[Any, str]
"""What a command found: as JSON, and in words."""


def _label(order: LabelOrder) -> Shown:
    from sts_core.judge.order import label_result
    from sts_core.results.labels import labels_of

    done = _watched(lambda tell: label_result(order, tell))
    for warning in done.warnings:
        typer.echo(f"warning: {visible(warning)}", err=True)
    counts = done.counts
    if counts.failed and not (counts.labelled or counts.not_a_label or counts.before):
        raise UserError(f"{done.judge} gave no answer: {counts.why}", "Mend that and start again.")
    if counts.failed:
        typer.echo(f"warning: {counts.failed:,} questions had no answer, the last one: {visible(counts.why)}", err=True)
    told = [f"{counts.labelled:,} labelled", f"{counts.not_a_label:,} without a label", f"{counts.failed:,} failed"]
    if counts.before:
        told.append(f"{counts.before:,} labelled before")
    if counts.tokens_in:
        told.append(f"{counts.tokens_in:,} + {counts.tokens_out:,} tokens")
    if counts.cost is not None:
        told.append(f"cost {counts.cost:.4g}")
    judged = labels_of(done.sae, done.model, done.judge)
    judged = judged[judged["judge"] == done.judge]
    shares = [
        (name, f"{len(own):,}", _score(own["detection"].mean()))
        for name, own in sorted(judged.dropna(subset=["label"]).groupby("label"), key=lambda each: -len(each[1]))
    ]
    lines = [f"{done.judge}: {', '.join(told)}."]
    if shares:
        lines.append(table([("label", "features", "mean detection"), *shares]))
    return {"judge": done.judge, **counts.public(), "warnings": done.warnings}, "\n".join(lines)


def _again(order: LabelOrder, tuned: str) -> Shown:
    from sts_core.judge.order import rescore

    held = _watched(lambda tell: rescore(order, tuned, tell))
    error = "" if held.se is None else f" ± {held.se:.3f}"
    words = (
        f"{held.features:,} labels of {held.judge}: mean detection {_score(held.before)} on the model, "
        f"{_score(held.after)} on the fine-tuned one, change {held.difference:+.3f}{error}."
        if held.features
        else "No label could be tested on both models."
    )
    return held._asdict(), f"{words} Untested: {held.untested:,}."


def _set(result: Path, changes: list[str]) -> Shown:
    from sts_core.results.folder import Result
    from sts_core.results.labels import label_of, set_label

    sae, features = _sae(Result(result))
    parsed = []
    for change in changes:
        number, equals, words = change.partition("=")
        if not equals or not (number.strip().isascii() and number.strip().isdecimal()):
            raise UserError(f"--set {change[:60]} is no FEATURE=LABEL", 'For example --set 12="digits in sums".')
        if int(number) >= features:
            raise UserError(f"There is no feature {number.strip()[:20]}", f"Choose one from 0 to {features - 1}.")
        parsed.append((int(number), words))
    for feature, words in parsed:
        set_label(sae, feature, words)
    now = {feature: (label_of(sae, feature) or {}).get("label") for feature, _ in parsed}
    return now, table([(f"feature {feature}", name or "no label") for feature, name in now.items()])


def _export(result: Path, path: Path) -> Shown:
    from sts_core.results.folder import Result
    from sts_core.results.label_exchange import export_labels

    sae, _ = _sae(Result(result))
    count = export_labels(sae, path)
    return {"features": count, "file": str(path)}, f"{count:,} features in {path}."


def _import(result: Path, path: Path) -> Shown:
    from sts_core.results.folder import Result
    from sts_core.results.label_exchange import import_labels

    finished = Result(result)
    sae, features = _sae(finished)
    brought = import_labels(sae, finished.manifest["resolved"]["model"]["revision"], path, features)
    words = [f"{brought.labels:,} labels of judges, {brought.human:,} features of a person."]
    if brought.skipped:
        words.append(f"{brought.skipped:,} lines say nothing, or say a second thing of a feature, and were left out.")
    if brought.own_name:
        words.append(f'Those without a judge\'s name: sts label {result} --forget "{brought.own_name}" removes them.')
    return brought._asdict(), " ".join(words)


def _forget(result: Path, judge: str) -> Shown:
    from sts_core.results.folder import Result
    from sts_core.results.labels import forget_labels

    sae, _ = _sae(Result(result))
    count = forget_labels(sae, judge)
    return {"judge": judge, "forgotten": count}, f"{count:,} labels of {judge} are forgotten."


def _tables(result: Path, judge: str, labels: list[str], model: str | None) -> Shown:
    from sts_core.results.folder import Result
    from sts_core.results.label_tables import label_tables

    finished = Result(result)
    sae, _ = _sae(finished)
    rows = _of_judge(sae, finished.manifest["resolved"]["model"]["revision"], judge, model)
    if not rows:
        raise UserError(f"{judge} has labelled none of this SAE's features", "Label them first, without --tables.")
    given: dict[int, str | None] = {row.feature: row.label for row in rows}
    names = [name.partition("=")[0].strip() for name in labels]
    found = label_tables(finished.shift, given, names)
    return {"judge": rows[0].judge, **found.public()}, _table_words(found, rows[0].judge)


def _of_judge(sae: str, model: str, judge: str, named: str | None) -> list[Label]:
    """A judge's own labels. One that is asked through a model is found by how its name begins and the model's."""
    from sts_core.results.labels import labels_of, read_labels

    own = read_labels(sae, model, judge)
    if own:
        return own
    known = sorted({str(name) for name in labels_of(sae, model)["judge"]} - {"", "person"})
    kind = "endpoint:" if "://" in judge else f"{judge}:"
    fitting = [name for name in known if name.startswith(kind) and (named or "") in name]
    if len(fitting) > 1:
        raise UserError(f"Several judges fit: {', '.join(fitting)[:200]}", "Give the name of one as --judge.")
    return read_labels(sae, model, fitting[0]) if fitting else []


def _table_words(found: Tables, judge: str) -> str:
    head = (
        f"Labels by {judge}: {found.asked:,} of {found.firing:,} features that fire were asked about, "
        f"{found.unlabelled:,} of them got no label."
    )
    share = [
        ("label", "top", "share", "of all that fire", "as active"),
        *(_cells(line, line.top) for line in found.share),
    ]
    recall = [
        ("label", "features", "recall", "of all that fire", "as active"),
        *(_cells(line, line.features) for line in found.recall),
    ]
    cut = found.recall[0].top if found.recall else 0
    parts = [head, "", "Share of the most shifted features that carry the label", table(share)]
    if recall[1:]:
        parts += ["", f"Share of a label's features that are among the {cut} most shifted", table(recall)]
    return "\n".join(parts)


def _cells(line: Line, count: int) -> tuple[str, ...]:
    return (line.label, f"{count:,}", _rate(line.value), _rate(line.firing), _rate(line.matched))


def _rate(rate: Rate) -> str:
    return "—" if rate.value != rate.value else f"{rate.value:.1%} ± {(rate.se or 0):.1%}"


def _score(value: float) -> str:
    return "—" if value != value else f"{value:.3f}"


def _sae(finished: Any) -> tuple[str, int]:
    """The SAE's revision and its number of features, as the result was measured."""
    try:
        sae = finished.manifest["resolved"]["sae"]
        return str(sae["revision"]), int(sae["features"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"The manifest in {finished.folder} does not name its SAE", "Measure it again.") from None


def _watched(work: Callable[[Teller], Any]) -> Any:
    tell = Teller()
    try:
        return work(tell)
    finally:
        tell.end()


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _price(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--price {text[:40]} is not two numbers", "For example --price 0.15,0.60.") from None
    return first, second
