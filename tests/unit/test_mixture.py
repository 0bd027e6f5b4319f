"""A mixture: quotas filled from the training sides alone, a file that its manifest makes again, and what is refused."""

from __future__ import annotations

import hashlib
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sts_core.bundle import embedded
from sts_core.errors import UserError
from sts_core.fingerprint import sha256_file
from sts_core.folders import DEMO
from sts_core.measure.run import run
from sts_core.spec import MMLU_DOMAINS, DataSpec, Spec
from sts_core.stats.allocation import allocate
from sts_core.text.sides import held_out, split
from sts_core.text.sources import locate, read_rows
from sts_core.train.evaluation.sets import domain_set, target_set
from sts_core.train.mixture.manifest import read_mixture, rebuild
from sts_core.train.mixture.plan import plan
from sts_core.train.mixture.pools import SPOKEN_FOR, Sources
from sts_core.train.mixture.run import run_mixture
from sts_core.train.mixture.spec import MixtureSpec
from tests import tiny

Lines = list[dict[str, Any]]


@pytest.fixture
def result(world: tiny.World) -> Path:
    return run(Spec.from_dict(world.spec()), world.folder / "result").folder


def spec_of(result: Path, **changes: Any) -> MixtureSpec:
    values = {
        "result": str(result), "budget": 12, "seed": 1, "target": {"rows": 10, "evaluate_rows": 8}, "score": {"n": 20},
    }  # fmt: skip
    return MixtureSpec.from_dict({**values, **changes})


def lines(out: Path) -> Lines:
    return [json.loads(line) for line in (out / "mixture.jsonl").read_text(encoding="utf-8").splitlines()]


