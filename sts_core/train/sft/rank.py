"""One of several training processes: `accelerate launch … -m sts_core.train.sft.rank ORDER.json`.

The first tells what happens as lines of JSON on its standard output; the others are silent.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.progress import Progress
from sts_core.train.sft.launch import MARK
from sts_core.train.sft.loop import train_here
from sts_core.train.sft.plan import plain_model
from sts_core.train.sft.rows import training_rows
from sts_core.train.sft.spec import SftSpec


def main(order: Path) -> int:
    """Do this process's part; its exit status."""
    asked = json.loads(order.read_text(encoding="utf-8"))
    spec = SftSpec.from_dict(asked["spec"])
    try:
        info = plain_model(spec)
        rows = training_rows(spec, load_tokenizer(info), info.context)
        numbers = train_here(spec, info, rows, Path(asked["out"]), _watch, _tell, lambda _step, _folder: None)
    except UserError as error:
        _say({"error": [error.message, error.hint]})
        return 2
    _say({"numbers": numbers._asdict()})
    return 0


def _watch(step: Progress) -> None:
    _say({"progress": list(step)})


def _tell(event: str, details: dict[str, Any]) -> None:
    _say({"event": event, "details": details})


def _say(message: dict[str, Any]) -> None:
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(MARK + json.dumps(message) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
