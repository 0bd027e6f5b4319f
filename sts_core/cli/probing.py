"""`sts probe`, `sts dictionary`: which features a text lights up, and what features write."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sts_core.cli.telling import Teller, for_a_program
from sts_core.cli.terminal import as_json, visible
from sts_core.errors import UserError

if TYPE_CHECKING:
    from sts_core.results.dictionary import Dictionary, Meaning

ModelName = Annotated[str, typer.Option("--model", metavar="NAME", help="Embedded name, hub id, or a folder.")]
SaeName = Annotated[str, typer.Option("--sae", metavar="NAME", help="demo/…, release:id, or a folder.")]
NAMED_A_TOKEN = 3
"""Features that the table names for one token; JSON names as many as asked for."""
WORDS = 6
_LONGEST_TOKEN = 28
_MOST_STDIN = 1_000_000


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the program."""
    app.command("probe")(probe)
    app.command("dictionary")(dictionary)


def probe(
    model: ModelName,
    sae: SaeName,
    text: Annotated[str, typer.Argument(metavar="TEXT", help='What to read; "-" reads it from stdin.')],
    result: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A result: also read the text behind its demonstrations.")
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Also read it with a fine-tuned model or adapter. May be repeated."),
    ] = None,
    feature: Annotated[int | None, typer.Option(min=0, help="Show this feature's value on every token.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many features to name.")] = 10,
    raw: Annotated[bool, typer.Option("--raw", help="The text alone, without the chat template.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    json: Annotated[
        bool | None,
        typer.Option("--json/--table", help="JSON, or a table; if not said, a table on a terminal and else JSON."),
    ] = None,
) -> None:
    """Name the features that a text lights up, token by token and in all.

    Example: sts probe --model smollm2-135m-instruct --sae demo/smollm2-l15 "Anna has 3 apples." --table
    """
    from sts_core.measure.probe import ProbeRequest, find
    from sts_core.measure.probe import probe as read
    from sts_core.results.dictionary import Dictionary, dictionary_of

    request = ProbeRequest(
        model=model, sae=sae, text=_read(text), feature=feature, result=None if result is None else str(result),
        runs=_runs(run or ()), top=top, chat=not raw, device=device, dtype=dtype,
    )  # fmt: skip
    found = find(request)
    value = read(request)
    if for_a_program(json):
        typer.echo(as_json(value))
        return
    for note in value["notes"]:
        typer.echo(f"note: {visible(note)}", err=True)
    path = dictionary_of(found.model, found.sae)
    typer.echo("\n".join(_probe_lines(value, Dictionary(path) if path else None)))
    if path is None:
        typer.echo("What the features write is told too once `sts dictionary` was run for this SAE.", err=True)


