from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from genrecall.config.encoder import EncoderSection
from genrecall.config.generator import TINY, GeneratorSection
from genrecall.embeddings import embed
from genrecall.readers import item_text
from tests.generator.shop import Train, catalogue, logs, tiny_encoder
from trainer.generator import train_generator


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> EncoderSection:
    torch.manual_seed(0)
    return EncoderSection(checkpoint=str(tiny_encoder(tmp_path_factory.mktemp("encoder"))), max_tokens=16)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def train(encoder: EncoderSection, cache: Path, tmp_path: Path) -> Train:
    """`train_generator` on the shop, into `tmp_path/generator` unless told otherwise."""

    def run(section: GeneratorSection = TINY, **changes: Any) -> dict[str, Any]:
        items, codes, space = catalogue()
        queries, train, dev = logs()
        arguments = {
            "section": section,
            "encoder": encoder,
            "space": space,
            "codes": codes,
            "items": items,
            "item_vectors": embed(item_text(items), encoder, cache, progress=False),
            "train": train,
            "queries": queries,
            "dev": dev,
            "out": tmp_path / "generator",
            "work": tmp_path / "work",
            "seed": 3,
            "cache_dir": cache,
            "progress": False,
        }
        return train_generator(**{**arguments, **changes})

    return run
