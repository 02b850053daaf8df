"""What the service asks of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from genrecall.bundle import Bundle
from genrecall.rpc import generative_recall_pb2 as pb


@dataclass(frozen=True)
class Generation:
    """SIDs of a batch of queries.

    Attributes:
        codes: int32 [B, k, 3], likeliest first.
        scores: float32 [B, k], log-probabilities, descending.
        counts: int64 [B], how many of the k are SIDs; the rest is padding (a codebook can have fewer than k).
    """

    codes: np.ndarray
    scores: np.ndarray
    counts: np.ndarray
    encode_ms: float
    search_ms: float


class Engine(Protocol):
    """One bundle, ready to answer. Not safe for concurrent calls: one thread owns it."""

    bundle: Bundle

    def generate(
        self, texts: Sequence[str], k: int, beam_width: int, users: Sequence[pb.User | None] | None = None
    ) -> Generation:
        """The `k` likeliest SIDs of each text, and of the user who asks, found by a beam of `beam_width` >= k."""
        ...
