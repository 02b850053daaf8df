"""The evaluation on one page: regimes -> folds -> channels asked -> figures.

What a fold's channels are, and how a generator is trained for it, is in `folds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from genrecall.config import Config
from genrecall.data.readers import read_dataset
from genrecall.evaluation import folds
from genrecall.evaluation.catalogue import Catalogue
from genrecall.evaluation.protocol import OpenChannels, Opened, fold_key, run_fold, splits
from genrecall.evaluation.results import analyse
from genrecall.records import Dataset, Split

Tell = Callable[[str], None]


def evaluate_run(
    config: Config, offline: bool, progress: bool = True, tell: Tell = lambda text: None
) -> dict[str, Any]:
    """What `genrecall evaluate` reports: the configured dataset, a generator trained for each fold, channels asked.

    Raises UserError, before anything is trained, where no node answers or one lacks the plugins (unless `offline`).
    """
    if not offline:
        folds.check_node(config)
    dataset = read_dataset(config.data, config.run.dir / "rejects.jsonl")
    catalogue = Catalogue.of(dataset, config, folds.synthetic(dataset, config), progress)

    @contextmanager
    def channels(split: Split) -> Iterator[Opened]:
        bundle = folds.train(dataset, split, config, progress)
        with (folds.open_offline if offline else folds.open_node)(catalogue, split, bundle) as opened:
            yield opened

    return evaluate(dataset, config, "offline" if offline else "node", channels, tell)


def evaluate(
    dataset: Dataset,
    config: Config,
    mode: Literal["offline", "node"],
    open_channels: OpenChannels,
    tell: Tell = lambda text: None,
) -> dict[str, Any]:
    """Every figure of a run, ready for `report.write`.

    open_channels: enters the channels of a split; skipped for a fold whose lists of an earlier run still hold.
    tell: takes one line of progress.
    """
    section, seed, relevant = config.evaluation, config.run.seed, config.data.relevant
    regimes = {}
    for regime in section.regimes:
        done = []
        for split in splits(dataset, regime, section.folds, relevant, seed, config.data.folder / "splits.json"):
            tell(f"{regime} queries, {split.name}")
            key = fold_key(settings(config, mode), dataset, split)
            folder = config.run.dir / "evaluation" / mode / regime / split.name
            done.append(run_fold(dataset, split, open_channels, section.depth, folder, key))
        tell(f"{regime} queries, figures")
        regimes[regime] = analyse(regime, done, dataset, section, relevant, seed)
    return {
        "dataset": dataset.name,
        "simulated": dataset.simulated,
        "items": dataset.items.num_rows,
        "mode": mode,
        "seed": seed,
        "settings": section.model_dump(mode="json"),
        "regimes": regimes,
    }


def settings(config: Config, mode: str) -> dict[str, Any]:
    """What of a configuration decides the lists of a fold, how they are fused and told apart left out."""
    sections: dict[str, Any] = {
        "mode": mode,
        "seed": config.run.seed,
        "relevant": config.data.relevant,
        "encoder": config.encoder.model_dump(mode="json"),
        "quantizer": config.quantizer.model_dump(mode="json"),
        "generator": config.generator.model_dump(mode="json"),
        "evaluation": config.evaluation.model_dump(mode="json", include={"depth", "sids", "bm25", "adapter"}),
        "bm25_fields": config.opensearch.bm25_fields,
    }
    if mode == "node":
        sections["opensearch"] = config.opensearch.model_dump(mode="json", include={"shards", "vector", "fusion"})
    return sections
