"""Everything a feature's page shows, ordered as one job: examples, what features write, names; done once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sts_core import folders
from sts_core.jobs.events import read_events
from sts_core.jobs.folder import create, load
from sts_core.jobs.worker import KINDS
from sts_core.jobs.worker import main as work
from sts_core.judge import know
from sts_core.judge.know import know_features
from sts_core.judge.order import LabelOrder
from sts_core.measure.run import run
from sts_core.nets.describe import find_model, find_sae
from sts_core.progress import Progress
from sts_core.results.dictionary import dictionary_of
from sts_core.results.folder import Result
from sts_core.results.gallery import gallery_of, open_gallery
from sts_core.results.labels import labels_of
from sts_core.spec import Spec
from tests import tiny

TOKENS = 1_500


@pytest.fixture
def measured(world: tiny.World, bundle_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A finished result of a tiny model; little is read of every corpus."""
    monkeypatch.setattr(folders, "DEMO", tmp_path / "demo")
    monkeypatch.setattr(know, "TOKENS", TOKENS)
    monkeypatch.setattr("sts_core.judge.know.LabelOrder", lambda result: LabelOrder(result, tokens=TOKENS, check=False))
    return run(Spec.from_dict(world.spec()), world.folder / "result").folder


def test_one_order_makes_all_a_features_page_shows(measured: Path, world: tiny.World) -> None:
    job = create({"kind": "examples", "spec": {"result": str(measured), "k": 10}, "title": "", "options": {}}, {})
    assert work(job, {"examples": KINDS["examples"]}) == 0
    done = load(job)
    key = Result(measured).manifest["key"]
    assert (done.state, done.result) == ("done", key)
    place = gallery_of(measured)
    assert place is not None
    gallery = open_gallery(place)
    assert gallery.sources == ["target", "physics", "law", "labels/math", "labels/code", "labels/prose"]
    model, sae = find_model(str(world.model)), find_sae(str(world.sae))
    assert dictionary_of(model, sae) is not None
    labels = labels_of(sae.revision, model.revision)
    assert len(labels) > 10
    assert set(labels["judge"]) == {"provenance"}
    assert set(labels["label"].dropna()) <= {"math", "code", "prose"}
    told = {event["stage"] for event in read_events(job) if event["event"] == "stage"}
    assert any("labels/prose" in stage for stage in told), "the label corpora are read with the rest"
    assert len(list(place.parent.iterdir())) == 1, "no gallery of the corpora alone was made"


def test_the_same_order_again_does_nothing_anew(measured: Path) -> None:
    first = know_features(measured)
    made = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    stages: list[Progress] = []
    assert know_features(measured, watch=stages.append) == first
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == made
    assert not [step for step in stages if step.stage.startswith(("looking at", "reading around"))]


def test_an_order_that_cannot_be_read_is_a_failed_job(own_cache: Path) -> None:
    for spec in ({"result": "/nowhere"}, {"result": "x", "k": 0}, {"resutl": "x"}):
        job = create({"kind": "examples", "spec": spec, "title": "", "options": {}}, {})
        assert work(job, {"examples": KINDS["examples"]}) == 2
        assert load(job).state == "failed"
        assert load(job).hint
