"""`python -m experiments.alignment`: does EG-GRPO help, and what do K, the rewards and the KL weight do?

Codes and the SFT stages are trained on simulated logs, then the alignment in each variant. The generative channel alone
is judged, by people's grades (ESCI) or the shop's true relevance, never by clicks, on two separate sets of queries:

    recurring   queries that the logs hold; no grade of any query reaches training
    unseen      queries that no log holds, nor a reordering of them

Beside it the paper's figures: hits of clicked, exposed and bought SIDs in later simulated requests of recurring
queries. Choices are made on one half of the recurring queries and the dev queries (`--dev`), claims on the rest.
Results are kept by seed, fold and variant, so that a run resumes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import typer

from experiments.context import ExperimentContext
from experiments.figures import Values, merged, table_of_differences
from genrecall.config import Config, load
from genrecall.data.readers import read_dataset
from genrecall.data.splits import kfold_splits, training_split
from genrecall.decoding import Generator
from genrecall.evaluation.channels_offline import generative
from genrecall.evaluation.metrics import Evaluator
from genrecall.files import write_json
from trainer.generator.requests import CLICKED, EXPOSED, PURCHASED, Requests

GRADED = ("R@10", "R@50", "nDCG@10", "Success@1")
HITS = {
    "clk@1": (CLICKED, 1),
    "clk@10": (CLICKED, 10),
    "exp@1": (EXPOSED, 1),
    "exp@10": (EXPOSED, 10),
    "buy@10": (PURCHASED, 10),
}
"""Of the paper: is a SID with this outcome, or a better one, among the first k?"""

BASE = "SFT"
SFT = ("generator.alignment.steps=0",)
ALIGNMENT = "generator.alignment"
MAIN = {
    BASE: SFT,
    "SFT, twice the steps": (*SFT, "generator.user.stage.steps={more}"),
    "GRPO, K = 0": (f"{ALIGNMENT}.experts=0",),
    **{f"EG-GRPO, K = {k}": (f"{ALIGNMENT}.experts={k}",) for k in (1, 2, 4)},
}
SWEEP = {
    BASE: SFT,
    "as configured": (),
    **{f"clicked {v}": (f"{ALIGNMENT}.reward.clicked={v}",) for v in (0.5, 0.75)},
    **{f"purchased {v}": (f"{ALIGNMENT}.reward.purchased={v}",) for v in (1.5, 3.0)},
    **{f"exposed {v}": (f"{ALIGNMENT}.reward.exposed={v}",) for v in (0.1, 0.25, 0.75)},
    **{f"valid {v}": (f"{ALIGNMENT}.reward.valid={v}",) for v in (-0.5, 0.0, 0.3)},
    **{f"KL weight {v}": (f"{ALIGNMENT}.kl_weight={v}",) for v in (0.0, 0.1, 0.3, 3.0)},
}


def main(
    config: Path = typer.Option(Path("configs/experiments/alignment-esci.yaml"), "--config", "-c"),
    seeds: str = typer.Option("13,14,15"),
    folds: int = typer.Option(2, help="of the five folds by query; a dataset with its own splits.json has one"),
    dev: bool = typer.Option(False, "--dev", help="evaluate on the queries that choices are made on"),
    sweep: bool = typer.Option(False, help="the sweep of rewards and KL, with --dev"),
    variant: list[str] = typer.Option([], "--variant", "-v", help="overrides of another variant, with --dev"),
    override: list[str] = typer.Option([], "--set", help="of the configuration, for all"),
) -> None:
    """Train the variants and print the tables."""
    chosen = SWEEP if sweep else {BASE: SFT, **{v: tuple(v.split()) for v in variant}} if variant else MAIN
    results: dict[str, list[Values]] = {name: [] for name in chosen}
    for seed in map(int, seeds.split(",")):
        of_folds: dict[str, list[Values]] = {name: [] for name in chosen}
        for context in contexts(config, seed, folds, override):
            more = 2 * context.config.generator.user.stage.steps
            for name, overrides in chosen.items():
                changes = tuple(override.format(more=more) for override in overrides)
                of_folds[name].append(measured(context, name, changes, "dev" if dev or sweep or variant else "test"))
        for name, values in of_folds.items():
            results[name].append(merged(values))
    for title, measures in tables_of(results[BASE][0]).items():
        print(f"\n{title}\n\n{table_of_differences(results, BASE, measures)}", flush=True)


def tables_of(values: Values) -> dict[str, list[str]]:
    """Title -> measures."""
    return {
        "Recurring queries, by grades": [f"recurring {m}" for m in GRADED],
        "Unseen queries, by grades": [f"unseen {m}" for m in GRADED],
        "Later requests of recurring queries, simulated": [m for m in HITS if m in values],
    }


def contexts(path: Path, seed: int, folds: int, overrides: list[str]) -> Iterator[ExperimentContext]:
    """One a fold."""
    changes = (f"run.seed={seed}", *overrides)
    settings = load(Config, path, changes)
    dataset = read_dataset(settings.data)
    own = (settings.data.folder / "splits.json").is_file()
    for split in [training_split(dataset, settings)] if own else kfold_splits(dataset, 5, seed)[:folds]:
        name = f"{settings.run.name}-{split.name}-{seed}"
        yield ExperimentContext(path, (*changes, f"run.name={name}"), dataset, split)


def measured(context: ExperimentContext, name: str, overrides: tuple[str, ...], part: str) -> Values:
    """The variant's values on `part` of the queries, from an earlier run where there are some."""
    path = context.folder / f"{part}-{name.replace(' ', '_')}.json"
    settings = [*context.overrides, *overrides]
    if path.exists() and (kept := json.loads(path.read_text(encoding="utf-8")))["overrides"] == settings:
        return kept["values"]
    generator, metrics = context.train(overrides)
    seen = context.split.train
    half = [zlib.crc32(query.encode()) % 2 == (part == "test") for query in seen["query_id"].to_pylist()]
    judged = {"recurring": seen.filter(pa.array(half)), "unseen": getattr(context.split, part)}
    values: dict[str, Mapping[str, float]] = {}
    for regime, judgments in judged.items():
        values |= {f"{regime} {measure}": of for measure, of in graded(context, generator, judgments).items()}
    values |= hits(context, generator, part)
    write_json(path, {"overrides": settings, "values": values, "stages": metrics["stages"]})
    return values


