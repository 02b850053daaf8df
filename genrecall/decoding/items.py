"""From ranked SIDs to ranked items: a SID stands for all its items, so its probability is shared among them.

Pure NumPy. Looking items up in an index is the business of the search engine; this is for evaluation.
"""

from __future__ import annotations

import numpy as np


def items_by_sid(rows: np.ndarray, sids: int) -> tuple[np.ndarray, np.ndarray]:
    """CSR of the items under each SID.

    Args:
        rows: int64 [n], the row in `SidSpace.sids` of each item's SID.
        sids: how many SIDs there are.

    Returns:
        start int64 [sids + 1] and items int64 [n]: the items of SID `s` are `items[start[s]:start[s + 1]]`, ascending.
    """
    return np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=sids)))), np.argsort(rows, kind="stable")


def rank_items(
    sid: np.ndarray, scores: np.ndarray, start: np.ndarray, items: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best `limit` items of one query, scored log p(SID) - log(items in the SID).

    Args:
        sid: int64 [k] rows of `SidSpace.sids`, the valid ones of one query; scores: float32 [k].
        start, items: from `items_by_sid`.

    Returns:
        item numbers int64 [m] and scores float32 [m], descending; items of one SID tie and keep their order.
    """
    if not len(sid):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    count = start[sid + 1] - start[sid]
    share = (scores - np.log(np.maximum(count, 1))).astype(np.float32)
    order = np.argsort(-share, kind="stable")
    found = np.concatenate([items[start[s] : start[s + 1]] for s in sid[order]])
    return found[:limit], np.repeat(share[order], count[order])[:limit]
