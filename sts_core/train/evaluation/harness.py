"""lm-eval in a process of its own: what it loads, patches or leaks ends with it, and its memory comes back.

It writes its results file and nothing else; that file is read like anybody's (`results.outcomes`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.folders import PROJECT, atomic_json, ensure
from sts_core.nets.describe import ModelInfo
from sts_core.progress import Progress, Watcher, silent
from sts_core.results.outcomes.outcome import Level
from sts_core.results.outcomes.reading import read_levels
from sts_core.train.evaluation.spec import HarnessSpec

_LOOK_EVERY = 0.5
_TAIL_BYTES = 16 * 1024


def require() -> None:
    """Refuse when lm-eval is not installed."""
    if find_spec("lm_eval") is None:
        raise UserError("lm-eval is not installed", "Install it with `pip install -r requirements.txt`.")


def check_tasks(spec: HarnessSpec) -> None:
    """Refuse a task that lm-eval does not know, before anything is measured."""
    require()
    asked = json.dumps({"tasks": list(spec.tasks), "folder": spec.folder})
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "sts_core.train.evaluation.harness_child", "--tasks"], input=asked,
        capture_output=True, text=True, cwd=spec.folder or PROJECT, env=_environment(), check=False,
    )  # fmt: skip
    if ran.returncode:
        last = next((line for line in reversed(ran.stderr.splitlines()) if line.strip()), "it left no word")
        raise UserError(last.strip()[:300], "Correct harness.tasks, or harness.folder.")


def run_harness(
    info: ModelInfo,
    spec: HarnessSpec,
    out: Path,
    device: str,
    dtype: str,
    seed: int,
    phase: str,
    watch: Watcher = silent,
) -> list[Level]:
    """Evaluate a model with lm-eval; its file stays as `out/lm-eval-PHASE.json`, its words as `lm-eval-PHASE.log`."""
    require()
    ensure(out)
    results, log, request = (out / f"lm-eval-{phase}{ending}" for ending in (".json", ".log", ".request"))
    results.unlink(missing_ok=True)
    atomic_json(request, _request(info, spec, device, dtype, seed, results))
    try:
        with log.open("wb") as words:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sts_core.train.evaluation.harness_child", str(request.resolve())],
                stdin=subprocess.DEVNULL, stdout=words, stderr=words, cwd=spec.folder or PROJECT, env=_environment(),
            )  # fmt: skip
            try:
                _follow(process, f"evaluating with lm-eval {phase}", watch)
            finally:
                _end(process)
    finally:
        request.unlink(missing_ok=True)
    if process.returncode != 0 or not results.is_file():
        raise UserError(f"lm-eval failed: {_last_words(log)}", f"All it said is in {log}.")
    return read_levels(results)


def _request(info: ModelInfo, spec: HarnessSpec, device: str, dtype: str, seed: int, results: Path) -> dict[str, Any]:
    place: dict[str, Any] = {"pretrained": str(info.folder), "dtype": dtype}
    if info.adapter is not None:
        place["peft"] = str(info.adapter.resolve())
    return {
        "model_args": place, "tasks": list(spec.tasks), "folder": spec.folder, "shots": spec.shots,
        "limit": spec.limit, "batch": spec.batch, "chat": spec.chat and info.chat, "device": device, "seed": seed,
        "results": str(results.resolve()),
    }  # fmt: skip


def _environment() -> Mapping[str, str]:
    """It works in the tasks' folder, so that files they name are found there, and never takes our modules from it."""
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


def _follow(process: subprocess.Popen[bytes], stage: str, watch: Watcher) -> None:
    """Tell that it works until it has ended; how far it is, it does not tell."""
    began = time.monotonic()
    while True:
        watch(Progress(stage, round(time.monotonic() - began, 1), 0, "seconds"))
        try:
            process.wait(timeout=_LOOK_EVERY)
        except subprocess.TimeoutExpired:
            continue
        return


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever happened to us, it does not work on alone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_words(log: Path) -> str:
    """The last line it said: of a traceback, the error."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = file.read().decode("utf-8", errors="replace").replace("\r", "\n").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:300] if said else "it said nothing"


def read_request(path: Path) -> dict[str, Any]:
    """What the child is asked to do."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
