"""What really shifted: a fine-tuned model against its base, on the questions the prediction was made on (METHOD 3).

The same query rows, without demonstrations, in float32; rows that training never sees. A folder comes out of it that
`sts overlap` takes as it is: `shift.parquet`, the target set's groups, and a manifest, which is written last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from sts_core.errors import UserError
from sts_core.folders import atomic_json, disk_trouble, ensure
from sts_core.measure.holds import Holds, HoldSums
from sts_core.measure.passes import Reader, measure_set
from sts_core.measure.plan import forward_tokens
from sts_core.measure.resolve import resolve
from sts_core.nets.decoder import Side, load_decoder
from sts_core.nets.describe import ModelInfo, SaeInfo, check_made_from, find_model
from sts_core.nets.saes import load_sae
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.progress import Progress, Watcher, silent
from sts_core.results.folder import KEPT_IN_GROUPS, TARGET, Result
from sts_core.results.sums import SetSums
from sts_core.spec import Spec
from sts_core.text.pairs import PairSet, build_pairs
from sts_core.text.prompts import Prompter

STAGE = "measuring what really shifted"
_COLUMNS = {
    "shift_sft": "absdiff", "shift_sft_sq": "sqdiff", "signed_sft": "diff", "mean_base": "base", "mean_sft": "icl",
    "rate_base": "active_base", "rate_sft": "active_icl",
}  # fmt: skip


class Tuned(NamedTuple):
    """What a fine-tune moved, and whether that can be read off this SAE."""

    folder: Path
    sums: SetSums
    holds: Holds


class Watch:
    """A prediction that fine-tuned models are held against, one after another: its data and its SAE are read once."""

    def __init__(self, prediction: Path, device: str = "auto") -> None:
        """From a finished result; UserError when its model, SAE or data are no longer what they were."""
        self.prediction = Result(prediction)
        spec = Spec.from_dict(self.prediction.manifest["spec"])
        self._resolved = resolve(replace(spec, run=replace(spec.run, device=device, dtype="float32")))
        self._check_unchanged()
        self._pairs = self._build_pairs()
        self._sae = load_sae(self._resolved.sae, self._device, "float32")

    @property
    def tokens(self) -> int:
        """Tokens that one measurement runs through the two models."""
        return 2 * forward_tokens(self._pairs, arms=("base",))

    def measure(self, tuned: str, out: Path, watch: Watcher = silent) -> Tuned:
        """Hold a saved model (a folder, an adapter's folder, a hub id) against the base; writes the folder `out`."""
        info = find_model(tuned)
        check_made_from(self._resolved.model, info)
        most_norm = self.prediction.manifest.get("outlier_norm")
        sums = HoldSums(self._sae, most_norm)
        done = 0

        def ran(tokens: int) -> None:
            nonlocal done
            done += tokens
            watch(Progress(STAGE, done, self.tokens))

        base, changed = both_sides(self._resolved.model, info, self._resolved.sae, self._device)
        measured = measure_set(base, self._sae, self._pairs, most_norm, True, ran, tuned=changed, also=sums.add)
        holds = sums.finish()
        try:
            self._write(out, info, measured.sums, holds)
        except OSError as error:
            raise disk_trouble(out, error) from error
        return Tuned(out, measured.sums, holds)

    @property
    def _device(self) -> str:
        return self._resolved.spec.run.device

    def _build_pairs(self) -> PairSet:
        """The very queries of the prediction."""
        resolved, spec = self._resolved, self._resolved.spec
        prompter = Prompter(load_tokenizer(resolved.model))
        context = resolved.model.context
        pairs = build_pairs(spec.target, prompter, spec.pool.tokens, context, spec.run.seed, 0)
        rows = self.prediction.manifest["sets"][TARGET]["query_rows"]
        if [pair.row for pair in pairs.pairs] != rows:
            raise UserError(
                f"The queries of {self.prediction.folder} cannot be drawn again", "Measure the prediction again."
            )
        return pairs

    def _check_unchanged(self) -> None:
        spec, then = self._resolved.spec, self.prediction.manifest["resolved"]
        if spec.run.preset == "reference":
            raise UserError(
                "A prediction of the reference preset pairs tokens that are not the same ones",
                "Measure it with the default preset.",
            )
        now = {
            "model": self._resolved.model.revision, "SAE": self._resolved.sae.revision,
            "target set": self._resolved.files[TARGET],
        }  # fmt: skip
        before = {
            "model": then["model"]["revision"], "SAE": then["sae"]["revision"], "target set": then["files"][TARGET],
        }  # fmt: skip
        for what, revision in now.items():
            if revision != before[what]:
                raise UserError(f"The {what} of the prediction has changed since", "Measure the prediction again.")

    def _write(self, out: Path, info: ModelInfo, sums: SetSums, holds: Holds) -> None:
        ensure(out)
        columns = {name: sums.mean(quantity).astype(np.float32) for name, quantity in _COLUMNS.items()}
        frame = pd.DataFrame({"feature": np.arange(len(columns["shift_sft"]), dtype=np.int32), **columns})
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), out / "shift.parquet", compression="zstd")
        kept: dict[str, np.ndarray] = {f"{TARGET}/tokens": sums.tokens, f"{TARGET}/items": sums.items}
        kept |= {f"{TARGET}/{name}": v.astype(np.float32) for name, v in sums.sums.items() if name in KEPT_IN_GROUPS}
        save_file(kept, out / "groups.safetensors")
        (out / "groups.safetensors").chmod(0o644)
        atomic_json(out / "manifest.json", self._manifest(info, sums, holds))

    def _manifest(self, info: ModelInfo, sums: SetSums, holds: Holds) -> dict[str, Any]:
        then, resolved = self.prediction.manifest, self._resolved
        told = {name: (None if math.isnan(value) else value) for name, value in holds._asdict().items()}
        return {
            "format": 1,
            "prediction": then["key"],
            "spec": resolved.spec.to_dict(),
            "resolved": {**resolved.public(), "tuned": info.public()},
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "holds": {**told, "trouble": holds.trouble},
            "tokens": {"pooled": int(sums.tokens.sum())},
            "sets": {TARGET: {"query_rows": then["sets"][TARGET]["query_rows"]}},
        }


