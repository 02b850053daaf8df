"""What the processes of a server have in common: they are told what to do by their parent, and end with it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrecall.config.server import ServerSection
from genrecall.errors import UserError
from inference_server.process import raise_file_limit
from inference_server.telemetry import logs


@dataclass(frozen=True)
class Task:
    """What a process is to do.

    Attributes:
        socket: between fronts and engine process.
        section: `port` is the one to share, 0 nowhere.
        root, codebooks: as `server.serve` takes them.
    """

    socket: Path
    root: Path
    codebooks: list[str]
    section: ServerSection
    verbose: bool

    def dumped(self) -> bytes:
        """A line of JSON."""
        section = self.section.model_dump(mode="json")
        told = {"socket": str(self.socket), "root": str(self.root), "codebooks": self.codebooks, "section": section}
        return json.dumps({**told, "verbose": self.verbose}).encode() + b"\n"

    @classmethod
    def loaded(cls, line: bytes) -> Task:
        told = json.loads(line)
        section = ServerSection.model_validate(told["section"])
        return cls(Path(told["socket"]), Path(told["root"]), told["codebooks"], section, told["verbose"])


def run(work: Callable[[Task], Coroutine[Any, Any, int]]) -> int:
    """Do the task that stdin brings; an exit code, 2 for mistakes of the user."""
    # Ctrl-C reaches every process of a terminal: the parent decides who ends when.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    task = Task.loaded(sys.stdin.buffer.readline())
    logs.configure(task.section.log_format, task.verbose)
    raise_file_limit()
    try:
        return asyncio.run(work(task))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


async def asked_to_stop() -> asyncio.Event:
    """Set on SIGTERM, and when the parent is gone: it holds the other end of stdin."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)

    class Leash(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            stopping.set()

    await loop.connect_read_pipe(Leash, sys.stdin.buffer)
    return stopping


def tell(**ready: object) -> None:
    """Say to the parent that this process answers."""
    print(json.dumps(ready), flush=True)
