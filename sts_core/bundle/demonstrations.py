"""Worked answers for each domain, cut out of the chain-of-thought prompts that lm-eval carries.

A prompt is a heading and blocks, an empty line between them:

    Q: the question, one line or several
    (A) one (B) two (C) three (D) four
    A: Let's think step by step. … The answer is (C).
"""

from __future__ import annotations

import json
import re
from typing import Any
from zipfile import ZipFile

from sts_core.bundle.embedded import subject_domains

FILE = "lm_eval/tasks/mmlu/flan_cot_fewshot/_cot_prompts.json"
_OPTIONS = re.compile(r"(.*)\n\(A\)\s+(.*?)\s+\(B\)\s+(.*?)\s+\(C\)\s+(.*?)\s+\(D\)\s+(.*)", re.DOTALL)
_ANSWER = re.compile(r".*\bthe answer is \(([A-D])\)\.?", re.DOTALL | re.IGNORECASE)
_LOST = re.compile(r"[\f\r\n](?=(actorial|rac)\{|ight\b|ightarrow\b)")
"""A LaTeX command whose backslash and first letter were read as one control character, some later made a new line."""


def demonstration_rows(wheel: ZipFile) -> dict[str, list[dict[str, Any]]]:
    """Each domain's rows `question, options, cot, answer, subject`, in the order of the prompts, subjects sorted."""
    prompts: dict[str, str] = json.loads(wheel.read(FILE))
    domains: dict[str, list[dict[str, Any]]] = {}
    for subject, domain in sorted(subject_domains().items()):
        domains.setdefault(domain, []).extend(parse_prompt(prompts[subject], subject))
    return dict(sorted(domains.items()))


def parse_prompt(prompt: str, subject: str) -> list[dict[str, Any]]:
    """The blocks of a prompt; one without four options or without an answer among them is left out."""
    blocks = re.split(r"^Q: ", repair(prompt), flags=re.MULTILINE)[1:]
    return [row for block in blocks if (row := _parse_block(block, subject)) is not None]


def repair(text: str) -> str:
    """Give LaTeX commands back what an unescaped `\\f` or `\\r` took from them."""
    return _LOST.sub(lambda found: "\\f" if found[1] else "\\r", text)


def _parse_block(block: str, subject: str) -> dict[str, Any] | None:
    question, _, worked = block.partition("\nA: ")
    parts = _OPTIONS.fullmatch(question.strip())
    answer = _ANSWER.fullmatch(worked.strip())
    if parts is None or answer is None:
        return None
    asked, *options = (part.strip() for part in parts.groups())
    return {
        "question": asked,
        "options": options,
        "cot": worked.strip(),
        "answer": answer[1].upper(),
        "subject": subject,
    }
