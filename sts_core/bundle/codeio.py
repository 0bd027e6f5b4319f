"""Python solutions to described tasks: the CodeI/O set that reasoning-gym's wheel carries, as questions and answers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any
from zipfile import ZipFile

from sts_core.bundle.rows import first_of_each

FILE = "reasoning_gym/data/codeio.jsonl.gz"
MOST_CHARACTERS = 2_000
"""Of a solution; a longer one would make one row of a training as long as several of the other sets."""
ASKED = "Write a Python function `main_solution` that does this."


def solution_rows(wheel: ZipFile) -> list[dict[str, Any]]:
    """Rows `question, answer`, in the order of the set: the task with its inputs and outputs, and the code."""
    return first_of_each(_rows(gzip.decompress(wheel.read(FILE)).decode("utf-8")), "question")


def _rows(lines: str) -> Iterator[dict[str, Any]]:
    for line in lines.split("\n"):
        if not line.strip():
            continue
        item = json.loads(line)
        code = item["code_sample"].strip()
        if len(code) <= MOST_CHARACTERS:
            question = "\n\n".join([item["task_description"].strip(), item["input_output_spec"].strip(), ASKED])
            yield {"question": question, "answer": f"```python\n{code}\n```"}
