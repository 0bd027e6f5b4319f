"""Token strips before they reach the browser: the unseen becomes a mark, nothing is endless, no NaN is sent."""

from __future__ import annotations

import json
import math
import unicodedata

import pytest

from pages.parts.strip import LONGEST_TOKEN, MOST_TOKENS, Line, Strip, as_data, as_text, runs
from sts_core.figures.numbers import number


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", ["plain"]),
        ("", [""]),
        (" the", [" the"]),
        ("the ", ["the", "·"]),
        (" ", ["", "·"]),
        ("a  b", ["a", "··", "b"]),
        ("\n\n", ["", "↵↵"]),
        ("x\n    return", ["x", "↵····", "return"]),
        ("\tx", ["", "⇥", "x"]),
        ("a\x00b", ["a", "⟨00⟩", "b"]),
        ("\x1b[31m", ["", "⟨1B⟩", "[31m"]),
        ("\u202egnp.exe", ["", "⟨202E⟩", "gnp.exe"]),
        ("\u200b\ufeff", ["", "⟨200B⟩⟨FEFF⟩"]),
        ("\u2028", ["", "⟨2028⟩"]),
        ("\u3000", ["", "·"]),
        ("\ud800", ["", "⟨D800⟩"]),
        ("<b>&amp;", ["<b>&amp;"]),
        ("👩\u200d🔬", ["👩\u200d🔬"]),
        ("مرحبا", ["مرحبا"]),
    ],
)
def test_a_token_in_runs_of_text_and_marks(text: str, shown: list[str]) -> None:
    assert runs(text) == shown


def test_no_letter_that_acts_on_others_is_left() -> None:
    every = "".join(chr(code) for code in range(0x3000))
    left = {
        unicodedata.category(letter) for at in range(0, len(every), 40) for letter in "".join(runs(every[at : at + 40]))
    }
    assert not left & {"Cc", "Cs", "Zl", "Zp", "Co", "Cn"}
    formats = {
        c
        for at in range(0, len(every), 40)
        for c in "".join(runs(every[at : at + 40]))
        if unicodedata.category(c) == "Cf"
    }
    assert formats == {"\u200c", "\u200d"}


def test_a_line_of_a_megabyte_is_cut_and_says_so() -> None:
    shown = runs("y" * 1_000_000)
    assert shown == ["y" * LONGEST_TOKEN, f"…+{1_000_000 - LONGEST_TOKEN}"]
    assert runs("\n" * 100)[-2:] == ["", f"…+{100 - LONGEST_TOKEN}"]
    data = as_data(Strip(["y" * 1_000_000] * 3, [Line("b" * 10_000, [1.0] * 3)], 1, "p" * 10_000, "t" * 10_000))
    assert len(json.dumps(data)) < 2_000


def test_a_long_text_keeps_its_peak_in_sight() -> None:
    texts = [str(at) for at in range(1_000)]
    for peak in (0, 3, 500, 999):
        data = as_data(Strip(texts, [Line("base", list(range(1_000)))], peak, ""))
        assert len(data["tokens"]) == MOST_TOKENS
        assert data["tokens"][data["peak"]] == [str(peak)]
        assert data["lines"][0]["values"][data["peak"]] == peak
        assert data["value"] == number(peak)


def test_only_numbers_are_sent_as_many_as_there_are_tokens() -> None:
    data = as_data(Strip(["a", "b", "c"], [Line("base", [math.nan, math.inf]), Line("icl", [1.0] * 9)], 7, "x"))
    assert data["lines"] == [{"arm": "base", "values": [None] * 3}, {"arm": "icl", "values": [1.0] * 3}]
    assert data["peak"] == 2
    assert data["value"] == "—"
    json.dumps(data, allow_nan=False)


def test_an_example_without_text_or_values_is_no_error() -> None:
    assert as_data(Strip([], [], 0, "x", "The text\x00 was not kept."))["trouble"] == "The text⟨00⟩ was not kept."


def test_a_strip_as_a_line_of_text() -> None:
    assert as_text(["Tom", " has", "\n", " 3"], 1) == "Tom⟪ has⟫↵ 3"
    assert as_text(["a"], 5) == "a"
