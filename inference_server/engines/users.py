"""Users of requests -> users of a generator: SID terms and item ids become codes of its codebook."""

from __future__ import annotations

import numpy as np

from genrecall.bundle import Bundle
from genrecall.decoding.user import User
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.sid import LEVELS, Sid


class UserResolver:
    """For one bundle. SIDs of another codebook and unknown items are ignored."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def __call__(self, user: pb.User | None) -> User | None:
        """`recent_sids` first, then `recent_items`, each newest first; raises ValueError for a malformed term."""
        if user is None:
            return None
        parsed = (Sid.parse(term) for term in user.recent_sids)
        codes = [sid.codes for codebook, sid in parsed if codebook == self._bundle.codebook]
        rows = self._bundle.item_table.rows(user.recent_items)
        items = self._bundle.space.sids[rows[rows >= 0]]
        recent = np.concatenate((np.array(codes, dtype=np.int32).reshape(-1, LEVELS), items))
        return User(user.gender, user.age_band, recent)
