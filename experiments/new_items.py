"""`python -m experiments.new_items`: does the channel find items that were not there when it was trained, and how many
SIDs move when the catalogue grows?

A share of the catalogue is withheld from codes and training. The withheld items are then placed in the codebook, as
the ingest processor and `genrecall index sync` do it, and unseen queries are asked: recall of items that training saw
and of those that it did not, each against the same figure of BM25 and of tuned k-NN, which need no codes.

Churn: the items that were there before and have another SID afterwards, when a share of the catalogue is new, with the
codebook kept (none, by what it is) and with codes fitted anew. Numbers of codes mean nothing across two fits, so the
second is counted twice: SIDs that differ, and pairs of items of one SID that part.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer

from experiments.context import ExperimentContext
from experiments.figures import Values, merged, table_of_differences
from genrecall.assignment import assign
from genrecall.config import Config, load
from genrecall.data.readers import read_dataset
from genrecall.data.splits import kfold_splits
from genrecall.embeddings import embed
from genrecall.evaluation.collection import Collection
from genrecall.evaluation.folds import synthetic_queries
from genrecall.evaluation.metrics import Evaluator
from genrecall.evaluation.protocol import retrieve
from genrecall.evaluation.results import ADAPTED, BM25, GENERATIVE
from genrecall.evaluation.runs import Run
from genrecall.item_text import item_text
from genrecall.records import Dataset, Split
from genrecall.reports.markdown import share as in_words
from genrecall.reports.markdown import table
from trainer.quantizer import fit

CHURN = (0.01, 0.1)


def main(
    config: Path = typer.Option(Path("configs/demo.yaml"), "--config", "-c"),
    withheld: float = typer.Option(0.1, help="share of the items that training does not see"),
    seeds: str = typer.Option("13,14,15"),
    folds: int = typer.Option(2, help="of the five folds by query"),
    override: list[str] = typer.Option([], "--set", help="of the configuration"),
) -> None:
    """Print both tables."""
    results: dict[str, list[Values]] = {BM25: [], ADAPTED: [], GENERATIVE: []}
    for seed in map(int, seeds.split(",")):
        common = (f"run.seed={seed}", "quantizer.candidates=[hierarchical]", "run.name=new-items", *override)
        dataset = read_dataset(load(Config, config, common).data)
        new = np.random.default_rng(seed).random(dataset.items.num_rows) < withheld
        of_folds: dict[str, list[Values]] = {name: [] for name in results}
        for split in kfold_splits(dataset, 5, seed)[:folds]:
            for name, values in recalls(config, common, dataset, split, new).items():
                of_folds[name].append(values)
        for name, each in of_folds.items():
            results[name].append(merged(each))
    print(f"\n{table_of_differences(results, BM25, ['seen items R@50', 'new items R@50'])}\n", flush=True)
    print(churn(load(Config, config, override)), flush=True)


def recalls(
    path: Path, overrides: tuple[str, ...], dataset: Dataset, split: Split, new: np.ndarray
) -> dict[str, Values]:
    """Channel -> measure -> query -> value, of the test queries. new: bool [items], those withheld from training."""
    ids = np.array(dataset.items["item_id"].to_pylist(), dtype=object)
    old = dataset.items.filter(pa.array(~new))
    parts = {
        name: getattr(split, name).filter(
            pc.is_in(getattr(split, name)["item_id"], value_set=old["item_id"].combine_chunks())
        )
        for name in ("train", "dev")
    }
    context = ExperimentContext(path, overrides, replace(dataset, items=old), replace(split, **parts))
    generator, _ = context.train(())
    config, fitted = context.config, context.fitted
    vectors = embed(item_text(dataset.items), "item", config.encoder, config.run.cache_dir, device=config.run.device)
    codes = np.empty((len(new), 3), np.int32)
    codes[~new] = fitted.codes
    codes[new] = assign(fitted.arrays, vectors[new], dataset.items.filter(pa.array(new))["category"].to_pylist())
    made = synthetic_queries(context.dataset, config)
    collection = Collection.of(dataset, config, replace(made, items=np.flatnonzero(~new)[made.items]))
    tuned = collection.adapted(replace(split, **parts))
    channels = collection.channels(tuned) | collection.generative(generator.generate, ids.tolist(), codes, tuned)
    runs = retrieve(dataset, split, {name: channels[name] for name in (BM25, ADAPTED, GENERATIVE)}, 200)
    return {
        name: {
            f"{kind} items R@50": recall(split.test, pa.array(ids[of]), run, config.data.relevant)
            for kind, of in (("seen", ~new), ("new", new))
        }
        for name, run in runs.items()
    }


def recall(test: pa.Table, items: pa.Array, run: Run, least: float) -> dict[str, float]:
    """query -> R@50 of the relevant ones among `items`; queries that want none of them are left out."""
    evaluator = Evaluator(test.filter(pc.is_in(test["item_id"], value_set=items)), least, ("R@50",))
    return dict(zip(evaluator.query_ids, evaluator.values(run)["R@50"].tolist(), strict=True))


def churn(config: Config) -> str:
    """Markdown: of the items that were there, the share whose SID is another one after the catalogue has grown."""
    dataset = read_dataset(config.data)
    vectors = embed(item_text(dataset.items), "item", config.encoder, config.run.cache_dir, device=config.run.device)
    paths, rows = dataset.items["category"].to_pylist(), []
    for grown in CHURN:
        old = np.random.default_rng(config.run.seed).random(len(vectors)) >= grown
        before = fit(
            "hierarchical", vectors[old], [p for p, kept in zip(paths, old, strict=True) if kept], None,
            config.quantizer, config.run.seed, False,
        )  # fmt: skip
        after = fit("hierarchical", vectors, paths, None, config.quantizer, config.run.seed, False)
        kept, anew = before.codes, after.codes[old]
        pairs = together(before.space.index_of(kept))
        group = after.space.index_of(anew)
        parted = float((group[pairs[:, 0]] != group[pairs[:, 1]]).mean())
        rows.append([f"{grown:.0%}", in_words(0.0), in_words(float((kept != anew).any(1).mean())), in_words(parted)])
    header = [
        "new items",
        "codebook kept: SIDs that move",
        "fitted anew: SIDs that differ",
        "pairs of one SID that part",
    ]
    return table(header, rows)


def together(group: np.ndarray) -> np.ndarray:
    """int64 [n, 2]: each item with the next of its SID."""
    order = np.argsort(group, kind="stable")
    same = group[order][1:] == group[order][:-1]
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


if __name__ == "__main__":
    typer.run(main)
