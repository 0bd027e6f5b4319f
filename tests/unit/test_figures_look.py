"""One look: tokens shared with the page's theme, readable contrasts, colours that stay apart, marks stable by name."""

from __future__ import annotations

import itertools
import tomllib

import numpy as np
import pytest

from sts_core.figures.theme import FONT, HUES, TOKENS, Mode, blend, contrast, domain_mark, template
from sts_core.folders import PROJECT
from sts_core.spec import MMLU_DOMAINS

SIGHT = {
    "full": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""How a colour looks to readers of different sight: Machado, Oliveira and Fernandes (2009), severity 1, linear RGB."""
JUST_APART = 20.0
"""CIE76 difference; about two is the least an eye sees, ten is clear at a glance."""
MODES: tuple[Mode, ...] = ("light", "dark")


def lab(color: str, sight: str) -> np.ndarray:
    srgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIGHT[sight]) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    xyz = np.array(to_xyz) @ seen / [0.95047, 1, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sight", SIGHT)
def test_hues_stay_apart_for_every_sight(mode: Mode, sight: str) -> None:
    colors = [lab(light if mode == "light" else dark, sight) for light, dark in HUES]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colors, 2)) >= JUST_APART


@pytest.mark.parametrize("mode", MODES)
def test_text_and_marks_can_be_read_on_their_paper(mode: Mode) -> None:
    tokens = TOKENS[mode]
    for text in (tokens.ink, tokens.muted):
        assert contrast(text, tokens.paper) >= 4.5
        assert contrast(text, tokens.panel) >= 4.5
    for mark in (tokens.accent, tokens.rise, tokens.fall, *(h[mode == "dark"] for h in HUES)):
        assert contrast(mark, tokens.paper) >= 3


def test_the_fourteen_have_marks_of_their_own() -> None:
    marks = {name: domain_mark(name) for name in MMLU_DOMAINS}
    assert len({mark.symbol for mark in marks.values()}) == 14
    assert len(set(marks.values())) == 14


def test_a_mark_depends_on_the_name_alone() -> None:
    assert domain_mark("my own domain") == domain_mark("My Own Domain")
    assert domain_mark("Physics") == domain_mark("physics")
    assert len({domain_mark(f"domain {i}") for i in range(60)}) > 30


def test_page_and_figures_share_their_colours() -> None:
    theme = tomllib.loads((PROJECT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"]
    assert theme["font"] == FONT
    for mode in MODES:
        page, tokens = theme[mode], TOKENS[mode]
        assert page["backgroundColor"] == tokens.paper
        assert page["secondaryBackgroundColor"] == tokens.panel
        assert page["textColor"] == tokens.ink
        assert page["grayTextColor"] == tokens.muted
        assert page["borderColor"] == tokens.line
        assert page["linkColor"] == tokens.accent
        assert contrast(page["primaryColor"], "#FFFFFF") >= 4.5, "white stands on primary buttons"


def test_the_dashboard_stays_at_home() -> None:
    config = tomllib.loads((PROJECT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert config["server"]["address"] == "127.0.0.1"
    assert config["server"]["enableXsrfProtection"] is True
    assert config["browser"]["gatherUsageStats"] is False
    assert "http" not in str(config["theme"])


def test_blending_and_the_template() -> None:
    assert blend("#000000", "#FFFFFF", 0.5) == "#808080"
    assert template("dark").layout.paper_bgcolor == TOKENS["dark"].paper
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
