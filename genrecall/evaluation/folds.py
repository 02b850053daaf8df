"""A fold without a node: from a split to a trained bundle, and from that to its channels.

Which folds there are belongs to `protocol`, what is compared to `results`, the channels of a node to `folds_node`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow.compute as pc

from genrecall.bundle import Bundle, codes_of
from genrecall.config import Config
from genrecall.decoding import Generator
from genrecall.errors import UserError
from genrecall.evaluation.collection import Collection, SyntheticQueries
from genrecall.evaluation.protocol import FoldChannels
from genrecall.evaluation.selection import score_dev
from genrecall.records import Dataset, Split
from trainer import fingerprint, pipeline
from trainer.behaviour import behaviour_of
from trainer.generator.examples import examples_of


def synthetic_queries(dataset: Dataset, config: Config) -> SyntheticQueries:
    """Those that the generator learns from: the adapter gets them too."""
    rows = np.arange(dataset.items.num_rows)
    none = dataset.judgments.slice(0, 0)
    made = examples_of(dataset.items, rows, none, dataset.queries, config.generator.sampling, config.run.seed)
    first, end = made.groups["synthetic"]
    return SyntheticQueries(made.texts[first:end], made.sid[made.start[first:end]])


def train_fold(dataset: Dataset, split: Split, config: Config) -> Bundle:
    """The bundle of a fold, kept apart from those that are served; it replaces the one of earlier settings."""
    run = config.run.model_copy(update={"bundles_dir": config.run.dir / "evaluation" / "bundles"})
    config = config.model_copy(update={"run": run})
    if split.cut:  # what is to be found happened later than all that is trained on
        config = config.model_copy(update={"logs": config.logs.model_copy(update={"split": "time"})})
    behaviour = behaviour_of(config, dataset, split)
    if (
        split.cut
        and behaviour.requests
        and (last := pc.max(behaviour.requests.train["timestamp"]).as_py()) >= split.cut
    ):
        raise UserError(
            f"{split.name}: requests up to {last:%Y-%m-%d %H:%M} would be trained on, and what came from "
            f"{split.cut:%Y-%m-%d %H:%M} on is to be found: set logs.dev_share and logs.test_share to what `genrecall "
            "data judge` was run with, or run it again"
        )
    codebook = f"{split.name}-{fingerprint.of(config, dataset, split, behaviour.key)[:8]}"
    for old in run.bundles_dir.glob(f"{split.name}-*"):
        if old.name != codebook:
            shutil.rmtree(old)
    score = score_dev(dataset, split, config)
    return pipeline.train(config, dataset, split, codebook, score, behaviour=behaviour)


@contextmanager
def open_offline(collection: Collection, split: Split, bundle: Bundle) -> Iterator[FoldChannels]:
    """The channels of a fold without a node."""
    generator = Generator.load(bundle.generator_dir, bundle.space)
    items, tuned = bundle.items(), collection.adapted(split)
    generative = collection.generative(generator.generate, items["item_id"].to_pylist(), codes_of(items), tuned)
    yield FoldChannels(collection.channels(tuned) | generative | collection.controls(split, tuned), notes(bundle))


def notes(bundle: Bundle) -> dict[str, object]:
    """How a fold's generator was chosen, for the report."""
    metrics = bundle.manifest["metrics"]
    return {
        "model": bundle.model,
        "chosen": metrics["quantizer"],
        "evidence": metrics["candidates"][metrics["quantizer"]]["generator"].get("evidence"),
        "candidates": {kind: of["dev"] for kind, of in metrics["candidates"].items()},
    }
