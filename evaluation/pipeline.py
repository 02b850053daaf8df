"""The evaluation on one page: regimes -> folds -> channels asked -> figures.

What a fold's channels are, and how a generator is trained for it, is the caller's: `genrecall evaluate` brings both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from evaluation.protocol import OpenChannels, fold_key, run_fold, splits
from evaluation.results import analyse
from genrecall.config import Config
from genrecall.records import Dataset

Tell = Callable[[str], None]


def evaluate(
    dataset: Dataset,
    config: Config,
    mode: Literal["offline", "node"],
    open_channels: OpenChannels,
    code: Sequence[Path],
    tell: Tell = lambda text: None,
) -> dict[str, Any]:
    """Every figure of a run, ready for `report.write`.

    open_channels: enters the channels of a split; skipped for a fold whose lists of an earlier run still hold.
    code: folders whose source decides what the channels answer; a change asks them anew.
    tell: takes one line of progress.
    """
    section, seed, relevant = config.evaluation, config.run.seed, config.data.relevant
    regimes = {}
    for regime in section.regimes:
        folds = []
        for split in splits(dataset, regime, section.folds, relevant, seed, config.data.folder / "splits.json"):
            tell(f"{regime} queries, {split.name}")
            key = fold_key(settings(config, mode), dataset, split, code)
            folder = config.run.dir / "evaluation" / mode / regime / split.name
            folds.append(run_fold(dataset, split, open_channels, section.depth, folder, key))
        tell(f"{regime} queries, figures")
        regimes[regime] = analyse(regime, folds, dataset, section, relevant, seed)
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
