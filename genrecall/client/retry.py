"""Retries: which failed calls are sent again, and after how long. All calls of the contract are idempotent.

gRPC's own `retryPolicy`, which has pushback and throttling too, is not used, as it
- retries RESOURCE_EXHAUSTED without a pushback too: a request that is too large would be sent up to five times;
- sleeps until the deadline when the pushback ends after it, and then reports the deadline instead of the overload;
- silently gives up on a request above its buffer, 256 KiB by default, and on more than five attempts;
- has a jitter of a fifth only, so that clients that failed together retry together.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

import grpc

from genrecall.client.errors import pushback_ms, server_error

TOKENS_PER_ANSWER = 0.1  # of a retry, regained with each answered call
TOKENS_PER_S = 1.0  # regained with time, so that the first calls after an outage are tried again too


@dataclass(frozen=True)
class Retry:
    """The retry policy of a client.

    UNAVAILABLE is retried, and RESOURCE_EXHAUSTED where the server sends a pushback (`grpc-retry-pushback-ms`): without
    one the message was too large and would be again. A negative or unreadable pushback forbids a retry.

    Attributes:
        max_attempts: per call; 1: no retries.
        initial_backoff_s: bound of the wait before the second attempt, doubled for each one after. The wait itself is
            uniform between zero and the bound, on top of the pushback.
        max_backoff_s: what the bound never exceeds.
        budget: retries that all calls of a client may use beyond one a second and one for every ten answered calls, so
            that an overloaded server gets no more than a tenth on top.
    """

    max_attempts: int = 5
    initial_backoff_s: float = 0.1
    max_backoff_s: float = 2.0
    budget: int = 20

    def wait_s(self, error: grpc.RpcError, attempt: int) -> float | None:
        """Seconds to wait after `attempt` (from 1) failed; None: no retry."""
        pushback = pushback_ms(error)
        retryable = error.code() == grpc.StatusCode.UNAVAILABLE or (
            error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and pushback is not None
        )
        least_ms = 0 if pushback is None else int(pushback) if pushback.isdecimal() else -1
        if not retryable or attempt >= self.max_attempts or least_ms < 0:
            return None
        bound = min(self.max_backoff_s, self.initial_backoff_s * 2 ** (attempt - 1))
        return least_ms / 1e3 + random.uniform(0, bound)


class RetryBudget:
    """The retries left to a client, for all its threads."""

    def __init__(self, size: int) -> None:
        self._size = self._left = float(size)
        self._since = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Use one retry, if any is left."""
        with self._lock:
            now = time.monotonic()
            self._left = min(self._size, self._left + (now - self._since) * TOKENS_PER_S)
            self._since = now
            taken = self._left >= 1
            self._left -= taken
            return taken

    def answered(self) -> None:
        with self._lock:
            self._left = min(self._size, self._left + TOKENS_PER_ANSWER)


@dataclass(frozen=True)
class Deadline:
    """When a call ends, on the clock of `time.monotonic`, and its timeout, for the error message."""

    at: float
    timeout_s: float

    @classmethod
    def after(cls, timeout_s: float) -> Deadline:
        return cls(time.monotonic() + timeout_s, timeout_s)


@dataclass
class RetryState:
    """The attempts of one call. `endpoint` is for the error message."""

    retry: Retry
    budget: RetryBudget
    deadline: Deadline
    endpoint: str
    attempts: int = 0

    def next_timeout_s(self) -> float:
        """Count an attempt; returns the seconds left for it."""
        self.attempts += 1
        return max(0.0, self.deadline.at - time.monotonic())

    def wait_s(self, error: grpc.RpcError) -> float:
        """Seconds until the next attempt; raises ServerError when there is none.

        A wait that would end after the deadline is not begun: the error is raised at once.
        """
        wait = self.retry.wait_s(error, self.attempts)
        if wait is None or time.monotonic() + wait >= self.deadline.at or not self.budget.take():
            raise server_error(error, self.endpoint, self.deadline.timeout_s, self.attempts) from None
        return wait
