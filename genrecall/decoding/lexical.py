"""Which SIDs a query's words speak for: terms -> (SID, BM25 impact), and which queries are known from training.

Owns the look-up of terms. NumPy alone, over arrays that are memory-mapped from the bundle: terms are kept as hashes, so
nothing is parsed and no dictionary is built when a bundle is opened. What is made of the impacts is in `evidence`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

import numpy as np

from genrecall.decoding.analyzer import Analyzer

MAX_TERMS = 32  # of a query that count: the rarest


@dataclass(frozen=True)
class Lexicon:
    """The terms of a codebook.

    Attributes:
        term: int64 [V] hashes, ascending; its row is the number of a term.
        start: int64 [V + 2], the postings of term t are start[t] to start[t + 1]; term V has none, for padding.
        query: int64 [Q] hashes, ascending, of the training queries' sets of terms.
    """

    analyzer: Analyzer
    term: np.ndarray
    start: np.ndarray
    query: np.ndarray

    @classmethod
    def of(cls, analyzer: Analyzer, arrays: Mapping[str, np.ndarray]) -> Self:
        """From the arrays of a bundle's evidence."""
        return cls(analyzer, arrays["term"], arrays["start"], arrays["query"])

    def __call__(self, text: str) -> tuple[np.ndarray, bool]:
        """The numbers of the known terms of a query, int64 [t <= MAX_TERMS], and whether it is a training query."""
        hashes = hash_terms(self.analyzer(text))
        rows = find(self.term, hashes)
        rows = rows[rows >= 0]
        if len(rows) > MAX_TERMS:
            rows = rows[np.argsort(self.start[rows + 1] - self.start[rows], kind="stable")[:MAX_TERMS]]
        return rows, bool(len(hashes)) and bool((find(self.query, hash_query(hashes)) >= 0).all())


@dataclass(frozen=True)
class Postings:
    """BM25 impacts of documents by term, as CSR.

    Attributes:
        start: int64 [V + 2], as in `Lexicon`; document: int32 [P]; impact: float32 [P].
    """

    start: np.ndarray
    document: np.ndarray
    impact: np.ndarray

    def scores(self, terms: np.ndarray, documents: int) -> np.ndarray:
        """float32 [documents]: the sum over terms, int64 numbers, each at most once."""
        out = np.zeros(documents, np.float32)
        for start, end in zip(self.start[terms].tolist(), self.start[terms + 1].tolist(), strict=True):
            out[self.document[start:end]] += self.impact[start:end]  # a document is there once a term
        return out


def hash_terms(terms: Iterable[str]) -> np.ndarray:
    """int64 [n]: a hash of each distinct term, ascending."""
    digests = {blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest() for term in terms}
    return np.sort(np.frombuffer(b"".join(digests), dtype=np.int64))


def hash_query(hashes: np.ndarray) -> np.ndarray:
    """int64 [1]: a hash of a set of terms, given as `hash_terms` returns it."""
    return np.frombuffer(blake2b(hashes.tobytes(), digest_size=8).digest(), dtype=np.int64)


def find(among: np.ndarray, values: np.ndarray) -> np.ndarray:
    """int64: the row of each value in ascending `among`, -1 where it is not there."""
    if not len(among):
        return np.full(len(values), -1)
    at = np.searchsorted(among, values).clip(max=len(among) - 1)
    return np.where(among[at] == values, at, -1)
