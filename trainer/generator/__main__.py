"""`python -m trainer.generator [-c CONFIG] [--codes KIND] [-v "key=value key=value" ...]`: recipes on dev queries.

Trains a generator of each variant on the train part of the first folds by query and prints the Markdown table of
docs/results/generator.md. Codes are made from the same part. Test queries are not looked at.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import typer

from genrecall.config import Config, load
from genrecall.config.quantizer import QuantizerKind
from genrecall.data.readers import read_dataset
from genrecall.data.splits import kfold_splits
from genrecall.embeddings import embed
from genrecall.item_text import item_text
from genrecall.records import Dataset, Split
from trainer.behaviour import behaviour_of
from trainer.pipeline import generate, query_item_pairs
from trainer.quantizer import fit

HEADER = (
    "| codes | recipe | graded recall on dev, by step: mean of the folds | best | s a fold |\n|---|---|---|---|---|"
)


def main(
    config: Path = typer.Option(Path("configs/demo.yaml"), "--config", "-c"),
    codes: str = typer.Option("hierarchical", help="cq_sid or hierarchical"),
    variant: list[str] = typer.Option([""], "--variant", "-v", help="overrides, such as generator.encoder.prior=false"),
    folds: int = typer.Option(2, min=1, max=5, help="how many of the five folds by query"),
) -> None:
    """Compare recipes of the generator on dev queries."""
    print(HEADER, flush=True)
    for overrides in variant:
        settings = load(Config, config, overrides.split())
        data = read_dataset(settings.data)
        splits = kfold_splits(data, 5, settings.run.seed)[:folds]
        print(row(codes, overrides, [measure(codes, settings, data, split) for split in splits]), flush=True)  # type: ignore[arg-type]


def measure(kind: QuantizerKind, settings: Config, data: Dataset, split: Split) -> dict[str, Any]:
    """The last stage's outcome on one fold."""
    vectors = embed(item_text(data.items), settings.encoder, settings.run.cache_dir)
    behaviour = behaviour_of(settings, data, split)
    pairs = query_item_pairs(settings, data, behaviour)
    fitted = fit(kind, vectors, data.items["category"].to_pylist(), pairs, settings.quantizer, settings.run.seed, False)
    with tempfile.TemporaryDirectory() as folder:
        metrics = generate(settings, data, split, behaviour, vectors, fitted, Path(folder), progress=True)
    return list(metrics["stages"].values())[-1]


def row(codes: str, overrides: str, outcomes: list[dict[str, Any]]) -> str:
    """One line of the table: means over the folds."""
    looks = [{look["step"]: look["eval_recall"] for look in outcome["looks"]} for outcome in outcomes]
    common = sorted(set.intersection(*map(set, looks)))
    path = ", ".join(f"{step}: {np.mean([look[step] for look in looks]):.3f}" for step in common)
    best = np.mean([max(look.values()) for look in looks])
    seconds = np.mean([outcome["seconds"] for outcome in outcomes])
    return f"| {codes} | {overrides.strip() or 'default'} | {path} | {best:.3f} | {seconds:.0f} |"


if __name__ == "__main__":
    typer.run(main)
