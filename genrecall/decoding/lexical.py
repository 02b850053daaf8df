"""Which SIDs a query's words speak for: terms -> (SID, BM25 impact), and which queries are known from training.

Owns the look-up of terms. NumPy alone, over arrays that are memory-mapped from the bundle: terms are kept as hashes, so
nothing is parsed and no dictionary is built when a bundle is opened. What is made of the impacts is in `evidence`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple, Self

import numpy as np

from genrecall.analyzer import Analyzer

MAX_TERMS = 32  # of a query that count: the rarest


class Terms(NamedTuple):
    """What is known of a query's words.

    Attributes:
        rows: int64 [t <= MAX_TERMS], the numbers of its known terms.
        query: int64 [1], the hash of the set of its terms; None for a text without any.
        familiar: whether it is a training query.
    """

    rows: np.ndarray
    query: np.ndarray | None
    familiar: bool


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

    def __call__(self, text: str) -> Terms:
        """What is known of a query.

        A word that the table lacks, mistyped perhaps, counts by its character trigrams.
        """
        terms = sorted(set(self.analyzer(text)))
        hashes = hash_each(terms)
        rows = find(self.term, hashes)
        grams = {gram for term, row in zip(terms, rows, strict=True) if row < 0 for gram in trigrams(term)}
        rows = np.concatenate([rows, find(self.term, hash_each(sorted(grams)))])
        rows = rows[rows >= 0]
        hashes.sort()
        if len(rows) > MAX_TERMS:
            rows = rows[np.argsort(self.start[rows + 1] - self.start[rows], kind="stable")[:MAX_TERMS]]
        query = hash_query(hashes) if len(hashes) else None
        return Terms(rows, query, query is not None and bool(find(self.query, query)[0] >= 0))


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


def trigrams(term: str) -> list[str]:
    """The character trigrams of a word, its ends marked; none of what has a digit, where one character is a different
    thing. They are terms beside the words, and equal none of them.
    """
    marked = f"^{term}$"
    if any(character.isdigit() for character in term):
        return []
    return ["\0" + marked[n : n + 3] for n in range(len(marked) - 2)]


def hash_each(terms: Sequence[str]) -> np.ndarray:
    """int64 [n]: a hash of each term."""
    digests = [blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest() for term in terms]
    return np.frombuffer(b"".join(digests), dtype=np.int64).copy()


def hash_terms(terms: Iterable[str]) -> np.ndarray:
    """int64 [n]: a hash of each distinct term, ascending."""
    return np.sort(hash_each(list(set(terms))))


def hash_query(hashes: np.ndarray) -> np.ndarray:
    """int64 [1]: a hash of a set of terms, given as `hash_terms` returns it."""
    return np.frombuffer(blake2b(hashes.tobytes(), digest_size=8).digest(), dtype=np.int64)


def find(among: np.ndarray, values: np.ndarray) -> np.ndarray:
    """int64: the row of each value in ascending `among`, -1 where it is not there."""
    if not len(among):
        return np.full(len(values), -1)
    at = np.searchsorted(among, values).clip(max=len(among) - 1)
    return np.where(among[at] == values, at, -1)
