"""A job's folder by itself: what damage it bears, how events are numbered, how pace is told."""

from __future__ import annotations

import json
import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sts_core.errors import UserError
from sts_core.jobs import watch
from sts_core.jobs.disk import last_checkpoint
from sts_core.jobs.events import EVENTS, append_event, read_events
from sts_core.jobs.folder import Job, create, load, locate, names
from sts_core.jobs.pace import Pace
from sts_core.jobs.worker import Record, Stopped
from sts_core.progress import Progress


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STS_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def folder() -> Path:
    return create({"kind": "run", "title": "soup", "spec": {"model": "m"}, "options": {}}, {})


def test_ids_sort_by_time_and_differ() -> None:
    made = [create({"kind": "run"}, {}).name for _ in range(50)]
    assert len(set(made)) == 50
    stamps = [name.rsplit("-", 1)[0] for name in made]
    assert stamps == sorted(stamps)
    assert names() == sorted(made, reverse=True)


@pytest.mark.parametrize("name", ["../jobs", "", "nope", ".", "20250101-000000-000000-abcdef"])
def test_an_id_that_is_no_job_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="no job"):
        watch.read(name)


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'"running"', b"{}", b'{"state": "purple"}', b'{"state": ["running"]}',
        b'{"state": "running", "done": "much"}', b'{"state": "running", "pid": "me"}',
        b'{"state": "done", "started": "yesterday"}', b'{"state": "running", "total": [1]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_status_is_a_failed_job_with_a_reason(folder: Path, damage: bytes) -> None:
    (folder / "status.json").write_bytes(damage)
    (job,) = watch.all_jobs()
    assert (job.state, job.title) == ("failed", "soup")
    assert "status.json" in job.error
    assert job.hint
    assert watch.cancel(job.id).job.state == "failed"


@pytest.mark.parametrize("damage", [b"", b"[1]", b'{"format": 2}', b"{}"])
def test_a_damaged_or_newer_order_is_a_failed_job_with_a_reason(folder: Path, damage: bytes) -> None:
    (folder / "spec.json").write_bytes(damage)
    (job,) = watch.all_jobs()
    assert job.state == "failed"
    assert "spec.json" in job.error


def test_missing_files_and_strange_neighbours_do_not_break_the_list(folder: Path) -> None:
    (folder / "status.json").unlink()
    empty = folder.with_name("20200101-000000-000000-abcdef")
    empty.mkdir()
    folder.with_name("notes.txt").write_text("mine")
    folder.with_name("20200101-000000-000000-ffffff").write_text("a file")
    folder.with_name(".20200101-000000-000000-dddddd").mkdir()
    assert [(job.id, job.state) for job in watch.all_jobs()] == [(folder.name, "failed"), (empty.name, "failed")]
    assert [watch.newest("run"), watch.running()] == [load(folder), None]


def test_a_result_is_told_only_of_a_job_that_is_done(folder: Path) -> None:
    status = {"state": "cancelled", "result": "result"}
    (folder / "status.json").write_text(json.dumps(status))
    assert load(folder).result == ""
    (folder / "status.json").write_text(json.dumps(status | {"state": "done"}))
    assert load(folder).result == "result"


def test_the_logs_tail_is_short_and_readable(folder: Path) -> None:
    assert load(folder).log_tail() == []
    long = "".join(f"line {i}\n" for i in range(50_000))
    (folder / "log.txt").write_bytes(long.encode() + b"10%\r50%\r100%\n\nodd \xff byte\nunfinished")
    assert load(folder).log_tail(5) == ["line 49998", "line 49999", "100%", "odd � byte", "unfinished"]
    assert load(folder).log_tail(0) == []


def test_an_event_file_torn_anywhere_is_read_and_continued(folder: Path) -> None:
    for word in ("first", "sécond", "third"):
        append_event(folder, word, note="ü" * 5)
    whole = (folder / EVENTS).read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        (folder / EVENTS).write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends)
        assert [e["seq"] for e in read_events(folder)] == list(range(1, kept + 1))
        assert append_event(folder, "next") == kept + 1
        assert [e["seq"] for e in read_events(folder)] == list(range(1, kept + 2))
        assert (folder / EVENTS).read_bytes().startswith(whole[: ends[kept - 1] if kept else 0])


def test_events_are_read_from_a_number_on_and_damaged_lines_passed_over(folder: Path) -> None:
    for word in ("a", "b", "c"):
        append_event(folder, word)
    with (folder / EVENTS).open("ab") as file:
        file.write(b'not json\n[1]\n{"seq": "4"}\n')
    assert append_event(folder, "d") == 4
    assert [e["event"] for e in read_events(folder, after=2)] == ["c", "d"]
    assert read_events(folder, after=4) == []