def both_sides(model: ModelInfo, tuned: ModelInfo, sae: SaeInfo, device: str) -> tuple[Reader, Reader]:
    """The base model and the changed one, in float32; an adapter is toggled on the one model, not loaded twice."""
    changed = load_decoder(tuned, sae.layer, device, "float32", sae.site)
    if tuned.adapter is not None:
        return Side(changed, adapted=False), Side(changed, adapted=True)
    return load_decoder(model, sae.layer, device, "float32", sae.site), changed


def trajectory_point(prediction: Path, tuned: Tuned, ks: Sequence[int] | None = None) -> dict[str, float]:
    """A checkpoint's numbers, by the names of its event: overlap@k with its interval and nulls, and whether it holds.

    What was not measured is left out.
    """
    from sts_core.results.overlap import compare

    found: dict[str, float | None] = {}
    for row in compare(prediction, tuned.folder, ks).rows:
        found[f"overlap_{row.k}"] = row.value
        if row.interval:
            found[f"overlap_{row.k}_low"], found[f"overlap_{row.k}_high"] = row.interval
        found[f"null_{row.k}"] = row.nulls[row.highest].upper
        found |= {f"null_{name}_{row.k}": null.mean for name, null in row.nulls.items()}
        found[f"claimed_{row.k}"] = float(row.claimed)
    found |= {name: float(value) for name, value in tuned.holds._asdict().items() if name != "tokens"}
    found["trouble"] = float(bool(tuned.holds.trouble))
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}
