"""Training as `genrecall train` runs it: the configured dataset, its split, and the dev queries that choose."""

from __future__ import annotations

import shutil

from genrecall.bundle import Bundle
from genrecall.config import Config
from genrecall.data.readers import read_dataset
from genrecall.data.splits import training_split
from genrecall.errors import UserError
from genrecall.evaluation.selection import score_dev
from trainer import pipeline


def train_run(config: Config, fresh: bool = False) -> Bundle:
    """Train on the dataset of `config` and publish the bundle. Resumes an interrupted run, unless `fresh`.

    Raises UserError where the dataset has no items.
    """
    if fresh:
        shutil.rmtree(config.run.dir / "train", ignore_errors=True)
    dataset = read_dataset(config.data, config.run.dir / "rejects.jsonl")
    if not dataset.items.num_rows:
        raise UserError("the dataset has no items: nothing to train on")
    split = training_split(dataset, config)
    return pipeline.train(config, dataset, split, config.run.codebook, score_dev(dataset, split, config))
