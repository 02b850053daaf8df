"""Which SID each item of a bundle has, as arrays that are mapped into memory: 12 bytes an item, whatever its id.

Ids are looked up by a digest of 64 bits. That two of a million items share one has a chance of 3e-8; that an id which
the bundle lacks meets one of them, of 5e-14.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from genrecall import files
from genrecall.sid import SidSpace

BYTES = 8  # of a digest


@dataclass(frozen=True)
class ItemTable:
    """The items of one codebook.

    Attributes:
        digest: int64 [items], of the ids, ascending.
        sid: int32 [items], the row of `SidSpace.sids` of each.
        items_per_sid: int32 [SIDs], how many items have each.
    """

    digest: np.ndarray
    sid: np.ndarray
    items_per_sid: np.ndarray

    @classmethod
    def of(cls, item_ids: Iterable[str], codes: np.ndarray, space: SidSpace) -> ItemTable:
        """From n ids and their SIDs, int [n, 3], all of `space`."""
        digest, sid = _digests(item_ids), space.index_of(codes).astype(np.int32)
        order = np.argsort(digest, kind="stable")
        return cls(digest[order], sid[order], np.bincount(sid, minlength=len(space)).astype(np.int32))

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        save_file(dict(vars(self)), path)

    @classmethod
    def load(cls, path: Path) -> ItemTable:
        """Map a file of `save`: pages are read on first use and shared. Raises UserError for a damaged one."""
        return cls(**files.mapped(path, ("digest", "sid", "items_per_sid")))

    def rows(self, item_ids: Iterable[str]) -> np.ndarray:
        """int64 [n]: the row of `SidSpace.sids` of each id, -1 for one that the bundle does not know."""
        wanted = _digests(item_ids)
        if not len(self.digest):
            return np.full(len(wanted), -1)
        at = np.searchsorted(self.digest, wanted).clip(max=len(self.digest) - 1)
        return np.where(self.digest[at] == wanted, self.sid[at], -1).astype(np.int64)


def _digests(item_ids: Iterable[str]) -> np.ndarray:
    """int64 [n]; half of a surrogate pair is hashed as it is."""
    joined = b"".join(blake2b(item.encode("utf-8", "surrogatepass"), digest_size=BYTES).digest() for item in item_ids)
    return np.frombuffer(joined, "<i8")
