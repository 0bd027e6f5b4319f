"""The process that runs lm-eval: `python -m sts_core.train.evaluation.harness_child REQUEST`.

With `--tasks` it only looks whether the tasks of the request on its standard input are known.

A `UserError` leaves as one line and status 2; everything else as a traceback, whose last line is told.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from sts_core import hub
from sts_core.errors import UserError, nearest
from sts_core.folders import atomic_write
from sts_core.train.evaluation.harness import read_request


def main(request: dict[str, Any]) -> None:
    """Evaluate, and write lm-eval's results whole or not at all."""
    hub.prepare()
    # By name: it carries no types that say anything about us.
    lm_eval, tasks, saving = (import_module(name) for name in ("lm_eval", "lm_eval.tasks", "lm_eval.utils"))
    manager = known_tasks(tasks, request)
    found: Any = lm_eval.simple_evaluate(
        model="hf", model_args=request["model_args"], tasks=request["tasks"], task_manager=manager,
        num_fewshot=request["shots"], limit=request["limit"], batch_size=request["batch"], device=request["device"],
        apply_chat_template=request["chat"], fewshot_as_multiturn=request["chat"], log_samples=False,
        random_seed=request["seed"], numpy_random_seed=request["seed"], torch_random_seed=request["seed"],
        fewshot_random_seed=request["seed"],
    )  # fmt: skip
    atomic_write(
        Path(request["results"]),
        json.dumps(found, indent=1, default=saving.handle_non_serializable, ensure_ascii=False),
    )


def known_tasks(tasks: Any, request: dict[str, Any]) -> Any:
    """lm-eval's manager of tasks, which knows all that are asked for."""
    manager = tasks.TaskManager(include_path=request["folder"])
    known = set(manager.all_tasks)
    for task in request["tasks"]:
        if task not in known:
            raise UserError(f"lm-eval has no task {task!r}{nearest(task, known)}", "Correct harness.tasks.")
    return manager


if __name__ == "__main__":
    try:
        if sys.argv[1] == "--tasks":
            hub.prepare()
            known_tasks(import_module("lm_eval.tasks"), json.load(sys.stdin))
        else:
            main(read_request(Path(sys.argv[1])))
    except UserError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(2)
