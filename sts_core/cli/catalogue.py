"""`sts models`, `sts saes`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sts_core.cli.telling import print_json, table
from sts_core.errors import UserError

if TYPE_CHECKING:
    from sts_core.nets.catalogue import ModelEntry, SaeEntry

ROWS = 60
"""How many SAEs a table shows; --json gives all."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the program."""
    app.command("models")(models)
    app.command("saes")(saes)


def models(
    text: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]", help="Words that the name must hold.")] = None,
    json: AsJson = False,
) -> None:
    """List the models to choose from: the embedded one, those on this machine, those with public SAEs.

    Example: sts models smollm2
    """
    from sts_core.nets import catalogue

    words = " ".join(text or ())
    found = catalogue.models(words)
    if json:
        print_json([asdict(entry) for entry in found])
        return
    if found:
        typer.echo(_model_table(found))
    gated = sum(entry.gated for entry in found)
    if gated:
        typer.echo(f"{gated} gated: the hub asks for a licence first; `sts saes MODEL` says where.", err=True)
    if not found:
        typer.echo(f"No model known here is called {words!r}; a hub id or a folder works all the same.", err=True)


def saes(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="An embedded name, a hub id, or a saved model's folder.")
    ],
    layer: Annotated[int | None, typer.Option(min=0, metavar="L", help="Only those that read this layer.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also those that cannot be measured with here, and why.")
    ] = False,
    json: AsJson = False,
) -> None:
    """List the SAEs of a model that can be measured with: embedded, on this machine, in SAELens' registry.

    Example: sts saes smollm2-135m-instruct
    """
    from sts_core.nets import catalogue

    known = catalogue.saes(model)
    shown = [sae for sae in known if every or sae.usable]
    if layer is not None:
        shown = _of_layer(shown, layer, model)
    if json:
        print_json([asdict(sae) for sae in shown])
        return
    if shown:
        typer.echo(_sae_table(shown[:ROWS], every))
    for line in _remarks(model, known, shown, every):
        typer.echo(line, err=True)


def _of_layer(found: list[SaeEntry], layer: int, model: str) -> list[SaeEntry]:
    own = [sae for sae in found if sae.layer == layer]
    if own or not found:
        return own
    raise UserError(f"No SAE of {model} reads layer {layer}", f"There are some of {_layers(found)}.")


def _remarks(model: str, known: list[SaeEntry], shown: list[SaeEntry], every: bool) -> list[str]:
    """What the table does not say: how many more there are, what is asked first, what else may serve."""
    from sts_core.nets import catalogue
    from sts_core.nets.presets import preset_for

    lines = []
    if len(shown) > ROWS:
        more = shown[ROWS:]
        one = "" if len({sae.layer for sae in more}) == 1 else " --layer L shows one layer,"
        lines.append(f"{len(more):,} more, of {_layers(more)}:{one} --json gives all.")
    hidden = 0 if every else sum(not sae.usable for sae in known)
    if hidden:
        lines.append(f"{hidden:,} more cannot be measured with here: --all shows them, and why.")
    if not known:
        lines.append(f"No SAE of {model} is known: train one with `sts sae train`.")
    if preset := preset_for(known[-1].model if known else model):  # whatever name it was asked by
        lines.append(f"One of the paper's models. {preset.note}")
    licence = catalogue.gate(model)
    if licence and any(sae.gated for sae in known):
        lines.append(f"Gated. {licence}")
    lines += [
        f"{other.name} has {other.usable:,} usable ones: they fit, but were trained on that model."
        for other in catalogue.siblings(model)
        if other.usable
    ]
    return lines


def _model_table(found: Sequence[ModelEntry]) -> str:
    rows = [("model", "where", "SAEs", "usable", "note")]
    for entry in found:
        note = "gated" if entry.gated else entry.note
        rows.append((entry.name, entry.source, f"{entry.saes:,}", f"{entry.usable:,}", note))
    return table(rows)


def _sae_table(found: Sequence[SaeEntry], every: bool) -> str:
    head = ("SAE", "where", "layer", "hook", "width", "L0", "Neuronpedia")
    rows: list[tuple[str, ...]] = [(*head, "not usable because") if every else head]
    for sae in found:
        l0 = "—" if sae.l0 is None else f"{sae.l0:g}"
        width = "—" if sae.width is None else f"{sae.width:,}"
        layer = "—" if sae.layer is None else str(sae.layer)
        row = (sae.name, sae.source, layer, sae.hook or "—", width, l0, sae.neuronpedia or "—")
        rows.append((*row, sae.why_not) if every else row)
    return table(rows)


def _layers(found: Sequence[SaeEntry]) -> str:
    """`layers 3, 7, 11`, or `layers 0 to 41` when none is missing in between."""
    layers = sorted({sae.layer for sae in found if sae.layer is not None})
    if not layers:
        return "no stated layer"
    if len(layers) > 2 and layers == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return ("layer " if len(layers) == 1 else "layers ") + ", ".join(map(str, layers))
