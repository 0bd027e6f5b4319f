"""A result that can steer a mixture; mixtures, and runs on them, as their workers leave them. Invented numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sts_core.fingerprint import sha256_file
from sts_core.folders import atomic_json, atomic_write, ensure, jobs
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import RESULT, create, now
from sts_core.results import Result
from sts_core.results.outcomes.rows import AFTER, BEFORE, RowValue, changes, read_rows, write_rows
from sts_core.results.outcomes.rows import FILE as ROWS_FILE
from sts_core.spec import Spec
from sts_core.text.sides import split
from sts_core.text.sources import read_rows as read_questions
from sts_core.train.mixture.manifest import FILE, MANIFEST, MixedRow, as_bytes
from tests import tiny
from tests.pages.made_runs import SPEC
from tests.pages.synthetic import make_result, make_spec

DOMAINS = ("physics", "law", "math", "history")
KEY = "abcdefabcdefabcdefab"
ROWS = 60


def make_source(
    cache: Path, domains: Sequence[str] = DOMAINS, rows: int = ROWS, hostile: str = "", key: str = KEY, **manifest: Any
) -> Result:
    """A result over files of its own, each with so many questions; `hostile` opens every question of the domains."""
    folder = ensure(cache / "sets")
    for i, name in enumerate(("target", *domains)):
        opening = hostile if name != "target" else ""
        tiny.write_rows(folder / f"{name}.jsonl", tiny.rows(rows, seed=i, opening=opening))
    spec = make_spec(
        target={"data": str(folder / "target.jsonl")},
        domains=[{"name": name, "data": str(folder / f"{name}.jsonl")} for name in domains],
    )
    sets = Spec.from_dict(spec).sets
    resolved = {
        "device": "cpu", "dtype": "float32", "sae": {"layer": 15}, "model": {"revision": "r1"},
        "files": {one.name: {"data": sha256_file(Path(one.data))} for one in sets},
    }  # fmt: skip
    told: dict[str, Any] = {"resolved": resolved, "sets": {one.name: {"query_rows": []} for one in sets}}
    return make_result(cache / "results", key, spec, **told | manifest)


def make_mixture(result: Result, quotas: Mapping[str, int], allocation: str = "sts", own: int = 20) -> str:
    """A finished job that mixed so many rows in; its id."""
    sets = {one.name: one for one in Spec.from_dict(result.manifest["spec"]).sets}
    rows: list[MixedRow] = []
    for name, count in {"target": own, **quotas}.items():
        found = read_questions(Path(sets[name].data), {}, ("question",)).rows
        side = split(found).kept if name == "target" else split(found).queried
        rows += [MixedRow(name, row.number, row.question, row.answer or "") for row in side[:count]]
    title = f"target.jsonl + {sum(quotas.values())} rows"
    order = {"kind": "mix", "title": title, "spec": {"result": result.manifest["key"]}, "options": {}}
    folder = create(order, {"state": "done", "started": now(), "ended": now(), "result": RESULT})
    append_event(folder, "created", kind="mix", title=title)
    data = as_bytes(rows)
    atomic_write(ensure(folder / RESULT) / FILE, data)
    numbers = {name: [row.row for row in rows if row.set == name] for name in ("target", *quotas)}
    atomic_json(folder / RESULT / MANIFEST, {
        "format": 1, "kind": "mixture",
        "spec": {"result": result.manifest["key"], "allocation": allocation, "answers": "source",
                 "target": {"answer": "answer", "evaluate_rows": 7}},
        "result": {"folder": str(result.folder), "key": result.manifest["key"]}, "model": {"name": "some-model"},
        "quotas": dict(quotas), "counts": {name: len(found) for name, found in numbers.items()},
        "domains": {name: {"score": 1.0, "available": 30, "tokens": 99} for name in quotas},
        "sources": {name: {"data": one.data, "columns": {}, "sha256": sha256_file(Path(one.data))}
                    for name, one in sets.items()},
        "rows": numbers, "answers": {"from": "source"},
        "cost": {"target_tokens": 900, "domain_tokens": 450, "domain_tokens_a_target_token": 0.5, "at_most": 1350},
        "file": {"name": FILE, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "rows": len(rows)},
        "warnings": ["law: rows that cannot be *used*: 2."], "finished": "2026-11-20T20:00:00+00:00",
    })  # fmt: skip
    append_event(folder, "done", result=RESULT)
    return folder.name


def make_trained(
    result: Result, data: str, harm: Mapping[str, float], title: str, keep_rows: bool = True, seed: int = 0, **spec: Any
) -> str:
    """A finished run that was evaluated on the result's sets, question by question; its id."""
    domains = [{"name": one["name"], "data": one["data"], "columns": {}} for one in result.manifest["spec"]["domains"]]
    own_spec = {
        **SPEC, "target": {"data": data, "columns": {}, "answer": "answer"},
        "evaluate": {"domains": domains, "rows": 40, "target_rows": 7}, **spec,
    }  # fmt: skip
    folder = create({"kind": "sft", "title": title, "spec": own_spec, "options": {}},
                    {"state": "done", "started": now(), "ended": now(), "result": RESULT})  # fmt: skip
    append_event(folder, "created", kind="sft", title=title)
    level = np.random.default_rng(1).normal(2.0, 0.6, (len(harm), 40))
    moved = np.random.default_rng(2).normal(0.0, 0.4, (len(harm), 40))
    own = np.random.default_rng([3, seed]).normal(0.0, 0.03, (len(harm), 40))
    for phase, share in ((BEFORE, 0.0), (AFTER, 1.0)) if harm else ():
        rows = [
            RowValue(name, row, "nll", float(level[i, row] + share * (moved[i, row] + own[i, row] + harm[name])))
            for i, name in enumerate(harm)
            for row in range(40)
        ]
        write_rows(ensure(folder / RESULT), phase, rows)
    for one in changes(read_rows(folder / RESULT)) if harm else []:
        append_event(folder, "evaluation", phase="change", domain=one.set, metric=one.metric, value=one.change,
                     se=one.se, n=one.n, source="own")  # fmt: skip
    if not keep_rows:
        (folder / RESULT / ROWS_FILE).unlink()
    append_event(folder, "done", result=RESULT)
    return folder.name


def manifest_path(job: str) -> str:
    """The manifest of a made mixture, as a fine-tune names it."""
    return str((jobs() / job / RESULT / MANIFEST).resolve())


def lines(job: str) -> list[dict[str, Any]]:
    """The rows that a mixture wrote."""
    text = (jobs() / job / RESULT / FILE).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
