"""One (configuration, split): data, logs and codes made once, and as many generators on them as there are variants.

Stages that two variants share are trained once (`TrainingContext.keys`), so a sweep over the last stage costs the last
stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from genrecall.bundle import GENERATOR
from genrecall.config import Config, load
from genrecall.decoding import Generator
from genrecall.records import Dataset, Split
from trainer.behaviour import Behaviour, behaviour_of
from trainer.pipeline import TrainingRun, generate, quantize
from trainer.quantizer import Fitted


@dataclass(frozen=True)
class ExperimentContext:
    """What all variants of an experiment share.

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
    def run(self) -> TrainingRun:
        return TrainingRun(self.config, self.dataset, self.split, self.behaviour, self.folder)

    @cached_property
    def fitted(self) -> Fitted:
        return quantize(self.run, self.config.quantizer.candidates[0])

    def train(self, overrides: Sequence[str]) -> tuple[Generator, dict]:
        """The generator of a variant, in the place of the one before, and the metrics of its training."""
        folder = self.folder / self.fitted.kind
        (folder / "generator.json").unlink(missing_ok=True)  # each stage knows by its key what is done
        config = load(Config, self.path, [*self.overrides, *overrides])
        metrics = generate(replace(self.run, config=config), self.fitted)
        return Generator.load(folder / GENERATOR, self.fitted.space), metrics
