"""The store of finished results: what is believed, what stays, what is never met half-done."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sts_core.errors import UserError
from sts_core.results import Result
from sts_core.results.folder import DOMAIN_SUMS, RAW, TARGET, TARGET_SUMS, write_result
from sts_core.results.shelf import FILES, MANIFEST
from sts_core.results.sums import SetSums
from sts_core.store import results as store

FEATURES = 12
DOMAINS = ("physics", "law")
Make = Callable[..., Path]


def sums(quantities: tuple[str, ...], rng: np.random.Generator) -> SetSums:
    values = {name: rng.random((20, FEATURES)) for name in quantities}
    return SetSums(values, tokens=np.full(20, 7.0), items=np.ones(20))


def manifest(key: str, **changes: Any) -> dict[str, Any]:
    spec = {
        "model": "smollm2-135m-instruct",
        "sae": "demo/smollm2-l15",
        "target": {"data": "gsm-symbolic"},
        "domains": [{"name": name, "data": f"mmlu/{name}"} for name in DOMAINS],
    }
    resolved = {"sae": {"layer": 15}, "model": {}, "device": "cpu", "dtype": "float32"}
    whole = {"key": key, "spec": spec, "resolved": resolved, "seed": 0, "finished": "2026-01-02T03:04:05+00:00"}
    return whole | changes


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "DEMO", tmp_path / "demo")
    return tmp_path / "cache"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a small whole result and returns its folder."""

    def write(key: str, place: str | None = None, seed: int = 0, **changes: Any) -> Path:
        rng = np.random.default_rng(seed)
        sets = {name: sums(DOMAIN_SUMS, rng) for name in DOMAINS}
        sets |= {TARGET: sums(TARGET_SUMS, rng), RAW: sums(TARGET_SUMS, rng)}
        return write_result(tmp_path / (place or f"out-{key}"), manifest(key, **changes), sets).folder

    return write


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_kept_result_is_found_whole_and_equal(make: Make, cache: Path) -> None:
    out = make("abc")
    assert store.find("abc") is None
    place = store.keep(out)
    assert place == store.find("abc") == cache / "results" / "abc"
    assert content(place) == content(out)
    assert store.open_result("abc").scores(n=3).equals(Result(out).scores(n=3))
    assert [entry.name for entry in (cache / "results").iterdir()] == ["abc"], "nothing is left beside it"


def test_every_file_of_a_result_is_known_to_the_store(make: Make) -> None:
    assert set(content(make("abc"))) == {*FILES, MANIFEST}


def test_only_a_results_own_files_are_copied(make: Make) -> None:
    out = make("abc")
    (out / "letters.txt").write_text("private")
    (out / "half").mkdir()
    assert set(content(store.keep(out))) == {*FILES, MANIFEST}


def test_who_came_first_stays(make: Make) -> None:
    first = content(store.keep(make("abc", "one", seed=1)))
    assert content(store.keep(make("abc", "two", seed=2))) == first


