"""The reference notebook's arithmetic on two plain tensors, for whoever wants to check us against it (METHOD 8).

It pairs row t of the one tensor with row t of the other, whatever tokens they are, squares, and reads no more than the
first 10,000 rows. Rows are taken in chunks and summed in float64, so memory stays small beside the tensors themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import LongTensor, Tensor

from sts_core.errors import UserError

MOST_ROWS = 10_000
_CHUNK = 4_000_000
"""Values that are held at once in float64."""


def top_shifted(icl: Tensor, base: Tensor, n: int) -> LongTensor:
    """The n features with the largest Σ_t (icl_t − base_t)², largest first; equal sums: lower index first.

    `icl` and `base` are [tokens, features]; of unequal row counts the first rows of the longer one are used.
    """
    _same_features(icl, base)
    features = base.shape[1]
    if not 1 <= n <= features:
        raise UserError(f"n is {n}, but there are {features} features", f"Choose n between 1 and {features}.")
    order = torch.sort(_sum_of_squares(base, icl, None), descending=True, stable=True).indices
    return order[:n]  # type: ignore[return-value]


def sts(features: Tensor, dims: Tensor | np.ndarray | Sequence[int], icl: Tensor | None = None) -> float:
    """The mean over `dims` of the mean over rows of h², or of (icl − h)² where the other arm is given.

    `features` holds h, the base arm: [tokens, features], as does `icl`.
    """
    _two_dimensions(features)
    if icl is not None:
        _same_features(icl, features)
    chosen = torch.as_tensor(dims).reshape(-1)
    whole = not (chosen.is_floating_point() or chosen.is_complex() or chosen.dtype is torch.bool)
    if not len(chosen) or not whole or int(chosen.min()) < 0 or int(chosen.max()) >= features.shape[1]:
        raise UserError(
            "The list of dimensions is empty or names what is no feature",
            f"Give whole numbers from 0 to {features.shape[1] - 1}.",
        )
    rows = _rows(features, icl)
    return float(_sum_of_squares(features, icl, chosen.long()).mean() / rows)


def _sum_of_squares(base: Tensor, icl: Tensor | None, dims: Tensor | None) -> Tensor:
    """Σ over the rows used of base² or (icl − base)², in float64: [features], or [dims]."""
    width = base.shape[1] if dims is None else len(dims)
    total = torch.zeros(width, dtype=torch.float64)
    step = max(1, _CHUNK // width)
    rows = _rows(base, icl)
    with torch.no_grad():
        for start in range(0, rows, step):
            part = slice(start, min(start + step, rows))
            values = _wide(base, part, dims)
            if icl is not None:
                values = _wide(icl, part, dims).sub_(values)
            total += values.square_().sum(dim=0).cpu()
    if not torch.isfinite(total).all():
        raise UserError("The activations hold values that are no number", "Measure them again.")
    return total


def _wide(tensor: Tensor, part: slice, dims: Tensor | None) -> Tensor:
    """Some rows in float64, as a copy; on the CPU where the device knows no float64."""
    rows = tensor[part] if dims is None else tensor[part].index_select(1, dims.to(tensor.device))
    return (rows.cpu() if rows.device.type == "mps" else rows).to(torch.float64, copy=True)


def _rows(base: Tensor, icl: Tensor | None) -> int:
    rows = min(len(base), MOST_ROWS, len(base) if icl is None else len(icl))
    if rows == 0:
        raise UserError("There are no rows of activations", "Give tensors of [tokens, features].")
    return rows


def _two_dimensions(tensor: Tensor) -> None:
    if tensor.ndim != 2 or tensor.shape[1] == 0:
        raise UserError(f"The activations have the shape {list(tensor.shape)}", "Give tensors of [tokens, features].")


def _same_features(icl: Tensor, base: Tensor) -> None:
    _two_dimensions(icl)
    _two_dimensions(base)
    if icl.shape[1] != base.shape[1]:
        raise UserError(
            f"One tensor has {icl.shape[1]} features, the other {base.shape[1]}", "Give two arms of one SAE."
        )
