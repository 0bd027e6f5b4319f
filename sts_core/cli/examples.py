"""`sts examples`: where features fire, as text; makes the gallery they are read from when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sts_core.cli.telling import Teller, duration, print_json
from sts_core.cli.terminal import visible
from sts_core.errors import UserError, nearest
from sts_core.results import Result
from sts_core.results.gallery import BANDS, Example, Gallery, gallery_for, open_gallery


def add_to(app: typer.Typer) -> None:
    """Hang this command on the program."""
    app.command("examples")(examples)


def examples(
    result: Annotated[Path, typer.Argument(metavar="DIR", help="A finished result folder.")],
    feature: Annotated[
        list[int] | None, typer.Option("--feature", min=0, metavar="I", help="Which feature; may be repeated.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Make the gallery of all features, for the pages too.")] = False,
    source: Annotated[str | None, typer.Option(metavar="SET", help="Only this set: target, or a domain.")] = None,
    arm: Annotated[str | None, typer.Option(help="Only this arm: base, icl, or a fine-tuned run.")] = None,
    band: Annotated[str | None, typer.Option(help=f"{', '.join(BANDS)}; top if not told, in JSON all of them.")] = None,
    k: Annotated[
        int, typer.Option("--k", min=1, max=100, help="Examples to keep of a feature, and to print of an arm.")
    ] = 10,
    tuned: Annotated[
        list[str] | None,
        typer.Option("--tuned", metavar="NAME=FOLDER", help="A fine-tuned model or adapter as one more arm."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make the gallery anew, whatever is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Show the tokens that a feature fires on, with the text around them.

    Without a gallery one is made for the features asked. --all makes it for all of them.

    Example: sts examples cache/demo/result --feature 1234 --source target
    """
    wanted = list(dict.fromkeys(feature or ()))
    if bool(wanted) == every:
        raise UserError("Say which features", "For example --feature 1234, or --all to make the gallery of all.")
    if band is not None and band not in BANDS:
        raise UserError(f'There is no band "{band}"{nearest(band, BANDS)}', f"Use one of {', '.join(BANDS)}.")
    runs = _runs(tuned or [])
    if every:
        if source is not None:
            raise UserError("--all reads every set", "Leave --source out, or name features.")
        folder = _made(result, None, None, runs, k, fresh)
        _tell(open_gallery(folder), folder)
        return
    count = len(Result(result).shift)
    for number in wanted:
        if number >= count:
            raise UserError(f"There is no feature {number}", f"Choose one from 0 to {count - 1}.")
    gallery = _gallery(result, wanted, source, runs, k, fresh)
    for what, asked, there in (("set", source, gallery.sources), ("arm", arm, gallery.arms)):
        if asked is not None and asked not in there:
            raise UserError(
                f'The gallery has no {what} "{asked}"{nearest(asked, there)}', f"It has {', '.join(there)}."
            )
    if json:
        print_json([_plain(gallery, number, source, arm, band) for number in wanted])
        return
    for number in wanted:
        typer.echo(_text(gallery, number, source, arm, band or BANDS[0], k))


def _gallery(
    result: Path, features: list[int], source: str | None, runs: dict[str, str], k: int, fresh: bool
) -> Gallery:
    """The one that is there, or one made for these features."""
    there = None if fresh or runs else gallery_for(result, features, None if source is None else [source])
    if there is not None:
        return open_gallery(there)
    sets = Result(result).manifest["sets"]
    if source is not None and source not in sets:
        raise UserError(f'The result has no set "{source}"{nearest(source, sets)}', f"It has {', '.join(sets)}.")
    what = "the feature" if len(features) == 1 else f"{len(features)} features"
    where = source or "every set"
    typer.echo(
        f"Looking for {what} in {where} of {result}; `sts examples {result} --all` does so for all features at once.",
        err=True,
    )
    return open_gallery(_made(result, tuple(features), source, runs, k, fresh))


def _made(
    result: Path, features: tuple[int, ...] | None, source: str | None, runs: dict[str, str], k: int, fresh: bool
) -> Path:
    from sts_core.judge.know import label_texts
    from sts_core.measure.gallery import Wish, make_gallery

    tell = Teller()
    try:
        sets = None if source is None else (source,)
        texts = label_texts(result) if features is None else ()  # so that `sts label` need not read them again
        wish = Wish(features=features, sets=sets, texts=texts, runs=runs, k=k)
        return make_gallery(result, wish, watch=tell, fresh=fresh)
    finally:
        tell.end()


def _runs(given: list[str]) -> dict[str, str]:
    runs: dict[str, str] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (equals and name.strip() and folder.strip()) or name in runs:
            raise UserError(f"--tuned {text} is not NAME=FOLDER", "For example --tuned maths=my/adapter.")
        runs[name.strip()] = folder.strip()
    return runs


def _tell(gallery: Gallery, folder: Path) -> None:
    manifest = gallery.manifest
    size = sum(path.stat().st_size for path in folder.iterdir())
    typer.echo(
        f"{folder}: {manifest['examples']:,} examples of {manifest['features']:,} features in "
        f"{len(manifest['sources'])} sets, {size / 1e6:,.0f} MB, made in {duration(manifest['seconds'])}."
    )


def _chosen(gallery: Gallery, feature: int, source: str | None, arm: str | None, band: str | None) -> list[Example]:
    asked = (source, arm, band)
    return [e for e in gallery.examples(feature) if all(a in (None, b) for a, b in zip(asked, e[:3], strict=True))]


def _plain(gallery: Gallery, feature: int, source: str | None, arm: str | None, band: str | None) -> dict[str, Any]:
    frame, edges = gallery.histograms(feature)
    lines = [
        {"source": h.source, "arm": h.arm, "seen": h.seen, "counts": [int(count) for count in h.counts]}
        for h in frame.itertuples()
        if source in (None, h.source) and arm in (None, h.arm)
    ]
    found = [example._asdict() for example in _chosen(gallery, feature, source, arm, band)]
    return {"feature": feature, "examples": found, "edges": edges.tolist(), "histograms": lines}


def _text(gallery: Gallery, feature: int, source: str | None, arm: str | None, band: str, k: int) -> str:
    """A feature's strongest examples of a band, an arm after another, a line each."""
    found = _chosen(gallery, feature, source, arm, band)
    lines = []
    for name in gallery.arms:
        if arm not in (None, name):
            continue
        mine = sorted((e for e in found if e.arm == name), key=lambda e: -e.value)[:k]
        lines.append(f"\nFeature {feature} · {name} · {band}: {_density(gallery, feature, source, name)}")
        lines += [f"{e.value:8.3g}  {visible(e.source)} {e.row:<6} {_strip(e)}" for e in mine]
    return "\n".join(lines)


def _density(gallery: Gallery, feature: int, source: str | None, arm: str) -> str:
    frame, _ = gallery.histograms(feature)
    mine = frame[(frame["arm"] == arm) & (frame["source"].isin([source] if source else gallery.sources))]
    fired, seen = sum(int(counts.sum()) for counts in mine["counts"]), int(mine["seen"].sum())
    where = visible(source) if source else "the set" if len(mine) == 1 else f"{len(mine)} sets"
    return f"fires on {fired / seen:.3%} of {seen:,} tokens of {where}" if seen else "not read in this arm"


def _strip(example: Example) -> str:
    """The window on one line, the token itself between « and »."""
    if example.trouble:
        return f"({visible(example.trouble)})"
    parts = [visible(text) for text in example.texts]
    parts[example.peak] = f"«{parts[example.peak]}»"
    return "".join(parts)
