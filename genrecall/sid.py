"""The semantic id: three codes, its term in the index, and the sorted list of valid SIDs of one codebook.

Owns the codec between codes, packed keys and terms, the prefixes that the valid SIDs span, and the file of both. What
a search makes of them on a device (constraint tables) belongs to `genrecall.decoding`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from genrecall import files

LEVELS = 3
MAX_CODE = 2**31 - 1
_CODEBOOK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TERM = re.compile(rf"({_CODEBOOK.pattern})/(0|[1-9]\d{{0,9}})/(0|[1-9]\d{{0,9}})/(0|[1-9]\d{{0,9}})")

T = TypeVar("T")


def by_level(values: Iterable[T]) -> tuple[T, T, T]:
    """Values of the three levels as a tuple of that length."""
    one, two, three = values
    return one, two, three


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
        if any(int(code) > MAX_CODE for code in codes):
            raise ValueError(f"{term!r} is not a SID term: codes are at most {MAX_CODE}")
        return codebook, cls(*map(int, codes))


@dataclass(frozen=True)
class Prefixes:
    """The prefixes of sorted SIDs as a tree in CSR form: the children of a node have consecutive numbers.

    Attributes:
        code: of each level, int32 [nodes], the code that leads to each node. Level 3's nodes are the SIDs, in order.
        start: of each level, int32 [parents + 1], first child of each parent; the only parent of level 1 is the root.
    """

    code: tuple[np.ndarray, np.ndarray, np.ndarray]
    start: tuple[np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def of(cls, sids: np.ndarray) -> Prefixes:
        """From int32 [n, 3], sorted and unique: 0.1 s for five million."""
        sids = np.asarray(sids, dtype=np.int32)
        new = np.ones((2, len(sids)), dtype=bool)  # rows at which a node of level 1, of level 2 begins
        new[0, 1:] = sids[1:, 0] != sids[:-1, 0]
        new[1, 1:] = new[0, 1:] | (sids[1:, 1] != sids[:-1, 1])
        first, second = (np.flatnonzero(level).astype(np.int32) for level in new)
        code = sids[first, 0], sids[second, 1], np.ascontiguousarray(sids[:, 2])
        ends = [np.array([len(nodes)], np.int32) for nodes in code]
        above = np.searchsorted(second, first).astype(np.int32)
        return cls(code, (np.append(np.int32(0), ends[0]), np.append(above, ends[1]), np.append(second, ends[2])))


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
        _check_range(self.sids, self.level_sizes)
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
            level_sizes = by_level(top.tolist())
        _check_range(codes, level_sizes)  # before they are packed: a code too large would become another SID
        keys = np.sort(_pack(codes, level_sizes))
        keys = keys[np.diff(keys, prepend=-1) > 0]  # np.unique hashes integers, which takes fifty times as long
        return cls(level_sizes, np.stack(np.unravel_index(keys, level_sizes), axis=1, dtype=np.int32, casting="unsafe"))

    def save(self, path: Path) -> None:
        """Write the SIDs and their prefixes, so that `load` need not sort or derive anything."""
        from safetensors.numpy import save_file

        arrays = {"sids": np.ascontiguousarray(self.sids, dtype=np.int32)}
        for level in range(LEVELS):
            arrays |= {f"code_{level}": self.prefixes.code[level], f"start_{level}": self.prefixes.start[level]}
        save_file(arrays, path)

    @classmethod
    def load(cls, path: Path, level_sizes: tuple[int, int, int]) -> SidSpace:
        """Map a file of `save` into memory: pages are read on first use and shared between processes.

        Raises ValueError for SIDs that are not sorted, not unique or outside the levels.
        """
        arrays = files.mapped(path)
        space = cls(level_sizes, arrays["sids"])
        code, start = (by_level(arrays[f"{kind}_{n}"] for n in range(LEVELS)) for kind in ("code", "start"))
        vars(space)["prefixes"] = Prefixes(code, start)  # where the cached property keeps them
        return space

    def __len__(self) -> int:
        return len(self.sids)

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """int64 [...] keys of codes int [..., 3]; keys order as the SIDs do."""
        return _pack(codes, self.level_sizes)

    @cached_property
    def prefixes(self) -> Prefixes:
        return Prefixes.of(self.sids)

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


def _check_range(codes: np.ndarray, level_sizes: tuple[int, int, int]) -> None:
    if len(codes) and any(c.min() < 0 or c.max() >= size for c, size in zip(codes.T, level_sizes, strict=True)):
        raise ValueError(f"a SID has a code outside the level sizes {level_sizes}")


def _pack(codes: np.ndarray, level_sizes: tuple[int, int, int]) -> np.ndarray:
    _, k2, k3 = level_sizes
    codes = np.asarray(codes)
    return (codes[..., 0].astype(np.int64) * k2 + codes[..., 1]) * k3 + codes[..., 2]
