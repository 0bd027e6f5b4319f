"""What a spec comes to on this machine: which files, which revisions, which device, and the key of its result.

Light: no torch, no tokenizer, so that a result that is already there is found in well under two seconds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from sts_core.fingerprint import sha256_file
from sts_core.nets.describe import ModelInfo, SaeInfo, find_model, find_sae, fit
from sts_core.nets.device import choose_device, choose_dtype
from sts_core.spec import DataSpec, PoolSpec, Spec
from sts_core.text.reference import MOST_ROWS
from sts_core.text.sources import demonstration_source, locate

MEASURING_VERSION = 2
"""Part of every key: raised when the same spec would give other numbers."""


@dataclass(frozen=True)
class Resolved:
    """A spec with everything `auto` decided and everything it names found."""

    spec: Spec
    """With layer, device and dtype filled in."""
    model: ModelInfo
    sae: SaeInfo
    files: dict[str, dict[str, str]]
    """Set -> SHA-256 of its `data` and, where it has one, `demo_data` file."""
    warnings: tuple[str, ...]

    @property
    def layer(self) -> int:
        """The block whose output the SAE reads."""
        return self.sae.layer

    @property
    def sae_dtype(self) -> str:
        """The SAE computes in the model's dtype on an accelerator; on a CPU, where it costs little, in float32."""
        return "float32" if self.spec.run.device == "cpu" else self.spec.run.dtype

    def public(self) -> dict[str, Any]:
        """What the key is made of, as the manifest keeps it."""
        return {
            "model": self.model.public(), "sae": self.sae.public(), "device": self.spec.run.device,
            "dtype": self.spec.run.dtype, "sae_dtype": self.sae_dtype, "files": self.files,
            "measuring_version": MEASURING_VERSION,
        }  # fmt: skip

    @property
    def key(self) -> str:
        """The name under which the result is kept: a digest of the resolved spec, the data and the revisions."""
        content = {
            "spec": self.spec.to_dict(), "files": self.files, "measuring": MEASURING_VERSION,
            "model": self.model.revision, "sae": self.sae.revision,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def as_reference(spec: Spec) -> Spec:
    """The choices that the paper's code makes, in place of the spec's own (METHOD 8)."""

    def plain(data: DataSpec) -> DataSpec:
        return replace(data, demos=2, tokens=MOST_ROWS, demo_data=None, demo_columns={})

    domains = tuple(plain(domain) for domain in spec.domains)
    return replace(spec, target=plain(spec.target), domains=domains, pool=PoolSpec("query", "off"))


def resolve(spec: Spec) -> Resolved:
    """Find everything a spec names; refuse what does not fit."""
    if spec.run.preset == "reference":
        spec = as_reference(spec)
    model, sae = find_model(spec.model), find_sae(spec.sae)
    warnings = fit(model, sae, spec.layer)
    device = choose_device(spec.run.device)
    run = replace(spec.run, device=device, dtype=choose_dtype(spec.run.dtype, device))
    files = {}
    for part in spec.sets:
        files[part.name] = {"data": sha256_file(locate(part.data))}
        own = demonstration_source(part)
        if own:
            files[part.name]["demo_data"] = sha256_file(locate(own[0], demos=True))
    return Resolved(replace(spec, layer=sae.layer, run=run), model, sae, files, tuple(warnings))
