"""One owner of the compute: calls wait in order, the worker thread runs one at a time.

The door is bounded: a call that would wait behind `max_pending` others is turned away at once, so latency never grows
without limit. A call whose client left or whose deadline passed while it waited is dropped before it runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

R = TypeVar("R")


class Full(Exception):
    """The queue holds as many calls as it may."""


class Expired(Exception):
    """The deadline passed before the call's turn came."""


class ComputeQueue:
    def __init__(self, max_pending: int) -> None:
        self.max_pending = max_pending
        self._pending = 0
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")

    async def run(self, work: Callable[[], R], deadline: float | None) -> tuple[R, float]:
        """Run `work` on the compute thread; return its result and the milliseconds it waited.

        Args:
            deadline: `time.monotonic()` seconds after which nobody waits for the answer; None where there is none.

        Raises Full or Expired; whatever `work` raises comes through.
        """
        if self._pending >= self.max_pending:
            raise Full
        asked = time.monotonic()

        def turn() -> tuple[R, float]:
            started = time.monotonic()
            if deadline is not None and started >= deadline:
                raise Expired
            return work(), (started - asked) * 1e3

        self._pending += 1
        future = self._worker.submit(turn)
        # Counted until the worker is done with it: a cancelled call that already runs still occupies the compute.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        return await asyncio.wrap_future(future)

    def _leave(self) -> None:
        self._pending -= 1

    def close(self) -> None:
        """Drop what waits, finish what runs."""
        self._worker.shutdown(wait=True, cancel_futures=True)