def manifest(out: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return value


@pytest.mark.parametrize("answer", ["source", "cot"])
def test_quotas_are_filled_from_the_training_sides(
    world: tiny.World, result: Path, tmp_path: Path, answer: str
) -> None:
    out = run_mixture(spec_of(result, answers=answer), tmp_path / "mix")
    made, told = lines(out), manifest(out)
    scores = {name: one["score"] for name, one in told["domains"].items()}
    # Of law's seven rows four may be queried, and those may train.
    assert told["quotas"] == allocate(scores, {"physics": 40, "law": 4}, 12)
    assert told["counts"] == {"target": 10, **told["quotas"]}
    assert [line["set"] for line in made] == [name for name, n in told["counts"].items() for _ in range(n)]
    for name in ("target", "physics", "law"):
        records = [json.loads(line) for line in (world.folder / f"{name}.jsonl").read_text().splitlines()]
        rows = read_rows(world.folder / f"{name}.jsonl", {}, ("question",)).rows
        side = held_out(rows, 8).trained if name == "target" else split(rows).queried
        drawn = [line for line in made if line["set"] == name]
        assert {line["row"] for line in drawn} <= {row.number for row in side}
        key = "cot" if answer == "cot" and name != "target" else "answer"
        assert all((line["question"], line["answer"]) == (records[line["row"]]["question"], records[line["row"]][key])
                   for line in drawn)  # fmt: skip


def test_nothing_embedded_is_on_two_sides(bundle_cache: Path) -> None:
    """All rows of all embedded sets: who may train is never evaluated, neither is who was scored, and few are lost."""
    spec = MixtureSpec.from_dict({"result": str(DEMO / "result"), "budget": 220})
    sources = Sources(spec)
    assert sources.domains == MMLU_DOMAINS
    trained = {name: {row.number for row in pool.rows} for name, pool in sources.pools.items()}
    evaluated = {name: domain_set(DataSpec(name, f"mmlu/{name}"), 10**6).questions for name in MMLU_DOMAINS}
    evaluated["target"] = target_set(DataSpec("target", "gsm-symbolic"), 100).questions
    questions = {one.text.strip() for asked in evaluated.values() for one in asked}
    for name, pool in sources.pools.items():
        asked = {one.row for one in evaluated[name]}
        scored = set(sources.result.manifest["sets"][name]["query_rows"])
        assert trained[name].isdisjoint(asked)
        assert scored.isdisjoint(asked)
        assert all(row.question.strip() not in questions for row in pool.rows)
        if name != "target":
            file = embedded.domain_file(name)
            records = len(file.read_text(encoding="utf-8").strip().split("\n"))
            assert len(trained[name]) + len(asked) == records
            assert 0 <= len(trained[name]) - len(asked) <= 1
    assert trained["target"].isdisjoint(sources.result.manifest["sets"]["target"]["query_rows"])
    assert len(trained["target"]) == 1900


def test_a_question_that_another_set_is_evaluated_on_does_not_train(world: tiny.World, tmp_path: Path) -> None:
    """Physics holds all rows of law and half of the target's, whatever side they are on there."""
    chance = random.Random(2)
    files = {name: [json.loads(line) for line in (world.folder / f"{name}.jsonl").read_text().splitlines()]
             for name in ("target", "physics", "law")}  # fmt: skip
    mixed = [*files["physics"], *files["law"], *files["target"][::2]]
    chance.shuffle(mixed)
    tiny.write_rows(world.folder / "physics.jsonl", mixed)
    result = run(Spec.from_dict(world.spec()), world.folder / "result").folder
    sources = Sources(spec_of(result))
    law = domain_set(DataSpec("law", str(world.folder / "law.jsonl")), 1000)
    physics = domain_set(DataSpec("physics", str(world.folder / "physics.jsonl")), 1000)
    target = target_set(DataSpec("target", str(world.folder / "target.jsonl")), 8)
    closed = {question.text for one in (law, physics, target) for question in one.questions}
    closed |= {row.question for row in split(read_rows(world.folder / "target.jsonl", {}, ("question",)).rows).queried}
    for pool in sources.pools.values():
        assert pool.rows
        assert closed.isdisjoint(row.question for row in pool.rows)
    assert all(sources.pools[name].left_out[SPOKEN_FOR] for name in ("target", "physics"))


def test_rows_that_lack_an_answer_move_no_row_to_the_other_side(world: tiny.World, tmp_path: Path) -> None:
    records = tiny.rows(200, seed=7)
    for record in random.Random(3).sample(records, 60):
        record["answer"] = ""
    for record in random.Random(4).sample(records, 60):
        record["cot"] = ""
    for name in ("target", "physics"):
        tiny.write_rows(world.folder / f"{name}.jsonl", records[:: 2 if name == "target" else 1][-100:])
    result = run(Spec.from_dict(world.spec()), world.folder / "result").folder
    for answers in ("source", "cot", "model"):
        sources = Sources(spec_of(result, answers=answers))
        asked = domain_set(DataSpec("physics", str(world.folder / "physics.jsonl")), 1000)
        assert {row.number for row in sources.pools["physics"].rows}.isdisjoint(q.row for q in asked.questions)
        answered = [bool(row.worked if answers == "cot" else row.answer) for row in sources.pools["physics"].rows]
        assert len(answered) > 10
        assert all(answered) == (answers != "model")  # a model answers what nobody else has


def test_the_manifest_makes_the_file_again(world: tiny.World, result: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (world.folder / "law.jsonl").read_text().splitlines()]
    records[0]["answer"] = 'line\u2028break, \u00fc, \U0001f600 and "quotes"\n'
    tiny.write_rows(world.folder / "law.jsonl", records)
    result = run(Spec.from_dict(world.spec()), world.folder / "again").folder
    spec = spec_of(result, budget=4, domains=["law"])
    out = run_mixture(spec, tmp_path / "mix")
    before = (out / "mixture.jsonl").read_bytes()
    assert len(read_mixture(out).rows) == 14
    (out / "mixture.jsonl").unlink()
    assert rebuild(out) == rebuild(out / "manifest.json") == before
    assert run_mixture(spec, tmp_path / "other").joinpath("mixture.jsonl").read_bytes() == before


def test_a_changed_source_is_refused(world: tiny.World, result: Path, tmp_path: Path) -> None:
    out = run_mixture(spec_of(result), tmp_path / "mix")
    path = world.folder / "physics.jsonl"
    path.write_text(path.read_text() + json.dumps({"question": "one more?", "answer": "3"}) + "\n")
    with pytest.raises(UserError, match="has changed since the mixture was made"):
        rebuild(out)
    with pytest.raises(UserError, match="not the file that was measured"):
        run_mixture(spec_of(result), tmp_path / "other")


def test_a_changed_manifest_or_file_is_refused(result: Path, tmp_path: Path) -> None:
    out = run_mixture(spec_of(result), tmp_path / "mix")
    whole = manifest(out)
    first = whole["rows"]["physics"][0]
    for number in (next(n for n in range(80) if n not in whole["rows"]["physics"]), 10_000):
        changed = {**whole, "rows": {**whole["rows"], "physics": [number, *whole["rows"]["physics"][1:]]}}
        (out / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match="one of its numbers was changed"):
            rebuild(out)
    assert first != number
    (out / "manifest.json").write_text(json.dumps(whole))
    (out / "mixture.jsonl").write_bytes((out / "mixture.jsonl").read_bytes() + b"{}\n")
    with pytest.raises(UserError, match="SHA-256 is another"):
        read_mixture(out)
    (out / "mixture.jsonl").write_bytes(b"[1]\n")
    other = {**whole, "file": {"sha256": hashlib.sha256(b"[1]\n").hexdigest()}}
    (out / "manifest.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="holds no rows of a mixture"):
        read_mixture(out)
    for text, told in (("{", "cannot be read"), ("[]", "no mixture's"), ('{"kind": "mixture"}', "not whole")):
        (out / "manifest.json").write_text(text)
        with pytest.raises(UserError, match=told):
            read_mixture(out)


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_manifest_with_anything_else_in_a_place_is_told_or_read(tmp_path: Path, data: st.DataObject) -> None:
    """By other hands: whatever stands anywhere in it, it is read or refused in words, never a traceback."""
    file = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(3))
    lines = b'{"question": "q?", "answer": "a", "set": "target", "row": 0}\n'
    (tmp_path / "mixture.jsonl").write_bytes(lines)
    value: Any = {
        "format": 1, "kind": "mixture", "file": {"sha256": hashlib.sha256(lines).hexdigest()}, "rows": {"target": [0]},
        "sources": {"target": {"data": str(file), "columns": {}, "sha256": sha256_file(file)}},
        "answers": {"from": "source"}, "spec": {"answers": "source", "target": {"answer": "answer"}},
    }  # fmt: skip
    at, key = value, data.draw(st.sampled_from(sorted(value)))
    while isinstance(at[key], dict) and at[key] and data.draw(st.booleans()):
        at = at[key]
        key = data.draw(st.sampled_from(sorted(at)))
    plain = st.one_of(st.none(), st.booleans(), st.integers(-1, 3), st.text(max_size=3), st.floats(allow_nan=False))
    at[key] = data.draw(
        st.recursive(plain, lambda s: st.lists(s, max_size=2) | st.dictionaries(st.text(max_size=2), s))
    )
    (tmp_path / "manifest.json").write_text(json.dumps(value))
    for read in (read_mixture, rebuild):
        with suppress(UserError):
            read(tmp_path)
    with suppress(UserError):
        found = read_mixture(tmp_path)
        assert found.questions == {"q?"}
        assert found.target_answer in ("answer", "cot")
        assert found.counts["target"] >= 0
        assert found.target.data


def test_the_same_call_changes_nothing_and_another_order_is_refused(result: Path, tmp_path: Path) -> None:
    out = run_mixture(spec_of(result), tmp_path / "mix")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    run_mixture(spec_of(result), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(UserError, match="another order"):
        run_mixture(spec_of(result, seed=2), out)
    with pytest.raises(UserError, match="something else"):
        run_mixture(spec_of(result), result)
    with pytest.raises(UserError, match="no result that a mixture can be steered by"):
        run_mixture(spec_of(out), tmp_path / "of a mixture")


def test_the_plan_writes_nothing_and_tells_what_comes(
    world: tiny.World, result: Path, tmp_path: Path, own_cache: Path
) -> None:
    before = sorted(path for path in tmp_path.rglob("*"))
    found = plan(spec_of(result))
    assert sorted(path for path in tmp_path.rglob("*")) == before
    made = manifest(run_mixture(spec_of(result), tmp_path / "mix"))
    assert {one["domain"]: one["quota"] for one in found["domains"]} == made["quotas"]
    assert found["cost"] == made["cost"]
    assert found["rows"] == made["file"]["rows"] == 22
    assert {one["domain"]: one["available"] for one in found["domains"]} == {"physics": 40, "law": 4}
    shown = [(one["set"], one["question"], one["answer"]) for one in found["preview"]]
    written = [(line["set"], line["question"], line["answer"]) for line in lines(tmp_path / "mix")]
    assert len(shown) == 6
    assert set(shown) <= set(written)


def test_a_larger_budget_takes_the_same_rows_and_more(result: Path, tmp_path: Path) -> None:
    small, large = (
        manifest(run_mixture(spec_of(result, budget=budget), tmp_path / str(budget)))["rows"] for budget in (12, 24)
    )
    other = manifest(run_mixture(spec_of(result, seed=9), tmp_path / "other"))["rows"]
    assert all(large[name][: len(small[name])] == small[name] for name in small)
    assert len(large["physics"]) > len(small["physics"])
    assert other["physics"] != small["physics"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"domains": ["phisics"]}, 'did you mean "physics"'),
        ({"budget": 45}, "at most 44"),
        ({"floor": 5}, "law has 4"),
        ({"budget": None, "allocation": {"law": 5}}, "4 are available"),
        ({"budget": None, "allocation": {"lav": 1}}, 'did you mean "law"'),
        ({"target": {"rows": 23, "evaluate_rows": 8}}, "22 can be trained on"),
        ({"score": {"n": 1000}}, "n is 1000"),
        ({"result": "nowhere"}, "no finished result"),
    ],
)
def test_what_cannot_be_mixed_is_told(result: Path, tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    values = {key: value for key, value in {**spec_of(result).to_dict(), **changes}.items() if value is not None}
    with pytest.raises(UserError, match=told) as error:
        run_mixture(MixtureSpec.from_dict(values), tmp_path / "mix")
    assert error.value.hint


def test_rows_kept_back_that_are_not_there_are_told(result: Path) -> None:
    few, many = (plan(spec_of(result, target={"rows": 10, "evaluate_rows": n}))["warnings"] for n in (8, 10**9))
    assert not any("kept back" in told for told in few)
    assert sum("of 1,000,000,000 asked for" in told for told in many) == 1


def test_a_result_that_scored_rows_of_both_halves_is_refused(world: tiny.World, tmp_path: Path) -> None:
    values = world.spec(run={"seed": 3, "device": "cpu", "dtype": "float32", "preset": "reference"})
    tiny.write_rows(world.folder / "law.jsonl", tiny.rows(70, seed=3))
    result = run(Spec.from_dict(values), world.folder / "reference").folder
    with pytest.raises(UserError, match="kept for evaluation"):
        plan(spec_of(result))


def test_a_domains_question_is_learned_once(world: tiny.World, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (world.folder / "physics.jsonl").read_text().splitlines()]
    tiny.write_rows(world.folder / "physics.jsonl", [*records, *({**r, "answer": "5"} for r in records[::2])])
    result = run(Spec.from_dict(world.spec()), world.folder / "result").folder
    pool = Sources(spec_of(result)).pools["physics"]
    assert len({row.question for row in pool.rows}) == len(pool.rows) > 20
    assert pool.left_out["repeats a question"] > 5


def test_a_row_the_template_cannot_hold_gives_its_place_to_the_next(world: tiny.World, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (world.folder / "physics.jsonl").read_text().splitlines()]
    for record in records[::2]:
        record["answer"] = "a <|im_end|> b"
    tiny.write_rows(world.folder / "physics.jsonl", records)
    result = run(Spec.from_dict(world.spec()), world.folder / "result").folder
    spec = spec_of(result, budget=10, domains=["physics"])
    made = manifest(run_mixture(spec, tmp_path / "mix"))
    assert made["counts"]["physics"] == 10
    assert all(number % 2 for number in made["rows"]["physics"])
    assert any("special tokens" in told for told in made["warnings"])
    with pytest.raises(UserError, match="can be trained on"):
        run_mixture(spec_of(result, budget=40, domains=["physics"]), tmp_path / "all")
    assert locate(str(world.folder / "physics.jsonl")).is_file()
