"""A tiny model, two SAEs on two of its layers, a target set and six domains, for what is swept over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tests import tiny

DOMAINS = ("physics", "law", "history", "biology", "health", "math")
OPENINGS = ("seven train ", "the paper ", "winter north ", "green apple ", "light river ", "twelve silver ")
N, BANDS = 8, [[1, 8], [9, 24]]


class SweepWorld(NamedTuple):
    """Where it lies."""

    folder: Path

    def base(self, **changes: Any) -> dict[str, Any]:
        """The spec of one measurement."""
        return {
            "model": str(self.folder / "tiny-llama"),
            "sae": str(self.folder / "low"),
            "target": {"data": str(self.folder / "target.jsonl"), "demos": 2, "tokens": 120},
            "domains": [
                {"name": name, "data": str(self.folder / f"{name}.jsonl"), "demos": 1, "tokens": 90} for name in DOMAINS
            ],
            "run": {"seed": 0, "device": "cpu", "dtype": "float32"},
            **changes,
        }

    def spec(self, **changes: Any) -> dict[str, Any]:
        """Two SAEs, two seeds, two bands, held against a file; None takes a key out."""
        whole = {
            "base": self.base(), "saes": [str(self.folder / "low"), str(self.folder / "high")], "seeds": [0, 1],
            "n": [N], "rank_bands": BANDS, "actual": str(self.folder / "changes.csv"), **changes,
        }  # fmt: skip
        return {key: value for key, value in whole.items() if value is not None}

    def toml(self, **changes: Any) -> Path:
        """The same as a file, the base in a file beside it."""
        (self.folder / "base.toml").write_text(tiny.as_toml(self.base()))
        path = self.folder / "sweep.toml"
        path.write_text(tiny.as_toml(self.spec(**{"base": "base.toml", **changes})))
        return path

    def tell_changes(self, changes: dict[str, float]) -> Path:
        """What happened, as a person would write it down: the change of accuracy, below 0 for harm."""
        path = self.folder / "changes.csv"
        path.write_text("domain,change\n" + "".join(f"{name},{value!r}\n" for name, value in changes.items()))
        return path


def make_sweep_world(folder: Path) -> SweepWorld:
    """Write it; what happened is an arbitrary order of the domains."""
    tiny.write_rows(folder / "target.jsonl", tiny.rows(40, seed=1))
    for number, (name, opening) in enumerate(zip(DOMAINS, OPENINGS, strict=True)):
        tiny.write_rows(folder / f"{name}.jsonl", tiny.rows(25, seed=10 + number, opening=opening))
    tiny.save_model(folder / "tiny-llama", "llama")
    tiny.save_sae(folder / "low", layer=0, model_name="tiny-llama")
    tiny.save_sae(folder / "high", layer=2, seed=5, model_name="tiny-llama")
    world = SweepWorld(folder)
    world.tell_changes(dict(zip(DOMAINS, (-3.0, 1.5, -0.5, -7.0, 2.0, 0.25), strict=True)))
    return world
