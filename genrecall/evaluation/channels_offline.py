"""The channels without a node: BM25, k-NN and generative as functions over arrays, for the same tables as through the
node.

Owns only retrieval. The adapted k-NN is `knn` with an adapter's vectors (`trainer.generator.adapter`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import bm25s
import numpy as np
import pyarrow as pa
import Stemmer

from genrecall.config.evaluation import Bm25Section
from genrecall.evaluation.runs import EMPTY, Channel, Run, ranking, top
from genrecall.expansion import SidItems
from genrecall.sid import SidSpace

if TYPE_CHECKING:
    from genrecall.decoding import GeneratedSids

BATCH = 64  # queries a call

Generate = Callable[[list[str], int], "GeneratedSids"]
"""(texts, k) -> their SIDs: `genrecall.decoding.Generator.generate`."""

Vectors = Callable[[list[str]], np.ndarray]
"""Texts -> float32 [n, dim], unit norm."""


def bm25(items: pa.Table, fields: Sequence[str], section: Bm25Section) -> Channel:
    """BM25 in Lucene's form, stemmed, over `fields` of records.ITEMS joined to one.

    Items that share no word with the query are not ranked. A node scores its fields apart and may boost them: its
    figures are near these, not the same.
    """
    stemmer = Stemmer.Stemmer(section.language)

    def tokens(texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(
            texts,
            token_pattern=r"(?u)\b\w+\b",  # sizes such as "8" or "l" matter in a shop
            stopwords=section.language,
            stemmer=stemmer,
            return_ids=False,
            show_progress=False,
        )

    columns = [items[field].to_pylist() for field in fields]
    documents = [" ".join(map(_text, row)) for row in zip(*columns, strict=True)]
    index = bm25s.BM25(k1=section.k1, b=section.b, method="lucene")
    index.index(tokens(documents), show_progress=False)
    item_ids = np.array(items["item_id"].to_pylist(), dtype=object)

    def channel(queries: pa.Table, depth: int) -> Run:
        run: Run = {}
        for query_id, words in zip(queries["query_id"].to_pylist(), tokens(queries["text"].to_pylist()), strict=True):
            known = [word for word in words if word in index.vocab_dict]
            if not known:
                run[query_id] = EMPTY
                continue
            scores = index.get_scores(known)
            best = top(np.where(scores > 0, scores, -np.inf), depth)
            run[query_id] = ranking(item_ids[best], scores[best])
        return run

    return channel


def knn(item_ids: list[str], item_vectors: np.ndarray, vectors: Vectors) -> Channel:
    """Exact nearest neighbours by cosine. item_vectors: float32 [n, dim], unit norm, in the order of item_ids."""
    ids = np.array(item_ids, dtype=object)

    def channel(queries: pa.Table, depth: int) -> Run:
        run: Run = {}
        for query_ids, texts in batches(queries):
            for query_id, scores in zip(query_ids, vectors(texts) @ item_vectors.T, strict=True):
                best = top(scores, depth)
                run[query_id] = ranking(ids[best], scores[best])
        return run

    return channel


def generative(generate: Generate, item_ids: list[str], codes: np.ndarray, sids: int) -> Channel:
    """The generator's SIDs expanded to their items.

    An item is ranked by log p(SID) - log(items in the SID): the probability its SID has, shared among the items that
    claim it. Items of one SID tie and keep the order of the catalogue.

    Args:
        codes: int [items, 3] of `item_ids`.
        sids: generated for each query.
    """
    ids, space = np.array(item_ids, dtype=object), SidSpace.of(codes)
    items = SidItems.of(space.index_of(codes), len(space))

    def channel(queries: pa.Table, depth: int) -> Run:
        run: Run = {}
        for query_ids, texts in batches(queries):
            answer = generate(texts, sids)
            for n, query_id in enumerate(query_ids):
                valid = answer.valid[n]
                rows, scores = items.rank(space.index_of(answer.codes[n][valid]), answer.scores[n][valid], depth)
                run[query_id] = ranking(ids[rows], scores)
        return run

    return channel


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def batches(queries: pa.Table) -> Iterator[tuple[list[str], list[str]]]:
    for start in range(0, len(queries), BATCH):
        part = queries.slice(start, BATCH)
        yield part["query_id"].to_pylist(), part["text"].to_pylist()
