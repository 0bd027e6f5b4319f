"""Narrow number formats on a processor that does not compute in them: products in float32, then rounded.

Left to the library, a matrix product in bfloat16 takes such a processor 6 to 30 times as long as one in float32, and a
laptop of a few years ago is one. What is multiplied and what comes out stays in the narrow format, as on a processor
that has it: there, too, a product is summed up in float32 and rounded once.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from sts_core.nets.device import computes_natively


def is_slow(tensor: Tensor) -> bool:
    """Whether a product of this tensor is better computed in float32."""
    return tensor.device.type == "cpu" and not computes_natively(str(tensor.dtype).removeprefix("torch."), "cpu")


def ease_products(model: nn.Module) -> None:
    """Have every linear layer whose weights are in a slow format multiply in float32; others stay as they are."""
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, (nn.Linear, Conv1D)) and isinstance(weight, Tensor) and is_slow(weight):
            vars(module)["forward"] = partial(_multiply, module)  # over the class's, for this one


def _multiply(module: Any, hidden: Tensor) -> Tensor:
    weight = module.weight.float() if isinstance(module, nn.Linear) else module.weight.float().T
    bias = None if module.bias is None else module.bias.float()
    out: Tensor = linear(hidden.float(), weight, bias).to(hidden.dtype)
    return out


def wide(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as they are best multiplied here."""
    return tuple(tensor.to(torch.float32) if is_slow(tensor) else tensor for tensor in tensors)
