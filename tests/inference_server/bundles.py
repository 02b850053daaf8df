"""A bundle as `train` publishes it, with all that `Encode` needs, in a few seconds."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import torch

from genrecall.bundle import Bundle
from genrecall.config import Config
from genrecall.config.data import DataSection
from genrecall.config.encoder import EncoderSection
from genrecall.config.quantizer import CqSidSection, QuantizerSection
from genrecall.config.run import RunSection
from genrecall.records import Dataset, Split
from tests.generator.shop import TINY, catalogue, logs, tiny_encoder
from trainer.pipeline import train


def train_shop(folder: Path, quantizer: str, generator: str, **encoder: str) -> tuple[Config, Bundle]:
    """`folder/bundles/v1`, and the configuration that made it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Config(
        run=RunSection(runs_dir=folder / "runs", bundles_dir=folder / "bundles", cache_dir=folder / "cache"),
        data=DataSection(folder=folder),
        encoder=EncoderSection(checkpoint=str(tiny_encoder(folder / "checkpoint")), max_tokens=12, **encoder),
        quantizer=QuantizerSection(
            candidates=(quantizer,),
            category_min_items=2,
            max_items_per_sid=3,
            cq_sid=CqSidSection(hidden=16, latent=8, warmup_epochs=1, epochs=2),
        ),
        generator=TINY.model_copy(update={"kind": generator}),
    )
    return config, train(config, *shop_dataset(), "v1", lambda *_: {"R@50": 1.0}, progress=False)


def shop_dataset() -> tuple[Dataset, Split]:
    queries, learned, dev = logs()
    dataset = Dataset("shop", catalogue()[0], queries, pa.concat_tables([learned, dev]))
    return dataset, Split("given", learned, dev, dev.slice(0, 0))
