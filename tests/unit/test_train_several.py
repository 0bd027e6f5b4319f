"""Several SAEs from one pass: real SAELens over a real tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sts_core.errors import UserError
from sts_core.progress import Progress
from sts_core.train.sae.spec import SaeSpec
from sts_core.train.sae.training import train_sae
from tests import tiny
from tests.sae_world import part, report, spec_of

pytestmark = pytest.mark.usefixtures("small_reading")


def test_each_has_its_own_folder_that_saelens_loads(four_saes: Path, sae_spec: SaeSpec) -> None:
    from sae_lens import SAE

    assert sorted(path.name for path in four_saes.iterdir()) == ["low", "small", "sparse", "wide"]
    assert not part(four_saes).exists()
    for name, own in sae_spec.each().items():
        place = four_saes / name
        sae = SAE.load_from_disk(place)
        assert (sae.cfg.d_sae, sae.cfg.d_in) == (own.width, tiny.WIDTH)
        assert sae.cfg.metadata.hook_name == f"blocks.{own.layer}.hook_resid_post"
        assert report(place)["tokens_trained"] == own.tokens
        assert replace(SaeSpec.from_toml(place / "spec.toml"), base=own.base) == own
    assert SAE.load_from_disk(four_saes / "sparse").cfg.architecture() == "topk"


def test_one_that_stops_early_has_read_less(four_saes: Path) -> None:
    read = {name: report(four_saes / name)["tokens_read"] for name in ("small", "wide", "sparse")}
    assert read["small"] == read["wide"] > read["sparse"] >= 1500


def test_sharing_a_pass_is_as_good_as_a_pass_of_ones_own(four_saes: Path, sae_folder: Path, sae_spec: SaeSpec) -> None:
    """The two meet other shuffles of the same text; an untrained one is far below."""
    for name in ("low", "wide"):
        alone = train_sae(sae_spec.each()[name], sae_folder / "alone" / name)
        ours, own = report(four_saes / name)["held_out"], report(alone)["held_out"]
        assert ours["explained"] == pytest.approx(own["explained"], abs=0.05)
        assert ours["explained"] > 0.5
        assert (ours["tokens"], ours["ce_tokens"], ours["ce_clean"]) == (
            own["tokens"], own["ce_tokens"], pytest.approx(own["ce_clean"], abs=1e-4),
        )  # fmt: skip


def test_shares_of_dense_and_dead_features_are_told(four_saes: Path) -> None:
    told = report(four_saes / "small")
    assert 0 <= told["held_out"]["dense_share"] <= 1
    assert 0 <= told["dead_share"] <= 1
    # Four of 64 fire on average, so most fire on fewer than a tenth of the tokens, and four of four cannot.
    assert 0 < told["held_out"]["dense_share"] < 0.6


def test_too_little_room_is_told_before_anything_is_loaded(
    sae_spec: SaeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("sts_core.train.sae.training.shutil.disk_usage", lambda _: usage)
    told: list[Progress] = []
    with pytest.raises(UserError, match="too little room"):
        train_sae(sae_spec, tmp_path / "sae", told.append)
    assert told == []


def test_a_layer_beyond_the_model_is_told_with_its_name(sae_folder: Path, tmp_path: Path) -> None:
    wrong = SaeSpec.from_dict(spec_of(sae=[{"name": "a"}, {"name": "b", "layer": 3}]), sae_folder)
    told: list[Progress] = []
    with pytest.raises(UserError, match=r"\[\[sae\]\] b: there is no layer 3 .* layers 0 to 2"):
        train_sae(wrong, tmp_path / "sae", told.append)
    assert told == []


def test_outliers_that_leave_nothing_are_told(sae_spec: SaeSpec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leaves no token"):
        train_sae(replace(sae_spec, outliers=0.01), tmp_path / "sae")
    assert list(tmp_path.iterdir()) == []
