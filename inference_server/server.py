"""Starting and stopping: port, TLS, health, reflection, signals."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from genrecall.config.server import ServerSection
from genrecall.errors import UserError
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import add_GenerativeRecallServicer_to_server
from inference_server import slots
from inference_server.service import GenerativeRecall

log = logging.getLogger(__name__)
SERVICE = pb.DESCRIPTOR.services_by_name["GenerativeRecall"].full_name
SERVING = health_pb2.HealthCheckResponse.SERVING


def serve(
    root: Path, codebooks: Sequence[str], section: ServerSection, on_ready: Callable[[int, slots.Slots], None]
) -> None:
    """Load bundles, listen, and run until SIGTERM or SIGINT; then let the calls in flight finish and return.

    Args:
        root: the folder of bundles.
        codebooks: those to hold, the first answering calls that name none; empty: the newest `section.hold`.
        on_ready: called with the port and the bundles once calls are answered.
    """
    if section.threads:
        import torch

        torch.set_num_threads(section.threads)
    held = slots.load(root, codebooks, section.hold, section.device)
    asyncio.run(_run(held, section, on_ready))


async def _run(held: slots.Slots, section: ServerSection, on_ready: Callable[[int, slots.Slots], None]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    running = await start(held, section)
    on_ready(running.port, held)
    await stopping.wait()
    log.info("stopping grace_s=%.1f", section.grace_s)
    await stop(running)


@dataclass(frozen=True)
class Running:
    """A server that answers on `port`."""

    port: int
    section: ServerSection
    server: grpc.aio.Server
    service: GenerativeRecall
    checks: health.aio.HealthServicer


async def start(held: slots.Slots, section: ServerSection) -> Running:
    """Listen and answer; raises UserError when the address cannot be had or the TLS files cannot be read."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", section.max_request_bytes),
            ("grpc.so_reuseport", 0),  # a second server on the same port is an error, not a silent sharer
        ]
    )
    service = GenerativeRecall(held, section)
    add_GenerativeRecallServicer_to_server(service, server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if section.reflection:
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = _listen(server, section)
    await server.start()
    for name in ("", SERVICE):
        await checks.set(name, SERVING)
    return Running(port, section, server, service, checks)


async def stop(running: Running) -> None:
    """Refuse new calls, let those in flight finish within `section.grace_s`, then end."""
    await running.checks.enter_graceful_shutdown()  # load balancers look away first
    await running.server.stop(running.section.grace_s)
    running.service.queue.close()


def _listen(server: grpc.aio.Server, section: ServerSection) -> int:
    address = f"{section.host}:{section.port}"
    try:
        if section.tls_cert and section.tls_key:
            pair = (section.tls_key.read_bytes(), section.tls_cert.read_bytes())
            return server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        if section.tls_cert or section.tls_key:
            raise UserError("server.tls_cert and server.tls_key belong together: give both or neither")
        if not _loopback(section.host):
            log.warning("plaintext host=%s remedy=set server.tls_cert and server.tls_key", section.host)
        return server.add_insecure_port(address)
    except OSError as error:
        raise UserError(f"server.tls_cert or server.tls_key cannot be read: {error}") from None
    except RuntimeError as error:
        raise UserError(
            f"cannot listen on {address} ({error}): choose another server.port or stop who uses it"
        ) from None


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
