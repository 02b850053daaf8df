"""Starting and stopping: port, TLS, health, reflection, metrics, signals."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from genrecall.config.server import ServerSection
from genrecall.errors import UserError
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import add_GenerativeRecallServicer_to_server
from inference_server.admission.interceptor import Door
from inference_server.batching.compute import LocalCompute
from inference_server.bundles import loaded as slots
from inference_server.bundles.reload import Reloader
from inference_server.health import Health
from inference_server.process import Ready, raise_file_limit
from inference_server.service import GenerativeRecall
from inference_server.telemetry.logs import event
from inference_server.telemetry.metrics import Metrics, exposed
from inference_server.tls import credentials

log = logging.getLogger(__name__)
SERVICE = pb.DESCRIPTOR.services_by_name["GenerativeRecall"].full_name
SERVING = health_pb2.HealthCheckResponse.SERVING
OPTIONS = (
    # Idle connections cost a ping in two minutes; one whose client is gone is closed 20 s after.
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    # Clients may test their connections as often as every 10 s, calls under way or not.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Calls under way on one connection: further ones wait at the client, so that one cannot fill the memory.
    ("grpc.max_concurrent_streams", 1024),
)


def serve(root: Path, codebooks: Sequence[str], section: ServerSection, on_ready: Callable[[Ready], None]) -> None:
    """Load bundles, listen, and run until SIGTERM or SIGINT; then let the calls in flight finish and return.

    Args:
        root: the folder of bundles. SIGHUP looks there for new ones, and so does the server by itself.
        codebooks: those to hold, the first answering calls that name none; empty: the newest `section.hold`.
        on_ready: called once calls are answered.
    """
    raise_file_limit()
    if section.threads:
        import torch

        torch.set_num_threads(section.threads)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # asked to look for bundles while loading them: it does
    held = slots.load(root, codebooks, section)
    asyncio.run(_run(root, codebooks, held, section, on_ready))


async def _run(
    root: Path,
    codebooks: Sequence[str],
    held: slots.Slots,
    section: ServerSection,
    on_ready: Callable[[Ready], None],
) -> None:
    stopping, look = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, look.set)
    compute = LocalCompute(held, section, Metrics())
    running = await answer(GenerativeRecall(section, compute, compute.metrics), section.metrics_port)
    watching = asyncio.create_task(Reloader(root, codebooks, compute).watch(look))
    on_ready(Ready(running.port, running.metrics_port, held.names))
    await stopping.wait()
    watching.cancel()
    await stop(running)


@dataclass(frozen=True)
class Running:
    """A server that answers on `port`, and shows its metrics on `metrics_port` (None: nowhere)."""

    port: int
    metrics_port: int | None
    section: ServerSection
    service: GenerativeRecall
    checks: Health
    closing: AsyncExitStack


async def start(held: slots.Slots, section: ServerSection) -> Running:
    """Listen and answer; raises UserError when an address cannot be had or the TLS files cannot be used."""
    compute = LocalCompute(held, section, Metrics())
    return await answer(GenerativeRecall(section, compute, compute.metrics), section.metrics_port)


async def answer(service: GenerativeRecall, metrics_port: int | None, share_port: bool = False) -> Running:
    """Put `service` behind gRPC; raises as `start` does.

    Args:
        metrics_port: where this process shows the metrics that it counts; None: nowhere.
        share_port: whether other processes may listen on the port too: connections are spread over them.
    """
    section, door = service.section, Door()
    options = [
        ("grpc.max_receive_message_length", section.max_request_bytes),
        ("grpc.so_reuseport", int(share_port)),  # otherwise a second server on the port is an error
        *OPTIONS,
    ]
    server = grpc.aio.server(interceptors=[door], options=options)
    add_GenerativeRecallServicer_to_server(service, server)
    checks = Health()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if section.reflection:
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    async with AsyncExitStack() as closing:
        shown = exposed(service.metrics.registry, section.metrics_host, metrics_port)
        metrics_port = closing.enter_context(shown)
        if service.spans:
            closing.callback(service.spans.close)
        closing.push_async_callback(service.compute.close)
        closing.push_async_callback(server.stop, None)  # at once: what comes in between would end as CANCELLED
        closing.push_async_callback(door.close, section.grace_s)
        closing.callback(checks.end)
        port = _listen(server, section)
        await server.start()
        for name in ("", SERVICE):
            await checks.set(name, SERVING)
        return Running(port, metrics_port, section, service, checks, closing.pop_all())


async def stop(running: Running) -> None:
    """Say NOT_SERVING, take calls for `section.drain_s` more, then refuse new ones and let those in flight finish.

    What has not finished after `section.grace_s` is cancelled.
    """
    section = running.section
    event(log, logging.INFO, "stopping", drain_s=section.drain_s, grace_s=section.grace_s)
    await running.checks.enter_graceful_shutdown()
    await asyncio.sleep(section.drain_s)
    await running.closing.aclose()
    event(log, logging.INFO, "stopped")


def _listen(server: grpc.aio.Server, section: ServerSection) -> int:
    address = f"{section.host}:{section.port}"
    secure = credentials(section)
    try:
        if secure:
            return server.add_secure_port(address, secure)
        if not _loopback(section.host):
            event(log, logging.WARNING, "plaintext", host=section.host, remedy="set server.tls_cert and server.tls_key")
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise UserError(
            f"cannot listen on {address} ({error}): choose another server.port or stop who uses it"
        ) from None


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
