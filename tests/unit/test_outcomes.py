"""Outcomes from others' files: the formats as lm-eval and MMLU-Pro's scripts write them, and every way to be wrong."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sts_core.errors import UserError
from sts_core.results.outcomes.outcome import Outcome, of_metric, pair
from sts_core.results.outcomes.reading import left_out, levels_from, outcomes_from, read_levels, read_outcomes
from sts_core.spec import MMLU_DOMAINS


def lm_eval(shift: float = 0.0, **changes: Any) -> dict[str, Any]:
    """What 0.4.x writes of a group with two subjects and of a task beside it."""
    return {
        "results": {
            "mmlu_pro": {"exact_match,custom-extract": 0.5 + shift, "exact_match_stderr,custom-extract": 0.01,
                         "alias": "mmlu_pro"},
            "mmlu_pro_law": {"name": "mmlu_pro_law", "alias": " - law", "sample_len": 900,
                             "exact_match,custom-extract": 0.25 + shift, "exact_match_stderr,custom-extract": 0.03},
            "mmlu_pro_computer_science": {"alias": " - computer_science", "exact_match,custom-extract": 0.5 + shift,
                                          "exact_match_stderr,custom-extract": "N/A"},
            "wikitext": {"alias": "wikitext", "word_perplexity,none": 20.0 - shift, " ": " ",
                         "word_perplexity_stderr,none": "N/A"},
        },
        "groups": {"mmlu_pro": {"exact_match,custom-extract": 0.5 + shift, "alias": "mmlu_pro"}},
        "group_subtasks": {"mmlu_pro": ["mmlu_pro_law", "mmlu_pro_computer_science"], "wikitext": []},
        "higher_is_better": {"mmlu_pro_law": {"exact_match": True}, "wikitext": {"word_perplexity": False}},
        "n-samples": {"mmlu_pro_law": {"original": 1101, "effective": 1101}},
        "config": {"model": "hf"},
        **changes,
    }  # fmt: skip


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def records(subject: str, right: list[bool], category: bool = True) -> list[dict[str, Any]]:
    """A subject's list as MMLU-Pro's scripts write it."""
    made = []
    for number, is_right in enumerate(right):
        record = {"question_id": 100 + number, "options": ["a", "b", "c"], "answer": "B", "answer_index": 1,
                  "pred": "B" if is_right else "C", "model_outputs": "…"}  # fmt: skip
        made.append({**record, **({"category": subject} if category else {})})
    return made


def test_a_pair_of_lm_eval_results(tmp_path: Path) -> None:
    """Keys with filters, with and without name, aliases as a tree, "N/A"; groups are no domains."""
    law, science, wiki = read_outcomes(write(tmp_path / "a.json", lm_eval()), write(tmp_path / "b.json", lm_eval(-0.1)))
    assert law == Outcome(
        "law", 0.25, 0.15, pytest.approx(-0.1), pytest.approx(0.03 * math.sqrt(2)), 1101,
        "exact_match,custom-extract", "lm-eval", "share", False,
    )  # fmt: skip
    assert (science.domain, science.se, science.n) == ("computer science", None, None)
    assert law.harm == pytest.approx(10)  # percentage points lost
    assert law.harm_se == pytest.approx(3 * math.sqrt(2))
    assert (wiki.domain, wiki.metric, wiki.lower_is_better) == ("wikitext", "word_perplexity", True)
    assert wiki.harm == pytest.approx(0.1)


def test_metrics_are_chosen_by_name(tmp_path: Path) -> None:
    found = pair(
        levels_from("a.json", json.dumps(lm_eval()).encode()), levels_from("b.json", json.dumps(lm_eval()).encode())
    )
    assert [outcome.domain for outcome in of_metric(found, "word_perplexity")] == ["wikitext"]
    with pytest.raises(UserError, match="2 metrics"):
        of_metric(found)
    with pytest.raises(UserError, match='"word_perplexity"'):
        of_metric(found, "word_perplexty")


def test_older_and_barer_results_of_lm_eval() -> None:
    """No filter in the keys, no alias, no list of groups; a group alone; names that would fall together."""
    plain = {"results": {"arc_easy": {"acc": 0.5, "acc_stderr": 0.1, "acc_norm": 0.6, "acc_norm_stderr": None}}}
    first, second = levels_from("r.json", json.dumps(plain).encode())
    assert (first.domain, first.metric, first.value, first.se) == ("arc easy", "acc", 0.5, 0.1)
    assert (second.metric, second.se) == ("acc_norm", None)
    group = {"results": {"mmlu": {"acc,none": 0.5}}, "group_subtasks": {"mmlu": ["mmlu_law"]}}
    assert levels_from("r.json", json.dumps(group).encode())[0].domain == "mmlu"
    alike = {"results": {name: {"acc,none": 0.5, "alias": " - law"} for name in ("mmlu_law", "agieval_law")}}
    assert [level.domain for level in levels_from("r.json", json.dumps(alike).encode())] == ["mmlu law", "agieval law"]
    stripped = {"results": {"mmlu_pro_law": {"acc,none": 0.5}}, "groups": {"mmlu": {}, "mmlu_pro": {}}}
    assert levels_from("r.json", json.dumps(stripped).encode())[0].domain == "law"
    bare = {"results": {name: {"acc,none": 0.5} for name in ("mmlu_pro_law", "mmlu_anatomy", "mmlu_pro")}}
    assert [one.domain for one in levels_from("r.json", json.dumps(bare).encode())] == ["law", "anatomy", "mmlu pro"]


def test_mmlu_pro_lists_are_compared_row_by_row(tmp_path: Path) -> None:
    """Subjects with blanks or underscores, from the rows or the file's name; the error is of paired differences."""
    draw = random.Random(3)
    sides = [[draw.random() < 0.6 for _ in range(40)] for _ in range(2)]
    for side, right in zip(("before", "after"), sides, strict=True):
        (tmp_path / side).mkdir()
        shuffled = random.Random(1).sample(records("law", right), 40)
        write(tmp_path / side / "law_result.json", shuffled if side == "after" else records("law", right))
        named = "computer science.json" if side == "after" else "computer_science_result.json"
        write(tmp_path / side / named, records("", right, category=False))
    found = {outcome.domain: outcome for outcome in read_outcomes(tmp_path / "before", tmp_path / "after")}
    differences = np.array(sides[1], float) - np.array(sides[0], float)
    assert sorted(found) == ["computer science", "law"]
    for outcome in found.values():
        assert outcome.change == pytest.approx(differences.mean())
        assert outcome.se == pytest.approx(differences.std(ddof=1) / math.sqrt(40))
        assert outcome.n == 40