def dictionary(
    model: ModelName,
    sae: SaeName,
    feature: Annotated[
        list[int] | None, typer.Option(min=0, help="Only this feature, printed; nothing is kept. May be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it here instead of into the cache.")] = None,
    top: Annotated[int, typer.Option(min=1, max=100, help="With --feature: how many tokens and features.")] = 10,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what features write: the tokens each promotes and suppresses, and the features near it; kept once made.

    Example: sts dictionary --model smollm2-135m-instruct --sae demo/smollm2-l15 --feature 3807
    """
    from sts_core.nets.describe import find_model, find_sae
    from sts_core.nets.device import choose_device

    if feature and out is not None:
        raise UserError("--feature prints, --out writes all features", "Leave one of them out.")
    if out is not None and out.is_dir():
        raise UserError(f"{out} is a folder", "Name the file in it: --out DIR/dictionary.parquet.")
    found, coder, place = find_model(model), find_sae(sae), choose_device(device)
    from sts_core.measure import dictionary as made

    if feature:
        meanings = made.meaning(found, coder, feature, top)
        if json:
            typer.echo(as_json({"how": made.HOW, "features": [made.public(one) for one in meanings]}))
        else:
            typer.echo("\n\n".join("\n".join(_meaning_lines(one)) for one in meanings))
        return
    tell = Teller()
    try:
        path = made.make(found, coder, out, place, tell)
    finally:
        tell.end()
    typer.echo(
        as_json({"file": str(path), "features": coder.features, "how": made.HOW}) if json else visible(str(path))
    )


def _read(text: str) -> str:
    if text != "-":
        return text
    given = sys.stdin.buffer.read(_MOST_STDIN)
    try:
        return given.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(given) == _MOST_STDIN and error.start > len(given) - 4:  # cut within a character
            return given[: error.start].decode("utf-8")
        raise UserError(f"What came in is not UTF-8 (byte {error.start})", "Give UTF-8 text.") from None


def _runs(given: Iterable[str]) -> dict[str, str]:
    runs: dict[str, str] = {}
    for one in given:
        name, equals, folder = one.partition("=")
        if not (name and equals and folder):
            raise UserError(f"--run {one} is not NAME=FOLDER", "For example --run tuned=cache/jobs/ID/result/model.")
        if name in runs:
            raise UserError(f"Two runs are named {name!r}", "Give every run a name of its own.")
        runs[name] = folder
    return runs


def _probe_lines(value: dict[str, Any], meanings: Dictionary | None) -> list[str]:
    """The head, the whole text's features by arm, then a line a token."""
    arms = list(value["arms"])
    outliers = f", {len(value['outliers'])} outliers left out of the sums" if value["outliers"] else ""
    how = f"{value['dtype']} on {value['device']}"
    lines = [f"{len(value['tokens'])} tokens, {value['model']}, {value['sae']}, {how}{outliers}"]
    for arm in arms:
        rows = [_summed(entry) for entry in value["strongest"][arm]]
        lines += [
            "",
            f"Strongest over the text, {arm}",
            *_with_words(("feature", "mean", "largest", "tokens"), rows, meanings),
        ]
    for arm, risen in value.get("risen", {}).items():
        rows = [(*_summed(entry), f"{entry['usual']:.3g}") for entry in risen]
        head = ("feature", "mean", "largest", "tokens", "usual")
        lines += [
            "",
            f"Furthest above their usual mean in the result's sets, {arm}",
            *_with_words(head, rows, meanings),
        ]
    for arm, changed in value["changed"].items():
        rows = [(str(e["feature"]), *(f"{e[k]:.3g}" for k in ("shift", "base", "here"))) for e in changed]
        lines += [
            "",
            f"Moved most, {arm} against base",
            *_with_words(("feature", "shift", "base", arm), rows, meanings),
        ]
    lines += ["", *_token_lines(value, arms)]
    return lines


def _summed(entry: dict[str, Any]) -> tuple[str, ...]:
    return (str(entry["feature"]), f"{entry['mean']:.3g}", f"{entry['max']:.3g}", str(entry["tokens"]))


def _with_words(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], meanings: Dictionary | None) -> list[str]:
    """A table of features, with what they promote where that is known."""
    if meanings is None or not rows:
        return _columns([head, *rows]) if rows else ["  none fires"]
    written = [_quoted(one.promotes) for one in meanings.several([int(row[0]) for row in rows])]
    return _columns([(*head, "promotes"), *((*row, words) for row, words in zip(rows, written, strict=True))])


def _token_lines(value: dict[str, Any], arms: list[str]) -> list[str]:
    if "values" in value:
        head = ("token", *arms)
        rows = [
            (_token(value, i), *(f"{value['values'][arm][i]:.3g}" for arm in arms)) for i in range(len(value["tokens"]))
        ]
        return [f"Feature {value['feature']} by token", *_columns([head, *rows])]
    rows = [(_token(value, i), *(_named(value["arms"][arm][i]) for arm in arms)) for i in range(len(value["tokens"]))]
    return ["Strongest by token", *_columns([("token", *arms), *rows])]


def _token(value: dict[str, Any], i: int) -> str:
    piece = value["pieces"][i]
    text = "⋯" if piece > 1 else visible(value["tokens"][i])
    return text if len(text) <= _LONGEST_TOKEN else f"{text[:_LONGEST_TOKEN]}…"


def _named(strongest: list[dict[str, Any]]) -> str:
    return "  ".join(f"{one['feature']}:{one['value']:.3g}" for one in strongest[:NAMED_A_TOKEN]) or "—"


def _meaning_lines(one: Meaning) -> list[str]:
    lines = [f"Feature {one.feature}"]
    for name, words, by in (("promotes", one.promotes, one.promoted), ("suppresses", one.suppresses, one.suppressed)):
        lines.append(f"  {name:<10}  " + "  ".join(f"{_quote(w)} {v:+.2f}" for w, v in zip(words, by, strict=True)))
    near = "  ".join(f"{i} ({cosine:.2f})" for i, cosine in zip(one.near, one.cosine, strict=True))
    return [*lines, f"  {'near':<10}  {near or '—'}"]


def _quoted(words: Sequence[str]) -> str:
    return " ".join(_quote(word) for word in words[:WORDS])


def _quote(word: str) -> str:
    return f'"{visible(word)}"'


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns under each other by the width that signs take on a terminal, the last one ragged, two blanks in front."""
    widths = [max(_width(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return [
        "  " + "  ".join([*(c + " " * (w - _width(c)) for c, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]


def _width(text: str) -> int:
    """Cells: Chinese signs and emoji take two, signs that sit on another none."""
    return sum(0 if unicodedata.combining(s) else 2 if unicodedata.east_asian_width(s) in "WF" else 1 for s in text)
