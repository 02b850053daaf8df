"""The parent: starts the engine process, then the frontends; restarts a frontend that ends; stops them all."""

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
from inference_server.processes.child import ChildConfig
from inference_server.startup import ReadyInfo
from inference_server.telemetry.logs import event

log = logging.getLogger(__name__)
RESTART_DELAY_S = 1.0
"""Seconds before a frontend that ended is started again."""


def supervise(
    root: Path, codebooks: Sequence[str], section: ServerSection, verbose: bool, on_ready: Callable[[ReadyInfo], None]
) -> None:
    """As `server.serve`, with `section.processes` frontends and an engine process; exit code 1 if the latter ends."""
    with tempfile.TemporaryDirectory(prefix="genrecall-") as folder, shared_port(section.host, section.port) as port:
        section = section.model_copy(update={"port": port})
        config = ChildConfig(Path(folder) / "engine.sock", root.resolve(), list(codebooks), section, verbose)
        code = asyncio.run(_Supervisor(config).run(on_ready))
    if code:
        raise SystemExit(code)


class _ChildExited(Exception):
    """A child ended before it was ready, with this exit code."""

    def __init__(self, code: int) -> None:
        self.code = code


class _Child:
    """A process started by this one."""

    def __init__(self, name: str, config: ChildConfig) -> None:
        self._name = name
        self._config = config
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> dict[str, Any]:
        """Returns what it reports once it answers (`report_ready`). Raises _ChildExited."""
        command = (sys.executable, "-m", f"inference_server.processes.{self._name}")
        pipe = asyncio.subprocess.PIPE
        self._process = process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(self._config.to_json())
        line = await process.stdout.readline()
        if not line:
            raise _ChildExited(await process.wait())
        fields: dict[str, Any] = json.loads(line)
        return fields

    async def exit_code(self) -> int:
        """Waits until it ends."""
        assert self._process is not None
        return await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL where it has not ended after `timeout_s`."""
        if self._process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            event(log, logging.ERROR, "killed", process=self._name, timeout_s=timeout_s)
            self._process.kill()
            await self._process.wait()


class _Supervisor:
    def __init__(self, config: ChildConfig) -> None:
        section = config.section
        self._config = config
        self._engine = _Child("engine", config)
        self._frontends = [_Child("frontend", config) for _ in range(section.processes)]
        self._stop_timeout_s = section.shutdown_delay_s + section.shutdown_grace_s + 5

    async def run(self, on_ready: Callable[[ReadyInfo], None]) -> int:
        """Returns the exit code."""
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._engine.signal, signal.SIGHUP)
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._engine.stop, self._stop_timeout_s)
            closing.push_async_callback(self._stop_frontends)
            serving = asyncio.create_task(self._serve(on_ready))
            stop_requested = asyncio.create_task(stopping.wait())
            await asyncio.wait({serving, stop_requested}, return_when=asyncio.FIRST_COMPLETED)
            stop_requested.cancel()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                return await serving
        return 0

    async def _serve(self, on_ready: Callable[[ReadyInfo], None]) -> int:
        """Start the children; returns the exit code once one ends that the server cannot do without."""
        try:
            ready = await self._engine.start()
            engine_exit = asyncio.create_task(self._engine.exit_code())
            await asyncio.gather(*(frontend.start() for frontend in self._frontends))
        except _ChildExited as error:
            return error.code if error.code > 0 else 1
        on_ready(ReadyInfo(self._config.section.port, ready["metrics_port"], ready["codebooks"]))
        restarting = [asyncio.create_task(self._keep_running(frontend)) for frontend in self._frontends]
        try:
            code = await engine_exit
        finally:
            for task in restarting:
                task.cancel()
        event(log, logging.ERROR, "engine process exited", None, code=code, remedy="start the server again")
        return 1

    async def _keep_running(self, frontend: _Child) -> None:
        """Restart a frontend, however often it ends."""
        while True:
            code = await frontend.exit_code()
            event(log, logging.ERROR, "frontend exited", None, code=code, restart_delay_s=RESTART_DELAY_S)
            await asyncio.sleep(RESTART_DELAY_S)
            with contextlib.suppress(_ChildExited):
                await frontend.start()
                event(log, logging.INFO, "frontend restarted")

    async def _stop_frontends(self) -> None:
        await asyncio.gather(*(frontend.stop(self._stop_timeout_s) for frontend in self._frontends))


@contextmanager
def shared_port(host: str, port: int) -> Iterator[int]:
    """Reserve a port for the frontends to share, a free one for 0. Raises UserError where it is in use."""
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
