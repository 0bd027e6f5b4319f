"""A mixture from end to end: rows drawn, the model asked where its answers are wanted, file and manifest written.

Beside what `manifest` tells of, the folder holds `started_with.json`, what the mixture is made of: the same call goes
on with what a kill left, another order in the same folder is refused. A finished mixture never changes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.folders import alone_in, atomic_json, atomic_write, disk_trouble, ensure, goes_on
from sts_core.progress import Progress, Watcher, silent
from sts_core.train.mixture.answering import Answerer, Answers, Question
from sts_core.train.mixture.manifest import (
    ANSWERS_FILE,
    FILE,
    FORMAT,
    KIND,
    MANIFEST,
    TARGET,
    as_bytes,
    read_mixture,
    said_line,
)
from sts_core.train.mixture.plan import Draft, cost, domain, draft, draw_domains, plain_allocation, warnings
from sts_core.train.mixture.spec import MODEL, MixtureSpec

Tell = Callable[[str, dict[str, Any]], None]
"""Hears an event's name and its details."""
_UNFINISHED = "answers.part.jsonl"
_LIBRARIES = ("torch", "transformers", "numpy")


def run_mixture(
    spec: MixtureSpec, out: Path, watch: Watcher = silent, tell: Tell = lambda _event, _details: None
) -> Path:
    """Make it in `out`, or go on with it; returns `out`. `tell("mixture", …)` comes when it is whole."""
    out = out.absolute()
    began = time.monotonic()
    watch(Progress("drawing rows", 0, 0))
    found = draft(spec)
    ensure(out)
    try:
        with alone_in(out):
            if _same_order(found, out):
                return out
            said: Answers = {}
            if spec.answers == MODEL:
                found, said = _answered(found, out, watch)
            _write(found, said, out, began, tell)
    except OSError as error:
        raise disk_trouble(out, error) from error
    return out


def _same_order(found: Draft, out: Path) -> bool:
    """Remember what the mixture is made of; whether it is finished. Another one in the same folder is refused."""
    now = {
        "spec": found.sources.spec.to_dict(), "result": found.sources.key, "model": found.drawing.info.revision,
        "sources": {name: pool.sha256 for name, pool in found.sources.pools.items()},
    }  # fmt: skip
    other = UserError(
        f"{out} holds a mixture of another order, or of files that have changed since", "Name another folder."
    )
    if not goes_on(out, now, other) or not (out / MANIFEST).is_file():
        return False
    read_mixture(out)  # refused when its file was changed
    return True


def _answered(found: Draft, out: Path, watch: Watcher) -> tuple[Draft, Answers]:
    """Ask until every quota is filled: a row whose answer cannot be trained on gives its place to the next."""
    said: Answers = {}
    how = found.sources.spec
    answerer = Answerer(found.drawing.info, found.drawing.tokenizer, how.generate, how.seed, out / _UNFINISHED)
    while asked := [
        Question(name, row.number, row.question) for name, drawn in found.sets.items() for row in drawn.unanswered
    ]:
        done = len(said)

        def ran(rows: int, total: int = done + len(asked)) -> None:
            nonlocal done
            done += rows
            watch(Progress("asking the model", done, total, "answers"))

        watch(Progress("asking the model", done, done + len(asked), "answers"))
        said |= answerer.answer(asked, ran)
        sets = draw_domains(found.drawing, found.shares, said)
        found = found._replace(sets={TARGET: found.sets[TARGET], **sets})
    return found, said


def _write(found: Draft, said: Answers, out: Path, began: float, tell: Tell) -> None:
    """The file, the answers, then the manifest."""
    spec = found.sources.spec
    rows = [one.row for drawn in found.sets.values() for one in drawn.taken]
    if not rows:
        raise UserError("The mixture would be empty", "Raise budget, or take rows of the target set.")
    data = as_bytes(rows)
    atomic_write(out / FILE, data)
    answers: dict[str, Any] = {"from": spec.answers}
    if spec.answers == MODEL:
        used = [(key, said[key]) for row in rows if (key := (row.set, row.row)) in said]
        kept = "".join(said_line(*key, one) for key, one in used).encode()
        atomic_write(out / ANSWERS_FILE, kept)
        answers |= {
            "file": {"name": ANSWERS_FILE, "sha256": hashlib.sha256(kept).hexdigest()}, "asked": len(said),
            "cut": sum(one.cut for _, one in used), "tokens": sum(one.tokens for _, one in used),
        }  # fmt: skip
    file = {"name": FILE, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "rows": len(rows)}
    told = warnings(found, said)
    atomic_json(out / MANIFEST, {
        "format": FORMAT, "kind": KIND, "spec": spec.to_dict(), "seed": spec.seed,
        "result": {"folder": str(found.sources.result.folder), "key": found.sources.key},
        "model": found.drawing.info.public(), "allocation": plain_allocation(spec), "quotas": found.shares.quotas,
        "domains": {name: domain(found, name) for name in found.shares.quotas},
        "sources": {name: pool.public() for name, pool in found.sources.pools.items()},
        "rows": {name: [one.row.row for one in drawn.taken] for name, drawn in found.sets.items()},
        "counts": {name: len(drawn.taken) for name, drawn in found.sets.items()},
        "answers": answers, "cost": cost(found.sets, spec), "file": file, "warnings": told,
        "seconds": round(time.monotonic() - began, 1), "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in _LIBRARIES},
    })  # fmt: skip
    (out / _UNFINISHED).unlink(missing_ok=True)
    tell(
        "mixture", {**file, "counts": {name: len(drawn.taken) for name, drawn in found.sets.items()}, "warnings": told}
    )
