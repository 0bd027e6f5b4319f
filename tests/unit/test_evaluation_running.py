"""`sts eval` from its spec: two models, their change, the folder that comes out, and the job that does the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sts_core.cli import main
from sts_core.errors import UserError
from sts_core.jobs.events import read_events
from sts_core.jobs.folder import Job
from sts_core.jobs.worker import KINDS
from sts_core.results.outcomes.reading import read_outcomes
from sts_core.results.outcomes.rows import changes, read_rows
from sts_core.train.evaluation.running import run_evaluation
from sts_core.train.evaluation.spec import EvalSpec
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, another one of its shape, a target set, a domain with options and one without."""
    place = tmp_path_factory.mktemp("evaluation")
    tiny.save_model(place / "base")
    tiny.save_model(place / "tuned", seed=1)
    tiny.write_rows(place / "target.jsonl", tiny.rows(40, seed=1))
    tiny.write_rows(place / "law.jsonl", tiny.rows(30, seed=2))
    choices = [
        {"question": row["question"], "options": ["stone", "green cloud", "river"], "answer": number % 3}
        for number, row in enumerate(tiny.rows(30, seed=3))
    ]
    tiny.write_rows(place / "physics.jsonl", choices)
    return place


def spec(**changes: Any) -> dict[str, Any]:
    return {
        "model": "base", "tuned": "tuned", "target": {"data": "target.jsonl"}, "rows": 8, "target_rows": 6,
        "domains": [{"name": "law", "data": "law.jsonl"}, {"name": "physics", "data": "physics.jsonl"}],
        "device": "cpu", "dtype": "float32", **changes,
    }  # fmt: skip


def toml(folder: Path, **changes: Any) -> Path:
    path = folder / "eval.toml"
    path.write_text(tiny.as_toml(spec(**changes)), encoding="utf-8")
    return path


