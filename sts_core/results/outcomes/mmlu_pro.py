"""The outputs of MMLU-Pro's own scripts: a JSON list a subject, a summary as JSON, a summary as text.

Accuracies are the scripts' own. Where a model's answer could not be read (`pred` is empty) they guess, with the same
seed for every row: so one of the options always counts as guessed, and that is done here too.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sts_core.errors import UserError
from sts_core.results.outcomes.outcome import SHARE, Level, domain_name, mean_level

SOURCE, METRIC = "mmlu-pro", "accuracy"
_GUESS_SEED = 12345
_LINE = re.compile(r"\s*Average accuracy\s+(\S+)\s+-\s+(.+?)\s*")
_ROUNDED = 5e-3
"""How far a stated accuracy may be from its counts."""


def is_summary(value: Mapping[str, Any]) -> bool:
    """Whether a JSON table is a summary: subjects with counts."""
    return bool(value) and all(
        isinstance(entry, Mapping) and {"corr", "wrong"} <= set(entry) for entry in value.values()
    )


def from_list(name: str, records: Sequence[Any]) -> list[Level]:
    """A list of rows with `pred` and `answer`; the subject is each row's `category`, or the file's own name."""
    rows: dict[str, dict[str, float]] = {}
    for number, record in enumerate(records):
        where = f"{name}, entry {number}"
        if not isinstance(record, Mapping) or "pred" not in record or "answer" not in record:
            raise UserError(f"{where} has no pred and answer", "Name a subject's list as MMLU-Pro's scripts write it.")
        subject = record.get("category")
        domain = domain_name(subject if isinstance(subject, str) else _subject(name), where)
        row = str(record.get("question_id", number))
        if row in rows.setdefault(domain, {}):
            raise UserError(f"{where}: question_id {row[:40]} is there twice", "Keep one of the two.")
        rows[domain][row] = _right(record, where)
    if not rows:
        raise UserError(f"{name} is an empty list", "Name a subject's list as MMLU-Pro's scripts write it.")
    return [mean_level(domain, METRIC, values, SOURCE) for domain, values in rows.items()]


def from_summary(name: str, value: Mapping[str, Any]) -> list[Level]:
    """`{subject: {corr, wrong, acc}, total: …}`; the total is left out."""
    found = []
    for subject, entry in value.items():
        if subject == "total":
            continue
        where = f"{name}, {subject}"
        right, wrong = (_count(entry[key], f"{where} → {key}") for key in ("corr", "wrong"))
        n = right + wrong
        if not n:
            raise UserError(f"{where} counts no row", "Evaluate this subject again, or take it out.")
        stated = entry.get("acc", entry.get("accu"))
        if _is_number(stated) and not abs(stated - right / n) <= _ROUNDED:
            raise UserError(
                f"{where}: acc is {stated}, but corr and wrong give {right / n:.4f}", "One of them was changed."
            )
        share = right / n
        se = (share * (1 - share) / (n - 1)) ** 0.5 if n > 1 else None
        found.append(Level(domain_name(subject, name), METRIC, share, se, n, SOURCE, SHARE))
    if not found:
        raise UserError(f"{name} holds no subject but the total", "Name the summary of one subject or more.")
    return found


def from_text(name: str, text: str) -> list[Level]:
    """Lines like `Average accuracy 0.3900 - biology`; everything else is passed over."""
    found: dict[str, Level] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        where = f"{name}, line {number}"
        share = _share(match[1], where)
        domain = domain_name(match[2], where)
        if domain in found and found[domain].value != share:
            raise UserError(f"{where}: {domain} is there twice, with other numbers", "Keep one of the two runs.")
        found[domain] = Level(domain, METRIC, share, None, None, SOURCE, SHARE)
    if not found:
        raise UserError(
            f"{name} has no line like “Average accuracy 0.39 - biology”",
            "Name a summary of MMLU-Pro's scripts, an lm-eval results file (.json), or a .csv.",
        )
    return list(found.values())


def _right(record: Mapping[str, Any], where: str) -> float:
    """1 for the right answer, as the scripts count it."""
    pred, answer = record["pred"], record["answer"]
    if pred:
        if not isinstance(pred, str) or not isinstance(answer, str):
            raise UserError(f"{where}: pred and answer are to be letters", "Evaluate this subject again.")
        return float(pred == answer)
    options, index = record.get("options"), record.get("answer_index")
    if not isinstance(options, list) or not options or not isinstance(index, int):
        raise UserError(
            f"{where} has no pred, and no options and answer_index to guess from", "Evaluate this subject again."
        )
    return float(random.Random(_GUESS_SEED).randint(0, len(options) - 1) == index)


def _subject(name: str) -> str:
    """`computer_science_result.json` -> `computer_science`."""
    return re.sub(r"(_result)?\.json$", "", name)


def _count(value: Any, where: str) -> int:
    if not _is_number(value) or value < 0 or value > 1e9 or value != int(value):
        raise UserError(f"{where} is {str(value)[:40]!r}, not a count", "Evaluate this subject again.")
    return int(value)


def _share(text: str, where: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"{where}: {text[:40]!r} is not an accuracy between 0 and 1", "Mend that line.")
    return share


def _is_number(value: Any) -> bool:
    """A finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
