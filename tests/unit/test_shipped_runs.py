"""Runs that ship: found like any other, told apart, never written to; and how one is made of a finished fine-tune."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from sts_core import folders
from sts_core.cli import main
from sts_core.errors import UserError
from sts_core.jobs import disk, launch, watch
from sts_core.jobs.events import append_event, read_events
from sts_core.jobs.folder import advance, create, names, result_folder
from sts_core.jobs.shipping import keep
from sts_core.store import queries
from sts_core.store.database import Database
from sts_core.store.ingest import ingest_all
from sts_core.store.note import write_note
from sts_core.train.mixture.manifest import folder_of

KEY = "0123456789abcdef0123"


@pytest.fixture(autouse=True)
def demo(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo of its own, whose runs are shown."""
    place = tmp_path / "ships" / "demo"
    place.mkdir(parents=True)
    monkeypatch.setattr(folders, "DEMO", place)
    monkeypatch.delenv("STS_DEMO_RUNS")
    return place


def finished(demo: Path, **spec: object) -> Path:
    """A job as a fine-tune's worker leaves it, with everything in it that tells of a machine."""
    told = {"model": "m", "target": {"data": "gsm-symbolic"}, "prediction": str(demo / "result"), **spec}
    folder = create({"kind": "sft", "title": "gsm, LoRA", "spec": told, "options": {"device": "cpu"}}, {})
    append_event(folder, "created", kind="sft", title="gsm, LoRA")
    append_event(folder, "started", pid=os.getpid(), attempt=1)
    append_event(folder, "prediction", key=KEY, dims=[1, 0], scores=[], measure="STS act")
    append_event(folder, "step", step=1, loss=1.5)
    append_event(
        folder, "evaluation", phase="change", domain="law", metric="nll", value=0.1, se=0.01, n=9, source="own"
    )
    result = folder / "result"
    (result / "checkpoints" / "step-000001").mkdir(parents=True)
    (result / "checkpoints" / "step-000001" / "weights.safetensors").write_bytes(b"w" * 1000)
    (result / "model").mkdir()
    (result / "model" / "adapter.safetensors").write_bytes(b"w" * 1000)
    tuned = {"tuned": {"name": f"{result}/checkpoints/step-000001"}}
    for place in (result, result / "shift" / "step-000001"):
        place.mkdir(parents=True, exist_ok=True)
        manifest = {"prediction": KEY, "resolved": tuned, "spec": told, "machine": "a processor, 2 threads"}
        (place / "manifest.json").write_text(json.dumps(manifest))
        pq.write_table(
            pa.table({"feature": [0, 1], "shift_sft": [0.5, 0.25], "signed_sft": [0.1, -0.1]}), place / "shift.parquet"
        )
        groups = {f"target/{name}": np.ones((2, 2), np.float32) for name in ("absdiff", "base", "tokens", "items")}
        save_file(groups, place / "groups.safetensors")
    (result / "prediction.json").write_text(json.dumps({"key": KEY}))
    (folder / "log.txt").write_text(
        f"loading {folders.PROJECT}/.venv/lib/thing.py\nsaved {folder}/result/model\n/home/ann/x.txt\n"
    )
    advance(
        folder, state="done", pid=os.getpid(), pid_started=1.5, started="2026-01-02T03:04:05+00:00", result="result"
    )
    append_event(folder, "done", result="result")
    return folder


def test_what_ships_is_whole_without_weights_and_without_the_machine(demo: Path) -> None:
    folder = finished(demo)
    kept = keep(folder.name)
    assert kept.folder == demo / "runs" / folder.name
    there = {path.relative_to(kept.folder).as_posix() for path in kept.folder.rglob("*") if path.is_file()}
    assert there == {
        "spec.json", "status.json", "events.jsonl", "log.txt", "result/manifest.json", "result/prediction.json",
        "result/shift.parquet", "result/groups.safetensors", "result/shift/step-000001/manifest.json",
        "result/shift/step-000001/shift.parquet",
    }  # fmt: skip
    assert kept.bytes == sum((kept.folder / name).stat().st_size for name in there)
    told = "".join((kept.folder / name).read_text() for name in there if not name.endswith(("parquet", "safetensors")))
    for trace in (str(folders.PROJECT), str(folder.parent), "/home", "ann/", '"pid', str(demo), socket.gethostname()):
        assert trace not in told, trace
    assert (kept.folder / "log.txt").read_text() == "loading .venv/lib/thing.py\nsaved result/model\nx.txt\n"
    spec = json.loads((kept.folder / "spec.json").read_text())
    assert (spec["spec"]["prediction"], spec["options"]) == (KEY, {})
    assert sorted(load_file(kept.folder / "result" / "groups.safetensors")) == [
        "target/absdiff", "target/items", "target/tokens",
    ]  # fmt: skip


