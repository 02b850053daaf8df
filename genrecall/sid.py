"""The semantic id: three codes, its term in the index, and the sorted list of valid SIDs of one codebook.

Owns the codec between codes, packed keys and terms. What is derived from the list of valid SIDs for the search
(constraint tables) belongs to `genrecall.decoding`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

LEVELS = 3
_CODEBOOK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TERM = re.compile(rf"({_CODEBOOK.pattern})/(0|[1-9]\d{{0,9}})/(0|[1-9]\d{{0,9}})/(0|[1-9]\d{{0,9}})")


def check_codebook(name: str) -> str:
    """Return `name` when it can name a codebook, else raise ValueError.

    The name becomes part of a term, a folder and an index name: letters, digits, `.`, `_` and `-`, at most 64.
    """
    if not _CODEBOOK.fullmatch(name):
        raise ValueError(
            f"codebook {name!r} is not a valid name: use 1 to 64 letters, digits, '.', '_' or '-', starting with a "
            "letter or digit, such as 'v7'"
        )
    return name


@dataclass(frozen=True, order=True, slots=True)
class Sid:
    """One semantic id `(c1, c2, c3)`, zero-based."""

    c1: int
    c2: int
    c3: int

    @property
    def codes(self) -> tuple[int, int, int]:
        return self.c1, self.c2, self.c3

    def term(self, codebook: str) -> str:
        """The term kept in the keyword field: `v7/12/40/733`."""
        return f"{codebook}/{self.c1}/{self.c2}/{self.c3}"

    @classmethod
    def parse(cls, term: str) -> tuple[str, Sid]:
        """Split a term into codebook and SID; ValueError for anything else."""
        match = _TERM.fullmatch(term)
        if not match:
            raise ValueError(f"{term!r} is not a SID term: expected CODEBOOK/c1/c2/c3, such as 'v7/12/40/733'")
        codebook, *codes = match.groups()
        return codebook, cls(*map(int, codes))


@dataclass(frozen=True)
class SidSpace:
    """The valid SIDs of one codebook.

    Attributes:
        level_sizes: number of codes of each level.
        sids: int32 [n, 3], sorted lexicographically, unique. Everything else about validity is derived from it.
    """

    level_sizes: tuple[int, int, int]
    sids: np.ndarray

    def __post_init__(self) -> None:
        if self.sids.ndim != 2 or self.sids.shape[1] != LEVELS:
            raise ValueError(f"sids must have shape [n, 3], found {self.sids.shape}")
        if len(self.sids) and (self.sids.min() < 0 or (self.sids >= np.array(self.level_sizes)).any()):
            raise ValueError(f"a SID has a code outside the level sizes {self.level_sizes}")
        if len(self.sids) > 1 and not (np.diff(self.keys) > 0).all():
            raise ValueError("sids must be sorted and unique: build the space with SidSpace.of")

    @classmethod
    def of(cls, codes: np.ndarray, level_sizes: tuple[int, int, int] | None = None) -> SidSpace:
        """The space of the SIDs that occur in `codes` (int [n, 3], any order, repeats allowed)."""
        codes = np.asarray(codes, dtype=np.int32).reshape(-1, LEVELS)
        if level_sizes is None:
            if not len(codes):
                raise ValueError("level_sizes are needed for a space without SIDs")
            top = codes.max(axis=0) + 1
            level_sizes = (int(top[0]), int(top[1]), int(top[2]))
        return cls(level_sizes, np.unique(codes, axis=0))

    def __len__(self) -> int:
        return len(self.sids)

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """int64 [...] keys of codes int [..., 3]; keys order as the SIDs do."""
        _, k2, k3 = self.level_sizes
        codes = np.asarray(codes, dtype=np.int64)
        return (codes[..., 0] * k2 + codes[..., 1]) * k3 + codes[..., 2]

    @cached_property
    def keys(self) -> np.ndarray:
        """int64 [n], ascending."""
        return self.pack(self.sids)

    def index_of(self, codes: np.ndarray) -> np.ndarray:
        """int64 [...] row of each SID in `sids`, -1 where it is not valid. codes: int [..., 3]."""
        codes = np.asarray(codes)
        inside = np.asarray(((codes >= 0) & (codes < np.array(self.level_sizes))).all(axis=-1))
        keys = np.where(inside, self.pack(np.where(inside[..., None], codes, 0)), -1)
        if not len(self.sids):
            return np.full(keys.shape, -1, dtype=np.int64)
        at = np.searchsorted(self.keys, keys).clip(max=len(self.sids) - 1)
        return np.where(self.keys[at] == keys, at, -1)
