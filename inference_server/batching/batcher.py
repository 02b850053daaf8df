"""The queue: entries of all calls that wait, and the rules by which they form batches.

Pure bookkeeping: no threads, no event loop, no clock; every time is a number of seconds that the owner passes in.
Running batches and answering calls is left to `scheduler.py`.

Order is self-clocked fair queueing (Golestani, 1994). An entry's tag is the start of its call plus the cost of the call
up to and including itself. Every batch takes the entry with the least tag, the first to come among equals, and that tag
becomes the virtual time. Tags mark the finish of an entry, not its start: in a flood of one-entry calls, each of which
may start at once, a virtual time of starts would stand still and the tail of a large call would starve.

A call starts at the virtual time of its arrival, or where the first entry of its client's call before ends, if that is
later: the calls of one client come one after another, those of different clients side by side. Only the first entry
counts, so that a client's single query does not wait for the rest of its large call.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from genrecall.config.server import ServerSection

EMA_WEIGHT = 0.2
"""Weight of the newest batch in the exponential moving average of service times."""

ORDER = attrgetter("order")


class QueueFull(Exception):
    """The call would exceed the entries that may be pending, or made room for a client that has fewer of them."""


@dataclass(frozen=True)
class BatchSettings:
    """Bounds of admission and of a batch.

    max_pending: entries waiting or running; a call that would exceed it is refused whole, even where it is alone.
    max_batch, max_batch_tokens: entries of a batch, and its rows: (padded length + rows of an entry) x entries.
    max_delay_s: seconds an entry may wait for others to join its batch while nothing is computed.
    buckets: padded lengths by which prompts share batches, ascending; beyond the last one, multiples of it.
    """

    max_pending: int = 1024
    max_batch: int = 32
    max_batch_tokens: int = 4096
    max_delay_s: float = 0.0
    buckets: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)

    @classmethod
    def of(cls, section: ServerSection) -> BatchSettings:
        delay_s = section.max_batch_delay_ms / 1e3
        return cls(section.max_pending, section.max_batch, section.max_batch_tokens, delay_s)

    def padded(self, length: int) -> int:
        """The length to which a prompt of `length` tokens is padded."""
        at = bisect_left(self.buckets, length)
        return self.buckets[at] if at < len(self.buckets) else math.ceil(length / self.buckets[-1]) * self.buckets[-1]

    def entries(self, padded_length: int, rows: int) -> int:
        """How many entries fit a batch, one at least, where each has `rows` beside its prompt."""
        return max(1, min(self.max_batch, self.max_batch_tokens // (padded_length + rows)))


@dataclass(eq=False, slots=True)
class QueueEntry:
    """A work item in the queue: one row of a future batch.

    workload: hashable; entries of equal workloads may run together.
    length: tokens of the prompt.
    call, client: hashable; the call it belongs to, and whose that is; None: nobody else's.
    deadline, arrived: seconds of the owner's clock; no deadline is None.
    cost: work relative to an ordinary entry's, above 0.
    rows: what is computed beside the prompt, in tokens; equal among entries of one workload.
    order: position in the queue, set at admission: the tag, then the count of entries admitted before.
    """

    workload: Any
    length: int
    call: Any
    payload: Any
    arrived: float
    deadline: float | None = None
    cost: float = 1.0
    rows: int = 0
    client: Any = None
    order: tuple[float, int] = field(init=False, default=(0.0, 0))


@dataclass(slots=True)
class _Client:
    """Waiting calls, the newest last, how many entries they have, and where the next call may start."""

    calls: dict[Any, None] = field(default_factory=dict)
    entries: int = 0
    start: float = 0.0


@dataclass(frozen=True)
class _ServiceTime:
    """Exponential moving averages over batches: seconds, and entries."""

    seconds: float
    entries: float

    def after(self, seconds: float, entries: int) -> _ServiceTime:
        return _ServiceTime(
            self.seconds + EMA_WEIGHT * (seconds - self.seconds), self.entries + EMA_WEIGHT * (entries - self.entries)
        )

    def least(self, entries: int) -> float:
        """Seconds that a batch of so many takes at least, whatever of its time is fixed and whatever is an entry's."""
        return self.seconds * min(1.0, entries / self.entries)


@dataclass(frozen=True)
class Batch:
    """Entries of one workload that run together, none longer than `padded_length`."""

    workload: Any
    padded_length: int
    entries: list[QueueEntry]

    @property
    def tokens(self) -> int:
        return sum(entry.length for entry in self.entries)

    @property
    def padded_tokens(self) -> int:
        return self.padded_length * len(self.entries)


@dataclass(frozen=True)
class BatchDecision:
    """Entries that expired, a batch to run or none yet, and when to decide again if nothing happens before.

    again_at: seconds of the owner's clock; inf where only an event changes anything.
    """

    expired: list[QueueEntry]
    batch: Batch | None
    again_at: float


