"""Where the report's numbers come from: model, SAE, data and versions, and the commands that make them anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sts_core.figures.numbers import DASH, count, day, duration
from sts_core.figures.report.gathering import Gathered, part
from sts_core.figures.report.ink import shown
from sts_core.figures.report.tables import table
from sts_core.figures.report.telling import target_of
from sts_core.figures.run_words import briefly
from sts_core.figures.words import target_name
from sts_core.spec import MMLU_DOMAINS
from sts_core.spec_file import to_toml

_MIX = "mixture"
"""What the recipe calls a mixture, its settings and its folder."""


def summary(found: Gathered) -> str:
    """What was measured, in five words or so each, under the answer."""
    manifest = found.manifest
    spec = manifest.get("spec")
    layer = part(manifest, "resolved", "sae", "layer")
    told = [
        ("Model", target_name(_said(part(spec, "model")))),
        ("SAE", target_name(_said(part(spec, "sae"))) + (f", layer {layer}" if layer is not None else "")),
        ("Training set", target_of(found)),
        ("Domains", count(len(part(spec, "domains") or []))),
        ("Measured", day(manifest.get("finished"))),
    ]
    if found.actual is not None:
        told.append(("What happened", f"{found.actual.source} ({found.actual.metric})"))
    long = {"What happened": ' class="long"'}
    entries = "".join(
        f"<div{long.get(name, '')}><dt>{shown(name)}</dt><dd>{shown(value)}</dd></div>" for name, value in told
    )
    return f'<dl class="meta">{entries}</dl>'


def commands(found: Gathered) -> str:
    """The spec as a file, and what to type."""
    spec = found.manifest.get("spec")
    if not isinstance(spec, Mapping):
        return "<p>The settings of this result were not kept.</p>"
    lines = ["sts run report.toml --out result", "sts export result --format html"]
    told = "Save these settings as report.toml; with the same model, SAE and data they give the same result. "
    if found.actual is not None and found.run is not None:
        lines = [lines[0], "sts sft tune.toml", "sts export result --actual ID --format html"]
        told = "Save the first settings as report.toml and the second as tune.toml; ID is what sts sft prints. "
        if found.mixture is not None:
            lines.insert(1, f"sts mix {_MIX}.toml --out {_MIX}")
            told += f"The training set is a mixture: save its settings as {_MIX}.toml. "
    elif found.actual is not None:
        lines[1] = "sts export result --actual FILE --format html"
    told += "Files of one’s own are named without their folders: they lie beside the settings."
    parts = [
        f"<p>{shown(told)}</p>",
        _code("\n".join(lines), "Commands"),
        _folded("Settings: report.toml", _toml(spec)),
    ]
    tuned = part(found.run, "spec")
    mixed = part(found.mixture, "spec")
    if isinstance(mixed, Mapping):
        parts.append(_folded(f"Settings of the mixture: {_MIX}.toml", _toml({**mixed, "result": "result"})))
    if isinstance(tuned, Mapping) and found.actual is not None:
        if found.mixture is not None:
            tuned = {**tuned, "target": {**tuned["target"], "data": f"{_MIX}/manifest.json"}}
        parts.append(_folded("Settings of the fine-tune: tune.toml", _toml(_short(tuned))))
    return "".join(parts)


def facts(found: Gathered) -> str:
    """To the byte: revisions, versions, seeds, hashes."""
    manifest = found.manifest
    resolved = manifest.get("resolved")
    rows = [
        ("Result", _said(manifest.get("key"))),
        ("Measured", f"{day(manifest.get('finished'), clock=True)}, in {duration(_seconds(manifest))}"),
        ("Device and number format", f"{_said(part(resolved, 'device'))}, {_said(part(resolved, 'dtype'))}"),
        ("Model", _revision(part(manifest, "spec", "model"), part(resolved, "model"))),
        ("SAE", _revision(part(manifest, "spec", "sae"), part(resolved, "sae"))),
        ("Seed", _said(manifest.get("seed"))),
        ("Tokens pooled", count(_whole(part(manifest, "tokens", "pooled")))),
        ("Versions", _versions(manifest.get("versions"))),
    ]
    if found.run is not None:
        run = found.run
        rows += [
            ("Fine-tune", f"{_said(part(run, 'spec', 'method'))}, {_said(run.get('steps'))} steps, learning rate "
                          f"{_said(part(run, 'spec', 'learning_rate'))}, batch {_said(part(run, 'spec', 'batch'))}, "
                          f"seed {_said(run.get('seed'))}"),
            ("Fine-tune finished", f"{day(run.get('finished'), clock=True)}, in {duration(_seconds(run))}"),
            ("Versions of the fine-tune", _versions(run.get("versions"))),
        ]  # fmt: skip
    told = table("How it was made.", ("What", "Value"), rows, words=(1,))
    hashes = [(name, value[:32] + "…") for name, value in _files(part(resolved, "files"))]
    if not hashes:
        return told
    listed = table("SHA-256 of the data files.", ("File", "SHA-256"), hashes, words=(1,))
    return f"{told}<details><summary>SHA-256 of the data files</summary>{listed}</details>"


def _code(text: str, name: str) -> str:
    return f'<pre tabindex="0" role="region" aria-label="{shown(name)}">{_lines(text)}</pre>'


def _folded(name: str, text: str) -> str:
    """Text under a heading that opens it."""
    return f"<details><summary>{shown(name)}</summary>{_code(text, name)}</details>"


def _lines(text: str) -> str:
    """Text line by line as it stands, each made safe."""
    return "\n".join(shown(line) for line in text.split("\n"))


def _toml(spec: Mapping[str, Any]) -> str:
    """The settings as a file; the embedded fourteen as one table where they are all alike."""
    domains = spec.get("domains")
    shared = _alike(domains) if isinstance(domains, list) else None
    return to_toml(_near({**spec, "domains": shared} if shared else spec)).rstrip("\n")


def _near(value: Any) -> Any:
    """The same with files and folders by their last names: where they lie is nobody else's business, and no help."""
    if isinstance(value, Mapping):
        return {key: _near(entry) for key, entry in value.items() if entry not in (None, {})}
    if isinstance(value, list | tuple):
        return [_near(entry) for entry in value]
    return target_name(value) if isinstance(value, str) and value.startswith(("/", "~")) else value


