"""Files of rows: what is read from them, and every way they can be wrong, told with the place."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sts_core.errors import UserError
from sts_core.text.sources import locate, read_records, read_rows

NEED = ("question", "worked")


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def refused(path: Path, columns: dict[str, str] | None = None, need: tuple[str, ...] = NEED) -> UserError:
    with pytest.raises(UserError) as caught:
        read_rows(path, columns or {}, need)
    assert caught.value.hint
    return caught.value


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    records = [{"question": "Wie viel, “bitte”?", "answer": "7"}, {"question": "two\nlines", "answer": "a,b"}]
    (tmp_path / "a.json").write_text(json.dumps(records), encoding="utf-8")
    lines(tmp_path / "a.jsonl", *records)
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text('question,answer\n"Wie viel, “bitte”?",7\n"two\nlines","a,b"\n', encoding="utf-8")
    first, *others = [read_rows(tmp_path / f"a.{kind}", {}, NEED) for kind in ("json", "jsonl", "parquet", "csv")]
    assert [row.question for row in first.rows] == [record["question"] for record in records]
    assert all(other == first for other in others)


def test_a_byte_order_mark_and_windows_line_ends_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"question": "q", "answer": "a"}\r\n\r\n')
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfquestion,answer\r\nq,a\r\n")
    for kind in ("jsonl", "csv"):
        assert [row.question for row in read_rows(tmp_path / f"a.{kind}", {}, NEED).rows] == ["q"]


def test_numbers_are_those_of_the_file_and_the_unusable_are_counted(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        {"question": " ", "answer": "1"},
        {"question": "first", "answer": "2"},
        {"question": None, "answer": "3"},
        {"question": "no answer", "answer": None},
        {"question": float("nan"), "answer": "4"},
        {"question": ["a list"], "answer": "5"},
        {"question": "second", "answer": 0},
    )
    got = read_rows(path, {}, NEED)
    assert [(row.number, row.question, row.answer) for row in got.rows] == [(1, "first", "2"), (6, "second", "0")]
    assert got.dropped == {"no question": 4, "no answer and no cot": 1}
    assert got.records == 7


def test_a_line_separator_inside_a_text_is_no_end_of_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "one\u2028still one\x85", "answer": "a"}\n', encoding="utf-8")
    assert [row.question for row in read_rows(path, {}, NEED).rows] == ["one\u2028still one\x85"]


def test_columns_are_mapped(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"prompt": "p", "gold": "g", "reasoning": "because"})
    row = read_rows(path, {"question": "prompt", "answer": "gold", "cot": "reasoning"}, NEED).rows[0]
    assert (row.question, row.answer, row.worked) == ("p", "g", "because")


def test_a_demonstration_says_the_worked_answer_where_there_is_one(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl", {"question": "p", "answer": "g", "cot": ""}, {"question": "q", "answer": "g", "cot": "so"}
    )
    assert [row.worked for row in read_rows(path, {}, NEED).rows] == ["g", "so"]


@pytest.mark.parametrize(
    "options",
    [["red", "blue"], {"text": ["red", "blue"], "label": ["A", "B"]}, '["red", "blue"]', {"A": "red", "B": "blue"}],
)
def test_options_stand_under_the_question(tmp_path: Path, options: object) -> None:
    path = lines(tmp_path / "a.jsonl", {"question": "Which?", "options": options, "answer": 1})
    row = read_rows(path, {}, NEED).rows[0]
    assert row.question == "Which?\nA. red\nB. blue"
    assert row.answer == "B"


@pytest.mark.parametrize(("answer", "kept"), [(9, None), (-1, None), (7, "7"), (0, "A")])
def test_a_number_that_points_at_no_option_is_no_answer(tmp_path: Path, answer: int, kept: str | None) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        {"question": "Which?", "options": ["6", "7"], "answer": answer},
        {"question": "And which?", "options": ["6", "7"], "answer": 1},
    )
    read = read_rows(path, {}, NEED)
    assert [row.answer for row in read.rows] == ([kept, "B"] if kept else ["B"])
    assert sum(read.dropped.values()) == (0 if kept else 1)


def test_torn_json_is_told_with_its_line(tmp_path: Path) -> None:
    good = ['{"question": "q", "answer": "a"}'] * 900
    good[699] = '{"question": "q", "ans'
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(good), encoding="utf-8")
    assert "rows.jsonl, line 700 " in refused(path).message


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b"", "holds no rows"),
        ("a.jsonl", b"\n \n", "holds no rows"),
        ("a.json", b"", "holds no rows"),
        ("a.json", b"[]", "holds no rows"),
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"question,answer\n", "holds no rows"),
        ("a.parquet", b"", "not a Parquet file"),
        ("a.parquet", b"PAR1 and nothing", "not a Parquet file"),
        ("a.jsonl", b'{"question": "caf\xe9", "answer": "a"}', "not UTF-8"),
        ("a.csv", b"question,answer\ncaf\xe9,a\n", "not UTF-8"),
        ("a.json", b"\xff\xfe[\x00]\x00", "not UTF-8"),
        ("a.jsonl", b'["question"]', "line 1 is not a JSON object"),
        ("a.json", b'{"question": "q"}', "not a list of JSON objects"),
        ("a.json", b'[{"question": "q"}, 3]', "not a list of JSON objects"),
        ("a.json", b'[{"question": "q"', "not valid JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1 is not valid JSON"),
        ("a.json", b"[" * 100_000, "not valid JSON"),
        ("a.csv", b'question,answer\n"torn,a\n', "not valid CSV"),
        ("a.jsonl", b'{"question": "q"}', "neither a column 'answer' nor 'cot'"),
        ("a.jsonl", b'{"questoin": "q", "answer": "a"}', 'did you mean "questoin"'),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    error = refused(tmp_path / name)
    assert told in error.message
    assert "\n" not in error.message.strip()


def test_a_mapped_column_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"prompt": "p", "answer": "g"})
    assert "no column 'promt' for question (did you mean \"prompt\"?)" in refused(path, {"question": "promt"}).message


def test_an_optional_column_that_is_mapped_must_be_there(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"question": "p", "answer": "g"})
    assert "no column 'why' for cot" in refused(path, {"cot": "why"}).message


def test_a_folder_in_the_files_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(UserError):
        locate(str(tmp_path / "a.jsonl"))
    with pytest.raises(UserError):
        read_records(tmp_path / "a.jsonl")


@pytest.mark.parametrize("name", ["gsm-symbolc", "mmlu/phisics", "", "a b", "..", "nowhere.jsonl", "x\0.jsonl"])
def test_what_names_nothing_is_told(own_cache: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        locate(name)
    assert caught.value.hint


def test_the_nearest_set_is_named(own_cache: Path) -> None:
    with pytest.raises(UserError, match='did you mean "gsm-symbolic"'):
        locate("gsm-symbolc")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question,answer\nwhat, then,7\n", "line 2 has more fields"),
        ("question,question,answer\na,b,c\n", "two columns named 'question'"),
    ],
)
def test_a_csv_that_would_lose_text_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "ragged.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_records(path)
