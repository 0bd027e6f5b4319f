"""The engine beside a faithful naive rival, on the same questions, in one run.

    python -m benchmarks.engine                      # a quarter of an hour or more; wants an otherwise idle machine
    python -m benchmarks.engine --parts speed --prefixes 500 --rival-items 4

Every measurement runs in a process of its own. The rival (`benchmarks/rival.py`) measures at most 16 queries a cell;
what is beyond is marked as extrapolated. Both sides must find the same shift, or the run ends with exit code 1. Prints
Markdown on stdout, what it is doing on stderr.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that `python benchmarks/engine.py` works too

from benchmarks import table
from benchmarks.findings import OURS, RIVAL, Cell, Flat, Memory, compare
from benchmarks.task import TINY, Report, Task
from sts_core import folders
from sts_core.bundle import embedded
from sts_core.errors import UserError
from sts_core.nets.describe import find_sae, shipped_saes
from sts_core.nets.device import choose_dtype

Start = Callable[[Task], Report]
PARTS = ("speed", "memory", "flat")
MOST_RIVAL_ITEMS = 16
DEMO_SAE, DEMO_LAYER, DEMO_FEATURES = "demo/smollm2-l15", 15, 4096
_COPIES = 4
"""Dense arms that the rival holds at its peak: two, their difference, and its absolute values."""


def main(argv: Sequence[str] | None = None, start: Start | None = None) -> int:
    """0 measured; 1 the sides disagree; 2 the person must change something."""
    options = _options(argv)
    try:
        return _run(options, start or in_child)
    except UserError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, start: Start) -> int:
    task = _task(options)
    head = table.head(task)
    cells: list[Cell] = []
    memory: Memory | None = None
    flat: Flat | None = None
    if "speed" in options.parts:
        for prefix in options.prefixes:
            with tempfile.TemporaryDirectory() as folder:
                cells.append(
                    speed(replace(task, prefix=prefix), options.items, options.rival_items, Path(folder), start)
                )
    if "memory" in options.parts:
        memory = beside_in_memory(task, options.memory_tokens, options.memory_features, start)
    if "flat" in options.parts:
        flat = over_tokens(task, options.flat_tokens, options.flat_features, start)
    print(head)
    print(table.whole(cells, memory, flat))
    return 0 if all(cell.agrees for cell in cells) else 1


def speed(task: Task, items: int, rival_items: int, folder: Path, start: Start) -> Cell:
    """Ours on few queries and on many, the rival on the few; all behind a beginning of one length."""
    _say(f"speed: prefix {task.prefix:,}")
    ours = start(replace(task, side="ours", items=rival_items, keep=str(folder / OURS)))
    many = start(replace(task, side="ours", items=items)) if items > rival_items else ours
    rival = start(replace(task, side="rival", items=rival_items, keep=str(folder / RIVAL)))
    cell = compare(task, ours, many, rival, folder)
    _say(
        f"  ours {ours.cost.wall:.2f} s, rival {rival.cost.wall:.2f} s on {ours.items}, apart by {cell.difference:.1e}"
    )
    return cell


def beside_in_memory(task: Task, tokens: int, features: int, start: Start) -> Memory:
    """Ours with the real model at `tokens`; the rival with the tiny one, in its favour.

    The rival is first measured at few tokens; at all of them too where half of the free memory is enough, and
    extrapolated where not.
    """
    _say(f"memory: {tokens:,} tokens × {features:,} features")
    wide = replace(task, sae="", features=features, repeats=1, items=0, tokens=tokens)
    ours = start(replace(wide, side="ours"))
    tiny = replace(wide, side="rival", model=TINY, layer=1, dtype="float32", batches=(1,))
    some = start(replace(tiny, tokens=tokens // 20))
    more = start(replace(tiny, tokens=tokens // 10))
    _say(f"  ours {ours.cost.beyond / 1e6:.0f} MB; rival {more.cost.beyond / 1e6:.0f} MB at {more.pooled:,} tokens")
    each = (more.cost.beyond - some.cost.beyond) / (more.pooled - some.pooled)
    if psutil.virtual_memory().available > 2 * _COPIES * 4 * features * tokens:
        whole = start(tiny)
        return Memory(tokens, features, ours, whole.cost.beyond, each, extrapolated=False)
    beyond = more.cost.beyond + each * (tokens - more.pooled)
    return Memory(tokens, features, ours, int(beyond), each, extrapolated=True)


def over_tokens(task: Task, tokens: Sequence[int], features: int, start: Start) -> Flat:
    """The engine alone with the tiny model: few tokens, then many, queries of one length."""
    tiny = replace(
        task, side="ours", model=TINY, sae="", layer=1, features=features, dtype="float32", items=0, repeats=1,
    )  # fmt: skip
    reports = []
    for count in tokens:
        _say(f"memory over tokens: {count:,}")
        reports.append(start(replace(tiny, tokens=count)))
        _say(f"  {reports[-1].cost.beyond / 1e6:.0f} MB, {reports[-1].cost.wall:.2f} s")
    return Flat(features, reports)


def in_child(task: Task) -> Report:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.side", task.to_json()]
    ran = subprocess.run(command, cwd=folders.PROJECT, capture_output=True, text=True, check=False)
    if ran.returncode:
        told = [line for line in ran.stderr.splitlines() if line.strip()] or [f"exit code {ran.returncode}"]
        raise UserError(
            f"{task.side} with a beginning of {task.prefix} tokens did not finish: {told[-1][:300]}",
            "If memory ran out (exit code -9), ask for shorter beginnings or fewer tokens.",
        )
    return Report.from_json(ran.stdout.splitlines()[-1])


def _task(options: argparse.Namespace) -> Task:
    """What is common to all measurements, with the SAE chosen."""
    sae, layer, features = "", options.layer, options.features
    if not options.random and (options.sae or DEMO_SAE in shipped_saes()):
        info = find_sae(options.sae or DEMO_SAE)
        sae, layer, features = info.name, info.layer, info.features
    if options.model == embedded.MODEL_NAME or not options.data:
        embedded.require()
    data = options.data or str(embedded.train_file("gsm-symbolic"))
    if not Path(data).is_file():
        raise UserError(f"There is no file {data}", "Name JSON lines with question and answer (--data).")
    return Task(
        side="ours", model=options.model, sae=sae, layer=layer, features=features,
        dtype=choose_dtype(options.dtype, "cpu"), prefix=options.prefixes[0], data=str(Path(data).resolve()),
        seed=options.seed, repeats=options.repeats, seconds=options.seconds, batches=tuple(options.rival_batches),
    )  # fmt: skip


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        values = [int(part) for part in text.replace("_", "").split(",")]
        if min(values) < 1:
            raise ValueError("not positive")
        return values

    def few(text: str) -> int:
        if not 1 <= int(text) <= MOST_RIVAL_ITEMS:
            raise ValueError("too many")
        return int(text)

    def parts(text: str) -> list[str]:
        if not set(text.split(",")) <= set(PARTS):
            raise ValueError("unknown part")
        return text.split(",")

    parser = argparse.ArgumentParser(prog="benchmarks.engine", description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--model", default=embedded.MODEL_NAME, help="embedded name or a folder (a Llama-like model)")
    add("--sae", default="", help=f"SAE to encode with (default: {DEMO_SAE} where it is shipped)")
    add("--random", action="store_true", help="a SAE of random weights instead")
    add("--layer", type=int, default=DEMO_LAYER, help="block that a random SAE reads")
    add("--features", type=int, default=DEMO_FEATURES, help="features of a random SAE")
    add("--data", default="", help="JSON lines with question and answer (default: the embedded training set)")
    add("--dtype", default="auto", choices=("auto", "float32", "bfloat16"), help="the model's, for both sides")
    add("--prefixes", type=numbers, default=[500, 1_500, 6_000], help="tokens of the shared beginning")
    add("--items", type=int, default=128, help="queries of a cell")
    add("--rival-items", type=few, default=MOST_RIVAL_ITEMS, help="those that the rival measures, 16 at most")
    add("--rival-batches", type=numbers, default=[1, 4], help="batch sizes that the rival may choose from")
    add("--repeats", type=int, default=3, help="the median of so many")
    add("--seconds", type=float, default=60.0, help="no further repeat is begun after so long")
    add("--memory-tokens", type=int, default=20_000)
    add("--memory-features", type=int, default=28_672)
    add("--flat-features", type=int, default=28_672)
    add("--flat-tokens", type=numbers, default=[2_000, 20_000, 200_000])
    add("--parts", type=parts, default=list(PARTS), help="of speed,memory,flat")
    add("--seed", type=int, default=0)
    return parser.parse_args(argv)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
