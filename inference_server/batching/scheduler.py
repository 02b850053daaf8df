"""Runs batches: calls come in on the event loop, batches run on one worker thread, one at a time.

All state belongs to the event loop's thread, so there are no locks; the worker sees a batch and nothing else. Which
entries run together and in which order is left to `batcher.py`, what a batch computes to its workload.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from inference_server.batching.batcher import Batch, Batcher, BatchSettings, QueueEntry, QueueFull
from inference_server.engines.base import DeviceLost

R = TypeVar("R")
FAILURES = 5  # batches in a row after which an engine is tested


class DeadlineExceeded(Exception):
    """The deadline passed, or could no longer be met, before the call was computed."""


class TooLate(Exception):
    """The queue is too long for the deadline; the message says by how much."""


class ShuttingDown(Exception):
    """The scheduler takes no more calls, or dropped this one as it closed."""


class Workload(Protocol):
    """What a batch computes. Hashable; equal workloads share batches. `name` is the label of its metrics."""

    @property
    def name(self) -> str: ...

    def run(self, payloads: list[Any]) -> list[Any]:
        """One result per payload, in order. Called on the compute thread."""


class Observer(Protocol):
    """Notified on the event loop's thread; must neither block nor raise."""

    def on_batch(self, workload: Workload, count: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """A batch ran, or failed, after `seconds`."""

    def on_dropped(self, reason: str) -> None:
        """A call ended unanswered: "refused" (queue full), "late" (it was seen that it would be), "expired" in the
        queue, "cancelled" by its client, or "stopped"."""


@dataclass(frozen=True)
class WorkItem:
    """One payload for a workload. length: of its prompt, in tokens. cost, rows: see `QueueEntry`."""

    payload: Any
    length: int
    cost: float = 1.0
    rows: int = 0


@dataclass(frozen=True)
class CallResult:
    """A call's results, one per work item in order, and its time: queue_ms + compute_ms is all of it.

    batch_sizes: entries of each batch that held work of the call.
    """

    results: list[Any]
    queue_ms: float
    compute_ms: float
    batch_sizes: list[int]


@dataclass(eq=False)
class _PendingCall:
    """A call in progress: `failure` resolves to None once all results are there, or to the error."""

    failure: asyncio.Future[Exception | None]
    results: list[Any]
    missing: int
    compute_s: float = 0.0
    batch_sizes: list[int] = field(default_factory=list)

    def settle(self, failure: Exception | None = None) -> None:
        if not self.failure.done():  # its client may have disconnected
            self.failure.set_result(failure)


@dataclass(frozen=True)
class _BatchOutcome:
    results: list[Any]
    failure: Exception | None
    seconds: float


_REASONS: dict[type[BaseException], str] = {
    QueueFull: "refused",
    TooLate: "late",
    DeadlineExceeded: "expired",
    ShuttingDown: "stopped",
    asyncio.CancelledError: "cancelled",
}


class Overdue(Exception):
    """A batch did not end in time."""


class Scheduler:
    """Runs the work items of many calls in shared batches. Created, used and closed on one event loop.

    Attributes:
        broken: set once no later batch can be expected to succeed in this process; reason: why.
        suspect: set when `FAILURES` batches in a row failed, until one succeeds.

    Args:
        batch_timeout_s: a batch that takes longer never ends: a device or a library hangs.
    """

    def __init__(
        self,
        settings: BatchSettings,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
        batch_timeout_s: float = math.inf,
    ) -> None:
        self._batcher = Batcher(settings)
        self._clock = clock
        self._observer = observer
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        self._occupied = 0  # a running batch, functions between batches: no batch may start meanwhile
        self._stopped = False
        self._batch_timeout_s = batch_timeout_s
        self._overdue: asyncio.TimerHandle | None = None
        self._failures = 0
        self.broken, self.suspect = asyncio.Event(), asyncio.Event()
        self.reason = ""
        self._idle = asyncio.Event()
        self._idle.set()
        self._step_scheduled = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> int:
        """Work items waiting or running."""
        return self._batcher.pending

    def require_time(
        self, workload: Workload, item: WorkItem, count: int, deadline: float | None, client: str | None = None
    ) -> None:
        """Refuse a call before anything is prepared for it: TooLate, or what `submit` would raise.

        item: one like each of its `count` items; neither payload nor length is read.
        """
        if self._stopped:
            raise ShuttingDown
        now = self._clock()
        entry = QueueEntry(workload, 0, None, None, now, deadline, item.cost, item.rows, client)
        try:
            if deadline is not None and deadline <= now:
                raise DeadlineExceeded
            end = self._batcher.earliest_end(now, entry, count)
            if deadline is not None and self._batcher.pending and end > deadline:
                took, left = (end - now) * 1e3, (deadline - now) * 1e3
                raise TooLate(f"the calls before take {took:.0f} ms or more, and {left:.0f} ms are left")
        except (DeadlineExceeded, QueueFull, TooLate) as error:
            self._dropped(error)
            raise

    async def submit(
        self,
        workload: Workload,
        work_items: Sequence[WorkItem],
        deadline: float | None = None,
        client: str | None = None,
    ) -> CallResult:
        """Run `work_items` as soon as their turn comes, each in whichever batch it fits.

        Args:
            deadline: seconds of the clock after which nobody waits for the answer; None where there is none.
            client: whose call it is, for a fair share of the queue; None: nobody else's.

        Raises QueueFull, DeadlineExceeded or ShuttingDown; an exception in a batch reaches all calls with work in it.
        Cancelling a call removes its work that still waits.
        """
        arrived = self._clock()
        call = _PendingCall(asyncio.get_running_loop().create_future(), [None] * len(work_items), len(work_items))
        try:
            if self._stopped:
                raise ShuttingDown
            if work_items:
                await self._enqueue(call, workload, work_items, arrived, deadline, client)
        except BaseException as error:
            self._dropped(error)
            raise
        compute_ms = call.compute_s * 1e3
        total_ms = (self._clock() - arrived) * 1e3
        return CallResult(call.results, max(0.0, total_ms - compute_ms), compute_ms, call.batch_sizes)

    async def between_batches(self, function: Callable[[], R]) -> R:
        """Run `function` on the compute thread while no batch runs; return its result. Raises ShuttingDown.

        Service times are measured anew afterwards: an engine may have been replaced.
        """
        if self._stopped:
            raise ShuttingDown
        self._occupied += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, function)
        finally:
            self._occupied -= 1
            self._batcher.reset_service_times()
            self._schedule_step()

    async def drain(self) -> None:
        """Refuse new calls, finish those accepted."""
        self._stopped = True
        await self._idle.wait()

    async def close(self) -> None:
        """Refuse new calls, drop those that wait, finish the batch that runs."""
        self._stopped = True
        for entry in self._batcher.clear():
            entry.call.settle(ShuttingDown())
        self._step()
        await self._idle.wait()
        await asyncio.to_thread(self._worker.shutdown)

    async def _enqueue(
        self,
        call: _PendingCall,
        workload: Workload,
        work_items: Sequence[WorkItem],
        arrived: float,
        deadline: float | None,
        client: str | None,
    ) -> None:
        entries = [
            QueueEntry(workload, item.length, call, (at, item.payload), arrived, deadline, item.cost, item.rows, client)
            for at, item in enumerate(work_items)
        ]
        for other in {entry.call for entry in self._batcher.add(entries)}:
            self._fail(other, QueueFull())
        self._idle.clear()
        self._schedule_step()
        try:
            failure = await call.failure
        except asyncio.CancelledError:
            self._batcher.cancel(call)
            self._schedule_step()
            raise
        if failure is not None:
            raise failure

    def _dropped(self, error: BaseException) -> None:
        if self._observer is not None and type(error) in _REASONS:
            self._observer.on_dropped(_REASONS[type(error)])

    def _schedule_step(self) -> None:
        """In the next iteration of the event loop, so that calls of one iteration share a batch."""
        if not self._step_scheduled:
            self._step_scheduled = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._step_scheduled = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock()
        decision = self._batcher.next(now, idle=not self._occupied)
        for entry in decision.expired:
            self._fail(entry.call, DeadlineExceeded())
        if decision.batch is not None:
            self._start(decision.batch)
        if decision.again_at < math.inf:
            delay_s = max(0.0, decision.again_at - now)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._step)
        if not self._batcher.pending:
            self._idle.set()

    def _start(self, batch: Batch) -> None:
        self._occupied += 1
        if self._batch_timeout_s < math.inf:
            self._overdue = asyncio.get_running_loop().call_later(self._batch_timeout_s, self._give_up, batch)
        running = asyncio.get_running_loop().run_in_executor(self._worker, self._compute, batch)
        running.add_done_callback(partial(self._finish, batch))

    def _compute(self, batch: Batch) -> _BatchOutcome:
        """On the worker thread."""
        started = self._clock()
        results: list[Any] = []
        failure: Exception | None = None
        try:
            results = batch.workload.run([entry.payload[1] for entry in batch.entries])
            if len(results) != len(batch.entries):
                raise RuntimeError(
                    f"{batch.workload} returned {len(results)} results for {len(batch.entries)} payloads"
                )
        except Exception as error:
            failure = error
        return _BatchOutcome(results, failure, self._clock() - started)

    def _finish(self, batch: Batch, running: asyncio.Future[_BatchOutcome]) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
        outcome = running.result()
        self._judge(outcome.failure)
        self._occupied -= 1
        self._batcher.done(batch, outcome.seconds if outcome.failure is None else None)
        for call in {entry.call for entry in batch.entries}:
            call.compute_s += outcome.seconds
            call.batch_sizes.append(len(batch.entries))
            if outcome.failure is not None:
                self._fail(call, outcome.failure)
        self._step()  # the next batch before these answers: the worker should not wait for them
        if outcome.failure is None:
            for entry, result in zip(batch.entries, outcome.results, strict=True):
                self._answer(entry, result)
        if self._observer is not None:
            self._observer.on_batch(
                batch.workload, len(batch.entries), batch.tokens, batch.padded_tokens, outcome.seconds
            )

    def _judge(self, failure: Exception | None) -> None:
        if isinstance(failure, DeviceLost):
            self.declare_broken(f"the device is lost: {failure}")
        self._failures = self._failures + 1 if failure is not None else 0
        if self._failures >= FAILURES:
            self.suspect.set()
        else:
            self.suspect.clear()

    def _give_up(self, batch: Batch) -> None:
        """The thread cannot be ended, but those who wait can be told."""
        reason = f"a batch of {len(batch.entries)} has not ended within {self._batch_timeout_s:g} s"
        self.declare_broken(reason)
        for call in {entry.call for entry in batch.entries}:
            self._fail(call, Overdue(reason))

    def declare_broken(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.broken.set()

    @property
    def stuck(self) -> bool:
        """Whether a batch never ends, so that neither does the thread that computes it."""
        return self.broken.is_set() and bool(self._occupied)

    def _answer(self, entry: QueueEntry, result: Any) -> None:
        at, _ = entry.payload
        entry.call.results[at] = result
        entry.call.missing -= 1
        if not entry.call.missing:
            entry.call.settle()

    def _fail(self, call: _PendingCall, failure: Exception) -> None:
        """End a call as a whole: its work that still waits is not worth computing."""
        self._batcher.cancel(call)
        call.settle(failure)
