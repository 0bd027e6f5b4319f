"""Where the embedded model, domains, demonstrations and training set lie, and whether they are whole.

Light on purpose: the dashboard asks here on every page, so only the standard library is imported.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from sts_core import folders
from sts_core.bundle import pins
from sts_core.errors import UserError, nearest

MODEL_NAME = "smollm2-135m-instruct"
"""What a spec calls the embedded model."""
TRAIN_NAMES = ("gsm-symbolic", "codeio", "passages")
"""What a spec may call as an embedded training set: worked sums, Python solutions, encyclopedia prose."""
RECORD = "bundle.json"
"""The file that makes a folder a bundle: written last, it states every other file."""
_HINT = "Run `sts demo fetch` once with a connection (about 250 MB), or `sts demo fetch --from DIR` with the wheels."


def ready() -> bool:
    """Whether a bundle of these pins is there with every file of the size its record states."""
    folder = folders.bundle()
    record = _record(folder)
    try:
        return (
            record is not None
            and _current(record)
            and all((folder / name).stat().st_size == entry["bytes"] for name, entry in record["files"].items())
        )
    except (OSError, KeyError, TypeError, AttributeError):  # a file is gone, or the record was written by other hands
        return False


def require() -> Path:
    """The bundle's folder; a UserError when it is not there or not whole."""
    folder = folders.bundle()
    if ready():
        return folder
    if _record(folder) is None:
        raise UserError("The embedded bundle is not here yet.", _HINT)
    raise UserError(f"The embedded bundle in {folder} is damaged or of another version.", _HINT)


def model_dir() -> Path:
    """The embedded model, as `from_pretrained` takes it."""
    return require() / "model"


def model_revision() -> str:
    """Names the model's exact content: the wheel it came in and how it was converted."""
    return f"{pins.MODEL.sha256[:12]}-c{pins.CONVERSION}"


@cache
def subject_domains() -> dict[str, str]:
    """The domain of each of the 57 MMLU subjects."""
    table: dict[str, str] = json.loads(Path(__file__).with_name("mmlu_domains.json").read_text(encoding="utf-8"))
    return table


def domain_names() -> list[str]:
    """The fourteen domains, sorted; known also before the bundle is fetched."""
    return sorted(set(subject_domains().values()))


def domain_file(name: str) -> Path:
    """The questions of a domain, one JSON object a line: `question, options, answer, subject`."""
    return require() / "domains" / f"{_known(name, domain_names(), 'domain')}.jsonl"


def demo_file(name: str) -> Path:
    """The demonstrations of a domain, one JSON object a line: `question, options, cot, answer, subject`."""
    return require() / "demos" / f"{_known(name, domain_names(), 'domain')}.jsonl"


def train_file(name: str) -> Path:
    """An embedded training set, one JSON object a line: `question, answer`, of sums also `final`."""
    return require() / "train" / f"{_known(name, list(TRAIN_NAMES), 'training set')}.jsonl"


def prose_file() -> Path:
    """Passages of English Wikipedia, one JSON object a line: `text`."""
    return require() / "prose" / "wikipedia.jsonl"


def describe() -> dict[str, Any]:
    """The bundle's record: format, wheels, model, and size, rows and SHA-256 of every file."""
    record = _record(require())
    if record is None:  # taken away since it was asked for
        raise UserError("The embedded bundle is not here yet.", _HINT)
    return record


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("files"), dict) else None


def _current(record: dict[str, Any]) -> bool:
    made_from = {wheel["sha256"] for wheel in record.get("wheels", [])}
    return (
        record.get("format") == pins.FORMAT
        and record.get("model", {}).get("revision") == model_revision()
        and made_from == {wheel.sha256 for wheel in pins.WHEELS}
    )


def _known(name: str, names: list[str], kind: str) -> str:
    if name not in names:
        raise UserError(
            f'There is no embedded {kind} "{name}"{nearest(name, names)}.', f"Choose one of: {', '.join(names)}."
        )
    return name
