"""Words of items and queries as BM25 impacts: of SIDs for the generator's evidence, of items to order them on dev.

Pure NumPy behind an analyzer. A document of BM25 is a SID, whose words are those of its items and of the training
queries that chose them, or a single item.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from genrecall.analyzer import Analyzer
from genrecall.decoding.lexical import Postings, find, hash_each, hash_terms, trigrams
from trainer.generator.ragged import ragged

K1, B = 1.2, 0.75
MAX_POSTINGS = 4096  # SIDs of a term that are kept, those of the greatest impact: what bounds a search
MAX_GRAM_POSTINGS = 1024  # the same of a trigram
GRAM_WEIGHT = 0.5  # of a word's trigrams beside the word itself


@dataclass(frozen=True)
class Words:
    """The distinct terms of texts, as CSR. term: int64 hashes; those of text t are term[start[t]:start[t + 1]].

    distinct: all terms as they are written.
    """

    start: np.ndarray
    term: np.ndarray
    distinct: frozenset[str]

    @classmethod
    def of(cls, analyzer: Analyzer, texts: Sequence[str]) -> Words:
        terms = [sorted(set(analyzer(text))) for text in texts]
        distinct = frozenset(chain.from_iterable(terms))
        written = sorted(distinct)
        hash_of = dict(zip(written, hash_each(written).tolist(), strict=True))
        flat = np.array([hash_of[term] for of in terms for term in of], dtype=np.int64)
        return cls(np.cumsum([0, *map(len, terms)]), flat, distinct)

    def __getitem__(self, text: int) -> np.ndarray:
        return self.term[self.start[text] : self.start[text + 1]]

    def take(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(position in `texts` int64 [m], term int64 [m]) of every term of the texts, int64 [n], repeats allowed."""
        position, at = ragged(self.start, texts)
        return position, self.term[at]


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

    def joined(self, other: Bm25, weight: float) -> Bm25:
        """The terms of both, of which none is the same; the impacts of `other` are multiplied by `weight`."""
        term = np.concatenate([self.term, other.term])
        order = np.argsort(term)
        both = np.concatenate([self.postings.start[:-2], other.postings.start[:-1] + len(self.postings.document)])
        _, at = ragged(both, order)
        start = np.concatenate([[0], np.cumsum(np.diff(both)[order])])
        document = np.concatenate([self.postings.document, other.postings.document])
        impact = np.concatenate([self.postings.impact, other.postings.impact * np.float32(weight)])
        return Bm25(term[order], Postings(np.append(start, start[-1]), document[at], impact[at]))

    def scores(self, terms: np.ndarray, documents: int) -> np.ndarray:
        """float32 [documents]: BM25 of a text with these terms, int64 hashes."""
        rows = find(self.term, terms)
        return self.postings.scores(rows[rows >= 0], documents)


def sid_bm25(
    items: Words,
    rows: np.ndarray,
    queries: Words,
    chosen: tuple[np.ndarray, np.ndarray],
    query_weight: float,
    sids: int,
) -> Bm25:
    """SIDs as documents: each distinct term of an item once an item, each of a training query `query_weight` times.

    Beside the terms stand their character trigrams, at a lower weight, for words that a query writes otherwise.

    Args:
        rows: int64 [items], the SID of each item.
        chosen: (query int64 [p], SID int64 [p]), what the training queries chose; a pair counts once.
    """
    item, term = items.take(np.arange(len(rows)))
    query, sid = _unique_pairs(*chosen, sids)
    pair, query_term = queries.take(query)
    term = np.concatenate([term, query_term])
    document = np.concatenate([rows[item], sid[pair]])
    count = np.concatenate([np.ones(len(item)), np.full(len(pair), query_weight)])
    words = Bm25.of(term, document, count, sids).pruned(MAX_POSTINGS)
    at, gram = _grams(items.distinct | queries.distinct, term)
    grams = Bm25.of(gram, document[at], count[at], sids).pruned(MAX_GRAM_POSTINGS)
    return words.joined(grams, GRAM_WEIGHT)


def _grams(distinct: Iterable[str], term: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(occurrence int64 [m], trigram int64 [m]): the trigrams of occurrences of terms, all of them hashes."""
    written = [word for word in sorted(distinct) if trigrams(word)]
    hashes, each = hash_each(written), [hash_terms(trigrams(word)) for word in written]
    order = np.argsort(hashes)
    start = np.cumsum([0, *(len(each[n]) for n in order)])
    flat = np.concatenate([np.empty(0, np.int64), *(each[n] for n in order)])
    row = find(hashes[order], term)
    known = np.flatnonzero(row >= 0)
    position, at = ragged(start, row[known])
    return known[position], flat[at]


def _unique_pairs(one: np.ndarray, two: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.unique(one * size + two)
    return pairs // size, pairs % size
