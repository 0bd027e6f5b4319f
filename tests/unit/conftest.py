"""Worlds that several unit tests stand on: a tiny model with its SAE and sets, and four SAEs trained in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import tiny

if TYPE_CHECKING:
    from sts_core.train.sae.spec import SaeSpec


@pytest.fixture
def world(tmp_path: Path, own_cache: Path) -> tiny.World:
    """A tiny model, its SAE and its sets, beside a cache of their own."""
    folder = tmp_path / "world"
    folder.mkdir()
    return tiny.world(folder)


@pytest.fixture(scope="module")
def small_reading() -> Iterator[None]:
    """Trainings of SAEs with a first look and forward passes that are short beside the training, as with real ones."""
    from sts_core.train.sae import source, stream

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "_FIRST_LOOK", 500)
        patch.setattr(source, "BATCH_TOKENS", 256)
        yield


@pytest.fixture(scope="module")
def sae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and text to train SAEs on."""
    from tests.sae_world import make_world

    return make_world(tmp_path_factory.mktemp("saes"))


@pytest.fixture(scope="module")
def sae_spec(sae_folder: Path) -> SaeSpec:
    """Four SAEs over two layers."""
    from sts_core.train.sae.spec import SaeSpec
    from tests.sae_world import SAES, spec_of

    return SaeSpec.from_dict(spec_of(sae=SAES), sae_folder)


@pytest.fixture(scope="module")
def four_saes(sae_folder: Path, sae_spec: SaeSpec, small_reading: None) -> Path:
    """The four of them, trained in one pass that was never interrupted."""
    from sts_core.train.sae.training import train_sae

    return train_sae(sae_spec, sae_folder / "out" / "whole")
