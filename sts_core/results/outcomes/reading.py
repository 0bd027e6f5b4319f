"""Outcomes from files that others wrote: told apart by what is in them, checked whole, nothing in them followed.

A pair (before, after) of lm-eval results files, of MMLU-Pro outputs (a subject's list, a summary, a folder of them), or
one CSV with the changes; a folder that `sts eval` or a fine-tune wrote holds both sides itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.results.outcomes import csv_table, lm_eval, mmlu_pro
from sts_core.results.outcomes.outcome import Level, Outcome, is_lower_better, pair
from sts_core.results.outcomes.rows import FILE, changes, read_rows

MOST_BYTES = 64 * 2**20
MOST_FILES = 200
OWN = "own"
_KINDS = "Give an lm-eval results file (.json), MMLU-Pro output (.json, .txt or their folder), or a .csv."


def read_outcomes(before: Path, after: Path | None = None) -> list[Outcome]:
    """The outcomes in one file or folder that holds both sides, or in two of them."""
    if after is not None:
        return pair(read_levels(before), read_levels(after))
    if (before / FILE).is_file():
        return own_outcomes(before)
    if before.suffix.casefold() == ".csv":
        return outcomes_from(before.name, _bytes(before))
    levels = read_levels(before)
    raise UserError(
        f"{before.name} tells one side alone ({len({level.domain for level in levels})} domains)",
        "Name two files: the one from before training, then the one from after.",
    )


def left_out(before: Path, after: Path) -> list[str]:
    """Domains that only one of two sides has a number of, in any metric that both have."""
    sides = [read_levels(place) for place in (before, after)]
    both = {level.metric for level in sides[0]} & {level.metric for level in sides[1]}
    names = [{level.domain.casefold(): level.domain for level in side if level.metric in both} for side in sides]
    return [(names[0] | names[1])[key] for key in sorted(names[0].keys() ^ names[1].keys())]


def outcomes_from(name: str, content: bytes) -> list[Outcome]:
    """The outcomes in a CSV's bytes, as a page is handed them."""
    return csv_table.outcomes(name, _text(name, content))


def read_levels(path: Path) -> list[Level]:
    """One side: a file, or a folder of MMLU-Pro's files or with one results file of lm-eval."""
    if not path.is_dir():
        return levels_from(path.name, _bytes(path))
    files = sorted(file for file in path.iterdir() if file.suffix in (".json", ".txt") and file.is_file())
    if len(files) > MOST_FILES:
        raise UserError(f"{path} holds {len(files)} files", "Name a folder with one evaluation's files alone.")
    results = [file for file in files if file.name.startswith("results") and file.suffix == ".json"]
    if len(results) > 1:
        raise UserError(f"{path} holds {len(results)} results files of lm-eval", f"Name one, as {results[-1].name}.")
    if results:
        return levels_from(results[0].name, _bytes(results[0]))
    if not files:
        raise UserError(f"{path} holds no evaluation", _KINDS)
    return _merged([levels_from(file.name, _bytes(file)) for file in files])


def levels_from(name: str, content: bytes) -> list[Level]:
    """One side from a file's bytes; the name tells its kind and, of a subject's list, the subject."""
    text = _text(name, content)
    if name.casefold().endswith(".txt"):
        return mmlu_pro.from_text(name, text)
    if name.casefold().endswith(".csv"):
        raise UserError(f"{name} holds both sides by itself", "Give a .csv alone: its columns are before and after.")
    if not name.casefold().endswith(".json"):
        raise UserError(f"{name} is no kind of file that tells one side", _KINDS)
    value = _json(name, text)
    if isinstance(value, list):
        return mmlu_pro.from_list(name, value)
    if isinstance(value, dict) and "results" in value:
        return lm_eval.levels(name, value)
    if isinstance(value, dict) and mmlu_pro.is_summary(value):
        return mmlu_pro.from_summary(name, value)
    raise UserError(f"{name} is neither lm-eval's results nor MMLU-Pro's output", _KINDS)


def one_sided(folder: Path) -> UserError:
    """What to tell where only the model before, or only the one after, was evaluated."""
    return UserError(
        f"{folder} was evaluated on one side only",
        "Evaluate the fine-tuned model too: tuned = …; a run that ended early goes on with sts jobs --resume.",
    )


def own_outcomes(folder: Path) -> list[Outcome]:
    """What our own scorer measured before and after, row against row."""
    found = [
        Outcome(
            c.set, c.before, c.after, c.change, c.se, c.n, c.metric, OWN,
            "nats" if c.metric.startswith("nll") else "share", is_lower_better(c.metric),
        )
        for c in changes(read_rows(folder))
    ]  # fmt: skip
    if not found:
        raise one_sided(folder)
    return found


def _merged(sides: Sequence[list[Level]]) -> list[Level]:
    """One level a domain: rows are worth more than counts, counts more than a rounded number."""
    rank: Callable[[Level], tuple[bool, bool]] = lambda level: (level.rows is None, level.n is None)  # noqa: E731
    best: dict[tuple[str, str], Level] = {}
    for level in sorted((level for side in sides for level in side), key=rank):
        kept = best.setdefault((level.domain.casefold(), level.metric), level)
        if abs(kept.value - level.value) > 5e-4:
            raise UserError(
                f"Two files tell {level.domain} differently: {kept.value:.4f} and {level.value:.4f}",
                "Name a folder with one evaluation's files alone, or one file.",
            )
    return list(best.values())


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is larger than {MOST_BYTES >> 20} MB", "Name the results file, not the samples.")
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"There is no file {path}", "Check the path.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "Check the path and its permissions.") from None


def _text(name: str, content: bytes) -> str:
    if len(content) > MOST_BYTES:
        raise UserError(f"{name} is larger than {MOST_BYTES >> 20} MB", "Name the results file, not the samples.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 (byte {error.start})", "Save the file as UTF-8.") from None


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{name}, line {error.lineno} is not valid JSON: {error.msg}", "Write the file again."
        ) from None
    except (ValueError, RecursionError):  # numbers of thousands of digits, brackets without end
        raise UserError(f"{name} is not JSON that can be read", "Write the file again.") from None
