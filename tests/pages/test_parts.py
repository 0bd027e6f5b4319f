"""The pieces of the pages by themselves: choices and their file, the child that plans, the door, uploads, escaping."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.parts import plan, uploads
from pages.parts.choices import DEFAULTS, as_toml, choices_from, domain_files, same_choice, short, spec_from
from pages.parts.escape import plain
from pages.parts.plan import Asked
from sts_core.errors import UserError
from sts_core.folders import PROJECT
from sts_core.spec import Spec
from tests.pages.synthetic import make_spec

NASTY = {"model": 'a"b\\c\x7f\n', "target": "/data/é 日本\x01.jsonl", "target_question": 'q"]', "seed": 5}


def test_choices_become_a_spec_and_come_back() -> None:
    chosen = DEFAULTS | {"seed": 3, "domains": ["law", "math"], "domain_tokens": 77, "target_answer": "solution"}
    assert choices_from(spec_from(chosen)) == chosen


def test_the_machine_and_the_layer_do_not_make_another_choice() -> None:
    assert same_choice(spec_from(DEFAULTS), make_spec() | {"layer": 15})
    assert not same_choice(spec_from(DEFAULTS), make_spec(run={"seed": 1}))


def test_a_spec_the_page_cannot_choose_has_no_choices() -> None:
    assert choices_from(make_spec(pool={"outliers": "off"})) is None
    assert choices_from({"model": 3}) is None


@pytest.mark.parametrize("changes", [{}, NASTY, {"domains": ["law"]}, {"domain_tokens": 7, "domain_demos": 3}])
def test_the_file_reads_back_as_the_spec(changes: dict[str, object]) -> None:
    spec = spec_from(DEFAULTS | changes)
    assert Spec.from_dict(tomllib.loads(as_toml(spec))) == Spec.from_dict(spec)


def test_the_embedded_fourteen_take_one_table() -> None:
    assert len(as_toml(spec_from(DEFAULTS)).splitlines()) < 25


def test_a_folder_of_files_is_a_list_of_domains(tmp_path: Path) -> None:
    for name in ("physics.jsonl", "car law!.csv", "notes.txt", ".hidden"):
        (tmp_path / name).write_text("x")
    assert list(domain_files(str(tmp_path))) == ["car law", "physics"]
    spec = spec_from(DEFAULTS | {"domain_folder": str(tmp_path), "domain_question": "q"})
    assert spec["domains"][1]["data"] == str(tmp_path / "physics.jsonl")
    assert spec["domains"][1]["columns"] == {"question": "q"}
    assert choices_from(spec) == DEFAULTS | {"domain_folder": str(tmp_path), "domain_question": "q"}


@pytest.mark.parametrize("folder", ["/no/such", "a\x00b", "{tmp}/file", "{tmp}/empty"])
def test_a_folder_that_is_none_is_told(folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        domain_files(folder.format(tmp=tmp_path))


def test_long_names_are_shortened_in_the_middle() -> None:
    assert short("/data/sets/limo.jsonl") == "limo.jsonl"
    assert short("organisation/a-very-long-model-name-7b-instruct", 20) == "organisati…-instruct"


@pytest.mark.parametrize(
    "text", ["**b** _i_ `c`", "<script>", "[a](javascript:x)", ":red[x] $x$", "# h", "a\n\n- b", "1. x"]
)
def test_escaped_text_holds_no_markdown(text: str) -> None:
    escaped = plain(text)
    assert "\n" not in escaped
    assert all(escaped[i - 1] == "\\" for i, letter in enumerate(escaped) if letter in "*_`<>[]$#:")


@pytest.mark.parametrize("address", ["http://a.b", "[x](HTTPS://a.b/c)", "www.a.org", "me@a.org"])
def test_an_address_is_no_link(address: str) -> None:
    assert not re.search(r"https?:?//|www\.|@a", plain(address).replace("\\", ""), re.IGNORECASE)
    assert plain("overlap@100, 3 // 4, p@k.").replace("\\", "") == "overlap@100, 3 // 4, p@k."


def test_signs_that_turn_a_line_are_boxes() -> None:
    assert plain("abc\u202edesrever\u2066 \x00\x1b ok") == "abc\ufffddesrever\ufffd \ufffd\ufffd ok"
    assert plain("👩\u200d🚀 مرحبا 1\u202f752") == "👩\u200d🚀 مرحبا 1\u202f752"


def test_the_child_is_asked_with_the_spec_as_a_file(
    tell_plan: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import sys, json, tomllib; print(json.dumps({'argv': sys.argv[2:], **tomllib.load(open(sys.argv[1], 'rb'))}))"
    )
    monkeypatch.setattr(plan, "COMMAND", (sys.executable, "-c", script))
    answer = Asked(spec_from(DEFAULTS), prompts=2).wait(20)
    assert answer.plan is not None
    assert answer.plan["argv"] == ["--json", "--prompts", "2"]
    assert answer.plan["target"]["data"] == "gsm-symbolic"


@pytest.mark.parametrize(
    ("out", "err", "code", "message"),
    [
        ("", "noise\nerror: No such model\nhint: Try another", 2, "No such model"),
        ("", "Traceback\nBoom: it broke", 1, "The check of these settings failed"),
        ("not json", "", 0, "The check of these settings failed"),
        ("[]", "", 0, "The check of these settings failed"),
    ],
)
def test_what_the_child_says_wrong_is_told(
    tell_plan: Callable[..., None], out: str, err: str, code: int, message: str
) -> None:
    tell_plan(out, err, code)
    answer = Asked(spec_from(DEFAULTS)).wait(20)
    assert answer.plan is None
    assert answer.error is not None
    assert answer.error.message == message


def test_a_question_nobody_waits_for_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(plan, "COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    asked = Asked(spec_from(DEFAULTS))
    assert asked.answer() is None
    asked.drop()
    assert list(tmp_path.iterdir()) == []


def test_an_upload_is_kept_by_what_it_holds_under_a_harmless_name(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def file(name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, getvalue=lambda: b'{"question": "q"}\n')

    state = {"target_file": file("../../etc/pass\x00wd.jsonl"), "domain_files": [file("b.jsonl"), file("a.jsonl")]}
    monkeypatch.setattr(st, "session_state", state)
    uploads.keep_target_file()
    uploads.keep_domain_files()
    kept = Path(str(state["target"]))
    assert kept.is_relative_to(own_cache / "uploads")
    assert kept.name == "pass_wd.jsonl"
    assert sorted(p.name for p in Path(str(state["domain_folder"])).iterdir()) == ["a.jsonl", "b.jsonl"]


def test_with_a_password_nothing_is_shown_before_it(
    pages_cache: Path, tell_plan: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STS_PASSWORD", "opensesamé")
    test = AppTest.from_file(str(PROJECT / "app.py"), default_timeout=30).run()
    assert [t.label for t in test.text_input] == ["Password"]
    test.text_input[0].input("wrong")
    test.button[0].click().run()
    assert "not the password" in test.error[0].value
    test.text_input[0].input("opensesamé")
    test.button[0].click().run()
    assert "Password" not in [t.label for t in test.text_input]
    assert "Nothing is measured yet" in " ".join(str(e.value) for e in test.markdown)


def test_guessing_the_password_is_slowed(
    pages_cache: Path, tell_plan: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STS_PASSWORD", "right")
    test = AppTest.from_file(str(PROJECT / "app.py"), default_timeout=30).run()
    for _ in range(11):
        test.text_input[0].input("wrong")
        test.button[0].click().run()
    assert "Too many" in test.error[0].value
    test.text_input[0].input("right")
    test.button[0].click().run()
    assert "Too many" in test.error[0].value
