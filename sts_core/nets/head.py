"""How a model turns a direction of its residual stream into words: the final norm's scale and the unembedding alone.

Nothing else of the weights is read, and these lie in the file until a piece of them is needed. What a norm divides by
depends on the residual it meets and is the same for all words, so it is left out; the rest of a norm is linear: its
scale, and, where it is a LayerNorm, taking the mean away. The norm's and the head's biases add the same to a word
whatever the direction, and a cap on logits keeps their order: both are left out too.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sts_core.errors import UserError
from sts_core.nets.describe import ModelInfo
from sts_core.nets.saes import first_line
from sts_core.nets.tokenizer import load_tokenizer

HOW = (
    "unit decoder direction × final norm's scale (its mean taken away first in a LayerNorm) × unembedding, "
    "minus the mean over all tokens"
)
"""What a logit is here, in words."""
_ROWS_AT_ONCE = 8_192
_OTHER_SENSES = ("vision", "visual", "audio")
"""Parts of a model that see or hear have norms of their own."""
_FORMER = {"lm_head": ("embed_out",)}
"""Names that a module has in files saved by older versions."""
_FAR = 1e4
"""A residual so long that what a norm adds to its variance is nothing beside it."""


class Head(NamedTuple):
    """The way from the residual stream to the words."""

    rows: Tensor
    """[words, width], as they lie in the file."""
    scale: Tensor
    """[width]: the final norm's."""
    centres: bool
    """Whether the final norm takes the mean away."""
    known: Tensor
    """[words]: which rows are words of the tokenizer; the others are only there to round the number up."""
    mean: Tensor
    """[width]: the mean of the known rows."""
    words: list[str]
    """What each row writes, as text."""

    def directions(self, written: Tensor) -> Tensor:
        """Decoder directions [n, width] as the unembedding meets them, each of length one before the norm."""
        unit = torch.nn.functional.normalize(written.float(), dim=1)
        return (unit - unit.mean(dim=1, keepdim=True) if self.centres else unit) * self.scale.to(unit.device)

    def logits(self, directions: Tensor, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Centred logits of so many rows at a time: the numbers of the words, and [n, words]."""
        device = directions.device
        middle = directions @ self.mean.to(device)[:, None]
        for start in range(0, len(self.rows), step):
            rows, known = self.rows[start : start + step].to(device), self.known[start : start + step].to(device)
            numbers = torch.nonzero(known).flatten()
            if len(numbers) < len(rows):
                rows = rows[numbers]
            yield numbers + start, directions @ rows.float().T - middle


class _Names(NamedTuple):
    """Where the weights lie, as the model's own code calls them, and the norm they belong to."""

    norm: str
    head: str
    module: nn.Module


def load_head(info: ModelInfo) -> Head:
    """The head of a saved model. An adapter's is taken to be that of the model below it."""
    names = _names(info)
    width = info.width
    weight = _tensor(info, names.norm) if hasattr(names.module, "weight") else None
    rows = _tensor(info, names.head)
    if rows.ndim != 2 or rows.shape[1] != width or (weight is not None and weight.shape != (width,)):
        raise UserError(f"The unembedding of {info.name} is not as wide as its residuals", "Use another model.")
    scale, centres = _linear_part(names.module, weight, width)
    texts = words(load_tokenizer(info), len(rows))
    known = torch.tensor([text is not None for text in texts])
    mean = _mean(rows, known)
    if not (bool(torch.isfinite(mean).all()) and bool(torch.isfinite(scale).all())):
        raise UserError(f"The unembedding of {info.name} holds values that are not finite", "Save the model again.")
    return Head(rows, scale, centres, known, mean, [text or "" for text in texts])


def words(tokenizer: Any, count: int) -> list[str | None]:
    """What each of so many tokens writes, its leading blank included; None where the tokenizer has no such token.

    Bytes that are no character by themselves are written as `\\xe2`.
    """
    raw = tokenizer.convert_ids_to_tokens(list(range(min(count, len(tokenizer)))))
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    in_bytes = "ByteLevel" in repr(getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None))
    show = _of_bytes if in_bytes else _of_pieces
    texts = [None if token is None else token if token in added else show(token) for token in raw]
    return texts + [None] * (count - len(texts))


