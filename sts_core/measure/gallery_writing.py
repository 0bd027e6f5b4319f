"""The last step of a gallery: its tables, the tokenizer and rows that are not in the bundle, and the manifest.

Before a row is kept by reference it is put together again as a reader would: only if its tokens' texts come out is it
left where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sts_core.fingerprint import sha256_file
from sts_core.folders import atomic_json, bundle
from sts_core.measure.examples import BANDS, bin_edges
from sts_core.measure.gallery_sources import Source
from sts_core.results.gallery import FORMAT, MANIFEST
from sts_core.results.gallery_files import Part, Row, write_rows, write_tables
from sts_core.results.gallery_rows import TOKENIZER, RowTexts, token_texts
from sts_core.text.prompts import Prompter


def write_gallery(
    folder: Path,
    sources: Sequence[Source],
    parts: Sequence[Part],
    told: Mapping[str, Any],
    prompter: Prompter,
    tokenizer: Any,
) -> None:
    """Fill an empty folder; `told` is what the manifest says beside what is found out here."""
    lines = write_tables(folder, parts, bin_edges())
    manifest = {
        "format": FORMAT, **told, "bands": list(BANDS), "examples": lines,
        "sources": [_source(source, part) for source, part in zip(sources, parts, strict=True)],
        "prompt": _prompt_form(prompter, tokenizer),
        "seconds": round(sum(float(part.seconds[0]) for part in parts), 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "warnings": [warning for source in sources for warning in source.pairs.warnings if source.alone],
    }  # fmt: skip
    if _keep_rows(folder, manifest, sources, parts, tokenizer.backend_tokenizer):
        manifest["tokenizer_sha256"] = _keep_tokenizer(folder, tokenizer)
    atomic_json(folder / MANIFEST, manifest)


def _source(source: Source, part: Part) -> dict[str, Any]:
    return {
        "name": source.name, "data": source.data, "sha256": source.sha256, "file": source.file,
        "tokens": source.pairs.tokens, "rows": len(source.pairs.pairs), "arms": part.arms,
        "seen": {arm: int(seen) for arm, seen in zip(part.arms, part.seen, strict=True)},
    }  # fmt: skip


def _prompt_form(prompter: Prompter, tokenizer: Any) -> dict[str, Any]:
    """How a question becomes a prompt, so that rows can be put together again without the model's library."""
    bare = prompter.prompt(["x"], 1)
    before, after = prompter.skeleton(1).pieces
    if len(bare.ids) > len(tokenizer(bare.text, add_special_tokens=False)["input_ids"]):
        before = prompter.text(bare.ids[:1]) + before  # a beginning that no template writes
    return {"pieces": [before, after], "trims": prompter.prompt(["  x  "], 1).text == bare.text}


def _keep_tokenizer(folder: Path, tokenizer: Any) -> str:
    """For rows kept as ids. The embedded model's lies in the bundle; another is copied. Returns its digest."""
    copy, shipped = folder / TOKENIZER, bundle() / "model" / TOKENIZER
    tokenizer.backend_tokenizer.save(str(copy))
    digest = sha256_file(copy)
    if shipped.is_file() and sha256_file(shipped) == digest:
        copy.unlink()
    return digest


def _keep_rows(
    folder: Path, manifest: Mapping[str, Any], sources: Sequence[Source], parts: Sequence[Part], tokenizer: Any
) -> bool:
    """Keep what is needed to show the rows again; returns whether any is kept as token ids."""
    texts = RowTexts(folder, manifest)
    kept = []
    for source, part in zip(sources, parts, strict=True):
        shown = set(np.unique(part.chosen.row).tolist())
        for pair in source.pairs.pairs:
            if pair.row not in shown:
                continue
            ids = list(pair.base.ids)
            cut = token_texts(tokenizer, ids) if source.file else []
            again = bool(cut) and "".join(cut) == texts.string(source.name, pair.row)
            kept.append(Row(source.name, pair.row, None, [len(text) for text in cut]) if again
                        else Row(source.name, pair.row, ids, None))  # fmt: skip
    write_rows(folder, kept)
    return any(row.ids is not None for row in kept)