def test_an_unread_answer_counts_as_the_scripts_guess() -> None:
    """Their generator is seeded anew for each row: of three options it always says the same one."""
    guess = random.Random(12345).randint(0, 2)
    for index in range(3):
        row = {**records("law", [True])[0], "pred": None, "answer_index": index}
        assert levels_from("law.json", json.dumps([row]).encode())[0].value == float(index == guess)


def test_mmlu_pro_summaries(tmp_path: Path) -> None:
    """JSON with counts, text with rounded numbers, and a folder of both with the lists: what tells most is taken."""
    summary = {"law": {"corr": 30.0, "wrong": 70.0, "acc": 0.3}, "total": {"corr": 30.0, "wrong": 70.0, "acc": 0.3}}
    (level,) = levels_from("law_summary.json", json.dumps(summary).encode())
    assert (level.domain, level.value, level.n) == ("law", 0.3, 100)
    assert level.se == pytest.approx(np.std([1] * 30 + [0] * 70, ddof=1) / 10)
    text = (
        "\n------category level sta------\nAverage accuracy 0.3000 - law\nAverage accuracy 0.39 - computer_science\n\n"
    )
    rounded = levels_from("x_summary.txt", (text + "------average acc sta------\nAverage accuracy: 0.3300\n").encode())
    assert [(entry.domain, entry.value, entry.se, entry.n) for entry in rounded] == [
        ("law", 0.3, None, None), ("computer science", 0.39, None, None),
    ]  # fmt: skip
    write(tmp_path / "a_summary.txt", text)
    write(tmp_path / "law_summary.json", summary)
    write(tmp_path / "law_result.json", records("law", [True] * 30 + [False] * 70))
    merged = {entry.domain: entry for entry in read_levels(tmp_path)}
    assert merged["law"].rows is not None
    assert len(merged["law"].rows) == 100
    assert merged["computer science"].n is None
    write(tmp_path / "law_result.json", records("law", [True] * 31 + [False] * 69))
    with pytest.raises(UserError, match="differently"):
        read_levels(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("domain,before,after\nlaw,30,27.5\n", ("law", 30, 27.5, -2.5, None, None, "score")),
        (
            "Domain , Change\ncomputer_science,−11.97\n",
            ("computer science", None, None, -11.97, None, None, "score"),
        ),
        ("change,se,n,metric,note,domain\n0.2,.05,120,nll,x,Law\n", ("law", None, None, 0.2, 0.05, 120, "nll")),
        ("domain,before,after,change\nlaw,30,27.5,-2.5\n\n", ("law", 30, 27.5, -2.5, None, None, "score")),
    ],
)
def test_csv(text: str, expected: tuple[Any, ...]) -> None:
    (outcome,) = outcomes_from("t.csv", b"\xef\xbb\xbf" + text.encode())
    assert outcome[:7] == pytest.approx(expected)
    assert outcome.harm == (outcome.change if outcome.metric == "nll" else -outcome.change)


