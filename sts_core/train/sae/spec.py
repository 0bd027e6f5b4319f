"""What SAE to train, or several at once, on what text: one frozen, validated choice, read from and written as TOML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sts_core.errors import UserError, nearest
from sts_core.spec_checks import device, known_keys, positive, whole
from sts_core.spec_file import read_table, to_toml

ARCHITECTURES = ("batchtopk", "topk")
"""SAELens' training architectures that need no sparsity coefficient to be tuned."""
DTYPES = ("auto", "float32", "bfloat16")
SAVE_DTYPES = ("float32", "float16", "bfloat16")
_COLUMNS = ("text", "question", "answer")
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class CorpusSpec:
    """One source of text and its part in the mix."""

    data: str
    """gsm-symbolic, mmlu, stdlib, a file beside the spec, or a hub id (org/name:split)."""
    share: float
    """Its part of the tokens; the shares are scaled to sum to one."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """text -> a file's column of plain text; or question and answer -> its columns, which makes it a chat."""
    rows_per_chat: int = 1
    """How many question–answer rows follow one another in one chat."""

    def __post_init__(self) -> None:
        where = f"corpus {self.data!r}"
        if not isinstance(self.data, str) or not self.data.strip():
            raise UserError("A [[corpus]] table does not say where its text is", 'Add data = "stdlib", or a file.')
        positive(f"{where}: share", self.share)
        good = isinstance(self.columns, Mapping) and all(isinstance(name, str) for name in self.columns.values())
        if not good or ("answer" in self.columns and "question" not in self.columns):
            raise UserError(
                f"{where}: columns must name a text, or a question and its answer", 'As in { text = "body" }.'
            )
        known_keys(self.columns, _COLUMNS, f"{where}: columns")
        whole(f"{where}: rows_per_chat", self.rows_per_chat, 1)


@dataclass(frozen=True)
class SaeTable:
    """One of several SAEs: its name, and where it differs from the spec's top level (None: it does not)."""

    name: str
    """The folder it is saved in."""
    layer: int | None = None
    width: int | None = None
    k: int | None = None
    architecture: str | None = None
    tokens: int | None = None
    lr: float | None = None
    lr_end: float | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The keys it sets itself."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        return {name: value for name, value in own.items() if value is not None}


