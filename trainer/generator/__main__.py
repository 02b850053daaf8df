"""`python -m trainer.generator [-c CONFIG] [--codes KIND] [-v "key=value key=value" ...]`: recipes on dev queries.

Trains a generator of each variant on the train part of the first folds by query and prints the Markdown table of
docs/results/generator.md. Codes are made from the same part. Test queries are not read.
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
from genrecall.records import Dataset, Split
from trainer.behaviour import behaviour_of
from trainer.pipeline import TrainingRun, generate, quantize

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
        print(row(codes, overrides, [evaluate_fold(codes, settings, data, split) for split in splits]), flush=True)  # type: ignore[arg-type]


def evaluate_fold(kind: QuantizerKind, settings: Config, data: Dataset, split: Split) -> dict[str, Any]:
    """The last stage's outcome on one fold."""
    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(settings, data, split, behaviour_of(settings, data, split), Path(folder))
        metrics = generate(run, quantize(run, kind))
    return list(metrics["stages"].values())[-1]


def row(codes: str, overrides: str, outcomes: list[dict[str, Any]]) -> str:
    """One line of the table: means over the folds."""
    recalls = [{entry["step"]: entry["eval_recall"] for entry in outcome["evaluations"]} for outcome in outcomes]
    common = sorted(set.intersection(*map(set, recalls)))
    path = ", ".join(f"{step}: {np.mean([recall[step] for recall in recalls]):.3f}" for step in common)
    best = np.mean([max(recall.values()) for recall in recalls])
    seconds = np.mean([outcome["seconds"] for outcome in outcomes])
    return f"| {codes} | {overrides.strip() or 'default'} | {path} | {best:.3f} | {seconds:.0f} |"


if __name__ == "__main__":
    typer.run(main)