def test_before_and_after_from_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table, the same as JSON, and a folder that `sts import` takes and can write as a CSV it takes again."""
    path = str(toml(folder, dtype="auto"))
    capsys.readouterr()
    assert main(["eval", path, "--out", str(tmp_path / "out"), "--set", "dtype=float32"]) == 0
    printed = capsys.readouterr().out
    found = {(c.set, c.metric): c for c in changes(read_rows(tmp_path / "out"))}
    assert {key: change.n for key, change in found.items()} == {
        ("target", "nll"): 6, ("law", "nll"): 8, ("physics", "nll"): 8, ("physics", "accuracy"): 8,
    }  # fmt: skip
    for (name, metric), change in found.items():
        line = next(line for line in printed.splitlines() if line.split()[:2] == [name, metric])
        assert f"{change.change:+.3f}"[:-1] in line
    value = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert sorted(value["rows"]) == ["law", "physics", "target"]
    assert value["spec"] == EvalSpec.from_toml(path, ["dtype=float32"]).to_dict()
    assert str(folder) not in json.dumps(value["models"]["before"]["revision"])
    assert main(["import", str(tmp_path / "out"), "--metric", "nll", "--out", str(tmp_path / "nll.csv")]) == 0
    again = read_outcomes(tmp_path / "nll.csv")
    assert [(one.domain, one.n, one.harm) for one in again] == [
        (name, change.n, pytest.approx(change.change)) for (name, metric), change in found.items() if metric == "nll"
    ]
    capsys.readouterr()
    assert (
        main(["import", str(tmp_path / "out"), "--json", "--metric", "accuracy", "--out", str(tmp_path / "a.csv")]) == 0
    )
    (told,) = json.loads(capsys.readouterr().out)
    accuracy = found["physics", "accuracy"]
    assert told["harm"] == pytest.approx(-100 * accuracy.change)
    assert read_outcomes(tmp_path / "a.csv")[0].harm == pytest.approx(-100 * accuracy.change)


def test_one_model_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "alone.toml"
    path.write_text(tiny.as_toml({**spec(), "domains": []}).replace('tuned = "tuned"\n', ""))
    capsys.readouterr()
    assert main(["eval", str(path), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [(entry["phase"], entry["domain"], entry["n"]) for entry in value["scores"]] == [("before", "target", 6)]
    assert value["outcomes"] == []


def test_a_job_does_the_same_and_tells_every_score(folder: Path, tmp_path: Path) -> None:
    asked = EvalSpec.from_dict(spec(), folder).to_dict()
    assert KINDS["eval"](Job(id="x", folder=tmp_path, kind="eval", spec=asked), lambda _: None) == "result"
    events = read_events(tmp_path)
    assert {event["event"] for event in events} == {"evaluation"}
    keys = [(event["phase"], event["domain"], event["metric"]) for event in events]
    assert len(keys) == len(set(keys)) == 8
    told = {key: event["value"] for key, event in zip(keys, events, strict=True)}
    for outcome in read_outcomes(tmp_path / "result"):
        assert outcome.before == pytest.approx(told["before", outcome.domain, outcome.metric])
        assert outcome.after == pytest.approx(told["after", outcome.domain, outcome.metric])
    assert all({"se", "n", "source"} <= set(event) for event in events)


def test_a_spec_comes_back_equal(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    for changed in (
        {}, {"domains": "mmlu"}, {"domains": [], "metrics": ["nll_text"], "demos": 2},
        {"domains": [], "harness": {"tasks": ["a", "b"], "folder": str(tmp_path / "tasks"), "limit": 5}},
    ):  # fmt: skip
        made = EvalSpec.from_dict(spec(**changed), folder)
        assert EvalSpec.from_dict(made.to_dict()) == made
        assert EvalSpec.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"modle": "x"}, '"model"'), ({"rows": 0}, "rows is 0"), ({"demos": -1}, "demos is -1"),
        ({"metrics": ["acuracy"]}, '"accuracy"'), ({"metrics": []}, "metric"), ({"metrics": 3}, "list of names"),
        ({"tuned": 3}, "tuned is 3"), ({"device": "gpu"}, "device is 'gpu'"), ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"harness": {}}, "names no task"), ({"harness": {"tasks": ["a"], "shot": 1}}, '"shots"'),
        ({"harness": {"tasks": ["a"], "folder": "nowhere"}}, "no folder"), ({"harness": 3}, "must be a table"),
        ({"harness": {"tasks": ["a"], "limit": 0}}, "harness.limit is 0"), ({"model": ""}, "model must be named"),
        ({"domains": [{"name": "target", "data": "x.jsonl"}]}, "cannot be named"), ({"target": 3}, "must be a table"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_spec_is_told(folder: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        EvalSpec.from_dict(spec(**changes), folder)
    assert told in error.value.message
    assert error.value.hint
    with pytest.raises(UserError, match="nothing to evaluate"):
        EvalSpec.from_dict({"model": "base", "domains": []})


def test_models_that_do_not_belong_together_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.save_model(tmp_path / "deeper", num_hidden_layers=4)
    assert main(["eval", str(toml(folder, tuned=str(tmp_path / "deeper")))]) == 2
    assert "error: " in (words := capsys.readouterr().err)
    assert "hint: " in words
    assert main(["eval", str(toml(folder, tuned=str(tmp_path / "gone")))]) == 2


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Two tasks of one's own in a group, as lm-eval takes them: one generates, one chooses; their data beside them."""
    place = tmp_path / "tasks"
    place.mkdir()
    tiny.write_rows(place / "rows.jsonl", [{"q": f"{n} stones?", "a": str(n), "gold": n % 2} for n in range(6)])
    common = "dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: rows.jsonl\ntest_split: test\n"
    (place / "tiny_law.yaml").write_text(
        f"task: tiny_law\ntask_alias: law\n{common}output_type: generate_until\ndoc_to_text: '{{{{q}}}}'\n"
        "doc_to_target: '{{a}}'\ngeneration_kwargs:\n  max_gen_toks: 4\n  until: ['?']\nnum_fewshot: 0\n"
        "metric_list:\n  - metric: exact_match\n    aggregation: mean\n    higher_is_better: true\n"
        "filter_list:\n  - name: custom-extract\n    filter:\n      - function: regex\n"
        "        regex_pattern: '([0-9]+)'\n      - function: take_first\n"
    )
    (place / "tiny_computer_science.yaml").write_text(
        f"task: tiny_computer_science\ntask_alias: computer_science\n{common}output_type: multiple_choice\n"
        "doc_to_text: '{{q}}'\ndoc_to_choice: ['stone', 'river']\ndoc_to_target: gold\nnum_fewshot: 0\n"
        "metric_list:\n  - metric: acc\n    aggregation: mean\n    higher_is_better: true\n"
    )
    (place / "tiny.yaml").write_text(
        "group: tiny\ntask: [tiny_law, tiny_computer_science]\naggregate_metric_list:\n"
        "  - metric: acc\n    aggregation: mean\n    weight_by_size: true\n"
    )
    return place