def test_published_changes_are_read_as_they_stand(tmp_path: Path) -> None:
    """Two columns with the fourteen domains, as one would type them from a paper."""
    lines = [f"{name},{number / 7 - 1:.2f}" for number, name in enumerate(MMLU_DOMAINS)]
    found = read_outcomes(write(tmp_path / "paper.csv", "domain,change\n" + "\n".join(lines)))
    assert [outcome.domain for outcome in found] == list(MMLU_DOMAINS)
    assert found[0].harm == 1.0


WRONG: list[tuple[str, Any, str]] = [
    ("a.json", "{", "line 1 is not valid JSON"),
    ("a.json", "[" * 100_000, "not JSON that can be read"),
    ("a.json", "1" * 5000, "not JSON that can be read"),
    ("a.json", "[]", "empty list"),
    ("a.json", "{}", "neither lm-eval"),
    ("a.json", '"x"', "neither lm-eval"),
    ("a.json", [{"pred": "A"}], "entry 0 has no pred and answer"),
    ("a.json", [{"pred": 3, "answer": "A"}], "to be letters"),
    ("a.json", [{"pred": None, "answer": "A"}], "to guess from"),
    ("a.json", records("law", [True]) * 2, "there twice"),
    ("a.json", records("x" * 80, [True]), "cannot be named"),
    ("a.json", {"law": {"corr": 3, "wrong": 0.5}}, "law → wrong is '0.5', not a count"),
    ("a.json", {"law": {"corr": 0, "wrong": 0}}, "counts no row"),
    ("a.json", {"law": {"corr": 1, "wrong": 1, "acc": 0.9}}, "corr and wrong give 0.5000"),
    ("a.json", {"total": {"corr": 1, "wrong": 1}}, "no subject"),
    ("a.json", {"results": []}, "results is not a table"),
    ("a.json", {"results": {}}, "no metric"),
    ("a.json", {"results": {"law": 3}}, "law is not a table"),
    ("a.json", {"results": {"law": {"acc,none": "N/A"}}}, "no metric"),
    ("a.json", '{"results": {"law": {"acc,none": NaN}}}', "not a number"),
    ("a.json", {"results": {"law": {"acc,none": "x"}, "math": {"acc,none": 0.5}}}, "law → acc,none is 'x'"),
    ("a.csv", "domain,change\nlaw,1\n", "holds both sides by itself"),
    ("a.json", {"results": {"law": {"acc,none": None}}}, "law → acc,none is None"),
    ("a.json", {"results": {"law": {"acc,none": 10**400}}}, "too large"),
    ("a.json", {"results": {"law": {"acc,none": 0.5, "acc_stderr,none": -1}}}, "standard error"),
    ("a.json", {"results": {"a/b": {"acc,none": 0.5}}}, "cannot be named"),
    ("a.txt", "Accuracy 0.3", "no line like"),
    ("a.txt", "\nAverage accuracy 39.0 - law", "line 2: '39.0'"),
    ("a.txt", "Average accuracy 0.3 - law\nAverage accuracy 0.4 - law", "twice, with other numbers"),
    ("a.xlsx", "x", "no kind of file"),
    ("a.json", b"\xff\xfe", "not UTF-8"),
]


