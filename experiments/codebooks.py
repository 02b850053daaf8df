"""`python -m experiments.codebooks`: what are CQ-SID's parts worth to a trained generator?

The paper's ablation on unseen queries judged by people: a generator is trained for each codebook, as `genrecall train`
does it, and asked for SIDs. Beside hit rates by SID, the share of a query's relevant items whose SID is among the first
1, 10 and 100, stands the recall of the channel by items, ordered within their SIDs by BM25: SIDs of many items are hit
more easily and are worth less. Nothing is chosen here, so the figures are of test queries. Results are kept by seed,
fold and codebook, so that a run resumes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import typer

from experiments.context import ExperimentContext
from experiments.figures import Values, merged, table_of_differences
from genrecall.config import Config, load
from genrecall.data.readers import read_dataset
from genrecall.data.splits import kfold_splits
from genrecall.decoding import Generator
from genrecall.evaluation.channels_offline import Bm25, generative, order_within
from genrecall.evaluation.metrics import Evaluator
from genrecall.files import write_json
from genrecall.records import relevant

BEAMS = (1, 10, 100)
CQ_SID = "quantizer.candidates=[cq_sid]"
HIERARCHICAL = "quantizer.candidates=[hierarchical]"
BASE = "CQ-SID"
VARIANTS = {
    BASE: (CQ_SID,),
    "without category": (CQ_SID, "quantizer.cq_sid.ablation=no_category"),
    "without contrast": (CQ_SID, "quantizer.cq_sid.ablation=no_contrast"),
    "plain RQ-VAE": (CQ_SID, "quantizer.cq_sid.ablation=rq_vae"),
    "shared codebooks, as in the paper": (CQ_SID, "quantizer.cq_sid.codebooks=shared"),
    "plain RQ-VAE, shared": (CQ_SID, "quantizer.cq_sid.codebooks=shared", "quantizer.cq_sid.ablation=rq_vae"),
    "hierarchical k-means": (HIERARCHICAL,),
    "hierarchical k-means, category first": (HIERARCHICAL, "quantizer.hierarchical.level1=category"),
}


def main(
    config: Path = typer.Option(Path("configs/demo.yaml"), "--config", "-c"),
    seeds: str = typer.Option("13,14,15"),
    folds: int = typer.Option(2, help="of the five folds by query"),
    variant: list[str] = typer.Option([], "--variant", "-v", help="names of those to train, besides the first"),
    override: list[str] = typer.Option([], "--set", help="of the configuration, for all"),
) -> None:
    """Train a generator for each codebook and print the table."""
    chosen = {name: VARIANTS[name] for name in [BASE, *(variant or list(VARIANTS)[1:])]}
    results: dict[str, list[Values]] = {name: [] for name in chosen}
    for seed in map(int, seeds.split(",")):
        common = (f"run.seed={seed}", *override)
        dataset = read_dataset(load(Config, config, common).data)
        splits = kfold_splits(dataset, 5, seed)[:folds]
        for name, own in chosen.items():
            slug = name.replace(" ", "-").replace(",", "")
            each = [
                ExperimentContext(config, (*common, f"run.name=codebooks-{slug}", *own), dataset, split)
                for split in splits
            ]
            results[name].append(merged([measured(context) for context in each]))
    measures = list(results[BASE][0])
    print(f"\n{table_of_differences(results, BASE, measures)}", flush=True)


def measured(context: ExperimentContext) -> Values:
    """measure -> query -> value, of the test queries; from an earlier run where there is one."""
    path = context.folder / "test.json"
    if path.exists() and (kept := json.loads(path.read_text(encoding="utf-8")))["overrides"] == [*context.overrides]:
        return kept["values"]
    generator, _ = context.train(())
    values = hit_rates(context, generator) | recalls(context, generator)
    write_json(path, {"overrides": [*context.overrides], "values": values})
    return values


def hit_rates(context: ExperimentContext, generator: Generator) -> dict[str, dict[str, float]]:
    """SID@k: the share of a query's relevant items whose SID is among the first k."""
    dataset, least = context.dataset, context.config.data.relevant
    text = dict(zip(*(dataset.queries[name].to_pylist() for name in ("query_id", "text")), strict=True))
    rows = context.fitted.space.index_of(context.fitted.codes)
    row_of = dict(zip(dataset.items["item_id"].to_pylist(), rows.tolist(), strict=True))
    wanted: dict[str, list[int]] = {}
    for row in relevant(context.split.test, least).to_pylist():
        wanted.setdefault(row["query_id"], []).append(row_of[row["item_id"]])
    answer = generator.generate([text[query] for query in wanted], max(BEAMS))
    found = np.where(answer.valid, context.fitted.space.index_of(answer.codes), -1)
    return {
        f"SID@{k}": {q: float(np.isin(sids, found[n, :k]).mean()) for n, (q, sids) in enumerate(wanted.items())}
        for k in BEAMS
    }


def recalls(context: ExperimentContext, generator: Generator) -> dict[str, dict[str, float]]:
    """R@50 of the channel, its items in the order of BM25 within their SIDs."""
    dataset, section = context.dataset, context.config.evaluation
    evaluator = Evaluator(context.split.test, context.config.data.relevant, ("R@50",))
    queries = dataset.queries.filter(
        pc.is_in(dataset.queries["query_id"], value_set=pc.unique(context.split.test["query_id"]))
    )
    text = Bm25.of(dataset.items, context.config.opensearch.bm25_fields, section.bm25)
    order = order_within(section.order_within, text, np.arange(dataset.items.num_rows))
    ids = dataset.items["item_id"].to_pylist()
    run = generative(generator.generate, ids, context.fitted.codes, section.sids, order)(queries, section.depth)
    values = evaluator.values(run)
    return {name: dict(zip(evaluator.query_ids, of.tolist(), strict=True)) for name, of in values.items()}


if __name__ == "__main__":
    typer.run(main)