def test_lm_eval_runs_tasks_of_ones_own(
    folder: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    """The real thing in its own process; what it chooses is what the model's likelihoods say."""
    pytest.importorskip("lm_eval", reason="lm-eval is in requirements.txt: install it")
    from sts_core.train.evaluation.running import run_evaluation

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    harness = {"tasks": ["tiny"], "folder": str(tasks), "chat": False, "batch": 2}
    asked = EvalSpec.from_dict({"model": "base", "domains": [], "harness": harness, **_CPU}, folder)
    evaluation = run_evaluation(asked, tmp_path / "out")
    found = {level.domain: level for level in evaluation.levels["before"]}
    assert sorted(found) == ["computer science", "law"]
    assert (found["law"].metric, found["law"].n, found["law"].source) == ("exact_match,custom-extract", 6, "lm-eval")
    assert found["computer science"].value == pytest.approx(_accuracy(folder / "base", tasks / "rows.jsonl"))
    assert found["computer science"].se is not None
    with pytest.raises(UserError, match=r'has no task \'tinny\' \(did you mean "tiny"\?\)'):
        run_evaluation(
            EvalSpec.from_dict(
                {"model": "base", "domains": [], "harness": {**harness, "tasks": ["tinny"]}, **_CPU}, folder
            ),
            tmp_path / "other",
        )
    assert not list((tmp_path / "out").glob("*.request"))


_CPU = {"device": "cpu", "dtype": "float32"}


def _accuracy(model: Path, data: Path) -> float:
    """How often the right continuation is the likelier one, by hand."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words, network = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model).double()
    right = []
    for line in data.read_text().splitlines():
        row = json.loads(line)
        sums = []
        for option in (" stone", " river"):
            begin = words(row["q"])["input_ids"]
            whole = words(row["q"] + option)["input_ids"]
            with torch.no_grad():
                table = network(torch.tensor([whole])).logits[0].log_softmax(-1)
            sums.append(sum(float(table[i - 1, whole[i]]) for i in range(len(begin), len(whole))))
        right.append(float(sums.index(max(sums)) == row["gold"]))
    return sum(right) / len(right)


def test_another_evaluation_is_not_written_over(world: tiny.World, tmp_path: Path) -> None:
    spec = EvalSpec.from_dict(
        {"model": str(world.model), "metrics": ["nll"], "rows": 3, "device": "cpu",
         "domains": [{"name": "law", "data": str(world.folder / "physics.jsonl")}]}
    )  # fmt: skip
    out = tmp_path / "out"
    run_evaluation(spec, out)
    run_evaluation(spec, out)
    before = (out / "evaluation.json").read_bytes()
    with pytest.raises(UserError, match="holds another evaluation") as refused:
        run_evaluation(replace(spec, rows=2), out)
    assert "--fresh" in refused.value.hint
    assert (out / "evaluation.json").read_bytes() == before
    run_evaluation(replace(spec, rows=2), out, fresh=True)
    assert (out / "evaluation.json").read_bytes() != before
