from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from genrecall.config.encoder import EncoderSection
from genrecall.config.generator import GeneratorSection
from tests.generator.shop import TINY, Train, logs, shop_data, tiny_encoder
from trainer.generator import TrainingSettings, train_generator

torch.set_num_threads(1)  # models this small only lose by sharing


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> EncoderSection:
    torch.manual_seed(0)
    return EncoderSection(checkpoint=str(tiny_encoder(tmp_path_factory.mktemp("encoder"))), max_tokens=16)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def train(encoder: EncoderSection, cache: Path) -> Train:
    """`train_generator` on the shop, into a given folder."""

    def run(folder: Path, section: GeneratorSection = TINY, **changes: Any) -> dict[str, Any]:
        data = shop_data(encoder, cache, **changes)
        settings = TrainingSettings(section, encoder, seed=3, cache_dir=cache, progress=False)
        return train_generator(data, settings, folder / "generator", folder / "work")

    return run


@pytest.fixture(scope="session")
def trained_encoder(train: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the metrics of an `encoder` generator with a dense prior, judged on the queries it learns.

    Behind a sentence encoder of random weights nothing can be told about queries it has not seen.
    """
    folder = tmp_path_factory.mktemp("trained-encoder")
    section = TINY.model_copy(update={"encoder": TINY.encoder.model_copy(update={"store": "float32"})})
    metrics = train(folder, section, dev=logs()[1])
    return folder / "generator", metrics


@pytest.fixture(scope="session")
def trained_lm(train: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the metrics of an `lm` generator."""
    folder = tmp_path_factory.mktemp("trained-lm")
    metrics = train(folder, TINY.model_copy(update={"kind": "lm"}))
    return folder / "generator", metrics
