"""A dataset ready to be searched: vectors, BM25, and what is trained or tuned for a split: adapters and controls.

Owns the channels that need no node; both ways to evaluate start from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import pyarrow as pa

from genrecall.config import Config
from genrecall.embeddings import embed
from genrecall.evaluation import channels_offline as offline
from genrecall.evaluation.channels_offline import Bm25, Generate, Vectors
from genrecall.evaluation.metrics import Evaluator
from genrecall.evaluation.protocol import known_items, past_items, retrieve
from genrecall.evaluation.results import (
    ADAPTED,
    BM25,
    BOOSTED,
    GENERATIVE,
    GENERATIVE_TEXT,
    KNN,
    LINEAR,
    PLACEBO,
    ROCCHIO,
)
from genrecall.evaluation.runs import Channel
from genrecall.item_text import item_text
from genrecall.records import Dataset, Split, relevant
from trainer.generator.adapter import Positives, train_adapter

PLACEBO_DIM = 256


@dataclass(frozen=True)
class SyntheticQueries:
    """Queries made from items. texts: [n]; items: int64 [n], the row of the item of each."""

    texts: list[str]
    items: np.ndarray


@dataclass(frozen=True)
class Collection:
    """Items and queries of a dataset with their vectors.

    Attributes:
        item_vectors: float32 [items, dim], unit norm.
        query_vectors: float32 [queries, dim], unit norm; after those of the dataset the synthetic ones.
        synthetic: the synthetic queries.
        text: BM25 over the fields of the BM25 of a node.
    """

    config: Config
    dataset: Dataset
    item_ids: list[str]
    item_vectors: np.ndarray
    query_vectors: np.ndarray
    synthetic: SyntheticQueries
    text: Bm25

    @classmethod
    def of(cls, dataset: Dataset, config: Config, synthetic: SyntheticQueries | None = None) -> Collection:
        """Embed (through the cache) and index. synthetic: queries that the generator learns from too."""
        synthetic = synthetic or SyntheticQueries([], np.empty(0, dtype=np.int64))
        queries = [*dataset.queries["text"].to_pylist(), *synthetic.texts]
        return cls(
            config=config,
            dataset=dataset,
            item_ids=dataset.items["item_id"].to_pylist(),
            item_vectors=embed(
                item_text(dataset.items), "item", config.encoder, config.run.cache_dir, device=config.run.device
            ),
            query_vectors=embed(queries, "query", config.encoder, config.run.cache_dir, device=config.run.device),
            synthetic=synthetic,
            text=Bm25.of(dataset.items, config.opensearch.bm25_fields, config.evaluation.bm25),
        )

    def vectors(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dim] vectors of queries of this dataset."""
        return self.query_vectors[[self._row_of_text[text] for text in texts]]

    def adapted(self, split: Split) -> Vectors:
        """`vectors` through an adapter trained for the split (`_tuned`)."""
        return self._tuned(split, self.item_vectors, self.query_vectors)

    def channels(self, tuned: Vectors) -> dict[str, Channel]:
        """BM25, k-NN and adapted k-NN, by exact search. tuned: of `adapted`."""
        return {
            BM25: offline.bm25(self.item_ids, self.text),
            KNN: offline.knn(self.item_ids, self.item_vectors, self.vectors),
            ADAPTED: offline.knn(self.item_ids, self.item_vectors, tuned),
        }

    def generative(
        self, generate: Generate, item_ids: list[str], codes: np.ndarray, vectors: Vectors
    ) -> dict[str, Channel]:
        """The generator's channels: items of its SIDs in the order of text and vector, and of text alone.

        codes: int [items, 3] of `item_ids`. vectors: of the queries, for that order.
        """
        section, rows = self.config.evaluation, np.array([self._row_of_item[item] for item in item_ids])
        remembered = cache(lambda texts, k: generate(list(texts), k))  # the same SIDs for both

        def channel(within: offline.OrderWithin) -> Channel:
            return offline.generative(
                lambda texts, k: remembered(tuple(texts), k), item_ids, codes, section.sids, within
            )

        order = section.order_within
        return {
            GENERATIVE: channel(offline.order_within(order, self.text, rows, vectors, self.item_vectors)),
            GENERATIVE_TEXT: channel(offline.order_within(order, self.text, rows)),
        }

    def controls(self, split: Split, tuned: Vectors) -> dict[str, Channel]:
        """What could do without SIDs what they do: see `results` for each. Rocchio where queries recur, boosting where
        the same items count again.
        """
        placebo_items, placebo_queries = self._placebo
        channels = {
            LINEAR: self._linear(split, tuned),
            PLACEBO: offline.knn(self.item_ids, placebo_items, self._tuned(split, placebo_items, placebo_queries)),
        }
        if wanted := _known_wanted(split, self.config.data.relevant):
            channels[ROCCHIO] = offline.exhaustive(self.item_ids, self._rocchio(wanted, tuned))
        if split.returning:
            channels[BOOSTED] = self.boosted(split)
        return channels

    def boosted(self, split: Split) -> Channel:
        """BM25 + weight x the grade of an item for the query in training; the weight is the best on dev queries."""
        section = self.config.evaluation
        grades: dict[str, dict[int, float]] = {}
        for row in split.train.to_pylist():
            grades.setdefault(row["query_id"], {})[self._row_of_item[row["item_id"]]] = row["grade"]

        def channel(weight: float) -> Channel:
            def scores(queries: pa.Table) -> np.ndarray:
                found = self.text.scores(queries["text"].to_pylist())
                for n, query_id in enumerate(queries["query_id"].to_pylist()):
                    for item, grade in grades.get(query_id, {}).items():
                        found[n, item] += weight * grade
                return np.where(found > 0, found, -np.inf)

            return offline.exhaustive(self.item_ids, scores)

        return self._best_on_dev(split, channel, section.boosts, section.boosts[-1])

    def _linear(self, split: Split, tuned: Vectors) -> Channel:
        """BM25, documents expanded with the training queries that chose them, + weight x cosine of the tuned query.

        The weight is the best on dev queries; without any, that of `order_within`.
        """
        section = self.config.evaluation
        clicked: list[list[str]] = [[] for _ in self.item_ids]
        for row in relevant(split.train, self.config.data.relevant).to_pylist():
            clicked[self._row_of_item[row["item_id"]]].append(self._text_of_query[row["query_id"]])
        added = list(map(" ".join, clicked))
        index = Bm25.of(self.dataset.items, self.config.opensearch.bm25_fields, section.bm25, added)
        cosine = offline.cosine(self.item_vectors, tuned)

        def channel(weight: float) -> Channel:
            return offline.exhaustive(
                self.item_ids, lambda queries: index.scores(queries["text"].to_pylist()) + weight * cosine(queries)
            )

        return self._best_on_dev(split, channel, section.linear_weights, section.order_within.vector_weight)

    def _best_on_dev(
        self, split: Split, channel: Callable[[float], Channel], weights: Sequence[float], without: float
    ) -> Channel:
        """The channel of the weight that is best on dev queries, of `without` where there are none."""
        dev = Evaluator(split.dev, self.config.data.relevant, tuple(self.config.evaluation.tune_on))
        if not dev.query_ids:
            return channel(without)
        only_dev = replace(split, test=split.test.slice(0, 0))
        tried = {str(weight): channel(weight) for weight in weights}
        runs = retrieve(self.dataset, only_dev, tried, dev.deepest)
        return tried[max(tried, key=lambda weight: np.mean(list(dev.values(runs[weight]).values())))]

    def _rocchio(self, wanted: Mapping[str, set[str]], tuned: Vectors) -> offline.Scores:
        """Cosine of normalize(tuned query + mean vector of the items known to be wanted)."""

        def scores(queries: pa.Table) -> np.ndarray:
            moved = tuned(queries["text"].to_pylist()).copy()
            for n, query_id in enumerate(queries["query_id"].to_pylist()):
                if items := wanted.get(query_id):
                    moved[n] += self.item_vectors[[self._row_of_item[item] for item in sorted(items)]].mean(axis=0)
            return (moved / np.linalg.norm(moved, axis=1, keepdims=True)) @ self.item_vectors.T

        return scores

    def _tuned(self, split: Split, item_vectors: np.ndarray, query_vectors: np.ndarray) -> Vectors:
        """Query vectors through an adapter trained on what the generator is trained on.

        That is the relevant pairs of `split.train` and the synthetic queries; training stops by those of `split.dev`.
        """
        query = {query_id: row for row, query_id in enumerate(self.dataset.queries["query_id"].to_pylist())}

        def pairs(part: pa.Table) -> Positives:
            wanted = relevant(part, self.config.data.relevant)
            return Positives(
                np.array([query[q] for q in wanted["query_id"].to_pylist()], dtype=np.int64),
                np.array([self._row_of_item[i] for i in wanted["item_id"].to_pylist()], dtype=np.int64),
            )

        synthetic = Positives(np.arange(len(query), len(query_vectors)), self.synthetic.items)
        known = {query[q]: np.array([self._row_of_item[i] for i in items]) for q, items in known_items(split).items()}
        section, seed = self.config.evaluation.adapter, self.config.run.seed
        sources = [pairs(split.train), synthetic]
        adapter = train_adapter(sources, pairs(split.dev), item_vectors, query_vectors, section, seed, known)
        return lambda texts: adapter.apply_to(query_vectors[[self._row_of_text[text] for text in texts]])

    @cached_property
    def _placebo(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 [items, dim] and [queries, dim], unit norm: TF-IDF of the items' texts, its SVD."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.preprocessing import normalize

        words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True, dtype=np.float32)
        items = words.fit_transform(item_text(self.dataset.items))
        svd = TruncatedSVD(min(PLACEBO_DIM, *items.shape), random_state=self.config.run.seed)
        queries = [*self.dataset.queries["text"].to_pylist(), *self.synthetic.texts]
        of_items = normalize(svd.fit_transform(items)).astype(np.float32)
        return of_items, normalize(svd.transform(words.transform(queries))).astype(np.float32)

    @cached_property
    def _row_of_text(self) -> dict[str, int]:
        return {text: row for row, text in enumerate(self.dataset.queries["text"].to_pylist())}

    @cached_property
    def _row_of_item(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    @cached_property
    def _text_of_query(self) -> dict[str, str]:
        queries = self.dataset.queries
        return dict(zip(queries["query_id"].to_pylist(), queries["text"].to_pylist(), strict=True))


def _known_wanted(split: Split, least: float) -> dict[str, set[str]]:
    """query_id of dev and test -> the relevant items that training knows for it."""
    return past_items(replace(split, train=relevant(split.train, least)))
