"""What can be told before a fine-tune begins, and would else end it later: its prediction, and who hears of it."""

from __future__ import annotations

import importlib.util
import netrc
import os
from pathlib import Path

from sts_core.errors import UserError
from sts_core.fingerprint import sha256_file
from sts_core.folders import DEMO
from sts_core.nets.describe import find_model
from sts_core.results import shelf
from sts_core.results.folder import Result
from sts_core.text.sources import locate
from sts_core.train.sft.evaluated import check_unseen
from sts_core.train.sft.rows import evaluated_target, mixture_of
from sts_core.train.sft.spec import SftSpec

_WANDB = "api.wandb.ai"


def find_prediction(name: str) -> Path:
    """The finished result behind a folder, a key of the store, or the shipped demo's key."""
    folder = Path(name).expanduser()
    if (folder / "manifest.json").is_file():
        return folder
    found = shelf.find(name)
    demo = DEMO / "result"
    if found is None and (demo / "manifest.json").is_file() and Result(demo).manifest.get("key") == name:
        found = demo
    if found is None:
        raise UserError(
            f"There is no finished result {name!r} to hold the run against",
            "Name the folder of a finished `sts run`, or leave prediction out.",
        )
    return found


def check_prediction(spec: SftSpec) -> Path | None:
    """Where the prediction of a run lies, None without one; it must be for the run's model and training set."""
    if not spec.prediction:
        return None
    folder = find_prediction(str(spec.prediction))
    then = Result(folder).manifest["resolved"]
    if find_model(spec.model).revision != then["model"]["revision"]:
        raise UserError(
            f"The prediction was made for {then['model'].get('name', 'another model')}, not for {spec.model}",
            "Measure a prediction of this model, or leave prediction out.",
        )
    mixture = mixture_of(spec.target)
    if sha256_file(locate(evaluated_target(spec.target).data)) != then["files"]["target"]["data"]:
        raise UserError(
            f"The prediction was made for another training set than {spec.target.data}",
            "Measure a prediction of this set, or leave prediction out.",
        )
    if mixture is not None:
        check_unseen(Result(folder), mixture)
    return folder


def check_report(spec: SftSpec) -> None:
    """Whoever is to hear of the run must be installed, and W&B must know who speaks."""
    if spec.report and importlib.util.find_spec(spec.report) is None:
        raise UserError(
            f"{spec.report} is not installed", f"Install it (pip install {spec.report}), or leave report out."
        )
    if spec.report == "wandb" and not _wandb_is_ready():
        raise UserError(
            "W&B has no key here", "Run `wandb login`, set WANDB_API_KEY, or keep the record here: WANDB_MODE=offline."
        )


def _wandb_is_ready() -> bool:
    if os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun") or os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(_WANDB) is not None
    except (OSError, netrc.NetrcParseError):
        return False
