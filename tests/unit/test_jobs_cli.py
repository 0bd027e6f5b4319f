"""`sts jobs` as a person types it: one job with its numbers, and cancel, resume, delete, first."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from sts_core import cli
from sts_core.jobs import queue
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import LOG, create
from sts_core.jobs.process import created
from sts_core.store.database import owner
from sts_core.store.ingest import ingest_all
from sts_core.store.note import write_note

Shown = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _cache(own_cache: Path) -> None:
    """Every test has a cache of its own."""


def a_job(title: str = "soup", state: str = "failed", **status: object) -> Path:
    return create({"kind": "sft", "title": title, "spec": {}, "options": {}}, {"state": state, **status})


def sts(shown: Shown, *words: str) -> tuple[int, str, str]:
    code = cli.main(["jobs", *words])
    out = shown.readouterr()
    return code, out.out, out.err


def test_one_job_is_told_with_its_newest_numbers_scores_and_log(capsys: Shown) -> None:
    folder = a_job(error="It broke", hint="Mend it", attempt=2)
    for step in (1, 2):
        append_event(folder, "step", step=step, loss=2.5 / step, learning_rate=math.nan)
    append_event(
        folder, "evaluation", phase="before", domain="law", metric="nll", value=1.25, se=0.5, n=9, source="own"
    )
    (folder / LOG).write_text("first\nlast words\n")
    write_note(folder.name, "too hot")
    code, out, _ = sts(capsys, folder.name)
    assert code == 0
    for words in ("attempt 2", "error: It broke", "hint: Mend it", "note: too hot", "law", "before", "1.250 ± 0.500"):
        assert words in out
    assert [line.split() for line in out.splitlines() if line.startswith("loss")] == [["loss", "2", "1.25"]]
    assert out.splitlines()[-1] == "last words"
    with owner() as database:  # beside a dashboard it is the same
        ingest_all(database)
        assert sts(capsys, folder.name)[1] == out
    (told,) = json.loads(sts(capsys, folder.name, "--json")[1])
    values = {row["name"]: (row["step"], row["value"]) for row in told["metrics"]}
    assert values == {"loss": (2, 1.25), "learning_rate": (2, None)}
    assert told["evaluations"][0]["domain"] == "law"
    assert told["log"] == ["first", "last words"]


def test_what_a_person_wrote_is_shown_and_not_obeyed(capsys: Shown) -> None:
    hostile = "a\u202eb\0c\x1b[31md"
    folder = a_job(title=hostile, state="done")
    write_note(folder.name, f"{hostile} {'x' * 5_000}")
    (folder / LOG).write_text(f"{hostile}\n")
    out = sts(capsys, folder.name)[1] + sts(capsys)[1] + sts(capsys, "--cancel", folder.name)[2]
    assert not set(out) & {"\u202e", "\0", "\x1b"}
    assert out.count("a\\u202eb\\x00c\\x1b[31md") == 5  # the title three times, the note, the log
    assert max(map(len, out.splitlines())) < 500
    assert "5,0" in next(line for line in out.splitlines() if line.startswith("note: "))
    assert json.loads(sts(capsys, folder.name, "--json")[1])[0]["note"].endswith("xxx")


def test_a_cancel_prints_its_message_alone(capsys: Shown) -> None:
    folder = a_job(state="done")
    assert sts(capsys, "--cancel", folder.name) == (0, "", '"soup" had already ended (done); nothing was changed.\n')


def test_a_program_hears_of_what_was_done_by_its_id(capsys: Shown) -> None:
    folder = a_job(state="done")
    code, out, err = sts(capsys, "--cancel", folder.name, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {"id": folder.name, "told": '"soup" had already ended (done); nothing was changed.'}
    code, out, _ = sts(capsys, "--clone", folder.name, "--json")
    told = json.loads(out)
    assert (code, (folder.parent / told["id"]).is_dir(), told["id"] != folder.name) == (0, True, True)


def test_a_delete_takes_the_folder_and_the_rows(capsys: Shown) -> None:
    folder = a_job()
    append_event(folder, "one")
    sts(capsys, folder.name)  # its rows are in the database now
    code, _, err = sts(capsys, "--delete", folder.name)
    assert (code, folder.exists()) == (0, False)
    assert "freed" in err
    with owner() as database:
        ingest_all(database)
        with database.reading() as connection:
            for table in ("jobs", "events", "ingested"):
                assert connection.execute(f"select count(*) from {table}").fetchone() == (0,)
    assert [path.name for path in folder.parent.iterdir() if path.name != ".lock"] == []
    assert sts(capsys, "--delete", folder.name)[0] == 2


def test_a_job_is_resumed_or_moved_by_its_id(capsys: Shown) -> None:
    """This very process has the place, so that nothing begins here."""
    a_job("at work", "running", pid=os.getpid(), pid_started=created(os.getpid()))
    first, second = a_job("first", "waiting"), a_job("second")
    code, _, err = sts(capsys, "--resume", second.name)
    start = "from the first step, for want of a checkpoint"
    assert (code, err) == (0, f'"second" goes on as attempt 2, {start}; it waits for "first".\n')
    assert sts(capsys, "--first", second.name)[2] == f'{second.name} is first in line; it waits for "at work".\n'
    code, _, err = sts(capsys, "--resume", first.name)
    assert (code, len(err.splitlines())) == (2, 2)
    assert [job.title for job in queue.lines()[0].waiting] == ["second", "first"]


def test_a_part_of_an_id_is_enough_where_it_is_of_one_job_alone(capsys: Shown) -> None:
    one, other = a_job("one"), a_job("other")
    assert one.name in sts(capsys, one.name[-6:])[1]
    code, _, err = sts(capsys, "--delete", one.name[:8])  # the day, which both have
    assert (code, "2 jobs are named like" in err) == (2, True)
    assert sts(capsys, "--delete", one.name[-1:])[0] == 2  # too little, and no id
    assert sts(capsys, "--delete", other.name[-6:])[0] == 0
    assert (one.exists(), other.exists()) == (True, False)


def test_two_things_at_once_are_refused(capsys: Shown) -> None:
    code, _, err = sts(capsys, "--first", "a", "--delete", "b")
    assert code == 2
    assert "--delete and --first" in err