def test_only_a_finished_fine_tune_ships_and_only_once(demo: Path) -> None:
    folder = finished(demo)
    keep(folder.name)
    with pytest.raises(UserError, match="ships already"):
        keep(folder.name)
    assert keep(folder.name, replace=True).folder.is_dir()
    other = create({"kind": "run", "title": "soup", "spec": {}, "options": {}}, {"state": "done"})
    with pytest.raises(UserError, match="no fine-tune"):
        keep(other.name)
    failed = create({"kind": "sft", "title": "soup", "spec": {}, "options": {}}, {"state": "failed"})
    with pytest.raises(UserError, match="not done"):
        keep(failed.name)
    assert [path.name for path in (demo / "runs").iterdir()] == [folder.name]


def test_a_trace_that_stays_is_refused_and_nothing_ships(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = finished(demo)
    monkeypatch.setattr(socket, "gethostname", lambda: "annslaptop")
    append_event(folder, "stage", stage="on annslaptop")
    with pytest.raises(UserError, match=r"events.jsonl still tells of this machine: annslaptop"):
        keep(folder.name)
    assert list((demo / "runs").iterdir()) == []


@pytest.fixture
def shipped(demo: Path) -> str:
    """A run that ships, on a machine that did not make it."""
    folder = finished(demo)
    keep(folder.name)
    disk.delete(folder.name)
    disk.empty(next(folder.parent.glob(".gone-*")))
    next(folder.parent.glob(".gone-*")).rmdir()
    return folder.name


def test_it_is_found_like_any_other_and_told_apart(shipped: str, demo: Path) -> None:
    own = create({"kind": "sft", "title": "mine", "spec": {}, "options": {}}, {"state": "done"})
    assert names() == [own.name, shipped]
    assert [job.demo for job in watch.all_jobs()] == [False, True]
    assert result_folder(shipped) == demo / "runs" / shipped / "result"
    assert watch.active() == []
    assert disk.disk_use_of_all().total < 1000  # what ships takes no room of this machine's jobs


def test_it_is_hidden_when_asked(shipped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STS_DEMO_RUNS", "0")
    assert names() == []
    with pytest.raises(UserError, match="no job"):
        watch.read(shipped)


def test_nothing_changes_it(shipped: str, demo: Path) -> None:
    before = {path: path.read_bytes() for path in demo.rglob("*") if path.is_file()}
    for change in (
        lambda: watch.cancel(shipped), lambda: launch.resume(shipped), lambda: disk.delete(shipped),
        lambda: write_note(shipped, "mine"), lambda: append_event(demo / "runs" / shipped, "step", step=9),
    ):  # fmt: skip
        with pytest.raises(UserError, match="ships with the demo") as told:
            change()
        assert f"sts jobs --clone {shipped}" in told.value.hint
    assert {path: path.read_bytes() for path in demo.rglob("*") if path.is_file()} == before


def test_the_database_takes_it_in_from_a_folder_that_nobody_may_write_to(shipped: str, demo: Path) -> None:
    places = [demo, *(path for path in demo.rglob("*") if path.is_dir())]
    before = {path.relative_to(demo) for path in demo.rglob("*")}
    for place in places:
        place.chmod(0o555)
    try:
        with Database(None) as database:
            assert ingest_all(database).unread == ()
            with database.reading() as connection:
                assert list(queries.jobs(connection)["id"]) == [shipped]
                assert len(queries.evaluations(connection, shipped)) == 1
                assert list(queries.predictions(connection, shipped)["key"]) == [KEY]
            assert ingest_all(database).events == 0
    finally:
        for place in places:
            place.chmod(0o755)
    assert {path.relative_to(demo) for path in demo.rglob("*")} == before


def test_with_the_next_demo_its_rows_go(shipped: str, demo: Path) -> None:
    with Database(None) as database:
        ingest_all(database)
        (demo / "runs").rename(demo / "before")
        ingest_all(database)
        with database.reading() as connection:
            assert queries.count(connection) == 0
            assert queries.evaluations(connection, shipped).empty


def test_a_job_of_this_machine_stands_before_its_shipped_copy(demo: Path) -> None:
    folder = finished(demo)
    keep(folder.name)
    assert names() == [folder.name]
    assert not watch.read(folder.name).demo
    with Database(None) as database:
        ingest_all(database)
        disk.delete(folder.name)
        for _ in range(2):  # its own rows go, then those of the copy come
            ingest_all(database)
        with database.reading() as connection:
            assert list(queries.jobs(connection)["id"]) == [folder.name]
    assert watch.read(folder.name).demo


def test_it_can_be_run_again(shipped: str, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr(launch, "_start_due", lambda _environment: [])
    again = watch.read(launch.clone(shipped))
    asked = dict(again.spec)
    assert (again.demo, again.kind, again.options) == (False, "sft", {"clone_of": shipped})
    assert asked["prediction"] == KEY


def test_commands_show_it_with_its_mark(shipped: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs"]) == 0
    assert "gsm, LoRA · demo" in capsys.readouterr().out
    assert main(["jobs", shipped[-6:], "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["demo"], told["evaluations"][0]["domain"]) == (True, "law")
    assert main(["jobs", "--delete", shipped]) == 2
    assert "ships with the demo and cannot be deleted" in capsys.readouterr().err
    assert main(["ledger"]) == 0
    assert f"{shipped} · demo" in capsys.readouterr().out


def test_keep_says_where_and_how_much(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished(demo)
    assert main(["demo", "keep", folder.name[-6:]]) == 0
    assert folder.name in (told := capsys.readouterr().out)
    assert "kB" in told


def test_a_mixture_ships_as_its_manifest(demo: Path, tmp_path: Path) -> None:
    mixture = tmp_path / "mixed"
    mixture.mkdir()
    manifest = {
        "kind": "mixture", "result": {"folder": str(demo / "result"), "key": KEY}, "answers": {"from": "source"},
        "file": {"sha256": "0" * 64},
    }  # fmt: skip
    (mixture / "manifest.json").write_text(json.dumps(manifest))
    (mixture / "mixture.jsonl").write_text('{"question": "a sentence of a data set"}\n')
    folder = finished(demo, target={"data": str(mixture / "manifest.json")})
    kept = keep(folder.name)
    data = json.loads((kept.folder / "spec.json").read_text())["spec"]["target"]["data"]
    assert data == f"demo/runs/{folder.name}/mixture/manifest.json"
    assert folder_of(data) == kept.folder / "mixture"
    assert [path.name for path in (kept.folder / "mixture").iterdir()] == ["manifest.json"]
    assert json.loads((kept.folder / "mixture" / "manifest.json").read_text())["result"]["folder"] == "demo/result"
    assert folder_of("demo/../../etc/manifest.json") == Path("demo/../../etc")  # no way out of the demo's folder
    assert read_events(folder)[0]["event"] == "created"


def test_a_real_mixture_is_made_again_from_its_sources(
    demo: Path, bundle_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows come out byte for byte where only its manifest ships, so that such a run can be done once more."""
    from sts_core.train.mixture.manifest import read_mixture
    from sts_core.train.mixture.run import run_mixture
    from sts_core.train.mixture.spec import MixtureSpec
    from sts_core.train.sft.rows import mixture_of, training_sha256
    from sts_core.train.sft.spec import SftSpec

    with monkeypatch.context() as patch:  # made with what really ships
        patch.setattr(folders, "DEMO", folders.PROJECT / "cache" / "demo")
        spec = {"result": str(folders.DEMO / "result"), "budget": 14, "target": {"rows": 20}}
        mixture = run_mixture(MixtureSpec.from_dict(spec), tmp_path / "mixed")
    folder = finished(demo, target={"data": str(mixture / "manifest.json")})
    kept = keep(folder.name)
    asked = json.loads((kept.folder / "spec.json").read_text())["spec"]
    target = SftSpec.from_dict({"model": "m", "learning_rate": 0.1, "steps": 1, "target": asked["target"]}).target
    again = mixture_of(target)
    assert again is not None
    assert again.rows == read_mixture(mixture).rows
    assert training_sha256(target) == again.sha256
    assert not (kept.folder / "mixture" / "mixture.jsonl").exists()
    texts = "".join(path.read_text() for path in kept.folder.rglob("*.json*"))
    assert not [row.question for row in again.rows if row.question[:60] in texts]
