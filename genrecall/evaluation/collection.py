"""A dataset ready to be searched: vectors, BM25, and the adapter trained for a split.

Owns the channels that need no generator and no node; both ways to evaluate start from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from genrecall.config import Config
from genrecall.embeddings import embed
from genrecall.evaluation import channels_offline
from genrecall.evaluation.channels_offline import Generate, Vectors
from genrecall.evaluation.protocol import known_items
from genrecall.evaluation.results import ADAPTED, BM25, GENERATIVE, KNN
from genrecall.evaluation.runs import Channel
from genrecall.item_text import item_text
from genrecall.records import Dataset, Split, relevant
from trainer.generator.adapter import Positives, train_adapter


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
        synthetic: the synthetic queries with their items.
        bm25: the lexical channel, which no split changes.
    """

    config: Config
    dataset: Dataset
    item_ids: list[str]
    item_vectors: np.ndarray
    query_vectors: np.ndarray
    synthetic: Positives
    bm25: Channel

    @classmethod
    def of(cls, dataset: Dataset, config: Config, synthetic: SyntheticQueries | None = None) -> Collection:
        """Embed (through the cache) and index. BM25 reads the fields of the BM25 of a node, without boosts.

        synthetic: queries that the generator learns from too.
        """
        fields = [field.partition("^")[0] for field in config.opensearch.bm25_fields]
        synthetic = synthetic or SyntheticQueries([], np.empty(0, dtype=np.int64))
        queries = [*dataset.queries["text"].to_pylist(), *synthetic.texts]
        return cls(
            config=config,
            dataset=dataset,
            item_ids=dataset.items["item_id"].to_pylist(),
            item_vectors=embed(
                item_text(dataset.items), config.encoder, config.run.cache_dir, device=config.run.device
            ),
            query_vectors=embed(queries, config.encoder, config.run.cache_dir, device=config.run.device),
            synthetic=Positives(np.arange(len(dataset.queries), len(queries)), synthetic.items),
            bm25=channels_offline.bm25(dataset.items, fields, config.evaluation.bm25),
        )

    def vectors(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dim] vectors of queries of this dataset."""
        return self.query_vectors[[self._row_of_text[text] for text in texts]]

    @cached_property
    def _row_of_text(self) -> dict[str, int]:
        return {text: row for row, text in enumerate(self.dataset.queries["text"].to_pylist())}

    def adapted(self, split: Split) -> Vectors:
        """`vectors` through an adapter trained on what the generator is trained on.

        That is the relevant pairs of `split.train` and the synthetic queries; training stops by those of `split.dev`.
        """
        item = {item_id: row for row, item_id in enumerate(self.item_ids)}
        query = {query_id: row for row, query_id in enumerate(self.dataset.queries["query_id"].to_pylist())}

        def pairs(part: pa.Table) -> Positives:
            wanted = relevant(part, self.config.data.relevant)
            return Positives(
                np.array([query[q] for q in wanted["query_id"].to_pylist()], dtype=np.int64),
                np.array([item[i] for i in wanted["item_id"].to_pylist()], dtype=np.int64),
            )

        adapter = train_adapter(
            [pairs(split.train), self.synthetic],
            pairs(split.dev),
            self.item_vectors,
            self.query_vectors,
            self.config.evaluation.adapter,
            self.config.run.seed,
            {query[q]: np.array([item[i] for i in items]) for q, items in known_items(split).items()},
        )
        return lambda texts: adapter.apply_to(self.vectors(texts))

    def channels(self, split: Split) -> dict[str, Channel]:
        """BM25, k-NN and adapted k-NN, by exact search."""
        return {
            BM25: self.bm25,
            KNN: channels_offline.knn(self.item_ids, self.item_vectors, self.vectors),
            ADAPTED: channels_offline.knn(self.item_ids, self.item_vectors, self.adapted(split)),
        }

    def generative(self, generate: Generate, item_ids: list[str], codes: np.ndarray) -> dict[str, Channel]:
        """The generator's channel. codes: int [items, 3] of `item_ids`."""
        sids = self.config.evaluation.sids
        return {GENERATIVE: channels_offline.generative(generate, item_ids, codes, sids)}
