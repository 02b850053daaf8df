"""What a server does around serving, and what it reports once it answers."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from inference_server.batching.executor import Executor
from inference_server.telemetry.logs import event

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadyInfo:
    """A server that answers. The first of the codebooks answers calls that name none."""

    port: int
    http_port: int | None
    metrics_port: int | None
    codebooks: list[str]


def raise_file_limit() -> None:
    """Allow as many open files, hence connections, as the hard limit does: shells start processes with a soft 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS calls it unlimited, and takes less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def watch(executor: Executor, reloading: Coroutine[Any, Any, None], stopping: asyncio.Event) -> None:
    """Reload bundles and test engines until the process is to stop, or can compute no more (`executor.broken`)."""
    tasks = [asyncio.create_task(reloading), asyncio.create_task(executor.watch_engines())]
    await first_of(stopping, executor.broken)
    for task in tasks:
        task.cancel()
    if executor.broken.is_set():
        event(log, logging.ERROR, "broken", reason=executor.reason, remedy="start the server again")


def leave_a_thread_that_hangs() -> NoReturn:
    """End the process with an error; an orderly end would wait for the thread."""
    logging.shutdown()
    os._exit(1)


async def first_of(*events: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def set_torch_threads(threads: int) -> None:
    """CPU threads of torch in this process; 0: as many as it takes by itself."""
    if threads:
        import torch

        torch.set_num_threads(threads)
