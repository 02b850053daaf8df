"""From ranked SIDs to ranked items: a SID stands for all its items, so its probability is shared among them.

NumPy alone. Through an index the search engine does this; here it serves evaluation without a node, and training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

Within = Callable[[np.ndarray], np.ndarray]
"""Item numbers int64 [m] -> what orders them within their SIDs, float [m], added to the logarithm of their share."""


@dataclass(frozen=True)
class SidItems:
    """The items under each SID of a codebook, as CSR.

    Attributes:
        start: int64 [sids + 1]; items: int64 [n]: those of SID `s` are `items[start[s]:start[s + 1]]`, ascending.
    """

    start: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, sids: int) -> Self:
        """From int64 [n], the row in `SidSpace.sids` of each item's SID, and the number of SIDs."""
        return cls(np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=sids)))), np.argsort(rows, kind="stable"))

    def rank(
        self, sid: np.ndarray, scores: np.ndarray, limit: int, within: Within | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best `limit` items of one query, scored log p(SID) - log(items in the SID) + what `within` gives them.

        Args:
            sid: int64 [k], distinct rows of `SidSpace.sids`; -1, a SID without an item, is left out.
            scores: float [k], log p(SID).
            within: asked once, for all items of these SIDs; without it the items of a SID tie.

        Returns:
            item numbers int64 [m] and scores float32 [m], descending; ties keep the order of the SIDs, then of the
            items.
        """
        sid, scores = sid[sid >= 0], scores[sid >= 0]
        sizes = self.start[sid + 1] - self.start[sid]
        share = scores - np.log(np.maximum(sizes, 1))
        order = np.argsort(-share, kind="stable")
        members = [self.items[self.start[s] : self.start[s + 1]] for s in sid[order]]
        ranked = np.concatenate([np.empty(0, dtype=np.int64), *members])
        scored = np.repeat(share[order], sizes[order])
        if within is not None:
            scored = scored + within(ranked)
            best = np.argsort(-scored, kind="stable")
            ranked, scored = ranked[best], scored[best]
        return ranked[:limit], scored[:limit].astype(np.float32)
