"""`python -m experiments.memory`: what does a memory renewed from newer logs bring to queries that training never saw?

A generator is trained without any test query. Then the logs before a moment become its memory, as `genrecall remember`
makes it, and the test queries that were asked before are asked again: wanted is what people clicked and bought for them
after the moment, the same items or others, and nothing is removed. Beside it stands what a shop can do with the same
clicks and without SIDs: BM25 in which items are raised by their clicks for the query. Clicks of a generated shop or of
`genrecall data simulate` make every figure a simulated one.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import typer

from experiments.context import ExperimentContext
from experiments.figures import Values, merged, table_of_differences
from genrecall.bundle import GENERATOR
from genrecall.config import Config, load
from genrecall.data.readers import read_dataset
from genrecall.data.rejects import Rejects
from genrecall.data.splits import kfold_splits
from genrecall.decoding import Generator
from genrecall.decoding.memory import FOLDER
from genrecall.evaluation.collection import Collection
from genrecall.evaluation.folds import synthetic_queries
from genrecall.evaluation.fusion import rrf
from genrecall.evaluation.metrics import Evaluator
from genrecall.evaluation.protocol import retrieve
from genrecall.evaluation.results import ADAPTED, BM25, BOOSTED, GENERATIVE
from genrecall.records import JUDGMENTS, Dataset, Split
from trainer.generator.memory import logged_wants
from trainer.logs.requests import build_requests, open_requests

KNOWN = 0.8  # share of the requests, by time, that are remembered
REMEMBERING = "remembering"
MEASURES = ("R@10", "R@50", "nDCG@10")
DEPTH = 200


def main(
    config: Path = typer.Option(Path("configs/demo.yaml"), "--config", "-c"),
    seeds: str = typer.Option("13,14,15"),
    folds: int = typer.Option(2, help="of five by query"),
    override: list[str] = typer.Option([], "--set", help="of the configuration; data.folder names a dataset with logs"),
) -> None:
    """Print the table: against RRF of BM25 and tuned k-NN."""
    results: dict[str, list[Values]] = {}
    for seed in map(int, seeds.split(",")):
        common = (f"run.seed={seed}", "quantizer.candidates=[hierarchical]", "logs.use=never", *override)
        common = (*common, "run.name=memory", "generator.memory.enabled=false")
        settings = load(Config, config, common)
        dataset = read_dataset(settings.data)
        of_folds: dict[str, list[Values]] = {}
        for split in kfold_splits(dataset, 5, seed)[:folds]:
            for name, values in measured(ExperimentContext(config, common, dataset, split)).items():
                of_folds.setdefault(name, []).append(values)
        for name, each in of_folds.items():
            results.setdefault(name, []).append(merged(each))
    print(f"\n{table_of_differences(results, f'{BM25}+{ADAPTED}', MEASURES)}", flush=True)


def measured(context: ExperimentContext) -> dict[str, Values]:
    """System -> measure -> query -> value."""
    dataset, config, fitted = context.dataset, context.config, context.fitted
    with Rejects() as rejects:
        path = build_requests(config.data, config.logs, dataset.items, config.run.dir / "requests", rejects)
    requests = open_requests(path)
    time = requests["timestamp"].to_numpy()
    late = time >= np.quantile(time.astype(np.int64), KNOWN).astype(time.dtype)
    before, after = (requests.filter(pa.array(part)) for part in (~late, late))
    parts = {name: returning(dataset, getattr(context.split, name), before, after) for name in ("dev", "test")}
    train = pa.concat_tables([known for known, _ in parts.values()])
    split = Split(context.split.name, train, parts["dev"][1], parts["test"][1], returning=True)
    test = split.test

    collection = Collection.of(dataset, config, synthetic_queries(dataset, config))
    tuned = collection.adapted(context.split)
    channels = collection.channels(tuned) | {BOOSTED: collection.boosted(split)}
    generator, _ = context.train(())
    assert generator.request_tokenizer.lexicon is not None
    item_ids = dataset.items["item_id"].to_pylist()
    wants, _ = logged_wants(
        before, generator.request_tokenizer.lexicon.analyzer, item_ids, config.generator.memory.least
    )
    folder = context.folder / fitted.kind / GENERATOR
    wants.memory(fitted.space.index_of(fitted.codes)).save(folder)
    remembering = Generator.load(folder, fitted.space)
    shutil.rmtree(folder / FOLDER)
    for name, of in ((GENERATIVE, generator), (REMEMBERING, remembering)):
        channels[name] = collection.generative(of.generate, item_ids, fitted.codes, tuned)[GENERATIVE]
    evaluator = Evaluator(test, 1.0, MEASURES)
    runs = retrieve(dataset, split, channels, DEPTH)
    lists = {name: evaluator.lists(run) for name, run in runs.items()}
    for one in (BM25, BOOSTED):
        for more in ((), (GENERATIVE,), (REMEMBERING,)):
            names = (one, ADAPTED, *more)
            fused = rrf({n: lists[n] for n in names}, dict.fromkeys(names, 1.0), config.evaluation.rank_constant, DEPTH)
            lists["+".join(names)] = fused
    return {
        name: {
            measure: dict(zip(evaluator.query_ids, of.tolist(), strict=True))
            for measure, of in evaluator.measure(evaluator.gains(ranked)).items()
        }
        for name, ranked in lists.items()
    }


def returning(dataset: Dataset, judged: pa.Table, before: pa.Table, after: pa.Table) -> tuple[pa.Table, pa.Table]:
    """JUDGMENTS of the queries of `judged` that were asked before and after: of items before, log(1 + clicks and
    purchases); of each item wanted after, 1.
    """
    past, later = (wanted(dataset, judged, requests) for requests in (before, after))
    rows = [(query, past[query], later[query]) for query in later if query in past]
    known = [{"query_id": q, "item_id": i, "grade": np.log1p(n)} for q, old, _ in rows for i, n in old.items()]
    found = [{"query_id": q, "item_id": i, "grade": 1.0} for q, _, new in rows for i in new]
    return pa.Table.from_pylist(known, JUDGMENTS), pa.Table.from_pylist(found, JUDGMENTS)


def wanted(dataset: Dataset, judged: pa.Table, requests: pa.Table) -> dict[str, Counter[str]]:
    """query of `judged` -> item -> in how many requests of its text it was clicked plus in how many it was bought."""
    ids, texts = (dataset.queries[name].to_pylist() for name in ("query_id", "text"))
    asked = set(judged["query_id"].to_pylist())
    query_of = {text.casefold(): query for query, text in zip(ids, texts, strict=True) if query in asked}
    found: dict[str, Counter[str]] = {}
    columns = (requests[name].to_pylist() for name in ("text", "clicked", "purchased"))
    for text, clicked, purchased in zip(*columns, strict=True):
        if (query := query_of.get(" ".join(text.casefold().split()))) and (clicked or purchased):
            found.setdefault(query, Counter()).update([*clicked, *purchased])
    return found


if __name__ == "__main__":
    typer.run(main)
