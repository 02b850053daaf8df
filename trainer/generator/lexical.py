"""Words of items and queries as BM25 impacts: of SIDs for the generator's evidence, of items to order them on dev.

Pure NumPy behind an analyzer. A document of BM25 is a SID, whose words are those of its items and of the training
queries that chose them, or a single item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genrecall.decoding.analyzer import Analyzer
from genrecall.decoding.lexical import Postings, find, hash_terms

K1, B = 1.2, 0.75
MAX_POSTINGS = 4096  # SIDs of a term that are kept, those of the greatest impact: what bounds a search


@dataclass(frozen=True)
class Words:
    """The distinct terms of texts, as CSR. term: int64 hashes; those of text t are term[start[t]:start[t + 1]]."""

    start: np.ndarray
    term: np.ndarray

    @classmethod
    def of(cls, analyzer: Analyzer, texts: Sequence[str]) -> Words:
        each = [hash_terms(analyzer(text)) for text in texts]
        return cls(np.cumsum([0, *map(len, each)]), np.concatenate([np.empty(0, np.int64), *each]))

    def __getitem__(self, text: int) -> np.ndarray:
        return self.term[self.start[text] : self.start[text + 1]]

    def take(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(position in `texts` int64 [m], term int64 [m]) of every term of the texts, int64 [n], repeats allowed."""
        size = np.diff(self.start)[texts]
        first = np.repeat(self.start[texts] - np.concatenate([[0], np.cumsum(size)[:-1]]), size)
        return np.repeat(np.arange(len(texts)), size), self.term[first + np.arange(size.sum())]


@dataclass(frozen=True)
class Bm25:
    """BM25 impacts of documents, and their terms. term: int64 [V] hashes, ascending."""

    term: np.ndarray
    postings: Postings

    @classmethod
    def of(cls, term: np.ndarray, document: np.ndarray, count: np.ndarray, documents: int) -> Bm25:
        """From occurrences: int64 hashes, int64 documents and float counts, [m] each; repeats are added up.

        Lucene's BM25: idf = log(1 + (n - df + .5) / (df + .5)).
        """
        terms, number = np.unique(term, return_inverse=True)
        key = number * documents + document
        order = np.argsort(key, kind="stable")
        first = np.flatnonzero(np.diff(key[order], prepend=-1))
        key, tf = key[order][first], np.add.reduceat(count[order], first) if len(first) else np.empty(0)
        number, document = key // documents, key % documents
        length = np.bincount(document, tf, documents)
        frequency = np.bincount(number, minlength=len(terms))
        idf = np.log1p((documents - frequency + 0.5) / (frequency + 0.5))
        norm = K1 * (1 - B + B * length / max(length.mean(), 1e-9))
        impact = (idf[number] * tf * (K1 + 1) / (tf + norm[document])).astype(np.float32)
        start = np.concatenate([[0], np.cumsum(frequency), [len(number)]])
        return cls(terms, Postings(start, document.astype(np.int32), impact))

    def pruned(self, most: int) -> Bm25:
        """The `most` postings of the greatest impact of each term."""
        start, impact = self.postings.start, self.postings.impact
        size = np.diff(start)
        if size.max(initial=0) <= most:
            return self
        number = np.repeat(np.arange(len(size)), size)
        order = np.lexsort((-impact, number))
        kept = np.sort(order[np.arange(len(order)) - start[number] < most])
        start = np.concatenate([[0], np.cumsum(np.minimum(size, most))])
        return Bm25(self.term, Postings(start, self.postings.document[kept], impact[kept]))

    def scores(self, terms: np.ndarray, documents: int) -> np.ndarray:
        """float32 [documents]: BM25 of a text with these terms, int64 hashes."""
        rows = find(self.term, terms)
        return self.postings.scores(rows[rows >= 0], documents)


def sid_postings(
    items: Words,
    rows: np.ndarray,
    queries: Words,
    chosen: tuple[np.ndarray, np.ndarray],
    query_weight: float,
    sids: int,
) -> Bm25:
    """SIDs as documents: each distinct term of an item once an item, each of a training query `query_weight` times.

    Args:
        rows: int64 [items], the SID of each item.
        chosen: (query int64 [p], SID int64 [p]), what the training queries chose; a pair counts once.
    """
    item, term = items.take(np.arange(len(rows)))
    query, sid = _unique_pairs(*chosen, sids)
    pair, query_term = queries.take(query)
    return Bm25.of(
        np.concatenate([term, query_term]),
        np.concatenate([rows[item], sid[pair]]),
        np.concatenate([np.ones(len(term)), np.full(len(query_term), query_weight)]),
        sids,
    ).pruned(MAX_POSTINGS)


def _unique_pairs(one: np.ndarray, two: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.unique(one * size + two)
    return pairs // size, pairs % size