@pytest.mark.parametrize(("name", "content", "told"), WRONG)
def test_what_is_wrong_with_a_side_is_told(name: str, content: Any, told: str) -> None:
    raw = content if isinstance(content, bytes) else content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(UserError) as error:
        levels_from(name, raw if isinstance(raw, bytes) else raw.encode())
    assert told in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column 'domain'"), ("domain,chnage\nlaw,1", 'no column \'change\' (did you mean "chnage"?)'),
        ("domain,change", "no line below"), ("domain,before\nlaw,1", "no column 'after'"),
        ("domain,change\nlaw,x", "line 2, change: 'x' is not a number"), ("domain,change\nlaw,inf", "not a number"),
        ("domain,change\nlaw,1\nLaw,2", "line 3: law is there twice"), ("domain,change\nlaw", "line 2 has 1 fields"),
        ("domain,change\n,1", "cannot be named"), ("domain,change\nlaw,", "no number for the change"),
        ("domain,before,after\nlaw,1,", "only one of before and after"), ('domain,change\n"law', "not valid CSV"),
        ("domain,before,after,change\nlaw,30,27,3", "change is 3.0"), ("domain,change,n\nlaw,1,0", "n is '0'"),
        ("domain,change,se\nlaw,1,-1", "se is -1.0"), ("domain,change,domain\nlaw,1,law", "two columns named 'domain'"),
        ("domain,before,after\nlaw,-1e308,1e308", "-1e+308 is no score"),
        ("domain,before,after\nlaw,53,50\nmath,40,41\nhistory,.4,.5\nlit,.3,.3", "history seems to be given as a sh"),
        ("domain,before,after\nlaw,53.78,0.56\nmath,40,0.3", "of two scales: 53.78 and 0.56"),
        ("domain,before,after\nlaw,0.5,53\nmath,0.4,41\nhistory,0,0", "of two scales: 0.5 and 53"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_csv_is_told(text: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        outcomes_from("t.csv", text.encode())
    assert told in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "domain,before,after\nlaw,53.78,0.56\nmath,40,41",  # one of two crashed
        "domain,before,after,metric\nlaw,53.78,0.56,nll\nmath,40,0.3,nll",  # a loss may fall so far
        "domain,before,after\nlaw,12,0.9\nmath,14,0.8",
    ],
)
def test_a_large_change_is_no_other_scale(text: str) -> None:
    assert len(outcomes_from("t.csv", text.encode())) == 2


def test_domains_with_a_number_on_one_side_alone_are_named(tmp_path: Path) -> None:
    after = lm_eval(0.1)
    after["results"]["mmlu_pro_law"]["exact_match,custom-extract"] = "N/A"
    del after["results"]["wikitext"]  # a metric that the other side lacks is no domain left out
    places = write(tmp_path / "a.json", lm_eval()), write(tmp_path / "b.json", after)
    assert left_out(*places) == ["law"]
    assert "law" not in {one.domain for one in read_outcomes(*places)}
    assert left_out(places[0], places[0]) == []


def test_what_is_wrong_with_a_pair_is_told(tmp_path: Path) -> None:
    law = write(tmp_path / "law.json", records("law", [True, False]))
    cases: list[tuple[Path, Path | None, str]] = [
        (law, None, "one side alone"),
        (law, write(tmp_path / "more.json", records("law", [True] * 3)), "2 rows before, 3 after, 2 of them the same"),
        (law, write(tmp_path / "other.json", records("math", [True, False])), "no domain and metric in common"),
        (law, tmp_path / "gone.json", "There is no file"),
        (tmp_path / "gone.csv", None, "There is no file"),
    ]
    for before, after, told in cases:
        with pytest.raises(UserError, match=told):
            read_outcomes(before, after)


def test_folders(tmp_path: Path) -> None:
    """An empty one, one with two results of lm-eval, one with a single one."""
    with pytest.raises(UserError, match="holds no evaluation"):
        read_levels(tmp_path)
    write(tmp_path / "results_1.json", lm_eval())
    assert {level.domain for level in read_levels(tmp_path)} == {"law", "computer science", "wikitext"}
    write(tmp_path / "results_2.json", lm_eval())
    with pytest.raises(UserError, match=r"2 results files"):
        read_levels(tmp_path)


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(UserError, match="larger than 64 MB"):
        read_levels(tmp_path / "huge.json")


@pytest.mark.parametrize("after", [30.0, -5.0])
def test_a_share_is_not_set_beside_what_is_none(after: float) -> None:
    sides = [levels_from("a.json", json.dumps({"results": {"law": {"acc,none": v}}}).encode()) for v in (0.25, after)]
    with pytest.raises(UserError, match=r"law: acc is 0\.25 before, a share and") as error:
        pair(*sides)
    assert "per cent on both" in error.value.hint


@pytest.mark.parametrize("sign", [";", "\t"])
def test_a_table_that_is_parted_otherwise_is_told_as_such(sign: str) -> None:
    with pytest.raises(UserError, match="not parted by commas"):
        outcomes_from("a.csv", f"domain{sign}before{sign}after\nlaw{sign}1{sign}2\n".encode())
