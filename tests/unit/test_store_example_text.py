"""The search through examples, held against reading every window of every example."""

from __future__ import annotations

from pathlib import Path

import pytest

from sts_core.errors import UserError
from sts_core.results.gallery import Gallery, open_gallery
from sts_core.store.example_text import ExampleTexts
from tests.pages.made_gallery import make_gallery
from tests.pages.synthetic import make_result

FEATURES = range(0, 40)


@pytest.fixture
def gallery(own_cache: Path) -> Gallery:
    result = make_result(own_cache / "results")
    return open_gallery(make_gallery(result, features=FEATURES, hostile=True))


@pytest.mark.parametrize(
    "text",
    ["apples", "NINA READS", "buys 12 more", ".\n\nHow", "240", "<script>alert", "مرحبا", "nowhere", "a.c", "x\u0301"],
)
def test_the_features_found_are_those_with_it_in_a_window(gallery: Gallery, text: str) -> None:
    windows = {f: ["".join(one.texts) for one in gallery.examples(f)] for f in FEATURES}
    wanted = [f for f, shown in windows.items() if any(text.lower() in window.lower() for window in shown)]
    assert list(ExampleTexts(gallery).features_with(text)) == wanted


def test_a_short_text_is_not_searched(gallery: Gallery) -> None:
    assert ExampleTexts(gallery).features_with(" a ") == ()


def test_rows_without_a_text_are_not_found(gallery: Gallery) -> None:
    (gallery.folder / "tokenizer.json").unlink()
    assert ExampleTexts(open_gallery(gallery.folder)).features_with("apples") == ()


def test_damage_is_told(gallery: Gallery) -> None:
    (gallery.folder / "examples.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="gone or damaged"):
        ExampleTexts(gallery)
