"""Trainings of SAEs that are killed and go on: the same text, the same number of tokens, the same quality."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from sts_core.errors import UserError
from sts_core.folders import PROJECT
from sts_core.progress import Progress
from sts_core.train.sae import checkpoint, several, source
from sts_core.train.sae.reader import Reader
from sts_core.train.sae.spec import SaeSpec
from sts_core.train.sae.training import train_sae
from tests import tiny
from tests.sae_world import SAES, Killed, killed_at, part, report, spec_of, weights

pytestmark = pytest.mark.usefixtures("small_reading")


@pytest.mark.parametrize("done", [0, 700, 1500, 2900])
def test_killed_and_gone_on_with_sees_as_many_tokens_and_is_as_good(
    four_saes: Path, sae_spec: SaeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    monkeypatch.setattr(several, "CHECKPOINT_SECONDS", 0.0)
    out = tmp_path / "killed"
    with pytest.raises(Killed):
        train_sae(sae_spec, out, killed_at("training the SAE", done))
    assert not out.exists()
    told: list[Progress] = []
    train_sae(sae_spec, out, told.append)
    assert not part(out).exists()
    trained_at = [step.done for step in told if step.stage == "training the SAE"]
    if done:
        assert any(step.stage.startswith("going on after") for step in told)
        assert trained_at[0] > done - 64
    for name, own in sae_spec.each().items():
        again, whole = report(out / name), report(four_saes / name)
        assert again["tokens_trained"] == own.tokens
        assert again["tokens_read"] >= whole["tokens_read"]
        assert again["held_out"]["explained"] == pytest.approx(whole["held_out"]["explained"], abs=0.05)
        assert again["held_out"]["l0"] == pytest.approx(whole["held_out"]["l0"], rel=0.25)


def test_killed_while_measuring_it_is_not_trained_again(four_saes: Path, sae_spec: SaeSpec, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    with pytest.raises(Killed):
        train_sae(sae_spec, out, killed_at("measuring the SAE's quality", 0))
    told: list[Progress] = []
    train_sae(sae_spec, out, told.append)
    assert "training the SAE" not in {step.stage for step in told}
    for name in sae_spec.each():
        again, whole = weights(out / name), weights(four_saes / name)
        assert all(torch.equal(again[key], whole[key]) for key in whole)
        assert report(out / name)["held_out"] == report(four_saes / name)["held_out"]
        assert report(out / name)["corpora"] == report(four_saes / name)["corpora"]


def test_a_checkpoint_is_the_whole_state(sae_spec: SaeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments, rates, counters and thresholds: what goes on stands exactly where the other stopped."""
    monkeypatch.setattr(several, "CHECKPOINT_SECONDS", 0.0)
    out = tmp_path / "killed"
    with pytest.raises(Killed):
        train_sae(sae_spec, out, killed_at("training the SAE", 1600))
    file = part(out) / "checkpoint.safetensors"
    before = load_file(file)
    with safe_open(file, framework="pt") as opened:
        state = json.loads(opened.metadata()["state"])
    assert {name.split("/")[1] for name in before if "/" in name} == {"sae", "adam", "counter"}
    assert not any(name.startswith("sparse/adam") for name in before)  # it has its tokens
    saved: list[dict[str, torch.Tensor]] = []
    run = several.Pass.run

    def keep(self: several.Pass, total: int) -> None:
        saved.append({key: value.clone() for one in self.trainees for key, value in one.tensors().items()})
        assert self.stream.given == state["groups"] > 0
        assert (self.stream.tokens, self.seconds) == (state["tokens"], state["seconds"])
        assert {str(layer): limit for layer, limit in self.stream.limits.items()} == state["limits"]
        assert all(limit < 1e6 for limit in self.stream.limits.values())
        rates = {one.name: one.trainer.optimizer.param_groups[0]["lr"] for one in self.trainees}
        steps = {one.name: one.trainer.lr_scheduler.last_epoch for one in self.trainees}
        assert 0.001 < rates["small"] < 0.01
        assert steps["small"] == self.trainees[0].trainer.n_training_steps
        run(self, total)

    monkeypatch.setattr(several.Pass, "run", keep)
    train_sae(sae_spec, out)
    assert saved[0].keys() == before.keys() - {"random"}
    assert all(torch.equal(value, before[name]) for name, value in saved[0].items())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lr": 0.02}, "lr"),
        ({"sae": SAES[:2]}, "sae"),
        ({"model": "other"}, "model's weights"),
        ({"corpus": [{"data": "prose.txt", "share": 1.0}]}, "corpus"),
    ],
)
def test_a_different_spec_goes_on_only_when_told_to_start_afresh(
    sae_folder: Path, sae_spec: SaeSpec, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    tiny.save_model(sae_folder / "other", "llama", "llama3", seed=9)
    out = tmp_path / "sae"
    with pytest.raises(Killed):
        train_sae(sae_spec, out, killed_at("measuring the SAE's quality", 0))
    other = SaeSpec.from_dict({**spec_of(sae=SAES), **changes}, sae_folder)
    with pytest.raises(UserError) as caught:
        train_sae(other, out)
    assert told in caught.value.message
    assert "--fresh" in caught.value.hint
    train_sae(sae_spec, out)  # the old one is still there to go on with
    assert not part(out).exists()


def test_fresh_starts_afresh(sae_folder: Path, sae_spec: SaeSpec, tmp_path: Path) -> None:
    out = tmp_path / "sae"
    one = replace(sae_spec, sae=(), tokens=640)
    with pytest.raises(Killed):
        train_sae(one, out, killed_at("measuring the SAE's quality", 0))
    told: list[Progress] = []
    train_sae(replace(one, k=3), out, told.append, fresh=True)
    assert "training the SAE" in {step.stage for step in told}
    assert SaeSpec.from_toml(out / "spec.toml").k == 3
    assert report(out)["gone_on_with"] == 0


def test_what_goes_on_reads_the_text_that_was_next(
    sae_spec: SaeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward pass after forward pass it is the text of a training that was never killed."""
    monkeypatch.setattr(several, "CHECKPOINT_SECONDS", 0.0)
    groups: list[list[source.Piece]] = []
    read = Reader.read

    def noted(self: Reader, group: list[source.Piece], layers: Any) -> Any:
        groups.append(group)
        return read(self, group, layers)

    monkeypatch.setattr(Reader, "read", noted)
    with pytest.raises(Killed):
        train_sae(sae_spec, tmp_path / "whole", killed_at("measuring the SAE's quality", 0))
    whole, groups = groups[:-1], []  # the last was measured
    with pytest.raises(Killed):
        train_sae(sae_spec, tmp_path / "sae", killed_at("training the SAE", 1000))
    assert 0 < len(groups) < len(whole)
    with pytest.raises(Killed):
        train_sae(sae_spec, tmp_path / "sae", killed_at("measuring the SAE's quality", 0))
    assert groups[: len(whole)] == whole


def test_what_training_does_not_see_may_change(sae_spec: SaeSpec, tmp_path: Path) -> None:
    out = tmp_path / "sae"
    one = replace(sae_spec, sae=(), tokens=640)
    with pytest.raises(Killed):
        train_sae(one, out, killed_at("measuring the SAE's quality", 0))
    train_sae(replace(one, save_dtype="float32", report_tokens=500), out)
    assert report(out)["gone_on_with"] == 1
    assert {value.dtype for value in weights(out).values()} == {torch.float32}


def test_changed_text_is_not_gone_on_with(sae_folder: Path, sae_spec: SaeSpec, tmp_path: Path) -> None:
    (sae_folder / "mine.txt").write_text("\n\n\n".join(row["question"] * 4 for row in tiny.rows(99, seed=5)))
    one = SaeSpec.from_dict(spec_of(corpus=[{"data": "mine.txt", "share": 1}], tokens=640), sae_folder)
    with pytest.raises(Killed):
        train_sae(one, tmp_path / "sae", killed_at("measuring the SAE's quality", 0))
    (sae_folder / "mine.txt").write_text("\n\n\n".join(row["question"] * 4 for row in tiny.rows(99, seed=6)))
    with pytest.raises(UserError, match=r"the text of mine\.txt"):
        train_sae(one, tmp_path / "sae")


def test_a_torn_checkpoint_is_told(sae_spec: SaeSpec, tmp_path: Path) -> None:
    out = tmp_path / "sae"
    part(out).mkdir()
    (part(out) / "checkpoint.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be read") as caught:
        train_sae(sae_spec, out)
    assert "--fresh" in caught.value.hint


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(
    sae_spec: SaeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(several, "CHECKPOINT_SECONDS", 0.0)
    save, out, count = checkpoint.save_file, tmp_path / "sae", 0

    def full_at_the_third(tensors: Any, path: Path, metadata: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(tensors, path, metadata)

    monkeypatch.setattr(checkpoint, "save_file", full_at_the_third)
    with pytest.raises(UserError, match="No space left on device") as caught:
        train_sae(sae_spec, out)
    assert "Free some space" in caught.value.hint
    assert [path.name for path in part(out).iterdir()] == ["checkpoint.safetensors"]
    told: list[Progress] = []
    train_sae(sae_spec, out, told.append)
    assert [step.done for step in told if step.stage.startswith("going on")] == [2 * 64]


def process(spec_file: Path, out: Path, seconds: float) -> subprocess.Popen[str]:
    """`sts sae train` as a process of its own that keeps a checkpoint every few steps."""
    code = (
        "import sys; from sts_core.train.sae import several; from sts_core.cli import main;"
        f"several.CHECKPOINT_SECONDS = {seconds};"
        f"sys.exit(main(['sae', 'train', {str(spec_file)!r}, '--out', {str(out)!r}]))"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, text=True, stderr=subprocess.PIPE)


def wait_for(path: Path, running: subprocess.Popen[str]) -> None:
    """Look again until the file is there or the process has ended."""
    while not path.exists() and running.poll() is None:
        os.sched_yield()


def test_a_process_killed_at_a_random_moment_goes_on(sae_folder: Path, tmp_path: Path) -> None:
    one = replace(SaeSpec.from_dict(spec_of(), sae_folder), tokens=40_000)
    (sae_folder / "one.toml").write_text(one.to_toml())
    out = tmp_path / "sae"
    running = process(sae_folder / "one.toml", out, seconds=0.02)
    wait_for(part(out) / "checkpoint.safetensors", running)
    until = time.monotonic() + random.random() * 0.3
    while time.monotonic() < until:
        os.sched_yield()
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert not out.exists()
    train_sae(one, out)
    assert report(out)["tokens_trained"] == 40_000
    assert report(out)["gone_on_with"] == 1
    whole = train_sae(one, tmp_path / "whole")
    assert report(out)["held_out"]["explained"] == pytest.approx(report(whole)["held_out"]["explained"], abs=0.05)


def test_a_process_asked_to_stop_keeps_what_it_has(sae_folder: Path, tmp_path: Path) -> None:
    """Its checkpoints are an hour apart, so the one it leaves is of the moment it was asked."""
    one = replace(SaeSpec.from_dict(spec_of(), sae_folder), tokens=2_000_000)
    (sae_folder / "long.toml").write_text(one.to_toml())
    out = tmp_path / "sae"
    running = process(sae_folder / "long.toml", out, seconds=3600)
    assert running.stderr is not None
    for line in running.stderr:
        if "training the SAE" in line:
            break
    running.terminate()
    told = running.stderr.read()
    assert running.wait() == 130
    assert "goes on from the last checkpoint" in told
    assert [path.name for path in part(out).iterdir()] == ["checkpoint.safetensors"]
