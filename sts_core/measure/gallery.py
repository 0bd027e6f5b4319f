"""`sts examples`: from a finished result to a gallery of where its features fire (`results.gallery`).

Sources are done one after another, each in two passes, and kept in a hidden folder beside the gallery: a stopped making
goes on with the source it was at. The gallery appears whole, by one rename.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sts_core.errors import UserError
from sts_core.folders import alone_in, atomic_json, disk_trouble, ensure
from sts_core.measure.gallery_sources import Source, Wish, resolved_again, result_sources, text_source
from sts_core.nets.describe import ModelInfo, find_model
from sts_core.progress import Progress, Watcher, silent
from sts_core.results.folder import Result
from sts_core.results.gallery import EXAMPLES, HISTOGRAMS, MANIFEST, home, open_gallery
from sts_core.results.gallery_files import Chosen, Part
from sts_core.results.gallery_rows import ROWS, TOKENIZER
from sts_core.spec import DOMAIN_NAME

if TYPE_CHECKING:
    from sts_core.measure.windows import Voice

MOST_K, MOST_SAMPLES, MOST_SHOWN = 100, 20, 200
_KEPT = ("names", "counts", "seen", "seconds")
_VERSION = 1
"""Raised when the same wish would give another gallery."""
_FILES = {MANIFEST, EXAMPLES, HISTOGRAMS, ROWS, TOKENIZER}
ALL = Wish()


def make_gallery(
    result: Path, wish: Wish = ALL, out: Path | None = None, watch: Watcher = silent, fresh: bool = False
) -> Path:
    """Make it and return its folder: `out`, or its place among this machine's galleries.

    The same gallery there is returned as it is; another one is replaced only when `fresh`.
    """
    finished = Result(result)
    _check(wish, finished)
    started = _Making(finished, wish, watch)
    out = out or started.place
    with alone_in(out):
        if _is_there(out, started.key, fresh):
            return out
        draft = out.absolute().parent / f".{out.name}.part"
        try:
            started.make(draft, fresh)
            _put(draft, out)
        except (OSError, SafetensorError) as error:
            raise disk_trouble(out, error) from error
    return out


def _check(wish: Wish, result: Result) -> None:
    limits = {"k": (1, MOST_K), "samples": (1, MOST_SAMPLES), "before": (0, MOST_SHOWN), "after": (0, MOST_SHOWN)}
    for name, (least, most) in limits.items():
        if not least <= getattr(wish, name) <= most:
            raise UserError(f"{name} is {getattr(wish, name)}", f"Choose {least} to {most}.")
    count = len(result.shift)
    for feature in wish.features or ():
        if not 0 <= feature < count:
            raise UserError(f"There is no feature {feature}", f"Choose one from 0 to {count - 1}.")
    if wish.features == ():
        raise UserError("No feature is asked for", "Name at least one.")
    for name in wish.runs:
        if not DOMAIN_NAME.fullmatch(name):
            raise UserError(f"A run cannot be named {name!r}", 'Use 1 to 64 letters, digits, spaces, "_", "&" or "-".')
    names = ["base", "icl", *wish.runs]
    sources = [text.name for text in wish.texts] + [*result.manifest.get("sets", {})]
    for what, given in (("arms", names), ("sources", sources)):
        if len(set(given)) < len(given):
            raise UserError(f"Two {what} have the same name ({', '.join(given)})", "Give each a name of its own.")


def _is_there(out: Path, key: str, fresh: bool) -> bool:
    """Whether `out` is this very gallery; refuse to write over what is none, or is another's."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        there = open_gallery(out).manifest.get("wish")
    except UserError:
        damaged = out.is_dir() and {path.name for path in out.iterdir()} <= _FILES
        if not (damaged and fresh):
            hint = "Replace it with --fresh." if damaged else "Name a new or empty folder."
            raise UserError(f"{out} holds {'a damaged gallery' if damaged else 'other things'}", hint) from None
        there = None
    if there == key and not fresh:
        return True
    if not fresh:
        raise UserError(f"{out} holds another gallery", "Replace it with --fresh, or name another folder.")
    return False


def _put(draft: Path, out: Path) -> None:
    """Give the finished folder its name; what had it is moved away first."""
    old = out.absolute().parent / f".{out.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    (draft / "gallery").rename(out)
    shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


