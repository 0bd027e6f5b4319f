"""Once measured, for good: the store, `--fresh`, changed bytes, and runs that were interrupted."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sts_core as sts
from sts_core.errors import UserError
from sts_core.measure.run import run
from sts_core.progress import Progress
from sts_core.results import Result
from sts_core.results.shelf import FILES
from sts_core.spec import Spec
from tests import tiny


class Stop(Exception):
    """What a watcher of these tests raises to end a run in its middle."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def spec(world: tiny.World, **changes: Any) -> Spec:
    return Spec.from_dict(world.spec(**changes))


def stop_at(stage: str) -> Callable[[Progress], None]:
    def watch(step: Progress) -> None:
        if step.stage == stage:
            raise Stop

    return watch


def never(step: Progress) -> None:
    pytest.fail(f"measured: {step}")


def content(folder: Path) -> dict[str, bytes]:
    """A result's numbers, to the byte."""
    return {name: (folder / name).read_bytes() for name in FILES}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_fresh_twice_gives_identical_values(tmp_path: Path, world: tiny.World) -> None:
    first = run(spec(world), tmp_path / "a", fresh=True)
    second = run(spec(world), tmp_path / "b", fresh=True)
    assert first.manifest["key"] == second.manifest["key"]
    assert content(tmp_path / "a") == content(tmp_path / "b")
    again = run(spec(world), tmp_path / "b", fresh=True)
    assert content(again.folder) == content(tmp_path / "a")


def test_another_seed_gives_other_values(tmp_path: Path, world: tiny.World) -> None:
    run(spec(world), tmp_path / "a")
    other = {**world.spec()["run"], "seed": 4}
    run(spec(world, run=other), tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "b")


def test_the_second_run_comes_from_the_store(tmp_path: Path, world: tiny.World) -> None:
    first = run(spec(world), tmp_path / "a")
    second = run(spec(world), tmp_path / "b", watch=never)
    assert second.manifest == first.manifest
    assert content(tmp_path / "b") == content(tmp_path / "a")
    assert run(spec(world), tmp_path / "a", watch=never).manifest == first.manifest


def test_python_finds_it_in_the_store_too(world: tiny.World) -> None:
    first = sts.run(spec(world))
    second = sts.run(spec(world), progress=never)
    assert isinstance(second, sts.Result)
    assert second.manifest == first.manifest
    assert not list(Path(first.folder.parent.parent).glob(".run-*"))


@pytest.mark.parametrize("name", ["target.jsonl", "physics.jsonl", "law_demos.jsonl"])
def test_one_changed_byte_of_data_is_measured_anew(tmp_path: Path, world: tiny.World, name: str) -> None:
    first = run(spec(world), tmp_path / "a")
    path = world.folder / name
    data = bytearray(path.read_bytes())
    place = data.index(b"?")
    data[place : place + 1] = b"!"
    path.write_bytes(data)
    steps: list[Progress] = []
    second = run(spec(world), tmp_path / "b", watch=steps.append)
    assert steps
    assert second.manifest["key"] != first.manifest["key"]
    with pytest.raises(UserError, match="another result"):
        run(spec(world), tmp_path / "a")


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json", "config.json", "model.safetensors"])
def test_a_changed_model_is_another_result(tmp_path: Path, world: tiny.World, name: str) -> None:
    """Also when nothing but the chat template changed: the prompts are other ones then."""
    first = run(spec(world), tmp_path / "a")
    path = world.model / name
    if name == "chat_template.jinja":
        path.write_text(path.read_text().replace("helpful", "hopeful"))
    elif name.endswith("json"):
        path.write_text(path.read_text() + "\n")
    else:
        tiny.save_model(world.model, seed=1)
    assert run(spec(world), tmp_path / "b").manifest["key"] != first.manifest["key"]


def test_another_specs_unfinished_run_is_not_thrown_away(tmp_path: Path, world: tiny.World) -> None:
    other = {**world.spec()["run"], "seed": 4}
    run(spec(world), tmp_path / "done")
    with pytest.raises(Stop):
        run(spec(world, run=other), tmp_path / "half", watch=stop_at("measuring law"))
    before = tree(tmp_path / "half")
    with pytest.raises(UserError, match="unfinished run of another spec"):
        run(spec(world), tmp_path / "half")
    assert tree(tmp_path / "half") == before
    steps: list[Progress] = []
    run(spec(world, run=other), tmp_path / "half", watch=steps.append)
    assert "measuring the target set" not in {step.stage for step in steps}


