"""What every process of a server does before it serves, and what a server reports once it answers."""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class ReadyInfo:
    """A server that answers. The first of the codebooks answers calls that name none."""

    port: int
    metrics_port: int | None
    codebooks: list[str]


def raise_file_limit() -> None:
    """Allow as many open files, hence connections, as the hard limit does: shells start processes with a soft 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS calls it unlimited, and takes less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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
