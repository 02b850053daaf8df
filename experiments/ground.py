"""One (configuration, split): data, logs and codes made once, and as many generators on them as there are variants.

Stages that two variants share are trained once (`Job.keys`), so a sweep over the last stage costs the last stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from genrecall.config import Config, load
from genrecall.decoding import Generator
from genrecall.embeddings import embed
from genrecall.item_text import item_text
from genrecall.records import Dataset, Split
from genrecall.sid import SidSpace
from trainer.behaviour import Behaviour, behaviour_of
from trainer.pipeline import generate, quantize, query_item_pairs
from trainer.quantizer import Fitted


@dataclass(frozen=True)
class Ground:
    """What every variant stands on.

    Attributes:
        path, overrides: the configuration that a variant's own overrides are added to.
    """

    path: Path
    overrides: tuple[str, ...]
    dataset: Dataset
    split: Split

    @cached_property
    def config(self) -> Config:
        return load(Config, self.path, self.overrides)

    @cached_property
    def folder(self) -> Path:
        return self.config.run.dir / f"{self.split.name}-{self.config.run.seed}"

    @cached_property
    def behaviour(self) -> Behaviour:
        return behaviour_of(self.config, self.dataset, self.split)

    @cached_property
    def vectors(self) -> np.ndarray:
        return embed(item_text(self.dataset.items), self.config.encoder, self.config.run.cache_dir)

    @cached_property
    def fitted(self) -> Fitted:
        pairs = query_item_pairs(self.config, self.dataset, self.behaviour)
        kind = self.config.quantizer.candidates[0]
        return quantize(kind, self.config, self.dataset, self.vectors, pairs, self.folder, True)

    @cached_property
    def space(self) -> SidSpace:
        return SidSpace.of(self.fitted.codes, self.fitted.level_sizes)

    def train(self, overrides: Sequence[str]) -> tuple[Generator, dict]:
        """The generator of a variant, in the place of the one before, and the metrics of its training."""
        config = load(Config, self.path, [*self.overrides, *overrides])
        (self.folder / "generator.json").unlink(missing_ok=True)  # stages say themselves what is done
        common = (self.dataset, self.split, self.behaviour, self.vectors, self.fitted, self.folder)
        metrics = generate(config, *common, progress=True)
        return Generator.load(self.folder / "generator", self.space), metrics
