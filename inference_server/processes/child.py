"""What the processes of a server have in common: they get their configuration from the parent, and end with it."""

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
from inference_server.startup import raise_file_limit
from inference_server.telemetry import logs


@dataclass(frozen=True)
class ChildConfig:
    """What a child process is started with, passed as a line of JSON on its stdin.

    Attributes:
        socket: the Unix socket between frontends and engine process.
        section: its `port` is the one that the frontends share, never 0.
        root, codebooks: as `server.serve` takes them.
    """

    socket: Path
    root: Path
    codebooks: list[str]
    section: ServerSection
    verbose: bool

    def to_json(self) -> bytes:
        section = self.section.model_dump(mode="json")
        fields = {"socket": str(self.socket), "root": str(self.root), "codebooks": self.codebooks, "section": section}
        return json.dumps({**fields, "verbose": self.verbose}).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> ChildConfig:
        fields = json.loads(line)
        section = ServerSection.model_validate(fields["section"])
        return cls(Path(fields["socket"]), Path(fields["root"]), fields["codebooks"], section, fields["verbose"])


def run(main: Callable[[ChildConfig], Coroutine[Any, Any, int]]) -> int:
    """Run a child's `main` with the configuration on stdin; returns the exit code, 2 for mistakes of the user."""
    # Ctrl-C reaches every process of a terminal: the parent decides who ends when.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    config = ChildConfig.from_json(sys.stdin.buffer.readline())
    logs.configure(config.section.log_format, config.verbose)
    raise_file_limit()
    try:
        return asyncio.run(main(config))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


async def stop_event() -> asyncio.Event:
    """An event that is set on SIGTERM, and when the parent is gone: the parent holds the other end of stdin."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)

    class StdinClosed(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            stopping.set()

    await loop.connect_read_pipe(StdinClosed, sys.stdin.buffer)
    return stopping


def report_ready(**fields: object) -> None:
    """Report to the parent, as a line of JSON on stdout, that this process answers."""
    print(json.dumps(fields), flush=True)