class _Making:
    """One sitting over a gallery."""

    def __init__(self, result: Result, wish: Wish, watch: Watcher) -> None:
        self._result, self._wish, self._watch = result, wish, watch
        self._resolved = resolved_again(result)
        self._runs = {name: find_model(model) for name, model in wish.runs.items()}
        for name, info in self._runs.items():
            self._check_fits(name, info)
        self._done = self._total = 0
        self.key = self._digest()

    @property
    def place(self) -> Path:
        """Where it lies on this machine: galleries of some features or sets apart from those of all."""
        key = str(self._result.manifest["key"])
        whole = self._wish.features is None and self._wish.sets is None
        return home() / (key if whole else f"{key}+{self.key[:12]}")

    def make(self, draft: Path, fresh: bool) -> None:
        """Fill the draft with the gallery, going on where an earlier sitting stopped."""
        from sts_core.measure.gallery_writing import write_gallery
        from sts_core.nets.tokenizer import load_tokenizer
        from sts_core.text.prompts import Prompter

        self._open(draft, fresh)
        self._watch(Progress("reading the data", 0, 0))
        tokenizer = load_tokenizer(self._resolved.model)
        prompter = Prompter(tokenizer)
        sources = result_sources(self._result, self._resolved, prompter, self._wish.sets)
        context = self._resolved.model.context
        sources += [text_source(texts, prompter, tokenizer, context) for texts in self._wish.texts]
        if not sources:
            raise UserError("There is nothing to read", "Choose at least one set of the result, or texts.")
        self._total = 2 * sum(self._tokens(source) for source in sources)
        self._voices: list[Voice] = []
        parts = [self._part(draft, number, source) for number, source in enumerate(sources)]
        self._watch(Progress("writing the gallery", self._total, self._total))
        folder = draft / "gallery"
        shutil.rmtree(folder, ignore_errors=True)
        write_gallery(ensure(folder), sources, parts, self._told(), prompter, tokenizer)

    def _told(self) -> dict[str, Any]:
        """What the manifest says of the wish and of what it was made with."""
        wish, resolved = self._wish, self._resolved
        return {
            "key": self._result.manifest["key"], "wish": self.key, "model": resolved.model.public(),
            "sae": resolved.sae.public(), "layer": resolved.layer, "device": resolved.spec.run.device,
            "dtype": resolved.spec.run.dtype, "arms": ["base", "icl", *self._runs],
            "runs": {name: info.public() for name, info in self._runs.items()}, "k": wish.k, "samples": wish.samples,
            "window": [wish.before, wish.after], "outlier_norm": self._most_norm, "features": resolved.sae.features,
            "kept": None if wish.features is None else sorted(set(wish.features)),
        }  # fmt: skip

    def _part(self, draft: Path, number: int, source: Source) -> Part:
        """Both passes of a source, or what is left of them to do."""
        from sts_core.measure.windows import Frame, choose, gather, read_windows

        begun = time.monotonic()
        arms = self._arms(source)
        found, values = draft / f"{number:03d}.safetensors", draft / f"{number:03d}.npy"
        if (part := _read_part(source.name, arms, found, values)) is not None:
            self._ran("", 2 * self._tokens(source))
            return part
        voices, sae, none = self._load(arms)
        examples = gather(voices, sae, source.pairs, self._most_norm, none, self._hear(f"looking at {source.name}"))
        frame = Frame(self._wish.before, self._wish.after)
        chosen, windows = choose(examples, source.pairs, frame)
        unfinished = values.with_suffix(".unfinished")
        out = _room(unfinished, (len(windows.feature), len(arms), frame.width))
        read_windows(voices, sae, source.pairs, windows, out, self._hear(f"reading around what fires in {source.name}"))
        if isinstance(out, np.memmap):
            out.flush()
        arrays = {name: np.ascontiguousarray(column) for name, column in chosen._asdict().items()}
        arrays |= {
            "names": next(iter(examples.values())).names.numpy(),
            "counts": np.stack([one.counts.numpy() for one in examples.values()]),
            "seen": np.array([one.seen for one in examples.values()]), "seconds": np.array([time.monotonic() - begun]),
        }  # fmt: skip
        save_file(arrays, found)
        unfinished.rename(values)
        return Part(source.name, arms, chosen, out, *(arrays[name] for name in _KEPT))

    def _load(self, arms: list[str]) -> tuple[list[Voice], Any, Any]:
        """The voices of these arms, the SAE, and examples with nothing in them. Models are loaded once."""
        import torch

        from sts_core.measure.examples import Examples
        from sts_core.measure.windows import BASE, ICL, Voice
        from sts_core.nets.decoder import Side, load_decoder
        from sts_core.nets.saes import load_sae

        sae, run = self._resolved.sae, self._resolved.spec.run
        if not self._voices:
            self._watch(Progress("loading the model", self._done, self._total))
            base = load_decoder(self._resolved.model, sae.layer, run.device, run.dtype, sae.site)
            self._voices = [Voice(BASE, base, BASE), Voice(ICL, base, ICL)]
            for name, info in self._runs.items():
                tuned = load_decoder(info, sae.layer, run.device, run.dtype, sae.site)
                self._voices.append(Voice(name, Side(tuned, adapted=True) if info.adapter else tuned, BASE))
            self._sae = load_sae(sae, run.device, self._resolved.sae_dtype)
            wanted = self._wish.features
            names = sae.features if wanted is None else torch.tensor(sorted(set(wanted)))
            self._none = Examples.none(names, self._wish.k, samples=self._wish.samples)
        return [voice for voice in self._voices if voice.name in arms], self._sae, self._none

    @property
    def _most_norm(self) -> float | None:
        found = self._result.manifest.get("outlier_norm")
        return None if found is None else float(found)

    def _arms(self, source: Source) -> list[str]:
        return ["base", *(() if source.alone else ("icl",)), *self._runs]

    def _tokens(self, source: Source) -> int:
        """Tokens that one pass runs through the models."""
        from sts_core.measure.plan import forward_tokens

        arms = ("base",) * (1 + len(self._runs)) + (() if source.alone else ("icl",))
        return forward_tokens(source.pairs, arms)

    def _hear(self, stage: str) -> Any:
        return lambda tokens: self._ran(stage, tokens)

    def _ran(self, stage: str, tokens: int) -> None:
        self._done = min(self._done + tokens, self._total)
        if stage:
            self._watch(Progress(stage, self._done, self._total))

    def _check_fits(self, name: str, info: ModelInfo) -> None:
        base = self._resolved.model
        if (info.width, info.layers) != (base.width, base.layers):
            raise UserError(
                f"{name} has {info.layers} layers, {info.width} wide; {base.name} has {base.layers}, {base.width}",
                "Name a model that was fine-tuned from the result's.",
            )

    def _digest(self) -> str:
        wish, run = self._wish, self._resolved.spec.run
        content = {
            "result": self._result.manifest["key"], "version": _VERSION, "device": run.device, "dtype": run.dtype,
            "features": None if wish.features is None else sorted(set(wish.features)), "sets": wish.sets,
            "texts": [(text.name, text.corpus.name, text.corpus.sha256, text.tokens) for text in wish.texts],
            "runs": {name: info.revision for name, info in self._runs.items()},
            "shape": (wish.k, wish.samples, wish.before, wish.after),
        }  # fmt: skip
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]

    def _open(self, draft: Path, fresh: bool) -> None:
        """Keep what a sitting of the same wish left; throw away anything else."""
        mark = draft / "key.json"
        try:
            begun = json.loads(mark.read_text())
        except (OSError, ValueError):
            begun = None
        if fresh or begun != self.key:
            shutil.rmtree(draft, ignore_errors=True)
        atomic_json(ensure(draft) / "key.json", self.key)


def _room(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """An array that lies in a file, so that memory stays small; a plain one where it has no entry."""
    if shape[0]:
        return np.lib.format.open_memmap(path, "w+", np.float32, shape)
    with path.open("wb") as file:
        np.save(file, np.zeros(shape, np.float32))
    return np.zeros(shape, np.float32)


def _read_part(name: str, arms: list[str], found: Path, values: Path) -> Part | None:
    """A source that was finished before; None when it was not, or was torn by a power cut."""
    if not (found.exists() and values.exists()):
        return None
    try:
        arrays = load_file(found)
        chosen = Chosen(*(arrays[column] for column in Chosen._fields))
        held = np.load(values, mmap_mode="r" if len(chosen.window) else None)
        return Part(name, arms, chosen, held, *(arrays[kept] for kept in _KEPT))
    except (SafetensorError, ValueError, KeyError):
        return None