def graded(context: ExperimentContext, generator: Generator, judgments: pa.Table) -> Values:
    """measure -> query -> value of the generative channel alone."""
    dataset, section = context.dataset, context.config.evaluation
    evaluator = Evaluator(judgments, context.config.data.relevant, GRADED)
    judged = pa.array(evaluator.query_ids, pa.string())
    queries = dataset.queries.filter(pa.compute.is_in(dataset.queries["query_id"], value_set=judged))
    channel = generative(generator.generate, dataset.items["item_id"].to_pylist(), context.fitted.codes, section.sids)
    values = evaluator.values(channel(queries, section.depth))
    return {measure: dict(zip(evaluator.query_ids, of.tolist(), strict=True)) for measure, of in values.items()}


def hits(context: ExperimentContext, generator: Generator, part: str) -> Values:
    """measure -> text -> the share of its simulated requests, after those trained on, that are hit."""
    assert context.behaviour.requests is not None
    rows = context.fitted.space.index_of(context.fitted.codes)
    requests = Requests.of(getattr(context.behaviour.requests, part), context.dataset.items, rows, ())
    trained = set(context.behaviour.requests.train["text"].unique().to_pylist())
    recurring = [n for n, text in enumerate(requests.texts) if text in trained]
    answer = generator.generate([requests.texts[n] for n in recurring], 10)
    first = np.full((len(requests.texts), 10), -2)
    first[recurring] = np.where(answer.valid, context.fitted.space.index_of(answer.codes), -2)
    values: dict[str, dict[str, float]] = {}
    for measure, (least, k) in HITS.items():
        of_text: dict[int, list[float]] = {}
        for row in np.flatnonzero(np.isin(requests.text, recurring)):
            outcomes = slice(requests.start[row], requests.start[row + 1])
            targets = requests.sid[outcomes][requests.outcome[outcomes] <= least]
            if len(targets):
                text = int(requests.text[row])
                of_text.setdefault(text, []).append(float(np.isin(targets, first[text, :k]).any()))
        values[measure] = {requests.texts[text]: float(np.mean(each)) for text, each in of_text.items()}
    return values


if __name__ == "__main__":
    typer.run(main)
