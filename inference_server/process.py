"""What a process of a server does first, and what it tells when it answers."""

from __future__ import annotations

import resource
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Ready:
    """What is told of a server that answers. The first of the codebooks answers calls that name none."""

    port: int
    metrics_port: int | None
    codebooks: list[str]


def raise_file_limit() -> None:
    """A connection is a file: as many as the system allows, where shells start processes with 1024 for old programs."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS calls it unlimited, and takes less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
