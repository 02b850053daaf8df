"""`python -m trainer.quantizer [-c CONFIG] [-v "key=value key=value" ...]`: compare codebooks without a generator.

Fits every candidate of every variant on the train part of each fold by query, and of the recurring split, and probes it
on the dev part. Prints the Markdown table of docs/results/quantizer.md. Test queries are not read.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer

from genrecall import records
from genrecall.config import Config, load
from genrecall.config.quantizer import QuantizerKind
from genrecall.data.readers import read_dataset
from genrecall.data.splits import kfold_splits, recurring_split
from genrecall.embeddings import embed
from genrecall.item_text import item_text
from genrecall.records import Dataset, Split
from trainer.quantizer import QueryItemPairs, fit, probe

HEADER = (
    "| codes | SIDs | items in a SID: mean / seen by an item / max | singletons | unseen R@50 | R@200 "
    "| recurring R@50 | R@200 | s |\n|---|---|---|---|---|---|---|---|---|"
)


def main(
    config: Path = typer.Option(Path("configs/demo.yaml"), "--config", "-c"),
    variant: list[str] = typer.Option([""], "--variant", "-v", help="overrides, such as quantizer.cq_sid.epochs=5"),
    folds: int = typer.Option(5, min=2, help="folds by query"),
) -> None:
    """Compare codebooks on dev queries, without training a generator."""
    print(HEADER, flush=True)
    for overrides in variant:
        settings = load(Config, config, overrides.split())
        data = read_dataset(settings.data)
        splits = [*kfold_splits(data, folds, settings.run.seed), recurring_split(data, settings.run.seed)]
        for kind in settings.quantizer.candidates:
            print(row(f"{kind} {overrides}", evaluate_folds(kind, settings, data, splits)), flush=True)


def evaluate_folds(kind: QuantizerKind, settings: Config, data: Dataset, splits: list[Split]) -> list[dict[str, float]]:
    """The figures of each split's codebook."""
    cache = settings.run.cache_dir
    vectors, categories = (
        embed(item_text(data.items), "item", settings.encoder, cache, device=settings.run.device),
        data.items["category"].to_pylist(),
    )
    queries = embed(data.queries["text"].to_pylist(), "query", settings.encoder, cache, device=settings.run.device)
    results = []
    for split in splits:
        train, dev = (pairs(part, data, queries, settings.data.relevant) for part in (split.train, split.dev))
        started = time.perf_counter()
        fitted = fit(kind, vectors, categories, train, settings.quantizer, settings.run.seed, False)
        seconds = time.perf_counter() - started
        recalls = probe(fitted.codes, vectors, queries, (dev.query_idx, dev.item_idx))
        results.append({**fitted.report["sids"], **recalls, "seconds": seconds})
    return results


def pairs(judgments: pa.Table, data: Dataset, queries: np.ndarray, relevant: float) -> QueryItemPairs:
    """The relevant (query, item) pairs among `judgments`, each of weight 1."""
    kept = records.relevant(judgments, relevant)
    query, item = (
        pc.index_in(kept[name], value_set=table[name].combine_chunks()).to_numpy().astype(np.int64)
        for name, table in (("query_id", data.queries), ("item_id", data.items))
    )
    return QueryItemPairs(queries, query, item, np.ones(len(query), dtype=np.float32))


def row(name: str, results: list[dict[str, float]]) -> str:
    """One line of the table: means over the folds, the recurring split (the last) apart."""
    mean = {key: float(np.mean([r[key] for r in results])) for key in results[0] if key != "sizes"}
    unseen = {key: float(np.mean([r[key] for r in results[:-1]])) for key in ("R@50", "R@200")}
    return (
        f"| {name.strip()} | {mean['count']:,.0f} | {mean['mean_items']:.1f} / {mean['seen_items']:.1f} / "
        f"{mean['max_items']:.0f} | {mean['singleton_share']:.0%} | {unseen['R@50']:.3f} | {unseen['R@200']:.3f} | "
        f"{results[-1]['R@50']:.3f} | {results[-1]['R@200']:.3f} | {mean['seconds']:.1f} |"
    )


if __name__ == "__main__":
    typer.run(main)
