"""The catalogue: what there is to choose from, under every name, in order, and honest about what cannot be used."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sts_core import folders
from sts_core.cli import main
from sts_core.errors import UserError
from sts_core.nets import catalogue, describe, presets, registry

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True, scope="module")
def read_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The real registry, digested once into a cache of this file's own; no model and no SAE lies on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
        registry.read.cache_clear()
        registry.read()
        yield


def saved_sae(folder: Path, model: str, hook: str = "blocks.15.hook_resid_post") -> None:
    folder.mkdir(parents=True)
    config = {"architecture": "topk", "d_in": 576, "d_sae": 4096, "metadata": {"model_name": model, "hook_name": hook}}
    (folder / "cfg.json").write_text(json.dumps(config))


def hub_snapshot(hub: Path, name: str, architecture: str) -> None:
    folder = hub / f"models--{name.replace('/', '--')}" / "snapshots" / "0123abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], "num_hidden_layers": 2}))
    (folder / "model.safetensors").touch()


def one(name: str) -> catalogue.SaeEntry:
    release = name.split(":")[0]
    return next(sae for sae in catalogue.saes(registry.read().releases[release].model) if sae.name == name)


# Models


def test_the_embedded_model_is_first_then_those_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub_snapshot(tmp_path, "google/gemma-2-9b-it", "Gemma2ForCausalLM")
    hub_snapshot(tmp_path, "someone/own-llama", "LlamaForCausalLM")
    hub_snapshot(tmp_path, "google-bert/bert-base-uncased", "BertForMaskedLM")
    found = catalogue.models()
    assert [(entry.name, entry.source) for entry in found[:3]] == [
        ("smollm2-135m-instruct", "embedded"),
        ("google/gemma-2-9b-it", "here"),
        ("someone/own-llama", "here"),
    ]
    assert {entry.source for entry in found[3:]} == {"registry"}
    assert len({entry.name for entry in found}) == len(found)
    assert found[1].usable == 36
    assert not found[1].gated, "it is here already"
    assert catalogue.saes("someone/own-llama") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GEMMA 9b it", ["google/gemma-2-9b-it"]),
        ("llama3-8b-it", ["meta-llama/Meta-Llama-3-8B-Instruct"]),
        ("smol", ["smollm2-135m-instruct"]),
        ("no such thing", []),
    ],
)
def test_all_words_must_be_in_a_name(text: str, expected: list[str]) -> None:
    assert [entry.name for entry in catalogue.models(text)] == expected


@pytest.mark.parametrize(
    ("model", "page"),
    [
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("gemma-2-2b-it", "google/gemma-2-2b-it"),
        ("google/codegemma-7b", "google/codegemma-7b"),
        ("google/gemma-scope-9b-it-res", None),
        ("Qwen/Qwen2.5-7B-Instruct", None),
        ("someone/gemma-2-9b-it", None),
        ("smollm2-135m-instruct", None),
    ],
)
def test_a_gated_model_is_told_with_its_page(model: str, page: str | None) -> None:
    told = catalogue.gate(model)
    if page is None:
        assert told is None
    else:
        assert told is not None
        assert f"https://huggingface.co/{page}," in told
        assert "HF_TOKEN" in told


def test_counts_are_those_of_the_lists() -> None:
    for entry in catalogue.models("gemma-2") + catalogue.models("gpt2"):
        found = catalogue.saes(entry.name)
        assert (entry.saes, entry.usable) == (len(found), sum(sae.usable for sae in found))


# SAEs


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gemma-scope-9b-it-res-canonical:layer_31/width_131k/canonical", (31, "residual", 131_072, 109)),
        ("gemma-scope-2b-pt-att-canonical:layer_0/width_16k/canonical", (0, "attention", 16_384, 104)),
        ("gemma-scope-2-4b-it-transcoders:transcoder/layer_17_width_16k_l0_big", (17, "transcoder", 16_384, 150)),
        ("gemma-2b-res-jb:blocks.10.hook_resid_post", (10, "residual", 16_384, 62)),
        ("gpt2-small-res-jb-feature-splitting:blocks.8.hook_resid_pre_12288", (8, "residual", 12_288, 43)),
        ("gpt2-small-mlp-out-v5-32k:blocks.6.hook_mlp_out", (6, "mlp", 32_768, None)),
        ("llama_scope_lxr_8x:l16r_8x", (16, "residual", 32_768, 50)),
        ("llama_scope_lxa_32x:l16a_32x", (16, "attention", 131_072, 50)),
        ("qwen-scope-3.5-27b-w80k-l50:layer32", (32, "residual", 81_920, 50)),
        ("sae_bench_gemma-2-2b_topk_width-2pow12_date-1109:blocks.12.hook_resid_post__trainer_0",
         (12, "residual", 4096, None)),
        ("qwen2.5-7b-instruct-andyrdt:resid_post_layer_23_trainer_1", (23, "residual", None, None)),
        ("mntss-gemma-2-2b-2.5m-clt-as-per-layer:layer_13", (13, "transcoder", None, None)),
    ],
)  # fmt: skip
def test_what_a_name_tells(name: str, expected: tuple[Any, ...]) -> None:
    sae = one(name)
    assert (sae.layer, sae.kind, sae.width, sae.l0) == expected


def test_all_names_of_a_model_lead_to_the_same_saes(tmp_path: Path) -> None:
    folder = tmp_path / "gemma-2-9b-it"
    folder.mkdir()
    found = [
        [sae.name for sae in catalogue.saes(name)] for name in ("google/gemma-2-9b-it", "gemma-2-9b-it", str(folder))
    ]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 36
    layers = [sae.layer or 0 for sae in catalogue.saes("gemma-2-9b-it")]
    assert layers == sorted(layers)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gemma-scope-2b-pt-transcoders:layer_13/width_16k/average_l0_8", "transcoder"),
        ("gemma-scope-2b-pt-res:embedding/width_4k/average_l0_6", "embedding"),
        ("gemma-scope-2b-pt-att-canonical:layer_0/width_16k/canonical", "attention"),
        ("temporal-sae-gemma-2-2b:blocks.12.hook_resid_post", "sequences"),
        ("gpt2-small-res-jb:blocks.11.hook_resid_post", "centred"),
    ],
)
def test_what_cannot_be_measured_with_says_why(name: str, why: str) -> None:
    sae = one(name)
    assert not sae.usable
    assert why in sae.why_not


def test_usable_is_what_the_engine_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue has no list of its own: only SAEs of sites the engine reads are usable."""
    name = "gemma-scope-2b-pt-mlp-canonical:layer_0/width_16k/canonical"
    assert one("gemma-scope-2b-pt-res-canonical:layer_0/width_16k/canonical").usable
    assert one(name).usable
    fewer = {hook: site for hook, site in describe.SITES.items() if site != "mlp_out"}
    monkeypatch.setattr(catalogue, "SITES", fewer)
    assert not one(name).usable


