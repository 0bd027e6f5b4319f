"""Bad data of every kind, from the command line to the job's status: told before anything starts, or stopped cleanly.

What is refused gives exit 2 with one line `error:` and one line `hint:`, and no job is ordered. What only goes wrong on
the way ends as a failed job that says why, with its last good checkpoint kept.
"""

from __future__ import annotations

import csv
import io
import json
import math
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from sts_core.cli import main
from sts_core.jobs import watch, worker
from sts_core.jobs.folder import RESULT, Job, create, read_table
from sts_core.train.sft.spec import SftSpec
from tests import tiny

GOOD = tiny.rows(40, seed=3)
Make = Callable[[Path], Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny.save_model(tmp_path_factory.mktemp("bad") / "tiny", "llama", "chatml")


@pytest.fixture(autouse=True)
def _own_cache(own_cache: Path) -> None:
    """Jobs and rates in a cache of the test's own."""


@pytest.fixture
def _signals() -> Iterator[None]:
    """A worker in this process takes the signal that ends workers."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def lines(records: list[Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def changed(every: int = 1, **values: Any) -> list[dict[str, Any]]:
    return [{**row, **values} if i % every == 0 else row for i, row in enumerate(GOOD)]


def file(name: str, content: bytes) -> Make:
    def into(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return into


def torn_parquet(folder: Path) -> Path:
    """Its middle is overwritten: the footer is whole, what it points to is not."""
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(GOOD), path)
    whole = bytearray(path.read_bytes())
    whole[4:200] = b"\xff" * 196
    path.write_bytes(bytes(whole))
    return path


def as_csv(records: list[dict[str, Any]], end: str = "\n") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ["question", "answer"], extrasaction="ignore", lineterminator=end)
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().encode()


REFUSED: dict[str, tuple[Make, str]] = {
    "no question column": (file("a.jsonl", lines([{"prompt": "a", "answer": "b"}] * 9)), "no column 'question'"),
    "no answer column": (file("a.jsonl", lines([{"question": "a", "anwser": "b"}] * 9)), 'did you mean "anwser"'),
    "empty answers": (file("a.jsonl", lines(changed(answer=""))), "no answer: 40"),
    "answers of blanks": (file("a.jsonl", lines(changed(answer=" \t\n"))), "no answer: 40"),
    "questions of blanks": (file("a.jsonl", lines(changed(question="   "))), "no question: 40"),
    "answers of null": (file("a.jsonl", lines(changed(answer=None))), "no answer: 40"),
    "answers that are tables": (file("a.jsonl", lines(changed(answer={"text": "4"}))), "no answer: 40"),
    "answers of NaN": (file("a.jsonl", lines(changed(answer=math.nan))), "no answer: 40"),
    "one row": (file("a.jsonl", lines(GOOD[:1])), "leave none to train on"),
    "one question over and over": (file("a.jsonl", lines(GOOD[:1] * 80)), "leave none to train on"),
    "an empty file": (file("a.jsonl", b""), "holds no rows"),
    "a header and no row": (file("a.csv", b"question,answer\n"), "holds no rows"),
    "wrong JSON on line 700": (file("a.jsonl", lines((GOOD * 18)[:699]) + b'{"question": \n'), "line 700 is not valid"),
    "JSON cut off": (file("a.json", json.dumps(GOOD).encode()[:-30]), "not valid JSON"),
    "not UTF-8": (file("a.jsonl", '{"question": "größer", "answer": "x"}'.encode("latin-1")), "is not UTF-8"),
    "UTF-16": (file("a.jsonl", lines(GOOD).decode().encode("utf-16")), "is not UTF-8"),
    "a ragged CSV": (file("a.csv", as_csv(GOOD) + b"one, two, three\n"), "more fields than the header"),
    "a CSV whose quote never ends": (file("a.csv", as_csv(GOOD) + b'"never ends,\n'), "is not valid CSV"),
    "a damaged Parquet file": (torn_parquet, "is not a Parquet file"),
    "answers longer than the context": (file("a.jsonl", lines(changed(answer="train " * 400))), "answer longer than"),
    "answers with the template's own marks": (file("a.jsonl", lines(changed(answer="4<|im_end|>"))), "special tokens"),
    "half a character": (file("a.jsonl", lines(changed(answer="\ud83d"))), "not valid Unicode"),
    "no file at all": (lambda folder: folder / "rows.jsonl", "There is no file"),
}


def spec_of(model: Path, data: Path, **changes: Any) -> SftSpec:
    values = {
        "model": str(model), "learning_rate": 0.005, "steps": 6, "batch": 4, "micro_batch": 2, "device": "cpu",
        "dtype": "float32", "lora": {"rank": 2}, "evaluate": {"target_rows": 4}, "target": {"data": str(data)},
    }  # fmt: skip
    return SftSpec.from_dict({**values, **changes})


def ordered(model: Path, data: Path, folder: Path, *more: str) -> int:
    """The exit status of the command on this data."""
    spec = folder / "spec.json"
    spec.write_text(json.dumps(spec_of(model, data).to_dict()))
    return main(["sft", str(spec), *more])


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_told_before_anything_starts(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    make, words = REFUSED[kind]
    assert ordered(model, make(tmp_path), tmp_path) == 2
    told = capsys.readouterr()
    said = [line for line in told.err.splitlines() if line.strip()]
    assert [line.split(":")[0] for line in said] == ["error", "hint"]
    assert words in said[0]
    assert len(said[1]) > len("hint: ")
    assert told.out == ""
    assert watch.all_jobs() == []


def ten_megabytes(folder: Path) -> Path:
    """One row in eight has a question of 10 MB."""
    long = "apple river " * 900_000
    rows = [{**row, "question": long + row["question"]} if i % 8 == 0 else row for i, row in enumerate(GOOD)]
    return file("a.jsonl", lines(rows))(folder)


ODD: dict[str, tuple[Make, str]] = {
    "one id for all": (file("a.jsonl", lines(changed(id=7))), ""),
    "some answers empty": (file("a.jsonl", lines(changed(4, answer=""))), "no answer: 10"),
    "some rows repeated": (file("a.jsonl", lines(GOOD + GOOD[:20])), "repeat the question"),
    "a byte-order mark": (file("a.jsonl", b"\xef\xbb\xbf" + lines(GOOD)), ""),
    "lines that end as on Windows": (file("a.jsonl", lines(GOOD).replace(b"\n", b"\r\n")), ""),
    "a CSV that ends lines so": (file("a.csv", as_csv(GOOD, "\r\n")), ""),
    "a CSV with a short line": (file("a.csv", as_csv(GOOD) + b"only a question\n"), "no answer: 1"),
    "blank lines between": (file("a.jsonl", lines(GOOD).replace(b"\n", b"\n\n  \n")), ""),
    "numbers as answers": (file("a.jsonl", lines(changed(answer=4))), ""),
    "rows of 10 MB": (ten_megabytes, "lose the beginning of their question"),
}
"""What is not refused, and what is said of it."""


@pytest.mark.parametrize("kind", ODD)
def test_what_is_merely_odd_is_planned_with_a_word(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    make, words = ODD[kind]
    assert ordered(model, make(tmp_path), tmp_path, "--plan", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert words in " ".join(plan["warnings"])
    if not words:  # nothing is lost, and nothing is made of it that was not there
        assert plan["rows"]["records"] == len(GOOD)
        assert plan["rows"]["train"] == 16
        assert plan["warnings"] == []


def worked(spec: SftSpec) -> Job:
    """The job once its worker has ended, in this process."""
    folder = create({"kind": "sft", "title": "bad", "spec": spec.to_dict(), "options": {}}, {})
    worker.main(folder)
    return watch.read(folder.name)


def checkpoints(job: Job) -> list[Path]:
    return sorted((job.folder / RESULT / "checkpoints").glob("step-*"))


def whole(checkpoint: Path) -> bool:
    """It can be read, and all its numbers are numbers."""
    (weights,) = checkpoint.glob("*model.safetensors")
    return all(bool(torch.isfinite(value).all()) for value in load_file(weights).values())


def stopped(job: Job, words: str) -> None:
    """It says in its status what went wrong and what to do, and in its events that this was its end."""
    assert job.state == "failed"
    assert words in job.error
    assert job.hint
    assert (read_table(job.folder / "status.json") or {})["state"] == "failed"
    assert not (job.folder / RESULT / "manifest.json").exists()
    assert not list((job.folder / RESULT / "checkpoints").glob(".step-*"))


@pytest.mark.usefixtures("_signals")
def test_a_loss_that_explodes(model: Path, tmp_path: Path) -> None:
    data = tiny.write_rows(tmp_path / "rows.jsonl", GOOD)
    absurd = {"method": "full", "learning_rate": 1.0, "warm_up": 0.0, "clip": 1e6, "steps": 60, "checkpoint_every": 2}
    job = worked(spec_of(model, data, **absurd))
    stopped(job, "The loss has exploded")
    assert "learning_rate" in job.hint
    assert 0 < len(checkpoints(job)) < 30
    assert whole(checkpoints(job)[-1])


@pytest.mark.usefixtures("_signals")
def test_a_loss_that_is_no_number_any_more(model: Path, tmp_path: Path) -> None:
    """The decay multiplies every weight by 1e28 in the second step; in the third nothing is left to compute with."""
    data = tiny.write_rows(tmp_path / "rows.jsonl", GOOD)
    absurd = {"method": "full", "weight_decay": 1e30, "warm_up": 0.5, "checkpoint_every": 1}
    job = worked(spec_of(model, data, **absurd))
    stopped(job, "is no longer a number at step")
    assert "the checkpoints before are kept" in job.hint
    assert checkpoints(job)[0].name == "step-000001"
    assert whole(checkpoints(job)[-1])


@pytest.mark.usefixtures("_signals")
def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    broken = tiny.save_model(tmp_path / "broken", "llama", "chatml")
    weights = load_file(broken / "model.safetensors")
    next(iter(weights.values()))[0] = math.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    data = tiny.write_rows(tmp_path / "rows.jsonl", GOOD)
    job = worked(spec_of(broken, data, evaluate={"target_rows": 0}))
    stopped(job, "is no longer a number at step 1")
    assert checkpoints(job) == []


@pytest.mark.usefixtures("_signals")
def test_a_disk_that_fills_up(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From step 3 on no file over 100 kB can be written; with room again the same job goes on to its end."""
    data = tiny.write_rows(tmp_path / "rows.jsonl", GOOD)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    append = worker.append_event

    def fill(folder: Path, event: str, **details: Any) -> int:
        if event == "step" and details["step"] == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        return append(folder, event, **details)

    monkeypatch.setattr(worker, "append_event", fill)
    try:
        job = worked(spec_of(model, data, method="full", checkpoint_every=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    stopped(job, "cannot be written")
    assert [path.name for path in checkpoints(job)] == ["step-000002"]
    assert whole(checkpoints(job)[0])


@pytest.mark.usefixtures("_signals")
def test_a_file_where_checkpoints_belong(model: Path, tmp_path: Path) -> None:
    data = tiny.write_rows(tmp_path / "rows.jsonl", GOOD)
    spec = spec_of(model, data)
    folder = create({"kind": "sft", "title": "bad", "spec": spec.to_dict(), "options": {}}, {})
    (folder / RESULT).mkdir()
    (folder / RESULT / "checkpoints").write_text("mine")
    worker.main(folder)
    stopped(watch.read(folder.name), "needed as a folder")
    assert (folder / RESULT / "checkpoints").read_text() == "mine"


@pytest.mark.usefixtures("_signals")
def test_data_that_is_changed_while_the_job_waits(model: Path, tmp_path: Path) -> None:
    """It was fine when it was ordered; the worker looks again, and tells."""
    data = tiny.write_rows(tmp_path / "rows.jsonl", GOOD)
    spec = spec_of(model, data)
    data.write_bytes(lines(GOOD[:20]) + b"{torn")
    job = worked(spec)
    stopped(job, "line 21 is not valid JSON")
