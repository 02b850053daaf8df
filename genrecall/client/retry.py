"""When a failed call is sent again, and after how long. Every call of the contract may be repeated: none changes state.

gRPC retries by itself where a channel is given a `retryPolicy`, pushback and throttling included. It is not used, as it
- retries RESOURCE_EXHAUSTED without a pushback too: a request that is too large would be sent up to five times;
- sleeps until the deadline when the pushback ends after it, and then reports the deadline and not the full server;
- gives up silently on a request above its buffer, 256 KiB unless told otherwise, and on more than five attempts;
- varies its waits by a fifth only, so that clients that failed together come back together.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

import grpc

from genrecall.client.errors import explained, pushback

REFILL = 0.1  # of a retry, for each call answered


@dataclass(frozen=True)
class Retry:
    """How persistent a client is.

    UNAVAILABLE is retried, and RESOURCE_EXHAUSTED where the server says when (`grpc-retry-pushback-ms`): without it the
    message was too large and would be again. A negative or unreadable pushback forbids a retry.

    Attributes:
        attempts: calls sent at most for one asked; 1: no retries.
        first_wait_s: bound of the wait before the second attempt, doubled for each one after. The wait itself is
            uniform between nothing and the bound, on top of the pushback.
        longest_wait_s: what the bound never exceeds.
        budget: retries that all calls of a client may use beyond one for every ten answered calls, so that a server in
            trouble gets no more than a tenth on top.
    """

    attempts: int = 5
    first_wait_s: float = 0.1
    longest_wait_s: float = 2.0
    budget: int = 20

    def wait_s(self, error: grpc.RpcError, attempt: int) -> float | None:
        """Seconds to wait after `attempt` (from 1) failed; None: it is not to be sent again."""
        asked = pushback(error)
        retried = error.code() == grpc.StatusCode.UNAVAILABLE or (
            error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and asked is not None
        )
        pushed = 0 if asked is None else int(asked) if asked.isdecimal() else -1
        if not retried or attempt >= self.attempts or pushed < 0:
            return None
        bound = min(self.longest_wait_s, self.first_wait_s * 2 ** (attempt - 1))
        return pushed / 1e3 + random.uniform(0, bound)


class Budget:
    """The retries that a client has left, for all its threads."""

    def __init__(self, size: int) -> None:
        self._size = self._left = float(size)
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Use one, if there is one."""
        with self._lock:
            taken = self._left >= 1
            self._left -= taken
            return taken

    def answered(self) -> None:
        with self._lock:
            self._left = min(self._size, self._left + REFILL)


@dataclass(frozen=True)
class Deadline:
    """When a call ends, on the clock of `time.monotonic`, and how long it was given, for the message."""

    at: float
    timeout_s: float

    @classmethod
    def after(cls, timeout_s: float) -> Deadline:
        return cls(time.monotonic() + timeout_s, timeout_s)


@dataclass
class Attempts:
    """The attempts of one call. `endpoint` serves the message."""

    retry: Retry
    budget: Budget
    deadline: Deadline
    endpoint: str
    made: int = 0

    def next_timeout_s(self) -> float:
        """Count an attempt; returns the seconds it may take: all that is left."""
        self.made += 1
        return max(0.0, self.deadline.at - time.monotonic())

    def wait_s(self, error: grpc.RpcError) -> float:
        """Seconds until the next attempt; raises ServerError when there is none.

        A wait that the deadline would cut short is not begun: the caller learns at once, and why.
        """
        wait = self.retry.wait_s(error, self.made)
        if wait is None or time.monotonic() + wait >= self.deadline.at or not self.budget.take():
            raise explained(error, self.endpoint, self.deadline.timeout_s, self.made) from None
        return wait