def test_embedded_and_local_saes_come_first(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "DEMO", own_cache / "demo")
    saved_sae(own_cache / "demo" / "smollm2-l15", "smollm2-135m-instruct")
    saved_sae(own_cache / "models" / "my-own", "HuggingFaceTB/SmolLM2-135M-Instruct", "blocks.3.hook_mlp_out")
    saved_sae(own_cache / "models" / "of-another", "gpt2")
    (own_cache / "models" / "torn").mkdir()
    (own_cache / "models" / "torn" / "cfg.json").write_text('{"d_sae":')
    own, mine = catalogue.saes("smollm2-135m-instruct")
    assert (own.name, own.source, own.layer, own.width, own.usable) == ("demo/smollm2-l15", "embedded", 15, 4096, True)
    assert (mine.source, Path(mine.name).name, mine.kind, mine.usable) == ("here", "my-own", "mlp", True)
    assert catalogue.models("smollm2")[0].saes == 2
    assert catalogue.saes("gpt2")[0].source == "here"


def test_a_sae_fetched_before_is_here(own_cache: Path) -> None:
    saved_sae(own_cache / "models" / "saes" / "llama-3-8b-it-res-jh_blocks.25.hook_resid_post", "llama-3-8b")
    (sae,) = catalogue.saes("meta-llama/Meta-Llama-3-8B-Instruct")
    assert sae.source == "here"
    assert sae.gated


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r'did you mean "qwen2.5-7b-it"'):
        catalogue.saes("qwen2.5-7b-itt")
    with pytest.raises(UserError, match="No SAE of 'google/gemma-2-2b-it'") as caught:
        catalogue.saes("google/gemma-2-2b-it")
    assert "`sts saes google/gemma-2-2b`" in caught.value.hint


