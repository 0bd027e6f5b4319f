"""A model's own tokenizer, without the model."""

from __future__ import annotations

import threading
from typing import Any

from sts_core.errors import UserError
from sts_core.nets import kept
from sts_core.nets.describe import ModelInfo
from sts_core.nets.saes import first_line


def load_tokenizer(info: ModelInfo) -> Any:
    """The model's own tokenizer; kept a thread, because it may be asked by one thread at a time."""
    key = (info.name, info.revision, str(info.folder), threading.get_ident())
    return kept.get("tokenizer", key, lambda: _load(info))


def _load(info: ModelInfo) -> Any:
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # too long a question is dropped and counted, not warned of

    try:
        return AutoTokenizer.from_pretrained(info.folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"The tokenizer of {info.name} cannot be loaded: {first_line(error)}",
            "Save the tokenizer beside the model.",
        ) from error
