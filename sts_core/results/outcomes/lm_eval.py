"""lm-eval's results file (0.4.x): `results` has a table a task, with keys like `exact_match,custom-extract`.

Beside a metric stands its standard error (`exact_match_stderr,custom-extract`), a number or "N/A". A task may bring its
`name` and an `alias` drawn as a tree (` - law`). Groups are averages of other tasks and are left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sts_core.errors import UserError
from sts_core.results.outcomes.outcome import SHARE, Level, domain_name, is_lower_better

SOURCE = "lm-eval"
_FAMILIES = {"mmlu", "mmlu_pro"}
"""Groups whose tasks bear their name, also where a file does not tell of groups."""
_NO_METRIC = ("alias", "name", "sample_len", "sample_count", "samples", " ", "")
_SHARES = ("acc", "acc_norm", "acc_mutual_info", "acc_bytes", "exact_match", "em", "mc1", "mc2", "f1")


def levels(name: str, value: Mapping[str, Any]) -> list[Level]:
    """Every metric of every task that is no group of others."""
    results = _table(name, value, "results")
    groups = {group for group, inside in _table(name, value, "group_subtasks", {}).items() if inside}
    groups |= set(_table(name, value, "groups", {}))
    tasks = [task for task in results if task not in groups] or list(results)
    domains = _domains(name, results, tasks, groups)
    found = [level for task in tasks for level in _levels(name, value, task, domains[task])]
    if not found:
        raise UserError(f"{name} holds no metric of any task", "Name the results file that lm-eval wrote.")
    return found


def _levels(name: str, value: Mapping[str, Any], task: str, domain: str) -> list[Level]:
    entry = value["results"][task]
    higher = _table(name, _table(name, value, "higher_is_better", {}), task, {})
    rows = _rows(name, value, task)
    found = []
    for key, number in entry.items():
        metric, _, kept = key.partition(",")
        if key in _NO_METRIC or metric.endswith("_stderr") or _says_nothing(number, kept):
            continue
        where = f"{name}, results → {task} → {key}"
        if number is None or not math.isfinite(_number(number, where)):
            raise UserError(f"{where} is {number!r}, not a number", "Evaluate this task again, or take it out.")
        error = entry.get(f"{metric}_stderr,{kept}" if kept else f"{metric}_stderr")
        told = metric if kept in ("", "none") else f"{metric},{kept}"
        lower = higher.get(metric) is False or (metric not in higher and is_lower_better(metric))
        unit = SHARE if (metric in _SHARES or metric.startswith("pass@")) and 0 <= number <= 1 else ""
        found.append(Level(domain, told, float(number), _error(error, where), rows, SOURCE, unit, lower))
    return found


def _says_nothing(value: Any, kept: str) -> bool:
    """Whether this is no metric's value: what stands beside the metrics, or a metric that is marked as having none."""
    if isinstance(value, str):
        return not kept or value.strip() in ("", "N/A")
    return isinstance(value, bool | list | dict)


def _domains(name: str, results: Mapping[str, Any], tasks: list[str], groups: set[str]) -> dict[str, str]:
    """Task -> domain: its alias without the tree's strokes, or its name without the group's; unique among the tasks."""
    short = {}
    for task in tasks:
        entry = results[task]
        if not isinstance(entry, Mapping):
            raise UserError(f"{name}, results → {task} is not a table", "Name the results file that lm-eval wrote.")
        alias = entry.get("alias")
        text = alias.strip().removeprefix("- ").strip() if isinstance(alias, str) else ""
        text = text or task
        of = [group for group in groups | _FAMILIES if text.startswith(f"{group}_") and text not in _FAMILIES]
        prefix = max(of, key=len, default="")
        short[task] = domain_name(text[len(prefix) + 1 :] if prefix else text, f"{name}, results → {task}")
    shared = {domain for domain, count in Counter(d.casefold() for d in short.values()).items() if count > 1}
    return {task: domain_name(task, name) if domain.casefold() in shared else domain for task, domain in short.items()}


def _rows(name: str, value: Mapping[str, Any], task: str) -> int | None:
    """How many rows the task was evaluated on, where the file tells."""
    counted = _table(name, value, "n-samples", {}).get(task)
    number = counted.get("effective") if isinstance(counted, Mapping) else value["results"][task].get("sample_len")
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else None


def _error(value: Any, where: str) -> float | None:
    """A standard error; "N/A" and nothing stand for one that is not known."""
    if value is None or isinstance(value, str):
        return None
    error = _number(value, f"the standard error of {where}")
    if error < 0:
        raise UserError(f"The standard error of {where} is {value!r}", "Evaluate this task again.")
    return error if math.isfinite(error) else None


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where} is {str(value)[:40]!r}, not a number", "Evaluate this task again, or take it out.")
    try:
        return float(value)
    except OverflowError:
        raise UserError(f"{where} is too large a number", "Evaluate this task again, or take it out.") from None


def _table(name: str, value: Mapping[str, Any], key: str, otherwise: Any = None) -> Mapping[str, Any]:
    found = value.get(key, otherwise)
    if not isinstance(found, Mapping):
        raise UserError(f"{name}: {key} is not a table", "Name the results file that lm-eval wrote.")
    return found