def _of_bytes(token: str) -> str:
    """A byte-level token: every letter of it stands for a byte."""
    if not all(letter in _BYTES for letter in token):
        return token
    return bytes(_BYTES[letter] for letter in token).decode("utf-8", errors="backslashreplace")


def _of_pieces(token: str) -> str:
    """A sentence piece: a low line stands for a blank; a single byte has a spelling of its own."""
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", token)
    if byte:
        return bytes([int(byte[1], 16)]).decode("utf-8", errors="backslashreplace")
    return token.replace("\u2581", " ")


def _byte_letters() -> dict[str, int]:
    """The letters that byte-level tokenizers write bytes with: printable ones stand for themselves."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_letters()


def _names(info: ModelInfo) -> _Names:
    """Ask the model's own code, without its weights, for its last norm and for what its logits are made with."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(info.folder))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"transformers does not know the head of {info.name}: {first_line(error)}", "Use another model."
        ) from error
    modules = {name: module for name, module in model.named_modules() if _outside_blocks(name)}
    norms = [name for name, module in modules.items() if "Norm" in type(module).__name__]
    out, into = model.get_output_embeddings(), model.get_input_embeddings()
    if not norms or out is None or into is None:
        raise UserError(f"The head of a {info.family} model is not known here", "Use another model.")
    tied = out.weight is into.weight
    head = next(name for name, module in modules.items() if module is (into if tied else out))
    return _Names(norms[-1], head, modules[norms[-1]])


def _outside_blocks(name: str) -> bool:
    parts = name.split(".")
    return not any(part.isdecimal() or part.startswith(_OTHER_SENSES) for part in parts)


def _tensor(info: ModelInfo, module: str) -> Tensor:
    """The weight of a module, under its own name or another prefix; still on the disk."""
    wanted = [f"{last}.weight" for last in (module.rsplit(".", 1)[-1], *_FORMER.get(module, ()))]
    found: dict[str, Path] = {}
    try:
        for path in sorted(info.folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118
                    if _outside_blocks(key) and any(key == w or key.endswith(f".{w}") for w in wanted):
                        found[key] = path
        if not found:
            raise UserError(
                f"The weights of {info.name} hold no {wanted[0]}", "Save the model again, unquantised, as safetensors."
            )
        key = f"{module}.weight" if f"{module}.weight" in found else min(found, key=len)
        with safe_open(found[key], framework="pt") as file:
            tensor: Tensor = file.get_tensor(key)
    except (OSError, SafetensorError) as error:
        raise UserError(f"The weights of {info.name} cannot be read", "Copy or save the model again.") from error
    return tensor


def _linear_part(norm: nn.Module, weight: Tensor | None, width: int) -> tuple[Tensor, bool]:
    """A norm's scale, and whether it takes the mean away, found by letting it norm: families write them differently."""
    norm = copy.deepcopy(norm).to_empty(device="cpu").float()
    with torch.no_grad():
        for value in (*norm.parameters(), *norm.buffers()):
            value.zero_()
        if weight is not None:
            norm.weight.copy_(weight)  # type: ignore[operator]
        there = torch.ones(width)
        there[1::2] = -1.0
        if width % 2:  # still a mean of zero, and nowhere zero
            there[-3:] = torch.tensor([1.0, 1.0, -2.0])
        there *= _FAR
        scale = (norm(there) - norm(-there)) / 2 * there.square().mean().sqrt() / there
        alike = torch.full((width,), _FAR)
        moved = (norm(alike) - norm(-alike)).abs().max()
    return scale, bool(moved < 1e-3 * scale.abs().max())


def _mean(rows: Tensor, known: Tensor) -> Tensor:
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        total += rows[part][known[part]].sum(dim=0, dtype=torch.float64)
    return (total / max(1, int(known.sum()))).float()
