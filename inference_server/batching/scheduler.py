"""The one owner of the compute: calls come in on the event loop, batches run on one worker thread, one at a time.

All state belongs to the event loop's thread, so there are no locks; the worker sees a batch and nothing else. Which
entries run together and in which order is `batcher.py`'s affair; what runs is the lane's.
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

from inference_server.batching.batcher import Batch, Batcher, BatchSettings, Entry, Full

R = TypeVar("R")


class Expired(Exception):
    """The deadline passed, or could no longer be met, before the call's turn came."""


class Stopped(Exception):
    """The scheduler takes no more calls, or dropped this one as it closed."""


class Lane(Protocol):
    """A way to run payloads together. Hashable; equal lanes share batches. Metrics tell lanes apart by `name`."""

    @property
    def name(self) -> str: ...

    def run(self, payloads: list[Any]) -> list[Any]:
        """One result a payload, in order. Called on the compute thread."""


class Observer(Protocol):
    """Is told what happens, on the event loop's thread; must neither block nor raise."""

    def batch(self, lane: Lane, count: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """A batch ran, or failed, after `seconds`."""

    def left(self, reason: str) -> None:
        """A call ended unanswered: "refused" at the door, "expired", "cancelled" by its client, or "stopped"."""


@dataclass(frozen=True)
class Job:
    """One payload for a lane; `length` tokens of prompt, `cost` relative to an ordinary job's."""

    payload: Any
    length: int
    cost: float = 1.0


@dataclass(frozen=True)
class Done:
    """A call's results, one a job in order, and where its time went: queue_ms + compute_ms is all of it.

    batch_sizes: entries of each batch that the call had a part in.
    """

    results: list[Any]
    queue_ms: float
    compute_ms: float
    batch_sizes: list[int]


@dataclass(eq=False)
class _Call:
    """A call in progress: `failure` comes true with None once all results are there, or with what went wrong."""

    failure: asyncio.Future[Exception | None]
    results: list[Any]
    missing: int
    compute_s: float = 0.0
    batch_sizes: list[int] = field(default_factory=list)

    def settle(self, failure: Exception | None = None) -> None:
        if not self.failure.done():  # its client may have left
            self.failure.set_result(failure)


@dataclass(frozen=True)
class _Ran:
    results: list[Any]
    failure: Exception | None
    seconds: float


_REASONS: dict[type[BaseException], str] = {
    Full: "refused",
    Expired: "expired",
    Stopped: "stopped",
    asyncio.CancelledError: "cancelled",
}


class Scheduler:
    """Runs the jobs of many calls in shared batches. Made, used and closed on one event loop."""

    def __init__(
        self,
        settings: BatchSettings,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        self._batcher = Batcher(settings)
        self._clock = clock
        self._observer = observer
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        self._holds = 0  # a batch that runs, functions between batches: none may start meanwhile
        self._stopped = False
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._turn_due = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> int:
        """Jobs waiting or running."""
        return self._batcher.pending

    async def submit(self, lane: Lane, jobs: Sequence[Job], deadline: float | None = None) -> Done:
        """Run `jobs` as soon as their turn comes, each in whichever batch it fits.

        Args:
            deadline: seconds of the clock after which nobody waits for the answer; None where there is none.

        Raises Full, Expired or Stopped; whatever the lane raises in a batch reaches the calls with a job in it. A
        cancelled call takes back what still waits.
        """
        arrived = self._clock()
        call = _Call(asyncio.get_running_loop().create_future(), [None] * len(jobs), len(jobs))
        try:
            if self._stopped:
                raise Stopped
            if jobs:
                await self._queue(call, lane, jobs, arrived, deadline)
        except BaseException as error:
            if self._observer is not None and type(error) in _REASONS:
                self._observer.left(_REASONS[type(error)])
            raise
        compute_ms = call.compute_s * 1e3
        total_ms = (self._clock() - arrived) * 1e3
        return Done(call.results, max(0.0, total_ms - compute_ms), compute_ms, call.batch_sizes)

    async def between_batches(self, function: Callable[[], R]) -> R:
        """Run `function` on the compute thread while no batch runs; return its result. Raises Stopped.

        Service times are measured anew afterwards: an engine may have been swapped.
        """
        if self._stopped:
            raise Stopped
        self._holds += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, function)
        finally:
            self._holds -= 1
            self._batcher.forget()
            self._turn_soon()

    async def drain(self) -> None:
        """Refuse new calls, finish those accepted."""
        self._stopped = True
        await self._quiet.wait()

    async def close(self) -> None:
        """Refuse new calls, drop those that wait, finish the batch that runs."""
        self._stopped = True
        for entry in self._batcher.clear():
            entry.call.settle(Stopped())
        self._turn()
        await self._quiet.wait()
        await asyncio.to_thread(self._worker.shutdown)

    async def _queue(
        self, call: _Call, lane: Lane, jobs: Sequence[Job], arrived: float, deadline: float | None
    ) -> None:
        self._batcher.add(
            [
                Entry(lane, job.length, call, (at, job.payload), arrived, deadline, job.cost)
                for at, job in enumerate(jobs)
            ]
        )
        self._quiet.clear()
        self._turn_soon()
        try:
            failure = await call.failure
        except asyncio.CancelledError:
            self._batcher.cancel(call)
            self._turn_soon()
            raise
        if failure is not None:
            raise failure

    def _turn_soon(self) -> None:
        """On the loop's next round, so that calls of one round share a batch."""
        if not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock()
        step = self._batcher.next(now, idle=not self._holds)
        for entry in step.expired:
            self._fail(entry.call, Expired())
        if step.batch is not None:
            self._start(step.batch)
        if step.again < math.inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, step.again - now), self._turn)
        if not self._batcher.pending:
            self._quiet.set()

    def _start(self, batch: Batch) -> None:
        self._holds += 1
        running = asyncio.get_running_loop().run_in_executor(self._worker, self._compute, batch)
        running.add_done_callback(partial(self._finish, batch))

    def _compute(self, batch: Batch) -> _Ran:
        """On the worker thread."""
        started = self._clock()
        results: list[Any] = []
        failure: Exception | None = None
        try:
            results = batch.lane.run([entry.payload[1] for entry in batch.entries])
            if len(results) != len(batch.entries):
                raise RuntimeError(f"{batch.lane} gave {len(results)} results for {len(batch.entries)} payloads")
        except Exception as error:
            failure = error
        return _Ran(results, failure, self._clock() - started)

    def _finish(self, batch: Batch, running: asyncio.Future[_Ran]) -> None:
        ran = running.result()
        self._holds -= 1
        self._batcher.done(batch, ran.seconds if ran.failure is None else None)
        for call in {entry.call for entry in batch.entries}:
            call.compute_s += ran.seconds
            call.batch_sizes.append(len(batch.entries))
            if ran.failure is not None:
                self._fail(call, ran.failure)
        self._turn()  # the next batch before these answers: the worker should not wait for them
        if ran.failure is None:
            for entry, result in zip(batch.entries, ran.results, strict=True):
                self._answer(entry, result)
        if self._observer is not None:
            self._observer.batch(batch.lane, len(batch.entries), batch.tokens, batch.padded_tokens, ran.seconds)

    def _answer(self, entry: Entry, result: Any) -> None:
        at, _ = entry.payload
        entry.call.results[at] = result
        entry.call.missing -= 1
        if not entry.call.missing:
            entry.call.settle()

    def _fail(self, call: _Call, failure: Exception) -> None:
        """End a call as a whole: what still waits of it is not worth computing."""
        self._batcher.cancel(call)
        call.settle(failure)
