"""What becomes of the wheels' texts: worked answers parsed, LaTeX repaired, equal questions kept once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sts_core.bundle.demonstrations import parse_prompt, repair
from sts_core.bundle.embedded import domain_names, subject_domains
from sts_core.bundle.rows import first_of_each, write_rows

HEAD = "The following are multiple choice questions (with answers) about bells.\n\n"


def parse(*blocks: str) -> list[dict[str, Any]]:
    return parse_prompt(HEAD + "\n\n".join(blocks) + "\n\n", "bells")


def test_a_plain_block_is_parsed_whole() -> None:
    block = (
        "Q: How many bells?\n(A) one (B) two (C) three (D) four\nA: Let's think step by step. I heard two. "
        "The answer is (B)."
    )
    assert parse(block) == [
        {
            "question": "How many bells?",
            "options": ["one", "two", "three", "four"],
            "cot": "Let's think step by step. I heard two. The answer is (B).",
            "answer": "B",
            "subject": "bells",
        }
    ]


def test_lines_brackets_and_letters_inside_the_text_do_not_mislead() -> None:
    block = (
        "Q: Given f(A) = 2 (see (B) below):\n(A) bell and\n(C) rope?\nWhich holds?\n"
        "(A) f(x)\n(B) g (or so)\n(C) (x, y)\n(D) a) and b)\n"
        "A: Let's think step by step.\nSome say the answer is (A). It is not, so the answer is (D)."
    )
    (row,) = parse(block)
    assert row["options"] == ["f(x)", "g (or so)", "(x, y)", "a) and b)"]
    assert row["question"].endswith("Which holds?")
    assert row["answer"] == "D"
    assert row["cot"].startswith("Let's think step by step.\nSome say")


@pytest.mark.parametrize(
    "block",
    [
        "Q: Three options?\n(A) 1 (B) 2 (C) 3\nA: Let's think. The answer is (C).",
        "Q: Answer outside?\n(A) 1 (B) 2 (C) 3 (D) 4\nA: Let's think. The answer is (E).",
        "Q: No answer?\n(A) 1 (B) 2 (C) 3 (D) 4\nA: Let's think.",
        "Q: Goes on after it?\n(A) 1 (B) 2 (C) 3 (D) 4\nA: The answer is (A). Or is it?",
        "Q: No assistant?\n(A) 1 (B) 2 (C) 3 (D) 4",
    ],
)
def test_a_block_that_does_not_fit_is_left_out(block: str) -> None:
    good = "Q: Fine?\n(A) 1 (B) 2 (C) 3 (D) 4\nA: Yes. The answer is (D)."
    assert [row["question"] for row in parse(block, good)] == ["Fine?"]


@pytest.mark.parametrize(
    ("damaged", "whole"),
    [
        ("\x0crac{1}{2}", r"\frac{1}{2}"),
        ("$I = \nrac{1}{2}$", r"$I = \frac{1}{2}$"),
        ("$\nactorial{n}$", r"$\factorial{n}$"),
        ("S \nightarrow S", r"S \rightarrow S"),
        ("\\left[0\right]", r"\left[0\right]"),
        ("a line\nright there\nrack", "a line\nright there\nrack"),
        ("Ag\t/ (x)", "Ag\t/ (x)"),
    ],
)
def test_latex_that_lost_its_first_letter_is_repaired(damaged: str, whole: str) -> None:
    assert repair(damaged) == whole


def test_equal_rows_are_kept_once_in_their_order() -> None:
    rows = [
        {"q": "b", "o": ["1", "2"]},
        {"q": "a", "o": ["1", "2"]},
        {"q": "b ", "o": ["1", " 2"]},
        {"q": "b", "o": []},
    ]
    assert first_of_each(rows, "q", "o") == [rows[0], rows[1], rows[3]]
    assert first_of_each(rows, "q") == rows[:2]
    assert first_of_each(rows, "q", beside=[{"q": "b"}]) == [rows[1]]


def test_a_row_stays_one_line_for_every_reader(tmp_path: Path) -> None:
    rows = [{"question": "a\x85b\u2028c\u2029d\x0be\rf\ng", "n": 1}, {"question": "é ½ 漢", "n": 2}]
    write_rows(tmp_path / "rows.jsonl", rows)
    text = (tmp_path / "rows.jsonl").read_bytes().decode()
    assert [json.loads(line) for line in text.splitlines()] == rows
    assert "é ½ 漢" in text


def test_57_subjects_make_fourteen_domains() -> None:
    assert len(subject_domains()) == 57
    assert len(domain_names()) == 14
    assert domain_names() == sorted(domain_names())