@dataclass(frozen=True)
class SaeSpec:
    """The whole choice. The defaults are for a small model on a CPU."""

    model: str
    layer: int
    corpus: tuple[CorpusSpec, ...]
    width: int = 4096
    """Number of features."""
    k: int = 32
    """Features active per token, on average (batchtopk) or exactly (topk)."""
    architecture: str = "batchtopk"
    hook: str = ""
    """Where the SAE reads; the residual stream after the block `layer`, and nothing else yet."""
    tokens: int = 2_000_000
    context: int = 512
    """Longer documents are cut into pieces of this many tokens, each with a position 0 of its own."""
    batch: int = 1024
    """Tokens per training step."""
    lr: float = 4e-3
    lr_end: float = 1e-4
    """Where the cosine ends."""
    warm_up: int = 50
    """Steps over which the learning rate rises from nothing."""
    dead_after: int = 100
    """Steps without firing after which a feature is helped by the auxiliary loss."""
    outliers: float = 8.0
    """Tokens whose residual norm exceeds this many medians are left out: they are attention sinks."""
    report_tokens: int = 120_000
    """Held-out tokens on which quality is measured, spread evenly over the corpora."""
    ce_tokens: int = 40_000
    """How many of them also measure what the language model loses."""
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    """Of the language model, and of the products while the SAE trains; its weights train in float32."""
    save_dtype: str = "float16"
    """Of the weights in the file; they load as float32."""
    sae: tuple[SaeTable, ...] = ()
    """Several SAEs from one pass over the text; empty for the one that the spec itself describes."""
    base: Path = field(default=Path(), compare=False, repr=False)
    """The folder relative data files are taken from; never written anywhere."""

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise UserError("model must be named", 'For example model = "smollm2-135m-instruct".')
        for name, least in _WHOLE.items():
            whole(name, getattr(self, name), least)
        for name in ("lr", "lr_end", "outliers"):
            positive(name, getattr(self, name))
        for name, choices in (("architecture", ARCHITECTURES), ("dtype", DTYPES), ("save_dtype", SAVE_DTYPES)):
            if getattr(self, name) not in choices:
                close = nearest(str(getattr(self, name)), choices)
                raise UserError(f"{name} is {getattr(self, name)!r}{close}", f"Choose one of: {', '.join(choices)}.")
        device("device", self.device)
        self._check_together()

    def _check_together(self) -> None:
        if self.k > self.width:
            raise UserError(f"k is {self.k}, but the SAE has only {self.width} features", "Choose k well below width.")
        if self.lr_end > self.lr:
            raise UserError(f"lr_end {self.lr_end} is above lr {self.lr}", "The rate falls from lr to lr_end.")
        if self.tokens < self.batch * (self.warm_up + 1):
            raise UserError(
                f"{self.tokens} tokens are fewer than the {self.warm_up} warm-up steps of {self.batch} take",
                "Ask for more tokens, a smaller batch or a shorter warm_up.",
            )
        if not self.corpus:
            raise UserError("No text to train on", 'Add a [[corpus]] table, as with data = "stdlib" and share = 1.')
        twice = {entry.data for entry in self.corpus if [c.data for c in self.corpus].count(entry.data) > 1}
        if twice:
            raise UserError(f"The corpus {min(twice)!r} is named twice", "Name it once, with one share.")
        if not self.hook:
            object.__setattr__(self, "hook", self.hook_name)
        if self.hook != self.hook_name:
            raise UserError(
                f"hook {self.hook!r} is not the residual stream after layer {self.layer}",
                f'Leave hook out, or write hook = "{self.hook_name}".',
            )
        self._check_several()

    def _check_several(self) -> None:
        seen: set[str] = set()
        for table in self.sae:
            if not isinstance(table.name, str) or not _FOLDER_NAME.fullmatch(table.name):
                raise UserError(
                    f"A [[sae]] table has the name {table.name!r}",
                    "It becomes a folder: use up to 64 letters, digits, dots, dashes and underscores.",
                )
            if table.name.casefold() in seen:
                raise UserError(f"Two SAEs have the name {table.name!r}", "Give each [[sae]] table a name of its own.")
            seen.add(table.name.casefold())
        self.each()

    def each(self) -> dict[str, SaeSpec]:
        """For every SAE the spec that trains it alone; the name is empty where the spec describes but one."""
        if not self.sae:
            return {"": self}
        found = {}
        for table in self.sae:
            hook = "" if "layer" in table.changes else self.hook
            try:
                found[table.name] = replace(self, **{"hook": hook, **table.changes, "sae": ()})
            except UserError as error:
                raise UserError(f"[[sae]] {table.name}: {error.message}", error.hint) from None
        return found

    @property
    def hook_name(self) -> str:
        """The place in TransformerLens' words."""
        return f"blocks.{self.layer}.hook_resid_post"

    @classmethod
    def from_toml(cls, path: Path) -> SaeSpec:
        """Read and check a file; relative data files lie beside it."""
        return cls.from_dict(read_table(path), base=path.resolve().parent)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], base: Path) -> SaeSpec:
        """Check every key and value."""
        known_keys(values, [f.name for f in fields(cls) if f.name != "base"], "the spec")
        corpora = _tables(values, "corpus", CorpusSpec, 'Each with data = "…" and share = …')
        saes = _tables(values, "sae", SaeTable, 'Each with name = "…" and what it has of its own, as in width = 1024')
        if "layer" not in values and saes and all("layer" in table for table in saes):
            values = {**values, "layer": saes[0]["layer"]}
        for need in ("model", "layer"):
            if need not in values:
                raise UserError(f"The spec does not say which {need}", f"Add a line {need} = …")
        corpus = tuple(CorpusSpec(**{"data": "", "share": 1.0, **table}) for table in corpora)
        sae = tuple(SaeTable(**{"name": "", **table}) for table in saes)
        return cls(**{**values, "corpus": corpus, "sae": sae, "base": base})

    def to_toml(self) -> str:
        """The spec as a file that `from_toml` reads back to an equal spec."""
        plain: dict[str, Any] = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("corpus", "sae", "base")
        }
        corpora = [_without_defaults(entry) for entry in self.corpus]
        saes = [{"name": table.name, **table.changes} for table in self.sae]
        return to_toml({**plain, "corpus": corpora, **({"sae": saes} if saes else {})})


def _without_defaults(entry: CorpusSpec) -> dict[str, Any]:
    more = {"columns": dict(entry.columns)} if entry.columns else {}
    chats = {"rows_per_chat": entry.rows_per_chat} if entry.rows_per_chat != 1 else {}
    return {"data": entry.data, "share": entry.share, **more, **chats}


_WHOLE = {
    "layer": 0, "width": 1, "k": 1, "tokens": 1, "context": 8, "batch": 1, "warm_up": 0, "dead_after": 1,
    "report_tokens": 1, "ce_tokens": 1, "seed": 0,
}  # fmt: skip


def _tables(values: Mapping[str, Any], key: str, kind: type, hint: str) -> list[Mapping[str, Any]]:
    """The tables under a key, each with keys that are known."""
    tables = values.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise UserError(f"{key} must be [[{key}]] tables", hint)
    for table in tables:
        known_keys(table, [f.name for f in fields(kind)], f"a [[{key}]] table")
    return tables