class Batcher:
    """Owns the queue and forms batches from it.

    Let q be an entry's tag less the virtual time at its arrival: the cost of its call up to and including itself, where
    its client has no other. Ahead of it are, of each call that waited before, entries that cost at most q plus the
    largest of them, and of each call that comes later, less than q. Every batch takes the head of this order, whatever
    its workload, so an entry runs after at most as many batches as entries are ahead of it; entries that join the batch
    of a head come early and delay nobody. No entry starves: however many calls come, `max_pending` x q over the least
    cost is the most that can be ahead.
    """

    def __init__(self, settings: BatchSettings) -> None:
        self.settings = settings
        self._groups: dict[tuple[Any, int], list[QueueEntry]] = {}  # by workload and padded length, each in order
        self._calls: dict[Any, set[QueueEntry]] = {}  # the same entries by call
        self._clients: dict[Any, _Client] = {}  # those that have calls waiting
        self._running = 0
        self._running_until = -math.inf  # at the earliest, as far as is known
        self._virtual_time = 0.0
        self._admitted = itertools.count()
        self._earliest_deadline = math.inf  # no deadline of a waiting entry lies before it
        # By padded length and, as None, of all lengths. Keyed by the hash of the workload: a mean must not keep an
        # engine in memory that was swapped out.
        self._service_times: dict[tuple[int, int | None], _ServiceTime] = {}

    @property
    def pending(self) -> int:
        """Entries waiting or running."""
        return self._running + sum(len(group) for group in self._groups.values())

    def add(self, entries: Sequence[QueueEntry]) -> list[QueueEntry]:
        """Admit the entries of one call, all or none.

        Where there is no room, the newest calls of the client that has most entries waiting make room for one that will
        have no more than what is left to it. Returns their entries, which wait no longer.

        Raises QueueFull; ValueError for a cost that is not finite or above 0.
        """
        if not all(0 < entry.cost < math.inf for entry in entries):
            raise ValueError("cost must be above 0 and finite: it is what moves the order on")
        if not entries:
            return []
        call, name = entries[0].call, entries[0].client
        leaving = self._remove(self._making_room(len(entries), name))
        client = self._clients.setdefault(call if name is None else name, _Client())
        tag = max(self._virtual_time, client.start)
        client.start = tag + entries[0].cost
        client.calls[call] = None
        client.entries += len(entries)
        for entry in entries:
            tag += entry.cost
            entry.order = (tag, next(self._admitted))
            insort(self._groups.setdefault(self._group(entry), []), entry, key=ORDER)
            self._calls.setdefault(call, set()).add(entry)
            if entry.deadline is not None:
                self._earliest_deadline = min(self._earliest_deadline, entry.deadline)
        return leaving

    def earliest_end(self, now: float, entry: QueueEntry, count: int) -> float:
        """When a call of `count` entries such as this one would have run if it were added now, at the earliest.

        As far as is known: what has not run since `reset_service_times` counts as nothing. Behind a full batch the last
        one is taken to be full too, of entries that come later. Raises QueueFull.
        """
        self._making_room(count, entry.client)
        client = self._clients.get(entry.client)
        tag = max(self._virtual_time, client.start if client else 0.0) + count * entry.cost
        ahead = {entry.workload: (count, self.settings.entries(self.settings.buckets[0], entry.rows))}
        for (workload, length), group in self._groups.items():
            waiting, most = ahead.get(workload, (0, self.settings.entries(length, group[0].rows)))
            ahead[workload] = waiting + bisect_left(group, (tag, 0), key=ORDER), most
        seconds = sum(self._least_seconds(workload, waiting, most) for workload, (waiting, most) in ahead.items())
        return max(now, self._running_until) + seconds

    def cancel(self, call: Any) -> list[QueueEntry]:
        """Remove the entries of `call` that wait; return them."""
        return self._remove(self._calls.get(call, ()))

    def clear(self) -> list[QueueEntry]:
        """Remove all entries that wait; return them."""
        return self._remove(self._waiting())

    def next(self, now: float, idle: bool) -> BatchDecision:
        """Expire what is too late and, where nothing is computed (`idle`), form a batch.

        A batch leaves when it is full, when some entry has waited `max_delay_s`, or when the time left to some entry is
        down to twice the mean service time of its workload and length.

        An entry is reported as expired once: at its deadline, or sooner, as a batch is formed that would end too late
        for it though not for others of its workload and length. Without such others it is tried all the same: a mean
        that drops everything is never corrected, and after one slow batch nothing would run again.
        """
        expired = self._expire(now)
        if not idle:
            return BatchDecision(expired, None, self._earliest_deadline)
        expired += self._expire_doomed(now)
        if not self._groups:
            return BatchDecision(expired, None, self._earliest_deadline)
        batch, full = self._form_batch()
        due = now if full or not self.settings.max_delay_s else self._delay_until()
        if due > now:
            return BatchDecision(expired, None, min(due, self._earliest_deadline))
        self._virtual_time = batch.entries[0].order[0]
        self._running_until = now + self._least_seconds(batch.workload, len(batch.entries), len(batch.entries))
        self._remove(batch.entries)
        self._running += len(batch.entries)
        return BatchDecision(expired, batch, self._earliest_deadline)

    def done(self, batch: Batch, seconds: float | None) -> None:
        """`batch` ran for `seconds`; None where it failed, which says nothing about how long the next one takes."""
        count = len(batch.entries)
        self._running -= count
        self._running_until = -math.inf
        if seconds is not None:
            for key in ((hash(batch.workload), batch.padded_length), (hash(batch.workload), None)):
                before = self._service_times.get(key, _ServiceTime(seconds, count))
                self._service_times[key] = before.after(seconds, count)

    def reset_service_times(self) -> None:
        self._service_times.clear()

    def _least_seconds(self, workload: Any, entries: int, most: int) -> float:
        """That so many take at least, in batches of at most `most`; 0 where it is not known."""
        time = self._service_times.get((hash(workload), None))
        if time is None:
            return 0.0
        return math.ceil(entries / most) * time.least(most) if entries > most else time.least(entries)

    def _making_room(self, count: int, name: Any) -> list[QueueEntry]:
        """The entries that would leave for `count` more of a client's; raises QueueFull."""
        lacking = self.pending + count - self.settings.max_pending
        if lacking <= 0:
            return []
        own = self._clients[name].entries if name in self._clients else 0
        largest = max(self._clients.values(), key=lambda client: client.entries, default=_Client())
        leaving: list[QueueEntry] = []
        for call in reversed(largest.calls):
            if len(leaving) >= lacking:
                break
            leaving += self._calls[call]
        if name is None or len(leaving) < lacking or own + count > largest.entries - len(leaving):
            raise QueueFull
        return leaving

    def _group(self, entry: QueueEntry) -> tuple[Any, int]:
        return entry.workload, self.settings.padded(entry.length)

    def _waiting(self) -> Iterator[QueueEntry]:
        return itertools.chain.from_iterable(self._groups.values())

    def _remove(self, entries: Iterable[QueueEntry]) -> list[QueueEntry]:
        leaving = list(entries)
        for entry in leaving:
            group, call = self._groups[self._group(entry)], self._calls[entry.call]
            del group[bisect_left(group, entry.order, key=ORDER)]
            call.remove(entry)
            name = entry.call if entry.client is None else entry.client
            client = self._clients[name]
            client.entries -= 1
            if not group:
                del self._groups[self._group(entry)]
            if not call:
                del self._calls[entry.call], client.calls[entry.call]
            if not client.calls:
                del self._clients[name]
        return leaving

    def _expire(self, now: float) -> list[QueueEntry]:
        if now < self._earliest_deadline:
            return []
        expired = self._remove(e for e in self._waiting() if e.deadline is not None and e.deadline <= now)
        self._earliest_deadline = min((e.deadline for e in self._waiting() if e.deadline is not None), default=math.inf)
        return expired

    def _expire_doomed(self, now: float) -> list[QueueEntry]:
        """Under overload the oldest entries have just too little time left, and would be computed in vain."""
        late: list[QueueEntry] = []
        for (workload, length), group in self._groups.items():
            time = self._service_times.get((hash(workload), length))
            ends = now + (time.least(len(group)) if time else 0.0)
            too_late = [entry for entry in group if entry.deadline is not None and entry.deadline < ends]
            if len(too_late) < len(group):
                late += too_late
        return self._remove(late)

    def _form_batch(self) -> tuple[Batch, bool]:
        """The head's batch and whether it is full: entries of its own padded length first, then ever shorter ones."""
        workload, padded_length = min(self._groups, key=lambda key: self._groups[key][0].order)
        most = self.settings.entries(padded_length, self._groups[workload, padded_length][0].rows)
        entries: list[QueueEntry] = []
        shorter = [length for other, length in self._groups if other == workload and length <= padded_length]
        for length in sorted(shorter, reverse=True):
            entries += self._groups[workload, length][: most - len(entries)]
        return Batch(workload, padded_length, entries), len(entries) == most

    def _delay_until(self) -> float:
        """When the first entry has waited long enough; at once for a deadline where the service time is unknown."""

        def until(entry: QueueEntry) -> float:
            delayed = entry.arrived + self.settings.max_delay_s
            if entry.deadline is None:
                return delayed
            workload, length = self._group(entry)
            time = self._service_times.get((hash(workload), length))
            return entry.arrived if time is None else min(delayed, entry.deadline - 2 * time.seconds)

        return min(map(until, self._waiting()))