def _alike(domains: Sequence[Any]) -> dict[str, Any] | None:
    first = domains[0] if domains and isinstance(domains[0], Mapping) else {}
    shared = {"data": "mmlu", "demos": first.get("demos"), "tokens": first.get("tokens")}
    alike = [{**shared, "name": name, "data": f"mmlu/{name}"} for name in MMLU_DOMAINS]
    return shared if list(domains) == alike else None


def _short(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A fine-tune's settings for somebody else: its prediction is what the first command makes."""
    kept = briefly(spec)
    return {**kept, "prediction": "result"} if "prediction" in kept else kept


def _files(files: Any) -> list[tuple[str, str]]:
    found = []
    for name, hashes in files.items() if isinstance(files, Mapping) else ():
        for kind, value in hashes.items() if isinstance(hashes, Mapping) else ():
            if isinstance(value, str):
                found.append((f"{name}{', demonstrations' if kind == 'demo_data' else ''}", value))
    return found


def _revision(name: Any, resolved: Any) -> str:
    revision = part(resolved, "revision") if isinstance(resolved, Mapping) else None
    told = target_name(_said(name))
    return f"{told}, revision {revision}" if revision else told


def _versions(versions: Any) -> str:
    if not isinstance(versions, Mapping) or not versions:
        return DASH
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _seconds(manifest: Mapping[str, Any]) -> float | None:
    seconds = manifest.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else None


def _whole(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _said(value: Any) -> str:
    return DASH if value is None or value == "" else str(value)