def test_of_many_who_keep_at_once_one_wins_and_all_see_it(make: Make, cache: Path) -> None:
    outs = [make("abc", f"out{i}", seed=i) for i in range(6)]
    gate, places = threading.Barrier(6), []

    def keep(out: Path) -> None:
        gate.wait()
        places.append(store.keep(out))

    threads = [threading.Thread(target=keep, args=(out,)) for out in outs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert places == [cache / "results" / "abc"] * 6
    assert content(places[0]) in [content(out) for out in outs]
    assert len(list((cache / "results").iterdir())) == 1


@pytest.mark.parametrize("spoil", ["manifest gone", "manifest torn", "another's manifest", "a file", "empty"])
def test_what_is_damaged_in_the_store_is_not_believed_and_replaced(make: Make, cache: Path, spoil: str) -> None:
    out = make("abc")
    place = store.keep(out)
    if spoil == "manifest gone":
        (place / "manifest.json").unlink()
    elif spoil == "manifest torn":
        (place / "manifest.json").write_text('{"key": "abc"')
    elif spoil == "another's manifest":
        (place / "manifest.json").write_text(json.dumps(manifest("other")))
    else:
        shutil.rmtree(place)
        place.write_text("?") if spoil == "a file" else place.mkdir()
    assert store.find("abc") is None
    assert store.listing() == []
    assert content(store.keep(out)) == content(out)
    assert [entry.name for entry in (cache / "results").iterdir()] == ["abc"]


@pytest.mark.parametrize("key", ["", ".", "..", "../abc", "a/b", "ä", "x" * 129])
def test_a_key_that_is_no_name_finds_and_keeps_nothing(make: Make, key: str) -> None:
    assert store.find(key) is None
    with pytest.raises(UserError, match="not whole"):
        store.keep(make(key, "out"))


def test_half_a_result_is_not_kept(make: Make, tmp_path: Path) -> None:
    out = make("abc")
    (out / "shift.parquet").unlink()
    with pytest.raises(UserError, match=r"shift\.parquet"):
        store.keep(out)
    with pytest.raises(UserError, match="no finished result"):
        store.keep(tmp_path / "nothing")
    assert store.listing() == []


def test_a_keep_that_breaks_off_leaves_nothing(make: Make, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, out = shutil.copyfile, make("abc")

    def full(source: Path, to: Path) -> None:
        if source.name == "groups.safetensors":
            raise OSError(28, "No space left on device")
        real(source, to)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        store.keep(out)
    assert list((cache / "results").iterdir()) == []


def test_fetch_fills_a_folder_and_leaves_what_else_is_there(make: Make, tmp_path: Path) -> None:
    place, out = store.keep(make("abc")), make("old", "new place", seed=5)
    (out / "notes.txt").write_text("mine")
    assert store.fetch("nope", out) is False
    assert Result(out).manifest["key"] == "old"
    assert store.fetch("abc", out) is True
    assert content(out) == content(place) | {"notes.txt": b"mine"}
    assert store.fetch("abc", tmp_path / "deep" / "er") is True


def test_a_fetch_that_breaks_off_leaves_no_manifest_over_mixed_files(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.keep(make("abc"))
    out = make("old", "out", seed=5)

    def full(source: Path, to: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        store.fetch("abc", out)
    assert set(content(out)) == set(FILES)


def test_a_folder_that_holds_the_result_already_is_left_alone(make: Make) -> None:
    out = make("abc")
    store.keep(out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert store.fetch("abc", out) is True
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_the_list_is_newest_first_with_the_demo_in_its_place(make: Make, tmp_path: Path, cache: Path) -> None:
    store.keep(make("aa", finished="2026-01-01T00:00:00+00:00"))
    store.keep(make("cc", finished="2026-03-01T01:00:00+02:00"))
    make("bb", "demo/result", finished="2026-02-28T22:30:00Z")
    (cache / "results" / "notes.txt").write_text("?")
    shutil.copytree(cache / "results" / "aa", cache / "results" / "renamed")
    listed = store.listing()
    assert [(entry.key, entry.demo) for entry in listed] == [("cc", False), ("bb", True), ("aa", False)]
    first = listed[0]
    assert (first.model, first.sae, first.layer) == ("smollm2-135m-instruct", "demo/smollm2-l15", 15)
    assert (first.target, first.domains, first.finished.isoformat()) == ("gsm-symbolic", 2, "2026-02-28T23:00:00+00:00")
    assert first.title == "gsm-symbolic on smollm2-135m-instruct, layer 15"


@pytest.mark.parametrize(
    "damage",
    [{"finished": "lately"}, {"finished": None}, {"spec": []}, {"spec": {"model": "m"}}, {"resolved": 3}],
)
def test_a_manifest_that_lacks_what_a_list_needs_is_passed_over(make: Make, damage: dict[str, Any]) -> None:
    store.keep(make("good"))
    store.keep(make("bad", **damage))
    assert [entry.key for entry in store.listing()] == ["good"]


def test_a_copy_of_the_demo_is_still_the_demo_and_one_measured_here_is_not(make: Make) -> None:
    demo = make("demo", "demo/result")
    copy = store.keep(demo)
    assert {(entry.folder, entry.demo) for entry in store.listing()} == {(demo, True), (copy, True)}
    make("demo", "demo/result", finished="2026-03-01T00:00:00Z")  # now the copy is what another day has measured
    assert {(entry.folder, entry.demo) for entry in store.listing()} == {(demo, True), (copy, False)}


def test_a_result_is_opened_by_its_key_the_demo_included(make: Make) -> None:
    demo = make("demo", "demo/result")
    assert store.open_result("demo").folder == demo
    assert store.find("demo") is None, "the demo was not measured here"
    own = store.keep(make("demo", seed=3))
    assert store.open_result("demo").folder == own
    with pytest.raises(UserError, match="no stored result"):
        store.open_result("nope")
