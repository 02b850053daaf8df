"""Starts and stops a server: port, TLS, health, reflection, metrics, signals."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from genrecall.addresses import is_loopback
from genrecall.config.server import ServerSection
from genrecall.errors import UserError
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import add_GenerativeRecallServicer_to_server
from inference_server.admission.interceptor import AdmissionInterceptor
from inference_server.batching.executor import Executor
from inference_server.bundles.loaded import LoadedBundles, load_bundles
from inference_server.bundles.reload import Reloader
from inference_server.health import HealthService
from inference_server.http_door import serve_http
from inference_server.service import GenerativeRecall
from inference_server.startup import ReadyInfo, leave_a_thread_that_hangs, raise_file_limit, set_torch_threads, watch
from inference_server.telemetry.logs import event
from inference_server.telemetry.metrics import Metrics, serve_metrics
from inference_server.tls import credentials

log = logging.getLogger(__name__)
SERVICE = pb.DESCRIPTOR.services_by_name["GenerativeRecall"].full_name
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
SERVING = health_pb2.HealthCheckResponse.SERVING
OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the port is an error
    # Idle connections cost a ping in two minutes; one whose client is gone is closed 20 s later.
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    # Clients may ping as often as every 10 s, with calls in flight or without.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Calls in flight on one connection: further ones wait at the client, so that one client cannot fill the memory.
    ("grpc.max_concurrent_streams", 1024),
    ("grpc.max_connection_age_grace_ms", 60_000),  # for calls in flight and watches of health on an old connection
)


def serve(root: Path, codebooks: Sequence[str], section: ServerSection, on_ready: Callable[[ReadyInfo], None]) -> None:
    """Load bundles, listen, and run until SIGTERM or SIGINT; then let the calls in flight finish and return.

    Ends with exit code 1 where it can compute no more (a lost device, a batch that never ends, engines that fail their
    test), so that whoever runs the server starts it again.

    Args:
        root: the folder of bundles; new ones are served after SIGHUP, or `section.reload_interval_s` at most.
        codebooks: those to serve, the first answering calls that name none; empty: the newest `section.max_loaded`.
        on_ready: called once calls are answered.
    """
    raise_file_limit()
    set_torch_threads(section.threads)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a request to look for bundles, which it does at this moment
    loaded = load_bundles(root, codebooks, section)
    if asyncio.run(_run(root, codebooks, loaded, section, on_ready)):
        sys.exit(1)


async def _run(
    root: Path,
    codebooks: Sequence[str],
    loaded: LoadedBundles,
    section: ServerSection,
    on_ready: Callable[[ReadyInfo], None],
) -> bool:
    """Whether the server broke."""
    stopping, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    executor = Executor(loaded, section, Metrics())
    running = await start_service(GenerativeRecall(section, executor))
    on_ready(ReadyInfo(running.port, running.http_port, running.metrics_port, loaded.names))
    await watch(executor, Reloader(root, codebooks, executor).watch(reload), stopping)
    if executor.stuck:
        await running.health.enter_graceful_shutdown()
        await asyncio.sleep(section.shutdown_delay_s)  # calls that wait get their answer: an error
        leave_a_thread_that_hangs()
    await stop(running)
    return executor.broken.is_set()


@dataclass(frozen=True)
class Running:
    """A server that answers on `port`, over HTTP on `http_port`, with metrics on `metrics_port` (None: nowhere)."""

    port: int
    http_port: int | None
    metrics_port: int | None
    section: ServerSection
    service: GenerativeRecall
    health: HealthService
    closing: AsyncExitStack


async def start_service(service: GenerativeRecall) -> Running:
    """Serve `service` over gRPC; raises UserError when an address is in use or the TLS files cannot be used."""
    section, interceptor = service.section, AdmissionInterceptor()
    options = [
        ("grpc.max_receive_message_length", section.max_request_bytes),
        ("grpc.max_connection_age_ms", round(section.max_connection_age_s * 1e3)),
        *OPTIONS,
    ]
    server = grpc.aio.server(interceptors=[interceptor], options=options)
    add_GenerativeRecallServicer_to_server(service, server)
    health_service = HealthService()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    if section.reflection:
        _enable_reflection(server)
    async with AsyncExitStack() as closing:
        serving_metrics = serve_metrics(service.metrics.registry, section.metrics_host, section.metrics_port)
        metrics_port = closing.enter_context(serving_metrics)
        if service.spans:
            closing.callback(service.spans.close)
        closing.push_async_callback(service.executor.close)
        closing.push_async_callback(server.stop, None)  # at once: calls that arrive in between would end as CANCELLED
        closing.push_async_callback(interceptor.close, section.shutdown_grace_s)
        http_port = await closing.enter_async_context(serve_http(service))
        closing.callback(health_service.end_watches)
        port = _listen(server, section)
        await server.start()
        for name in ("", SERVICE):
            await health_service.set(name, SERVING)
        return Running(port, http_port, metrics_port, section, service, health_service, closing.pop_all())


async def stop(running: Running) -> None:
    """Report NOT_SERVING, accept calls for `shutdown_delay_s` more, then refuse new ones and finish those in flight.

    Calls that have not finished `shutdown_grace_s` later are cancelled.
    """
    delay_s, grace_s = running.section.shutdown_delay_s, running.section.shutdown_grace_s
    event(log, logging.INFO, "stopping", shutdown_delay_s=delay_s, shutdown_grace_s=grace_s)
    await running.health.enter_graceful_shutdown()
    await asyncio.sleep(delay_s)
    await running.closing.aclose()
    event(log, logging.INFO, "stopped")


def _enable_reflection(server: grpc.aio.Server) -> None:
    """Of both versions: they differ in the name of the service alone, and grpcio-reflection offers the older one."""
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME, REFLECTION_V1)
    reflection.enable_server_reflection(names, server)
    method = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(REFLECTION_V1, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handler,))


def _listen(server: grpc.aio.Server, section: ServerSection) -> int:
    address = section.address(section.port)
    secure = credentials(section)
    try:
        if secure:
            return server.add_secure_port(address, secure)
        if not is_loopback(section.host):
            event(log, logging.WARNING, "plaintext", host=section.host, remedy="set server.tls_cert and server.tls_key")
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise UserError(
            f"cannot listen on {address} ({error}): choose another server.port or stop who uses it"
        ) from None
