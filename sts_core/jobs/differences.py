"""What differs between the settings of several jobs: only that, under the names a spec has for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ABSENT = "—"


class Difference(NamedTuple):
    """A setting that is not the same for all."""

    name: str
    """With the tables it stands in: `lora.rank`."""
    values: tuple[str, ...]
    """One a job, as it is written in a spec; a dash where a job does not have it."""


def differences(specs: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """The settings that differ, in the order the specs have them."""
    flat = [_flat(_applied(spec)) for spec in specs]
    names = list(dict.fromkeys(name for one in flat for name in one))
    rows = [Difference(name, tuple(one.get(name, ABSENT) for one in flat)) for name in names]
    return [row for row in rows if len(set(row.values)) > 1]


def told_apart(specs: Sequence[Mapping[str, Any]], most: int = 3, called: Sequence[str] = ()) -> list[str]:
    """What tells each from the others, `learning_rate 0.0001, seed 1`; what differs is found once for all.

    First what tells it from those that are `called` as it is.
    """
    rows = differences(specs)
    more = f", {len(rows) - most} more" if len(rows) > most else ""
    namesakes: dict[str, list[int]] = {}
    for i in range(len(specs)):
        namesakes.setdefault(called[i] if called else "", []).append(i)
    found = [""] * len(specs)
    for alike in namesakes.values():
        first = sorted(rows, key=lambda row: len({row.values[j] for j in alike}) < 2)[:most]
        for i in alike:
            found[i] = ", ".join(f"{row.name.rsplit('.', 1)[-1]} {row.values[i]}" for row in first) + more
    return found


def _applied(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """A spec without what it has no use for: a full fine-tune has no adapter."""
    return {name: part for name, part in spec.items() if name != "lora" or spec.get("method") != "full"}


def _flat(value: Mapping[str, Any], path: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, part in value.items():
        if isinstance(part, Mapping):
            found |= _flat(part, f"{path}{name}.")
        else:
            found[path + name] = part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)
    return found
