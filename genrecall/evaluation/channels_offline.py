"""The channels without a node: BM25, k-NN, generative and the controls as functions over arrays, for the same tables as
through the node.

Owns only retrieval. Which vectors a channel gets, and what its weights are tuned on, is in `collection`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Self, get_args

import numpy as np
import pyarrow as pa
import Stemmer

from genrecall.analyzer import Analyzer, language_of, needs_analyzer
from genrecall.bm25_library import bm25s
from genrecall.config.evaluation import Bm25Language, Bm25Section, OrderWithinSection
from genrecall.evaluation.runs import Channel, Run, ranking, top
from genrecall.expansion import SidItems, Within
from genrecall.sid import SidSpace

if TYPE_CHECKING:
    from genrecall.decoding import GeneratedSids

BATCH = 64  # queries a call

Generate = Callable[[list[str], int], "GeneratedSids"]
"""(texts, k) -> their SIDs: `genrecall.decoding.Generator.generate`."""

Vectors = Callable[[list[str]], np.ndarray]
"""Texts -> float32 [n, dim], unit norm."""

Scores = Callable[[pa.Table], np.ndarray]
"""Queries (records.QUERIES) -> float32 [n, items]; -inf: not listed."""


OrderWithin = Callable[[list[str]], list[Within]]
"""Texts -> for each, what `SidItems.rank` orders the items of its SIDs by."""


class Bm25:
    """BM25 in Lucene's form, stemmed, over texts joined to one field.

    A node scores its fields apart and may boost them: its figures are near these, not the same.
    """

    def __init__(self, documents: Sequence[str], section: Bm25Section) -> None:
        self._language = told_language(documents) if section.language == "auto" else section.language
        self._stemmer, self._analyzer = Stemmer.Stemmer(self._language), Analyzer(self._language)
        self._index = bm25s.BM25(k1=section.k1, b=section.b, method="lucene")
        self._index.index(self._tokens(list(documents)), show_progress=False)
        self._count = len(documents)

    @classmethod
    def of(
        cls, items: pa.Table, fields: Sequence[str], section: Bm25Section, added: Sequence[str] | None = None
    ) -> Self:
        """Over `fields` of records.ITEMS, their boosts (`title^2`) ignored. added: [items] more text of each."""
        columns = [items[field.partition("^")[0]].to_pylist() for field in fields]
        documents = [" ".join(map(_text, row)) for row in zip(*columns, strict=True)]
        if added is not None:
            documents = [f"{own} {more}" for own, more in zip(documents, added, strict=True)]
        return cls(documents, section)

    def scores(self, texts: list[str]) -> np.ndarray:
        """float32 [n, items], 0 for an item that shares no word with the query."""
        out = np.zeros((len(texts), self._count), dtype=np.float32)
        for row, words in zip(out, self._tokens(texts), strict=True):
            if known := [word for word in words if word in self._index.vocab_dict]:
                row[:] = self._index.get_scores(known)
        return out

    def _tokens(self, texts: list[str]) -> list[list[str]]:
        """Words of letters that stand between spaces as bm25s finds them; other scripts by the analyzer."""
        other = [not text.isascii() and needs_analyzer(text) for text in texts]
        tokens = bm25s.tokenize(
            ["" if by_analyzer else text for text, by_analyzer in zip(texts, other, strict=True)],
            token_pattern=r"(?u)\b\w+\b",  # sizes such as "8" or "l" matter in a shop
            stopwords=self._language,
            stemmer=self._stemmer,
            return_ids=False,
            show_progress=False,
        )
        found = zip(tokens, texts, other, strict=True)
        return [self._analyzer(text) if by_analyzer else words for words, text, by_analyzer in found]


def told_language(texts: Sequence[str]) -> str:
    """As `language_of`, english where bm25s has no stop words of it."""
    language = language_of(texts)
    return language if language in get_args(Bm25Language) else "english"


def exhaustive(item_ids: list[str], scores: Scores) -> Channel:
    """Every item scored for every query, the best listed; ties in the order of item_ids."""
    ids = np.array(item_ids, dtype=object)

    def channel(queries: pa.Table, depth: int) -> Run:
        run: Run = {}
        for part in batches(queries):
            for query_id, row in zip(part["query_id"].to_pylist(), scores(part), strict=True):
                best = top(row, depth)
                run[query_id] = ranking(ids[best], row[best])
        return run

    return channel


def bm25(item_ids: list[str], index: Bm25) -> Channel:
    """Items that share no word with the query are not listed."""

    def scores(queries: pa.Table) -> np.ndarray:
        found = index.scores(queries["text"].to_pylist())
        return np.where(found > 0, found, -np.inf)

    return exhaustive(item_ids, scores)


def cosine(item_vectors: np.ndarray, vectors: Vectors) -> Scores:
    """item_vectors: float32 [items, dim], unit norm."""
    return lambda queries: vectors(queries["text"].to_pylist()) @ item_vectors.T


def knn(item_ids: list[str], item_vectors: np.ndarray, vectors: Vectors) -> Channel:
    """Exact nearest neighbours by cosine. item_vectors: float32 [n, dim], unit norm, in the order of item_ids."""
    return exhaustive(item_ids, cosine(item_vectors, vectors))


def generative(
    generate: Generate,
    item_ids: list[str],
    codes: np.ndarray,
    sids: int,
    within: OrderWithin | None = None,
) -> Channel:
    """The generator's SIDs expanded to their items (`SidItems.rank`).

    Args:
        codes: int [items, 3] of `item_ids`.
        sids: generated for each query.
        within: orders the items of the generated SIDs; without it those of one SID tie and keep the order of item_ids.
    """
    ids, space = np.array(item_ids, dtype=object), SidSpace.of(codes)
    items = SidItems.of(space.index_of(codes), len(space))

    def channel(queries: pa.Table, depth: int) -> Run:
        run: Run = {}
        for part in batches(queries):
            texts = part["text"].to_pylist()
            answer = generate(texts, sids)
            order: list[Within | None] = [*within(texts)] if within else [None] * len(texts)
            for n, query_id in enumerate(part["query_id"].to_pylist()):
                found = space.index_of(answer.codes[n][answer.valid[n]])
                rows, scores = items.rank(found, answer.scores[n][answer.valid[n]], depth, order[n])
                run[query_id] = ranking(ids[rows], scores)
        return run

    return channel


def order_within(
    section: OrderWithinSection,
    index: Bm25,
    rows: np.ndarray,
    vectors: Vectors | None = None,
    item_vectors: np.ndarray | None = None,
) -> OrderWithin:
    """weight x (BM25 + vector_weight x cosine); without vectors by BM25 alone.

    rows: int64 [items of the generator], where `index` and item_vectors have each.
    """

    def within(texts: list[str]) -> list[Within]:
        lexical = index.scores(texts)
        wanted = vectors(texts) if vectors else None

        def of(n: int) -> Within:
            def scores(items: np.ndarray) -> np.ndarray:
                found = lexical[n, rows[items]]
                if wanted is not None and item_vectors is not None:
                    found = found + section.vector_weight * (item_vectors[rows[items]] @ wanted[n])
                return section.weight * found

            return scores

        return [of(n) for n in range(len(texts))]

    return within


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def batches(queries: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, len(queries), BATCH):
        yield queries.slice(start, BATCH)
