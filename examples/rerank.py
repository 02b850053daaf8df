"""BM25's first hundred items, reranked with the probability that the generator gives their SIDs.

    genrecall evaluate -c configs/demo.yaml --offline
    genrecall serve run.bundles_dir=runs/demo/evaluation/bundles server.max_loaded=16
    python -m examples.rerank --bundles runs/demo/evaluation/bundles

Two features an item, made comparable inside each list: its BM25 score, and log p(SID) - log(items in the SID), asked of
the server by one `Score` call a query. One weight mixes them, chosen on the dev queries of the bundle's own split; the
figures are of its test queries, which neither training nor that choice has seen. docs/rerank.md has the result.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from genrecall import bundle
from genrecall.bundle import Bundle, codes_of
from genrecall.client import Client
from genrecall.config.data import DataSection
from genrecall.config.evaluation import EvaluationSection
from genrecall.data.readers import read_dataset
from genrecall.evaluation.channels_offline import Bm25, bm25
from genrecall.evaluation.metrics import Evaluator, Interval, bootstrap
from genrecall.evaluation.protocol import held_out_queries, retrieve, splits
from genrecall.evaluation.runs import Ranking, Run
from genrecall.records import Dataset, Split

DEPTH = 100
WEIGHTS = np.linspace(0, 1, 21)  # of the generator; 0 is BM25 alone
HALF = len(WEIGHTS) // 2
MEASURES = ("nDCG@10", "R@10")


class Reranker:
    """BM25 lists -> lists in another order. `weight`: of the generator, from 0 to 1."""

    def __init__(self, client: Client, bundle: Bundle) -> None:
        items = bundle.items()
        codes = codes_of(items)
        rows = bundle.space.index_of(codes)
        self.client, self.codebook = client, bundle.codebook
        self.sid = dict(zip(items["item_id"].to_pylist(), codes, strict=True))
        self.log_size = dict(zip(items["item_id"].to_pylist(), np.log(np.bincount(rows)[rows]), strict=True))
        self.milliseconds: list[float] = []

    def features(self, text: str, listed: Ranking) -> tuple[np.ndarray, np.ndarray]:
        """(BM25, generator): float [n] each, of mean 0 and deviation 1 over the list."""
        began = time.perf_counter()
        scores = self.client.score(text, np.stack([self.sid[i] for i in listed.item_ids]), codebook=self.codebook)
        self.milliseconds.append((time.perf_counter() - began) * 1e3)
        return standard(listed.scores), standard(scores - np.array([self.log_size[i] for i in listed.item_ids]))

    def __call__(self, queries: pa.Table, run: Run) -> list[Run]:
        """The lists of `run` in the order of each of WEIGHTS."""
        text = dict(zip(queries["query_id"].to_pylist(), queries["text"].to_pylist(), strict=True))
        found = {q: self.features(text[q], listed) if len(listed.item_ids) else None for q, listed in run.items()}
        return [
            {q: reordered(run[q], (1 - w) * of[0] + w * of[1]) if of else run[q] for q, of in found.items()}
            for w in WEIGHTS
        ]


def standard(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / (x.std() + 1e-9)


def reordered(listed: Ranking, scores: np.ndarray) -> Ranking:
    order = np.argsort(-scores, kind="stable")
    return Ranking(listed.item_ids[order], scores[order])


def careful(values: np.ndarray) -> int:
    """Which of WEIGHTS. values: float [weights, dev queries].

    Of those within one standard error of the best (of the difference, query by query) the nearest to one half: a few
    dozen queries cannot tell more than that apart.
    """
    behind = values[values.mean(axis=1).argmax()] - values
    near = behind.mean(axis=1) <= behind.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    return min(np.flatnonzero(near).tolist(), key=lambda w: (abs(WEIGHTS[w] - 0.5), behind[w].mean()))


def split_of(bundle: Bundle, dataset: Dataset, section: EvaluationSection, relevant: float) -> tuple[str, Split]:
    """The regime and the split that the bundle was trained on."""
    seed = bundle.manifest["config"]["run"]["seed"]
    folder = Path(bundle.manifest["config"]["data"]["folder"])
    name = bundle.manifest["metrics"]["split"]
    regime = "recurring" if name == "recurring" else "unseen"
    return regime, next(s for s in splits(dataset, regime, section.folds, relevant, seed, folder) if s.name == name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, required=True, help="folder of the bundles that the server holds")
    parser.add_argument("--endpoint", default="127.0.0.1:50051")
    given = parser.parse_args(arguments)

    # regime -> system -> query -> a value of each measure for every bundle that was tested with the query
    values: dict[str, dict[str, dict[str, list[list[float]]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    with Client(given.endpoint) as client:
        held = client.describe().codebooks
        for codebook in (c.codebook for c in held):
            opened = bundle.open(given.bundles / codebook)
            config = opened.manifest["config"]
            data = DataSection.model_validate(config["data"])
            section = EvaluationSection.model_validate(config["evaluation"])
            dataset = read_dataset(data)
            regime, split = split_of(opened, dataset, section, data.relevant)
            # what training knows of a recurring query is taken out of its list, as in every evaluation here
            index = Bm25.of(dataset.items, config["opensearch"]["bm25_fields"], section.bm25)
            channel = bm25(dataset.items["item_id"].to_pylist(), index)
            run = retrieve(dataset, split, {"bm25": channel}, DEPTH)["bm25"]
            reranker = Reranker(client, opened)
            runs = reranker(held_out_queries(dataset, split), run)

            dev, test = (Evaluator(part, data.relevant, MEASURES) for part in (split.dev, split.test))
            on_dev = np.stack([dev.values(of)["nDCG@10"] for of in runs])
            best, tuned = int(on_dev.mean(axis=1).argmax()), careful(on_dev)
            systems = {"BM25": 0, "reranked": tuned, "best on dev": best, "half and half": HALF, "generator alone": -1}
            for name, chosen in systems.items():
                measured = test.values(runs[chosen])
                for n, query in enumerate(test.query_ids):
                    values[regime][name][query].append([measured[measure][n] for measure in MEASURES])
            print(
                f"{codebook}: {len(dev.query_ids)} dev and {len(test.query_ids)} test queries, weight of the generator "
                f"{WEIGHTS[tuned]:.2f} (best on dev {WEIGHTS[best]:.2f}), median Score call "
                f"{np.median(reranker.milliseconds):.0f} ms"
            )
    label = " (simulated)" if dataset.simulated else ""
    for regime, measured_of in values.items():
        of = {name: np.array([np.mean(v, axis=0) for v in queries.values()]) for name, queries in measured_of.items()}
        print(f"\n{regime}{label}, {len(of['BM25'])} test queries, 95% intervals over queries")
        for n, measure in enumerate(MEASURES):
            for name, found in of.items():
                line = f"  {measure:8} {name:16} {shown(interval(found[:, n]))}"
                print(line + (f"  minus BM25 {shown(interval((found - of['BM25'])[:, n]), '+')}" * (name != "BM25")))


def interval(values: np.ndarray) -> Interval:
    return bootstrap(values, resamples=10_000, seed=0)


def shown(interval: Interval, sign: str = "") -> str:
    return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


if __name__ == "__main__":
    main()