def test_what_was_begun_goes_when_the_store_has_the_result(tmp_path: Path, world: tiny.World) -> None:
    with pytest.raises(Stop):
        run(spec(world), tmp_path / "half", watch=stop_at("measuring law"))
    run(spec(world), tmp_path / "done")
    run(spec(world), tmp_path / "half", watch=never)
    assert {path.name for path in (tmp_path / "half").iterdir()} == {*FILES, "manifest.json"}


@pytest.mark.parametrize("stage", ["measuring physics", "measuring law", "writing the result"])
def test_an_interrupted_run_goes_on_to_the_same_numbers(tmp_path: Path, world: tiny.World, stage: str) -> None:
    whole = run(spec(world), tmp_path / "whole", fresh=True)
    shutil.rmtree(tmp_path / "cache" / "results")
    with pytest.raises(Stop):
        run(spec(world), tmp_path / "half", watch=stop_at(stage))
    assert not (tmp_path / "half" / "manifest.json").exists()
    with pytest.raises(UserError):
        Result(tmp_path / "half")
    assert not list((tmp_path / "cache" / "results").glob("*"))
    steps: list[Progress] = []
    done = run(spec(world), tmp_path / "half", watch=steps.append)
    assert content(done.folder) == content(whole.folder)
    assert "measuring the target set" not in {step.stage for step in steps}
    assert done.manifest["tokens"]["run_in_this_sitting"] < whole.manifest["tokens"]["run_in_this_sitting"]
    assert done.manifest["tokens"]["pooled"] == whole.manifest["tokens"]["pooled"]
    assert done.manifest["sets"] == whole.manifest["sets"]
    assert {path.name for path in done.folder.iterdir()} == {*FILES, "manifest.json"}
    # The bar moves on from what was kept, and ends at the whole.
    shares = [step.done / step.total for step in steps if step.total]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_fresh_throws_half_done_work_of_another_key_away(tmp_path: Path, world: tiny.World) -> None:
    with pytest.raises(Stop):
        run(spec(world), tmp_path / "half", watch=stop_at("measuring law"))
    other = spec(world, run={**world.spec()["run"], "seed": 9})
    run(other, tmp_path / "half", fresh=True)
    run(other, tmp_path / "whole", fresh=True)
    assert content(tmp_path / "half") == content(tmp_path / "whole")


def test_fresh_starts_over_what_is_half_done(tmp_path: Path, world: tiny.World) -> None:
    with pytest.raises(Stop):
        run(spec(world), tmp_path / "half", watch=stop_at("measuring law"))
    stages: list[str] = []
    run(spec(world), tmp_path / "half", watch=lambda step: stages.append(step.stage), fresh=True)
    assert "measuring the target set" in stages


def test_a_finished_result_of_another_key_is_refused_and_untouched(tmp_path: Path, world: tiny.World) -> None:
    run(spec(world), tmp_path / "out")
    before = tree(tmp_path)
    other = spec(world, run={**world.spec()["run"], "seed": 9})
    for fresh in (False, True):
        with pytest.raises(UserError, match="another result") as caught:
            run(other, tmp_path / "out", fresh=fresh, watch=never)
        assert caught.value.hint
    assert tree(tmp_path) == before


def test_a_folder_with_other_things_is_refused_and_untouched(tmp_path: Path, world: tiny.World) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"thesis\.tex"):
        run(spec(world), tmp_path / "out", watch=never)
    assert tree(tmp_path) == before


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path, world: tiny.World) -> None:
    (tmp_path / "out").write_text("x")
    for out in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(UserError, match="file is in its place"):
            run(spec(world), out, watch=never)
    assert (tmp_path / "out").read_text() == "x"


