"""`sts overlap` on folders and files: what it finds, what it tells, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sts_core.cli import main
from sts_core.errors import UserError
from sts_core.results.folder import DOMAIN_SUMS, RAW, TARGET, TARGET_SUMS, write_result
from sts_core.results.overlap import compare
from sts_core.results.sums import SetSums
from sts_core.stats.ranking import top

FEATURES, GROUPS = 300, 20


def sums(quantities: tuple[str, ...], random: np.random.Generator, features: int = FEATURES) -> SetSums:
    size = random.lognormal(0, 1, features)
    values = {name: size * random.gamma(2.0, 1.0, (GROUPS, features)) for name in quantities}
    return SetSums(values, np.full(GROUPS, 30.0), np.full(GROUPS, 2.0))


def result(
    folder: Path,
    seed: int = 0,
    *,
    sae: str = "sae-1",
    rows: list[int] | None = None,
    features: int = FEATURES,
    **more: Any,
) -> Path:
    """A finished result folder with one domain, of random sums."""
    random = np.random.default_rng(seed)
    sets = {TARGET: sums(TARGET_SUMS, random, features), RAW: sums(TARGET_SUMS, random, 8)}
    manifest = {
        "key": f"key{seed}",
        "seed": 0,
        "spec": {"domains": [{"name": "law"}], "pool": {"tokens": "query"}},
        "resolved": {
            "sae": {"name": "demo", "revision": sae},
            "model": {"name": "tiny"},
            "files": {"target": {"data": "abc"}},
        },
        "sets": {"target": {"query_rows": rows or [5, 3, 8]}},
    }
    write_result(folder, manifest | more, sets | {"law": sums(DOMAIN_SUMS, random, features)})
    return folder


def add_column(folder: Path, name: str, values: np.ndarray) -> None:
    table = pd.read_parquet(folder / "shift.parquet")
    table.assign(**{name: values}).to_parquet(folder / "shift.parquet", index=False)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return result(tmp_path / "mine")


def shift_of(folder: Path, column: str = "shift_icl") -> np.ndarray:
    return pd.read_parquet(folder / "shift.parquet")[column].to_numpy()


def test_another_result_is_compared_by_its_icl_shift(mine: Path, tmp_path: Path) -> None:
    other = result(tmp_path / "other", seed=1)
    found = compare(mine, other)
    assert [row.k for row in found.rows] == [10, 50, 100, 200]  # 500 does not fit
    for row in found.rows:
        expected = set(top(shift_of(mine), row.k)) & set(top(shift_of(other), row.k))
        assert row.shared == len(expected)
        busy = set(top(shift_of(other), row.k)) & set(top(shift_of(mine, "mean_base"), row.k))
        assert row.activation.mean == len(busy) / row.k
        assert row.interval is not None
        assert row.noise is None
    assert (found.features, found.firing, found.tokens, found.other_tokens) == (300, 300, 600, 600)
    assert found.same_queries
    assert any("so nothing is claimed" in note for note in found.notes)


def test_a_result_against_itself_shares_all_and_says_so(mine: Path) -> None:
    found = compare(mine, mine, [10])
    assert found.rows[0].interval == (1, 1)
    assert found.notes[0].startswith("Both are the same result")


def test_other_questions_are_noted_and_resampled_apart(mine: Path, tmp_path: Path) -> None:
    found = compare(mine, result(tmp_path / "other", seed=1, rows=[1, 2, 3]), [50])
    assert not found.same_queries
    assert any("different questions" in note for note in found.notes)
    together = compare(mine, result(tmp_path / "alike", seed=1), [50])
    assert found.rows[0].value == together.rows[0].value
    assert found.rows[0].interval != together.rows[0].interval


def test_another_model_and_another_pool_are_noted(mine: Path, tmp_path: Path) -> None:
    resolved = {"sae": {"revision": "sae-1"}, "model": {"name": "large"}, "files": {"target": {"data": "abc"}}}
    spec = {"domains": [{"name": "law"}], "pool": {"tokens": "answer"}}
    notes = " ".join(compare(mine, result(tmp_path / "other", seed=1, resolved=resolved, spec=spec), [10]).notes)
    assert "tiny and large" in notes
    assert "pool settings differ" in notes


def test_a_measured_noise_shift_becomes_the_fourth_null(mine: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(9).random(FEATURES)
    add_column(mine, "shift_noise", noise)
    found = compare(mine, result(tmp_path / "other", seed=1), [50])
    assert found.rows[0].noise is not None
    assert found.rows[0].noise.mean == len(set(top(shift_of(mine), 50)) & set(top(noise, 50))) / 50
    assert not any("Noise" in note for note in found.notes)


@pytest.mark.parametrize("form", ["run folder", "run file", "parquet", "csv", "csv upside down", "result second"])
def test_every_form_of_the_other_ranking_is_read(mine: Path, tmp_path: Path, form: str) -> None:
    values = np.random.default_rng(2).random(FEATURES)
    run = tmp_path / "run"
    run.mkdir()
    table = pd.DataFrame({"feature": np.arange(FEATURES), "value": values})
    if form in ("run folder", "run file", "result second"):
        (run / "manifest.json").write_text("{}")
        table = table.rename(columns={"value": "shift_sft"}).assign(shift_noise=values[::-1], rate=1.0)
        table.to_parquet(run / "shift.parquet", index=False)
    elif form == "parquet":
        table.to_parquet(run / "mine.parquet", index=False)
    else:
        (table[::-1] if form == "csv upside down" else table).to_csv(run / "mine.csv", index=False)
    file = {"run folder": run, "run file": run / "shift.parquet", "parquet": run / "mine.parquet"}.get(
        form, run / "mine.csv"
    )
    found = compare(run, mine, [40]) if form == "result second" else compare(mine, file, [40])
    (row,) = found.rows
    assert row.shared == len(set(top(shift_of(mine), 40)) & set(top(values, 40)))
    assert row.interval is not None  # the result's own groups are resampled
    assert any("no groups" in note for note in found.notes)
    assert found.other_tokens is None
    has_noise = form.startswith("run") or form == "result second"
    assert found.other_column == ("shift_sft" if has_noise else "value")
    assert (row.noise is not None) == has_noise


def test_few_questions_give_no_interval(tmp_path: Path) -> None:
    few = result(tmp_path / "few")
    from safetensors.numpy import load_file, save_file

    arrays = load_file(few / "groups.safetensors")
    arrays["target/tokens"][4:] = 0
    save_file(arrays, few / "groups.safetensors")
    found = compare(few, few, [10])
    assert found.rows[0].interval is None
    assert not found.rows[0].claimed
    assert any("nothing is claimed" in note for note in found.notes)


def test_the_command_prints_json_and_loads_no_torch(mine: Path, tmp_path: Path) -> None:
    other = result(tmp_path / "other", seed=1)
    script = (
        "import sys; from sts_core.cli import main; code = main(sys.argv[1:]); "
        "print('torch' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    arguments = ["overlap", str(mine), str(other), "--k", "10, 50", "--draws", "200", "--seed", "3"]
    ran = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.strip() == "False"
    told = json.loads(ran.stdout)
    assert [row["k"] for row in told["overlaps"]] == [10, 50]
    first = told["overlaps"][0]
    assert set(first) == {"k", "overlap", "shared", "interval", "nulls", "highest_null", "claimed"}
    assert set(first["nulls"]) == {"chance", "activation", "matched", "noise"}
    assert first["nulls"]["noise"] is None
    assert set(first["nulls"]["matched"]) == {"mean", "low", "high"}
    assert told["tokens"] == 600


def test_features_that_did_not_move_are_told(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.zeros(FEATURES)
    values[:12] = 1
    file = tmp_path / "flat.csv"
    pd.DataFrame({"feature": np.arange(FEATURES), "value": values}).to_csv(file, index=False)
    assert main(["overlap", str(mine), str(file), "--k", "10,50"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["overlaps"][0]["overlap"] is not None
    assert told["overlaps"][1]["overlap"] is None
    assert any("Only 12 features moved" in note for note in told["notes"])


def test_two_saes_are_refused(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = result(tmp_path / "other", seed=1, sae="sae-2")
    assert main(["overlap", str(mine), str(other)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "different SAEs" in told.err
    assert told.err.count("\n") == 2
    with pytest.raises(UserError, match="different SAEs"):
        compare(mine, other / "shift.parquet")  # its manifest lies beside it


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.csv", None, "There is no file"),
        ("none.parquet", None, "There is no file"),
        ("empty.csv", "", "cannot be read"),
        ("torn.parquet", "PAR1 and then nothing", "cannot be read"),
        ("bytes.csv", b"feature,value\n0,\xff\xfe\n", "cannot be read"),
        ("short.csv", "feature,value\n0,1\n1,2\n", "lists 2 features, the result's SAE has 3"),
        ("twice.csv", "feature,value\n0,1\n1,2\n1,2\n", "does not list each feature once"),
        ("gap.csv", "feature,value\n0,1\n1,2\n3,2\n", "does not list each feature once"),
        ("word.csv", "feature,value\n0,1\none,2\n2,2\n", "does not list each feature once"),
        ("nameless.csv", "a,b\n0,1\n1,2\n2,2\n", "does not list each feature once"),
        ("bare.csv", "feature\n0\n1\n2\n", "which column to rank by"),
        ("many.csv", "feature,a,b\n0,1,1\n1,2,2\n2,2,2\n", "which column to rank by"),
        ("text.csv", "feature,value\n0,1\n1,two\n2,2\n", "1 values of value"),
        ("hole.csv", "feature,value\n0,1\n1,\n2,2\n", "1 values of value"),
        ("signed.csv", "feature,value\n0,1\n1,-2\n2,2\n", "below zero"),
    ],
)
def test_a_file_that_does_not_fit_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | bytes | None, told: str
) -> None:
    mine = result(tmp_path / "mine", features=3)
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["overlap", str(mine), str(tmp_path / name)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert told in lines[0]
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")


@pytest.mark.parametrize("damage", ["shift.parquet", "groups.safetensors", "manifest.json"])
@pytest.mark.parametrize("how", ["missing", "torn"])
def test_a_damaged_result_exits_2(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, how: str
) -> None:
    whole = result(tmp_path / "whole", seed=1)
    (mine / damage).unlink() if how == "missing" else (mine / damage).write_text("torn")
    for arguments in ([mine, whole], [whole, mine]):
        assert main(["overlap", *map(str, arguments)]) == 2
        assert str(mine) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--k", "10,x"], "not a list of whole numbers"),
        (["--k", "-3"], "not a list of whole numbers"),
        (["--k", ""], "not a list of whole numbers"),
        (["--k", "301"], "there are 300 features"),
        (["--k", "0"], "there are 300 features"),
        (["--draws", "5"], "--draws"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_options_that_do_not_fit_exit_2(
    mine: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert main(["overlap", str(mine), str(mine), *options]) == 2
    assert told in capsys.readouterr().err
