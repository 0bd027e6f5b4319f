"""SAELens' registry: read whole and as SAELens itself reads it, without it; kept as a digest that repairs itself."""

from __future__ import annotations

import importlib
import json
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sts_core import folders
from sts_core.nets import registry

USUAL_LOOP = 0.020
"""Seconds of a usual processor for an empty Python loop of a million turns."""

TINY = {
    "some-res": {
        "model": "gpt2-small",
        "repo_id": "someone/some-res",
        "conversion_func": None,
        "saes": [{"id": "blocks.3.hook_resid_post", "path": "blocks.3.hook_resid_post", "l0": 12.0}],
    }
}


@pytest.fixture(autouse=True, scope="module")
def read_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The real registry, digested once into a cache of this file's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STS_CACHE", str(tmp_path_factory.mktemp("cache")))
        registry.read.cache_clear()
        registry.read()
        yield


@pytest.fixture
def tiny_registry(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """A registry of one SAE in an empty cache; the list grows by one whenever the data file is parsed."""
    parsed: list[Path] = []

    def parse(source: Path) -> dict[str, Any]:
        parsed.append(source)
        return TINY

    kept = registry.read()
    monkeypatch.setattr(registry, "_parse", parse)
    monkeypatch.setattr(registry, "_have_it_made", registry.make_digest)
    registry.read.cache_clear()
    yield parsed
    monkeypatch.undo()
    registry.read.cache_clear()
    assert registry.read() == kept


def test_a_helper_parses_the_data_file(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = registry.read()
    monkeypatch.setattr(registry, "_parse", None)
    registry.read.cache_clear()
    assert registry.read() == known


def test_every_sae_of_the_registry_is_there() -> None:
    import yaml

    source = Path(registry._data_file() or "")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    truth = yaml.load(source.read_text(encoding="utf-8"), Loader=loader)
    assert registry.read().ids() == {release: [sae["id"] for sae in entry["saes"]] for release, entry in truth.items()}


@pytest.mark.slow
def test_sae_lens_itself_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against SAELens' own configurations, for all loaders that make them without the hub: 12,000 SAEs."""
    loaders: Any = importlib.import_module("sae_lens.loading.pretrained_sae_loaders")
    directory: Any = importlib.import_module("sae_lens.loading.pretrained_saes_directory")

    def not_there(*_: object, **__: object) -> str:
        raise loaders.EntryNotFoundError("offline")

    monkeypatch.setattr(loaders, "hf_hub_download", not_there)
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", lambda *_: {"w_enc": [8, 16], "w_dec": [16, 8]})
    checked = 0
    for release in registry.read().releases.values():
        if release.loader not in ("gemma_2", "gemma_3", "gemma_2_transcoder", "qwen_scope", "goodfire", "deepseek_r1"):
            continue
        lookup = directory.get_pretrained_saes_directory()[release.name]
        assert (lookup.repo_id, lookup.conversion_func) == (release.repo, release.loader)
        for row in release.rows():
            read = loaders.NAMED_PRETRAINED_SAE_CONFIG_GETTERS[release.loader]
            truth = read(release.repo, lookup.saes_map[row.id], "cpu", False, None)
            assert row.hook == truth["hook_name"]
            assert row.architecture == truth["architecture"]
            assert release.model.removesuffix("-pt") == registry.HUB_IDS.get(
                truth["model_name"], truth["model_name"]
            ).removesuffix("-pt")
            if release.loader != "gemma_3" and row.width is not None:
                assert row.width == truth["d_sae"]
            checked += 1
    assert checked > 10_000


def test_a_release_that_the_registry_gives_to_the_wrong_model_is_put_right() -> None:
    assert registry.read().releases["gemma-scope-9b-it-res"].model == "google/gemma-2-9b-it"


def test_a_name_stands_for_one_model() -> None:
    seen: dict[str, str] = {}
    for hub, names in registry.read().names.items():
        assert "/" in hub
        for name in names:
            assert seen.setdefault(name.casefold(), hub) == hub
            assert seen.setdefault(name.casefold().rsplit("/", 1)[-1], hub) == hub


def test_the_second_read_takes_the_digest(tiny_registry: list[Path]) -> None:
    first = registry.read()
    registry.read.cache_clear()
    assert registry.read() == first
    assert len(tiny_registry) == 1
    assert first.names == {"openai-community/gpt2": ["openai-community/gpt2", "gpt2", "gpt2-small"]}


def test_the_digest_of_the_real_registry_is_read_in_30_ms() -> None:
    """Processor time, the best of five: whatever else the machine does. A slow processor has as much longer."""
    taken, turns = [], []
    for _ in range(5):
        registry.read.cache_clear()
        began = time.process_time()
        registry.read()
        taken.append(time.process_time() - began)
        turns.append(timeit.timeit("for turn in range(1_000_000): pass", number=1, timer=time.process_time))
    assert min(taken) <= 0.030 * max(1.0, min(turns) / USUAL_LOOP)


def shorter_row(value: dict[str, Any]) -> str:
    value["releases"][0][4][0].pop()
    return json.dumps(value)


DAMAGE: dict[str, Callable[[dict[str, Any]], str]] = {
    "empty": lambda _: "",
    "cut": lambda value: json.dumps(value)[:100],
    "a list": lambda _: "[]",
    "nothing": lambda _: "null",
    "of another format": lambda value: json.dumps({**value, "format": 0}),
    "of another registry": lambda value: json.dumps({**value, "bytes": value["bytes"] + 1}),
    "without releases": lambda value: json.dumps({**value, "releases": []}),
    "without models": lambda value: json.dumps({**value, "names": {}}),
    "with a short row": shorter_row,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_digest_is_made_again(tiny_registry: list[Path], own_cache: Path, damage: str) -> None:
    first = registry.read()
    (kept,) = own_cache.glob("catalogue-*.json")
    whole = kept.read_text()
    kept.write_text(DAMAGE[damage](json.loads(whole)))
    registry.read.cache_clear()
    assert registry.read() == first
    assert kept.read_text() == whole
    assert len(tiny_registry) == 2


def test_a_cache_that_cannot_be_written_costs_time_alone(
    tiny_registry: list[Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "atomic_write", full)
    assert list(registry.read().releases) == ["some-res"]
    assert list(own_cache.iterdir()) == []


def test_without_sae_lens_the_registry_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_data_file", lambda: None)
    registry.read.cache_clear()
    try:
        assert registry.read() == registry.Registry({}, {})
    finally:
        registry.read.cache_clear()
