"""What people wanted before for a query: its SIDs, each with its share, and what they add to the evidence.

A query is known by the set of its stems, as a hash (`lexical.hash_query`), whatever their order. For one that is known
    q' = normalize(adapted query + ROCCHIO * sum of share * mean vector of the SID's items)      moves the vector, and
    BOOST * log(1 + share / LEAST_SHARE)                                                          raises its SIDs.

The memory lies beside the generator as an attachment of the bundle, so that newer logs renew it without training
(`trainer.remember`). NumPy alone, over arrays mapped from disk. Vectors are those of the evidence, so it holds no text
and no item: only hashes, numbers of SIDs and shares.

Source: Rocchio's relevance feedback (Salton's SMART, 1971), the items being those of earlier users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from genrecall import files
from genrecall.decoding.lexical import find
from genrecall.errors import UserError

FOLDER, FILE = "memory", "memory.safetensors"
MAX_SIDS = 64  # of a query that are remembered: the most wanted
ROCCHIO = 1.0
BOOST, LEAST_SHARE = 1.0, 0.005


@dataclass(frozen=True)
class Memory:
    """The queries that are remembered, as CSR.

    Attributes:
        query: int64 [Q] hashes, ascending; sid: int32 [P], rows of the SidSpace, and share: float32 [P], those of query
            q from start[q] to start[q + 1] (int64 [Q + 1]), of sum 1.
    """

    query: np.ndarray
    start: np.ndarray
    sid: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, query: np.ndarray, sid: np.ndarray, weight: np.ndarray) -> Self:
        """From wants: query int64 hash, SID int64 row and weight > 0, [m] each; repeats are added up."""
        pairs, at = np.unique(np.stack([query, sid], axis=1), axis=0, return_inverse=True)
        total = np.bincount(at.ravel(), weight, len(pairs))
        order = np.lexsort((pairs[:, 1], -total, pairs[:, 0]))  # of a query, the most wanted first
        hashes, first, count = np.unique(pairs[order, 0], return_index=True, return_counts=True)
        kept = order[np.arange(len(order)) - np.repeat(first, count) < MAX_SIDS]
        sizes = np.minimum(count, MAX_SIDS)
        owner = np.repeat(np.arange(len(hashes)), sizes)
        share = total[kept] / np.bincount(owner, total[kept], len(hashes))[owner]
        start = np.concatenate([[0], np.cumsum(sizes)])
        return cls(hashes, start, pairs[kept, 1].astype(np.int32), share.astype(np.float32))

    @classmethod
    def load(cls, generator: Path, sids: int) -> Self | None:
        """That of a generator's folder, mapped into memory; None where there is none.

        Raises UserError for one of another number of SIDs.
        """
        path = generator / FOLDER / FILE
        if not path.is_file():
            return None
        memory = cls.read(files.mapped(path))
        if len(memory.sid) and not 0 <= int(memory.sid.min()) <= int(memory.sid.max()) < sids:
            raise UserError(f"{path} names SIDs that the codebook does not have: `genrecall remember` anew")
        return memory

    @classmethod
    def read(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        return cls(arrays["query"], arrays["start"], arrays["sid"], arrays["share"])

    def save(self, generator: Path) -> None:
        """Write it where `load` finds it."""
        (generator / FOLDER).mkdir(exist_ok=True)
        self.write(generator / FOLDER / FILE)

    def write(self, path: Path) -> None:
        """One safetensors file, readable by all: a server may be another user."""
        from safetensors.numpy import save_file

        arrays = {"query": self.query, "start": self.start, "sid": self.sid, "share": self.share}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
        path.chmod(path.stat().st_mode | 0o044)

    def __len__(self) -> int:
        return len(self.query)

    def row(self, query: np.ndarray) -> int:
        """The row of a query's hash, int64 [1]; -1 where it is not remembered."""
        return int(find(self.query, query)[0])

    def wanted(self, rows: Sequence[int], vectors: np.ndarray) -> np.ndarray:
        """float32 [B, dim]: what is added to the vectors of queries of these rows, zeros where a row is negative.

        vectors: [n, dim], the mean vector of each SID's items.
        """
        out = np.zeros((len(rows), vectors.shape[1]), dtype=np.float32)
        for n, row in enumerate(rows):
            if row >= 0:
                own = slice(self.start[row], self.start[row + 1])
                out[n] = ROCCHIO * (self.share[own] @ vectors[self.sid[own]].astype(np.float32))
        return out

    def boost(self) -> np.ndarray:
        """float32 [P]: what each SID gains, in units of log-probability."""
        return BOOST * np.log1p(self.share / LEAST_SHARE)
