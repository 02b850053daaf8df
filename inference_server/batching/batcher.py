"""Who runs next, and with whom: the waiting entries of all calls, and the rules by which they form batches.

Pure bookkeeping: no threads, no event loop, no clock; every time is a number of seconds that the owner passes in. What
a lane computes and how a call is answered is `scheduler.py`'s affair.

Order is self-clocked fair queueing (Golestani, 1994). An entry's tag is the virtual time at its arrival plus the cost
of its call up to and including itself. Every batch takes the entry with the least tag, the first to come among equals,
and that tag becomes the virtual time. Tags mark the finish of an entry, not its start: in a flood of one-entry calls,
each of which may start at once, a virtual time of starts would stand still and the tail of a large call would starve.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

NEWEST = 0.2
"""Weight of the newest batch in the running mean of service times."""

ORDER = attrgetter("order")


class Full(Exception):
    """As many entries are pending as may be."""


@dataclass(frozen=True)
class BatchSettings:
    """Bounds of admission and of a batch.

    max_pending: entries waiting or running; a call that would exceed it is refused whole, even where it is alone.
    max_batch, max_batch_tokens: entries of a batch, and its padded tokens (padded length x entries).
    linger_s: seconds an entry may wait for company while the compute is idle.
    buckets: padded lengths, ascending; beyond the last one, multiples of it.
    """

    max_pending: int = 1024
    max_batch: int = 32
    max_batch_tokens: int = 4096
    linger_s: float = 0.0
    buckets: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)

    def padded(self, length: int) -> int:
        """The length to which a prompt of `length` tokens is padded."""
        at = bisect_left(self.buckets, length)
        return self.buckets[at] if at < len(self.buckets) else math.ceil(length / self.buckets[-1]) * self.buckets[-1]


@dataclass(eq=False, slots=True)
class Entry:
    """One row of a batch to come.

    lane: hashable; entries of equal lanes may run together.
    length: tokens of the prompt.
    call: hashable; the call it belongs to.
    deadline, arrived: seconds of the owner's clock; no deadline is None.
    cost: work relative to an ordinary entry's, above 0.
    order: its place, set at admission: the tag, then the count of entries admitted before.
    """

    lane: Any
    length: int
    call: Any
    payload: Any
    arrived: float
    deadline: float | None = None
    cost: float = 1.0
    order: tuple[float, int] = field(init=False, default=(0.0, 0))


@dataclass(frozen=True)
class Batch:
    """Entries of one lane that run together, none longer than `padded_length`."""

    lane: Any
    padded_length: int
    entries: list[Entry]

    @property
    def tokens(self) -> int:
        return sum(entry.length for entry in self.entries)

    @property
    def padded_tokens(self) -> int:
        return self.padded_length * len(self.entries)


@dataclass(frozen=True)
class Step:
    """What is due: entries that expired, a batch to run or none yet, and when to ask again if nothing happens before.

    again: seconds of the owner's clock; inf where only an event changes anything.
    """

    expired: list[Entry]
    batch: Batch | None
    again: float


class Batcher:
    """Owns the entries that wait.

    Let q be the cost of an entry's call up to and including itself. Ahead of it are, of each call that waited before,
    entries that cost at most q plus the largest of them, and of each call that comes later, less than q. Every batch
    takes the head of this order, whatever its lane, so an entry runs after at most as many batches as entries are ahead
    of it; what rides along with a head comes early and takes nobody's turn. Nobody starves: however many calls come,
    `max_pending` x q over the least cost is the most that can be ahead.
    """

    def __init__(self, settings: BatchSettings) -> None:
        self.settings = settings
        self._groups: dict[tuple[Any, int], list[Entry]] = {}  # by lane and padded length, each in order
        self._calls: dict[Any, set[Entry]] = {}  # the same entries by call
        self._running = 0
        self._virtual_time = 0.0
        self._admitted = itertools.count()
        self._soonest = math.inf  # no deadline of a waiting entry lies before it
        # By the lane's hash: a mean must not keep an engine in memory that was swapped out.
        self._mean_seconds: dict[tuple[int, int], float] = {}

    @property
    def pending(self) -> int:
        """Entries waiting or running."""
        return self._running + sum(len(group) for group in self._groups.values())

    def add(self, entries: Sequence[Entry]) -> None:
        """Admit the entries of one call, all or none. Raises Full; ValueError where a cost is 0, less or not finite."""
        if not all(0 < entry.cost < math.inf for entry in entries):
            raise ValueError("cost must be above 0 and finite: it is what moves the order on")
        if self.pending + len(entries) > self.settings.max_pending:
            raise Full
        tag = self._virtual_time
        for entry in entries:
            tag += entry.cost
            entry.order = (tag, next(self._admitted))
            insort(self._groups.setdefault(self._group(entry), []), entry, key=ORDER)
            self._calls.setdefault(entry.call, set()).add(entry)
            if entry.deadline is not None:
                self._soonest = min(self._soonest, entry.deadline)

    def cancel(self, call: Any) -> list[Entry]:
        """Remove the entries of `call` that wait; return them."""
        return self._remove(self._calls.get(call, ()))

    def clear(self) -> list[Entry]:
        """Remove all entries that wait; return them."""
        return self._remove(self._waiting())

    def next(self, now: float, idle: bool) -> Step:
        """Expire what is too late and, where the compute is `idle`, form a batch.

        A batch leaves when it is full, when some entry has waited `linger_s`, or when the time left to some entry is
        down to twice the mean service time of its lane and length.

        An entry is reported as expired once: at its deadline, or sooner, as a batch is formed that would end too late
        for it though not for others of its lane and length. Without such others it is tried all the same: a mean that
        drops everything is never corrected, and one slow batch would shut the door for good.
        """
        expired = self._expire(now)
        if not idle:
            return Step(expired, None, self._soonest)
        expired += self._give_way(now)
        if not self._groups:
            return Step(expired, None, self._soonest)
        batch, full = self._form()
        leaves = now if full or not self.settings.linger_s else self._linger_until()
        if leaves > now:
            return Step(expired, None, min(leaves, self._soonest))
        self._virtual_time = batch.entries[0].order[0]
        self._remove(batch.entries)
        self._running += len(batch.entries)
        return Step(expired, batch, self._soonest)

    def done(self, batch: Batch, seconds: float | None) -> None:
        """`batch` ran for `seconds`; None where it failed, which says nothing about how long the next one takes."""
        self._running -= len(batch.entries)
        if seconds is not None:
            key = (hash(batch.lane), batch.padded_length)
            mean = self._mean_seconds.get(key, seconds)
            self._mean_seconds[key] = mean + NEWEST * (seconds - mean)

    def forget(self) -> None:
        """Forget the service times seen so far."""
        self._mean_seconds.clear()

    def _group(self, entry: Entry) -> tuple[Any, int]:
        return entry.lane, self.settings.padded(entry.length)

    def _waiting(self) -> Iterator[Entry]:
        return itertools.chain.from_iterable(self._groups.values())

    def _remove(self, entries: Iterable[Entry]) -> list[Entry]:
        leaving = list(entries)
        for entry in leaving:
            group, call = self._groups[self._group(entry)], self._calls[entry.call]
            del group[bisect_left(group, entry.order, key=ORDER)]
            call.remove(entry)
            if not group:
                del self._groups[self._group(entry)]
            if not call:
                del self._calls[entry.call]
        return leaving

    def _expire(self, now: float) -> list[Entry]:
        if now < self._soonest:
            return []
        expired = self._remove(e for e in self._waiting() if e.deadline is not None and e.deadline <= now)
        self._soonest = min((e.deadline for e in self._waiting() if e.deadline is not None), default=math.inf)
        return expired

    def _give_way(self, now: float) -> list[Entry]:
        """Under overload the oldest entries have just too little time left, and would be computed for nobody."""
        late: list[Entry] = []
        for (lane, length), group in self._groups.items():
            ends = now + self._mean_seconds.get((hash(lane), length), 0.0)
            too_late = [entry for entry in group if entry.deadline is not None and entry.deadline < ends]
            if len(too_late) < len(group):
                late += too_late
        return self._remove(late)

    def _form(self) -> tuple[Batch, bool]:
        """The head's batch and whether it is full: entries of its own padded length first, then ever shorter ones."""
        lane, padded_length = min(self._groups, key=lambda key: self._groups[key][0].order)
        rows = max(1, min(self.settings.max_batch, self.settings.max_batch_tokens // padded_length))
        entries: list[Entry] = []
        shorter = [length for other, length in self._groups if other == lane and length <= padded_length]
        for length in sorted(shorter, reverse=True):
            entries += self._groups[lane, length][: rows - len(entries)]
        return Batch(lane, padded_length, entries), len(entries) == rows

    def _linger_until(self) -> float:
        """When the first of those that wait has waited long enough; at once where a deadline meets an unknown pace."""

        def until(entry: Entry) -> float:
            lingered = entry.arrived + self.settings.linger_s
            if entry.deadline is None:
                return lingered
            lane, length = self._group(entry)
            mean = self._mean_seconds.get((hash(lane), length))
            return entry.arrived if mean is None else min(lingered, entry.deadline - 2 * mean)

        return min(map(until, self._waiting()))