def test_an_event_longer_than_the_block_read_back_is_still_the_last(folder: Path) -> None:
    append_event(folder, "small")
    append_event(folder, "large", text="x" * 100_000)
    assert append_event(folder, "next") == 3


def test_events_of_many_writers_are_numbered_without_gap_or_double(folder: Path) -> None:
    writers = [threading.Thread(target=lambda: [append_event(folder, "e") for _ in range(25)]) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [e["seq"] for e in read_events(folder)] == list(range(1, 101))


def test_a_time_left_is_told_once_a_hundredth_of_it_has_passed() -> None:
    def job(kind: str, ago: float) -> Job:
        return Job("", Path(), kind, state="running", seconds_left=9_900, started=datetime.now(UTC) - timedelta(0, ago))

    assert (job("sft", 90).time_left, job("sft", 90).share) == (None, None)
    assert job("sft", 110).time_left == job("run", 1).time_left == 9_900
    assert job("sft", 1_100).share == pytest.approx(0.1, rel=0.01)


def test_a_run_goes_on_from_its_newest_whole_checkpoint(folder: Path) -> None:
    assert last_checkpoint(folder) == 0
    for name in ("step-000020", "step-000040", ".step-000060.part", "step-x"):
        (folder / "result" / "checkpoints" / name).mkdir(parents=True)
    assert last_checkpoint(folder) == 40


def test_pace_is_that_of_the_window_and_not_of_all_time() -> None:
    pace = Pace(window=10)
    assert pace.see(Progress("a", 0, 1000), at=0) == (None, None)
    assert pace.see(Progress("a", 100, 1000), at=10) == (10.0, 90.0)
    for second in range(11, 31):  # five times as fast from here on
        rate, left = pace.see(Progress("b", 100 + 50 * (second - 10), 2000), at=second)
    assert rate == 50.0
    assert left == (2000 - 1100) / 50


def test_pace_forgets_when_another_work_begins_and_knows_no_end_without_a_total() -> None:
    pace = Pace()
    pace.see(Progress("a", 0, 100), at=0)
    pace.see(Progress("a", 100, 100), at=1)
    assert pace.see(Progress("b", 0, 10, "rows"), at=2) == (None, None)
    assert pace.see(Progress("b", 4, 0, "rows"), at=4) == (2.0, None)
    assert pace.see(Progress("b", 1, 10, "rows"), at=5) == (None, None), "gone back: begun again"


def test_pace_of_random_steps_is_exact_over_its_window() -> None:
    rng, pace, window = random.Random(1), Pace(window=5), 5
    at, done, seen = 0.0, 0.0, []
    for _ in range(300):
        at, done = at + rng.uniform(0.3, 1), done + rng.uniform(0.1, 9)
        seen.append((at, done))
        rate, _ = pace.see(Progress("a", done, 1e6), at)
        edge = [s for s in seen if s[0] <= at - window]
        first = edge[-1] if edge else seen[0]
        if len(seen) > 2:
            assert rate == pytest.approx((done - first[1]) / (at - first[0]))


def test_one_slow_step_among_long_ones_is_no_new_pace() -> None:
    pace, at = Pace(), 0.0
    for step in range(20):
        at += 100 if step == 18 else 20  # each longer than the window
        rate, left = pace.see(Progress("training", step, 60, "steps"), at)
        if step > 6:
            assert rate is not None
            assert 1 / 37 < rate < 1 / 19, "a fifth of the pace for one step, a little less over five"
    assert left == pytest.approx((60 - 19) / rate)


def test_progress_is_written_a_few_times_a_second_and_every_stage_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("sts_core.jobs.worker.time.monotonic", lambda: clock[0])
    record, seen = Record(folder), []
    assert record.begin()
    for step in range(1000):  # ten seconds, a hundred steps a second, two stages
        clock[0] = step / 100
        record.watch(Progress("one" if step < 505 else "two", step, 1000))
        if (done := load(folder).done) not in seen:
            seen.append(done)
    assert 45 <= len(seen) <= 52
    assert 505 in seen
    job = load(folder)
    assert job.rate == pytest.approx(100)
    assert job.seconds_left == pytest.approx((1000 - job.done) / 100)
    record.end("done", result="result")
    assert load(folder).done == 999, "the last step is told, also when it came too soon after another"


def test_a_worker_stops_when_it_was_told_dead_and_mends_a_status_that_was_damaged(folder: Path) -> None:
    record = Record(folder)
    assert record.begin()
    (folder / "status.json").write_bytes(b"{")
    record.watch(Progress("one", 1, 2))
    assert (watch.read(folder.name).state, load(folder).done) == ("running", 1)
    (folder / "status.json").write_text('{"state": "dead"}')
    with pytest.raises(Stopped):
        record.watch(Progress("two", 2, 2))
    assert locate(folder.name) == folder
