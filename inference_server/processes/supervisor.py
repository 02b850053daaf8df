"""The parent: starts the engine process, then the fronts; starts a front again that ends; ends them all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from genrecall.config.server import ServerSection
from genrecall.errors import UserError
from inference_server.process import Ready
from inference_server.processes.child import Task
from inference_server.telemetry.logs import event

log = logging.getLogger(__name__)
AGAIN_S = 1.0
"""Seconds before a front is started again."""


def supervise(
    root: Path, codebooks: Sequence[str], section: ServerSection, verbose: bool, on_ready: Callable[[Ready], None]
) -> None:
    """As `server.serve`, in `section.processes` fronts and an engine process. Ends with code 1 where that one ends."""
    with tempfile.TemporaryDirectory(prefix="genrecall-") as folder, shared_port(section.host, section.port) as port:
        told = section.model_copy(update={"port": port})
        task = Task(Path(folder) / "engine.sock", root.resolve(), list(codebooks), told, verbose)
        code = asyncio.run(_Server(task).run(on_ready))
    if code:
        raise SystemExit(code)


class _Ended(Exception):
    """A child that the server cannot do without has ended, with this exit code."""

    def __init__(self, code: int) -> None:
        self.code = code


class _Child:
    """A process that was started here."""

    def __init__(self, name: str, task: Task) -> None:
        self._name = name
        self._task = task
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> dict[str, Any]:
        """Returns what it says when it answers. Raises _Ended."""
        command = (sys.executable, "-m", f"inference_server.processes.{self._name}")
        pipe = asyncio.subprocess.PIPE
        self._process = process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(self._task.dumped())
        line = await process.stdout.readline()
        if not line:
            raise _Ended(await process.wait())
        told: dict[str, Any] = json.loads(line)
        return told

    async def ended(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def stop(self, patience_s: float) -> None:
        """Ask it to end, and make it where it does not."""
        if self._process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), patience_s)
        except TimeoutError:
            event(log, logging.ERROR, "killed", process=self._name, patience_s=patience_s)
            self._process.kill()
            await self._process.wait()


class _Server:
    def __init__(self, task: Task) -> None:
        section = task.section
        self._task = task
        self._engine = _Child("engine", task)
        self._fronts = [_Child("front", task) for _ in range(section.processes)]
        self._patience_s = section.drain_s + section.grace_s + 5

    async def run(self, on_ready: Callable[[Ready], None]) -> int:
        """The exit code."""
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._engine.signal, signal.SIGHUP)
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._engine.stop, self._patience_s)
            closing.push_async_callback(self._stop_fronts)
            serving = asyncio.create_task(self._serve(on_ready))
            asked = asyncio.create_task(stopping.wait())
            await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                return await serving
        return 0

    async def _serve(self, on_ready: Callable[[Ready], None]) -> int:
        """Until something ends that should not."""
        try:
            engine = await self._engine.start()
            ended = asyncio.create_task(self._engine.ended())
            await asyncio.gather(*(front.start() for front in self._fronts))
        except _Ended as error:
            return error.code if error.code > 0 else 1
        on_ready(Ready(self._task.section.port, engine["metrics_port"], engine["codebooks"]))
        keeping = [asyncio.create_task(self._keep(front)) for front in self._fronts]
        try:
            code = await ended
        finally:
            for task in keeping:
                task.cancel()
        event(log, logging.ERROR, "the engine process ended", None, code=code, remedy="start the server again")
        return 1

    async def _keep(self, front: _Child) -> None:
        """Start a front again, however often it ends."""
        while True:
            code = await front.ended()
            event(log, logging.ERROR, "a front ended", None, code=code, again_s=AGAIN_S)
            await asyncio.sleep(AGAIN_S)
            with contextlib.suppress(_Ended):
                await front.start()
                event(log, logging.INFO, "a front answers again")

    async def _stop_fronts(self) -> None:
        await asyncio.gather(*(front.stop(self._patience_s) for front in self._fronts))


@contextmanager
def shared_port(host: str, port: int) -> Iterator[int]:
    """Keep a port for the fronts to share, a free one for 0. Raises UserError where somebody else has it."""
    with ExitStack() as closing:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                # As gRPC listens: connections that are closing are no obstacle, whoever listens is.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen()
            kept = closing.enter_context(socket.socket(family, kind, protocol))
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            kept.bind(address)
            # Bound, not listening: it gets no connection, and from now on whoever does not share is refused.
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port} ({error}): choose another server.port or stop who uses it"
            ) from None
        yield kept.getsockname()[1]