@pytest.mark.parametrize("under_its_name", [True, False])
def test_parts_torn_by_a_crash_are_not_believed(tmp_path: Path, world: tiny.World, under_its_name: bool) -> None:
    """What a killed process or a power cut leaves of a set is measured again."""
    run(spec(world), tmp_path / "whole", fresh=True)
    shutil.rmtree(tmp_path / "cache" / "results")
    with pytest.raises(Stop):
        run(spec(world), tmp_path / "half", watch=stop_at("measuring law"))
    parts = tmp_path / "half" / "parts"
    part = sorted(parts.glob("*.safetensors"))[-1]
    part.with_suffix(".part").write_bytes(part.read_bytes()[:1000])
    part.write_bytes(part.read_bytes()[:-1]) if under_its_name else part.unlink()
    run(spec(world), tmp_path / "half")
    assert content(tmp_path / "half") == content(tmp_path / "whole")


def test_domains_may_be_named_like_inner_parts(tmp_path: Path, world: tiny.World) -> None:
    """Names that the files use inside do not get in a domain's way."""
    domains = [{**world.spec()["domains"][0], "name": name} for name in ("target_raw", "raw", "Target", "sums")]
    result = run(spec(world, domains=domains), tmp_path / "out")
    assert result.domains == ["target_raw", "raw", "Target", "sums"]
    physics = run(spec(world), tmp_path / "plain")
    assert len(result.shift_raw) == tiny.WIDTH
    assert result.shift.equals(physics.shift)
    assert {name: len(result.vectors.query(f"domain == '{name}'")) for name in result.domains} == dict.fromkeys(
        result.domains, tiny.FEATURES
    )


def test_adding_a_domain_changes_none_of_the_others(tmp_path: Path, world: tiny.World) -> None:
    two = run(spec(world), tmp_path / "two")
    one = run(spec(world, domains=world.spec()["domains"][1:]), tmp_path / "one")
    assert one.shift.equals(two.shift)
    assert one.manifest["sets"]["law"] == two.manifest["sets"]["law"]


def test_the_manifest_is_strict_json(tmp_path: Path, world: tiny.World) -> None:
    def refuse(word: str) -> None:
        pytest.fail(word)

    run(spec(world), tmp_path / "out")
    json.loads((tmp_path / "out" / "manifest.json").read_text(), parse_constant=refuse)


def test_a_second_run_into_one_folder_is_refused_and_nothing_is_mixed(tmp_path: Path, world: tiny.World) -> None:
    """Two specs, one folder, at once: the second is told, the first is what a run alone gives, the store holds one."""
    refused: list[str] = []

    def meddle(step: Progress) -> None:
        if step.stage == "measuring physics" and not refused:
            with pytest.raises(UserError, match="Another run") as told:
                run(Spec.from_dict(world.spec(run={"seed": 9, "device": "cpu", "dtype": "float32"})), tmp_path / "one")
            refused.append(told.value.hint)

    done = run(spec(world), tmp_path / "one", watch=meddle)
    assert refused
    alone = run(spec(world), tmp_path / "alone", fresh=True)
    assert content(done.folder) == content(alone.folder)
    assert [path.name for path in (tmp_path / "cache" / "results").iterdir()] == [done.manifest["key"]]


def test_a_store_that_takes_no_copy_leaves_the_result_whole(
    tmp_path: Path, world: tiny.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("sts_core.results.shelf.keep", full)
        with pytest.raises(UserError, match="is whole, but the store"):
            run(spec(world), tmp_path / "out")
    assert Result(tmp_path / "out").manifest["key"]
    steps: list[Progress] = []
    run(spec(world), tmp_path / "out", watch=steps.append)
    assert not steps
    assert len(list((tmp_path / "cache" / "results").iterdir())) == 1


def test_half_a_copy_from_the_store_is_taken_away(
    tmp_path: Path, world: tiny.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(spec(world), tmp_path / "a")
    plain, copied = shutil.copyfile, []

    def full(source: Path, to: Path) -> None:
        copied.append(to)
        if len(copied) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(source, to)

    monkeypatch.setattr("sts_core.results.shelf.shutil.copyfile", full)
    with pytest.raises(UserError, match="No space left"):
        run(spec(world), tmp_path / "b")
    assert not (tmp_path / "b").exists()
