"""Too much at once: how many calls of a kind may be under way, and when a client that is turned away may come back."""

from __future__ import annotations

from types import TracebackType

from inference_server.batching.batcher import NEWEST
from inference_server.batching.scheduler import Lane, Observer


class Busy(Exception):
    """As many calls of one method are under way as may be."""


class Gate:
    """Bounds the calls of one method: `with gate:` raises Busy where `most` are inside. `setting` names the bound."""

    def __init__(self, most: int, setting: str) -> None:
        self._most = most
        self._setting = setting
        self._inside = 0

    def __enter__(self) -> None:
        if self._inside >= self._most:
            raise Busy(f"{self._inside} such calls are under way already ({self._setting}): try again later")
        self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside -= 1


class Pace:
    """An observer of the scheduler that knows how long its backlog takes; passes on what it hears."""

    def __init__(self, least_ms: int, most_ms: int, observer: Observer) -> None:
        self._least_ms = least_ms
        self._most_ms = most_ms
        self._observer = observer
        self._entry_seconds: float | None = None

    def batch(self, lane: Lane, count: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        each = seconds / count
        mean = each if self._entry_seconds is None else self._entry_seconds
        self._entry_seconds = mean + NEWEST * (each - mean)
        self._observer.batch(lane, count, tokens, padded_tokens, seconds)

    def left(self, reason: str) -> None:
        self._observer.left(reason)

    def pushback_ms(self, pending: int) -> int:
        """What half of `pending` entries take, within the bounds: sooner there is no room, later nothing to do."""
        half_ms = pending / 2 * (self._entry_seconds or 0.0) * 1e3
        return round(min(self._most_ms, max(self._least_ms, half_ms)))
