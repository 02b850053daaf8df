"""Users of requests -> users of a generator: SID terms and item ids become codes of its codebook."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from genrecall.bundle import Bundle, codes_of
from genrecall.decoding.user import User
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.sid import LEVELS, Sid


class UserResolver:
    """For one bundle. SIDs of another codebook and unknown items are ignored."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    @cached_property
    def _codes_of_item(self) -> dict[str, tuple[int, int, int]]:
        items = self._bundle.items()
        return dict(zip(items["item_id"].to_pylist(), map(tuple, codes_of(items).tolist()), strict=True))

    def warm(self) -> None:
        """Read the assignments now rather than for the first user."""
        _ = self._codes_of_item

    def __call__(self, user: pb.User | None) -> User | None:
        """`recent_sids` first, then `recent_items`, each newest first; raises ValueError for a malformed term."""
        if user is None:
            return None
        parsed = (Sid.parse(term) for term in user.recent_sids)
        codes = [sid.codes for codebook, sid in parsed if codebook == self._bundle.codebook]
        codes += [self._codes_of_item[item] for item in user.recent_items if item in self._codes_of_item]
        return User(user.gender, user.age_band, np.array(codes, dtype=np.int32).reshape(-1, LEVELS))
