"""Overload: how many calls of a method may be in flight, and when a client that was refused should retry."""

from __future__ import annotations

from types import TracebackType

from genrecall.config.server import ServerSection
from inference_server.batching.batcher import EMA_WEIGHT
from inference_server.batching.scheduler import Observer, Workload

MIN_PUSHBACK_MS, MAX_PUSHBACK_MS = 50, 2000


class LimitExceeded(Exception):
    """As many calls of one method are in flight as are allowed."""


class ConcurrencyLimiter:
    """Bounds the calls in flight of a method: `with limiter:` raises LimitExceeded beyond `limit`, naming `setting`."""

    def __init__(self, limit: int, setting: str) -> None:
        self._limit = limit
        self._setting = setting
        self._in_flight = 0

    def __enter__(self) -> None:
        if self._in_flight >= self._limit:
            raise LimitExceeded(
                f"{self._in_flight} such calls are in flight already ({self._setting}): try again later"
            )
        self._in_flight += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in_flight -= 1


def score_limiter(section: ServerSection) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(section.max_concurrent_score, "server.max_concurrent_score")


def encode_limiter(section: ServerSection) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(section.max_concurrent_encode, "server.max_concurrent_encode")


class BacklogEstimator:
    """Estimates how long the scheduler's backlog takes, as an observer that passes on what it is notified of."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._seconds_per_entry: float | None = None

    def on_batch(self, workload: Workload, count: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        newest = seconds / count
        mean = newest if self._seconds_per_entry is None else self._seconds_per_entry
        self._seconds_per_entry = mean + EMA_WEIGHT * (newest - mean)
        self._observer.on_batch(workload, count, tokens, padded_tokens, seconds)

    def on_dropped(self, reason: str) -> None:
        self._observer.on_dropped(reason)

    def pushback_ms(self, pending: int) -> int:
        """The time of half of the `pending` entries, within the bounds: sooner there is no room, later no work left."""
        half_ms = pending / 2 * (self._seconds_per_entry or 0.0) * 1e3
        return round(min(MAX_PUSHBACK_MS, max(MIN_PUSHBACK_MS, half_ms)))
