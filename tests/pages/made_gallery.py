"""A gallery as `sts examples` leaves one, in the same files, of sentences made of a few words: nothing was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel

from sts_core.results import Result
from sts_core.results.gallery import BANDS

SENTENCE = [
    "Tom", " has", " ", "3", " apples", " and", " buys", " ", "12", " more", ".", "\n\n", "How", " many",
    " apples", " does", " he", " have", " now", "?", " He", " has", " ", "3", " +", " ", "12", " =", " ", "15",
    " apples", ",", " so", " the", " answer", " is", " ", "15", ".", " Nina", " reads", " a", " book", " of",
    " ", "240", " pages", " in", " ", "8", " days", ";", " each", " day", " she", " reads", " ", "30",
    ".\n    ", "return", " total", "  ", "# ok",
]  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script>", "</style><style>*{display:none}</style>", "[click](javascript:alert(2))",
    "abc\u202edesrever\u2066", "\x00", "\x1b[31mred", "x" * 100_000, "Z" + "\u0301" * 200, "مرحبا", "`" * 5,
    "$x$ :red[y]",
]  # fmt: skip
BINS = 40
SEEN = 20_000
BEFORE, AFTER = 12, 8


def make_gallery(
    result: Result,
    features: Sequence[int] | None = None,
    arms: Sequence[str] = ("base", "icl"),
    sources: Sequence[str] = ("target", "math", "law"),
    hostile: bool = False,
    k: int = 6,
    folder: Path | None = None,
    **manifest: Any,
) -> Path:
    """Write `gallery/` into the result's folder; feature f fires most on the words at places that f decides."""
    folder = folder or result.folder / "gallery"
    folder.mkdir(parents=True)
    words = list(dict.fromkeys(["x", "?unk", *SENTENCE, *HOSTILE]))
    ids = {word: at for at, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="?unk"))
    tokenizer.decoder = Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))
    texts = [*SENTENCE, *HOSTILE, *SENTENCE] if hostile else SENTENCE * 2
    rows = [{"source": s, "row": row, "ids": [ids[text] for text in texts]} for s in sources for row in range(k)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    chosen = list(range(len(result.shift))) if features is None else sorted(features)
    _write_examples(folder, chosen, arms, sources, len(texts), k)
    _write_histograms(folder, chosen, arms, sources)
    told = {
        "format": 1, "key": result.manifest["key"], "arms": list(arms), "k": k, "bands": list(BANDS), "seconds": 1.0,
        "features": len(result.shift), "kept": None if features is None else chosen,
        "sources": [
            {"name": s, "data": s, "sha256": "0" * 64, "tokens": SEEN, "rows": k, "arms": list(arms)} for s in sources
        ],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(told | manifest))
    return folder


def _write_examples(
    folder: Path, features: Sequence[int], arms: Sequence[str], sources: Sequence[str], length: int, k: int
) -> None:
    found = []
    for feature in features:
        draw = np.random.default_rng(feature)
        for at, source in enumerate(sources):
            for band_at, band in enumerate(BANDS):
                for rank in range(1, k + 1):
                    token = int(draw.integers(BEFORE, length - AFTER))
                    height = float(10 / (1 + band_at) / (1 + 0.15 * rank + 0.2 * at))
                    shape = height * np.maximum(0, 1 - np.abs(np.arange(-BEFORE, AFTER)) / 3)
                    noise = draw.uniform(0.1, 1, len(shape))
                    noise[BEFORE] = 1
                    each = {arm: (shape * (noise if i == 0 else noise**2 * 0.8)).tolist() for i, arm in enumerate(arms)}
                    for arm in arms:
                        found.append(
                            {
                                "feature": feature, "source": source, "arm": arm, "band": band, "rank": rank,
                                "value": each[arm][BEFORE], "row": rank - 1, "token": token, "start": token - BEFORE,
                                "values": each[arm], "others": {a: v for a, v in each.items() if a != arm},
                            }
                        )  # fmt: skip
    schema = pa.schema(
        [
            ("feature", pa.int32()), ("source", pa.string()), ("arm", pa.string()), ("band", pa.string()),
            ("rank", pa.int32()), ("value", pa.float32()), ("row", pa.int64()), ("token", pa.int32()),
            ("start", pa.int32()), ("values", pa.list_(pa.float32())),
            ("others", pa.map_(pa.string(), pa.list_(pa.float32()))),
        ]
    )  # fmt: skip
    for row in found:
        row["others"] = list(row["others"].items())
    pq.write_table(pa.Table.from_pylist(found, schema=schema), folder / "examples.parquet", row_group_size=2000)


def _write_histograms(folder: Path, features: Sequence[int], arms: Sequence[str], sources: Sequence[str]) -> None:
    edges = 2.0 ** (-8 + np.arange(BINS) / 2)
    bell = np.exp(-0.5 * ((np.arange(BINS) - 20) / 3) ** 2)
    rows = [
        {
            "feature": f, "source": s, "arm": a, "seen": SEEN,
            "counts": np.round(bell * (40 + f % 7) * (1 + at) / (1 + arm_at)).astype(int).tolist(),
        }
        for f in features for at, s in enumerate(sources) for arm_at, a in enumerate(arms)
    ]  # fmt: skip
    table = pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False)
    told = {"edges": ",".join(f"{edge:.9g}" for edge in edges)}
    pq.write_table(table.replace_schema_metadata(told), folder / "histograms.parquet", row_group_size=500)
