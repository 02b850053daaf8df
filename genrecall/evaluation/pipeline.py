"""The evaluation on one page: regimes -> folds -> runs of every channel -> figures.

What a fold's channels are, and how a generator is trained for it, is in `folds` and `folds_node`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from genrecall.config import Config
from genrecall.data.readers import read_dataset
from genrecall.data.splits import RECURRING_FILE
from genrecall.evaluation import folds
from genrecall.evaluation.collection import Collection
from genrecall.evaluation.protocol import FoldChannels, OpenFold, fold_key, run_fold, splits
from genrecall.evaluation.results import analyse
from genrecall.records import Dataset, Split
from genrecall.reports.collect import EVALUATION_FORMAT

Log = Callable[[str], None]
"""Takes one line of progress."""


def evaluate_run(config: Config, offline: bool, log: Log = lambda line: None) -> dict[str, Any]:
    """What `genrecall evaluate` reports: the configured dataset, a generator trained for each fold, every channel run.

    Raises UserError, before anything is trained, where no node answers or one lacks the plugins (unless `offline`).
    """
    open_channels = folds.open_offline
    if not offline:
        from genrecall.evaluation import folds_node  # needs opensearch-py

        folds_node.check_node(config)
        open_channels = folds_node.open_node
    dataset = read_dataset(config.data, config.run.dir / "rejects.jsonl")
    collection = Collection.of(dataset, config, folds.synthetic_queries(dataset, config))

    @contextmanager
    def open_fold(split: Split) -> Iterator[FoldChannels]:
        bundle = folds.train_fold(dataset, split, config)
        with open_channels(collection, split, bundle) as channels:
            yield channels

    return evaluate(dataset, config, "offline" if offline else "node", open_fold, log)


def evaluate(
    dataset: Dataset,
    config: Config,
    mode: Literal["offline", "node"],
    open_fold: OpenFold,
    log: Log = lambda line: None,
) -> dict[str, Any]:
    """Every figure of a run, ready for `genrecall.reports.evaluation_report`.

    open_fold: enters the channels of a split; skipped for a fold whose runs of an earlier evaluation still hold.
    """
    section, seed, relevant = config.evaluation, config.run.seed, config.data.relevant
    regimes = {}
    for regime in section.regimes or usual_regimes(config):
        done = []
        for split in splits(dataset, regime, section.folds, relevant, seed, config.data.folder):
            log(f"{regime} queries, {split.name}")
            key = fold_key(settings(config, mode), dataset, split)
            folder = config.run.dir / "evaluation" / mode / regime / split.name
            depth = max(section.depth, section.budget)  # one channel may have the whole budget
            done.append(run_fold(dataset, split, open_fold, depth, folder, key))
        log(f"{regime} queries, figures")
        regimes[regime] = analyse(regime, done, dataset, section, relevant, seed)
        if cut := done[0].split.cut:
            regimes[regime]["cut"] = cut.isoformat(timespec="seconds")
    return {
        "format": EVALUATION_FORMAT,
        "dataset": dataset.name,
        "simulated": dataset.simulated,
        "items": dataset.items.num_rows,
        "mode": mode,
        "seed": seed,
        "settings": section.model_dump(mode="json"),
        "regimes": regimes,
    }


def usual_regimes(config: Config) -> list[str]:
    """Unseen and recurring queries, and returning ones where logs judge."""
    judged_by_logs = (config.data.folder / RECURRING_FILE).is_file()
    return ["unseen", "recurring", *(["returning"] if judged_by_logs else [])]


def settings(config: Config, mode: str) -> dict[str, Any]:
    """What of a configuration decides the runs of a fold: all but how they are fused and compared."""
    sections: dict[str, Any] = {
        "mode": mode,
        "seed": config.run.seed,
        "relevant": config.data.relevant,
        "encoder": config.encoder.model_dump(mode="json"),
        "logs": config.logs.model_dump(mode="json"),
        "quantizer": config.quantizer.model_dump(mode="json"),
        "generator": config.generator.model_dump(mode="json"),
        "evaluation": config.evaluation.model_dump(
            mode="json",
            include={"depth", "budget", "sids", "order_within", "bm25", "adapter", "linear_weights", "tune_on"},
        ),
        "bm25_fields": config.opensearch.bm25_fields,
    }
    if mode == "node":
        sections["opensearch"] = config.opensearch.model_dump(mode="json", include={"shards", "vector", "fusion"})
    return sections