@pytest.mark.parametrize("name", ["", "~nobody-of-this-name/model", "x" * 5000, "a\0b"])
def test_what_is_no_name_at_all_is_refused_too(name: str) -> None:
    with pytest.raises(UserError):
        catalogue.saes(name)


def test_base_and_tuned_models_know_each_other() -> None:
    assert [entry.name for entry in catalogue.siblings("gemma-2-9b-it")] == ["google/gemma-2-9b"]
    assert [entry.name for entry in catalogue.siblings("Qwen/Qwen3-8B")] == ["Qwen/Qwen3-8B-Base"]
    assert catalogue.siblings("mistralai/Mistral-7B-Instruct-v0.1")[0].name == "mistralai/Mistral-7B-v0.1"
    assert catalogue.siblings("smollm2-135m-instruct") == []


def test_a_wrong_release_or_id_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r'did you mean "gemma-scope-9b-it-res'):
        describe.find_sae("gemma-scope-9b-itt-res:layer_31/width_131k/canonical")
    with pytest.raises(UserError, match=r'did you mean "layer_31/width_131k/average_l0_2') as caught:
        describe.find_sae("gemma-scope-9b-it-res:layer_31/width_131k/average_l0_222")
    assert "`sts saes google/gemma-2-9b-it`" in caught.value.hint


# The paper's models


@pytest.mark.parametrize(
    ("preset", "name"),
    [(preset, name) for preset in presets.PRESETS for name in preset.saes],
    ids=lambda value: str(value),
)
def test_every_sae_of_a_preset_exists_and_is_usable(preset: presets.Preset, name: str) -> None:
    sae = next(sae for sae in catalogue.saes(preset.model) if sae.name == name)
    assert sae.usable
    assert (sae.layer == preset.paper_layer) == preset.same_layer
    assert ("layer 25" in preset.note) or preset.same_layer


def test_presets_are_found_by_any_name() -> None:
    assert {p.model for p in presets.PRESETS} <= set(registry.read().names)
    assert presets.preset_for("gemma-2-9b-it") is presets.PRESETS[2]
    assert presets.preset_for("Qwen/Qwen2.5-7B-Instruct") is presets.PRESETS[0]
    assert presets.preset_for("gpt2") is None
    assert all(sae.layer != 25 for sae in catalogue.saes("Qwen/Qwen2.5-7B-Instruct")), "then the note is out of date"


# The commands


def test_the_commands_import_no_model_library() -> None:
    script = (
        "import sys\nfrom sts_core.cli import main\n"
        "codes = [main(['models']), main(['saes', 'gpt2', '--all', '--json']), main(['saes', 'smollm2-135m-instruct'])]"
        "\nheavy = sorted({'torch', 'transformers', 'sae_lens'} & set(sys.modules))"
        "\nsys.exit(str(heavy) if codes == [0, 0, 0] else 'failed')"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1] == "[]"


def test_a_table_stays_readable_and_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["saes", "gemma-2-9b"]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 61
    usable = sum(sae.usable for sae in catalogue.saes("gemma-2-9b"))
    assert re.match(
        rf"{usable - 60:,} more, of layers \d to 41: --layer L shows one layer, --json gives all\.", shown.err
    )
    assert "cannot be measured with here: --all shows them" in shown.err
    assert "https://huggingface.co/google/gemma-2-9b," in shown.err
    assert "google/gemma-2-9b-it has 36 usable ones" in shown.err


def test_json_gives_all_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["saes", "gemma-2-9b", "--json"]) == 0
    usable = json.loads(capsys.readouterr().out)
    assert main(["saes", "gemma-2-9b", "--json", "--all"]) == 0
    every = json.loads(capsys.readouterr().out)
    assert len(every) == len(catalogue.saes("gemma-2-9b")) > len(usable)
    assert [sae for sae in every if sae["usable"]] == usable
    assert {"name", "hook", "layer", "width", "l0", "neuronpedia", "usable", "why_not"} <= set(every[0])
    assert main(["models", "gemma", "9b", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == [
        "google/gemma-2-9b",
        "google/gemma-2-9b-it",
    ]


def test_a_layer_that_nobody_reads_names_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["saes", "gemma-2-9b-it", "--layer", "20"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 12
    assert main(["saes", "Qwen/Qwen2.5-7B-Instruct", "--layer", "25"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "error: No SAE of Qwen/Qwen2.5-7B-Instruct reads layer 25"
    assert told[1].endswith("layers 3, 7, 11, 15, 19, 23, 27.")
