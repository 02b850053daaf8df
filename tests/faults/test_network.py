"""Slow connections, a thousand connections, bytes on the port that are no gRPC."""

from __future__ import annotations

import asyncio
import random
import resource
import socket
from collections.abc import Iterator

import grpc
import pytest

from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub
from tests.faults.conftest import MAX_PENDING, Proxied
from tests.faults.load import GONE, HEAVY, LATE, NARROW, OK, codes, connected, send
from tests.faults.process import LIGHT, OPTIONS, PATIENCE_S, Server
from tests.faults.toxiproxy import Stream

CONNECTIONS = 1000


@pytest.mark.parametrize(
    ("toxic", "stream", "attributes"),
    [
        ("bandwidth", "downstream", {"rate": 1}),
        ("bandwidth", "upstream", {"rate": 0}),
        ("latency", "downstream", {"latency": 600_000}),
        ("slicer", "downstream", {"average_size": 10, "size_variation": 0, "delay": 100_000}),
        ("slow_close", "downstream", {"delay": 600_000}),
    ],
)
def test_a_slow_client_slows_nobody_else(
    server: Server, proxied: Proxied, toxic: str, stream: Stream, attributes: dict[str, int]
) -> None:
    with proxied(server) as proxy, connected(proxy.endpoint, *NARROW) as slow, connected(server.endpoint) as other:
        slow.Generate(LIGHT, timeout=PATIENCE_S)
        proxy.poison(toxic, stream, **attributes)
        waiting = send(slow, 4, HEAVY)
        for _ in range(20):
            other.Generate(LIGHT, timeout=PATIENCE_S)
        if toxic != "slow_close":
            assert not any(call.done() for call in waiting)
            proxy.heal()
        assert set(codes(waiting)) == {OK}


@pytest.fixture
def files() -> Iterator[None]:
    """Room for a thousand sockets in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(2 * CONNECTIONS, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("files")
def test_a_thousand_connections_at_the_same_time_are_served(server: Server) -> None:
    async def main() -> int:
        channels = [grpc.aio.insecure_channel(server.endpoint, options=OPTIONS) for _ in range(CONNECTIONS)]
        await asyncio.wait_for(asyncio.gather(*(channel.channel_ready() for channel in channels)), PATIENCE_S)
        turn = asyncio.Semaphore(MAX_PENDING)

        async def ask(channel: grpc.aio.Channel) -> int:
            async with turn:
                return len((await GenerativeRecallStub(channel).Generate(LIGHT, timeout=PATIENCE_S)).results)

        answered = sum(await asyncio.gather(*(ask(channel) for channel in channels[::10])))
        await asyncio.gather(*(channel.close() for channel in channels))
        return answered

    assert asyncio.run(main()) == CONNECTIONS / 10


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process can be set on Linux alone")
def test_out_of_file_descriptors_held_connections_are_served_and_new_ones_when_there_is_room(server: Server) -> None:
    pid = server.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with connected(server.endpoint) as held:
        held.Generate(LIGHT, timeout=PATIENCE_S)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (10, limits[1]))  # the first ten are taken for good
        try:
            with connected(server.endpoint) as turned_away:
                assert set(codes(send(turned_away, 5, LIGHT, 0.5))) <= {LATE, GONE}
                held.Generate(LIGHT, timeout=PATIENCE_S)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="HTTP/1.1"),
        pytest.param(bytes.fromhex("160301020001000101fc0303") + bytes(500), id="TLS"),
        pytest.param(random.Random(1).randbytes(5000), id="random"),
        pytest.param(PREFACE + bytes.fromhex("000000040000000000") + b"\xff" * 100, id="random after the settings"),
        pytest.param(PREFACE + bytes.fromhex("ffffff000000000001"), id="a frame of 16 MiB"),
    ],
)
def test_bytes_that_are_no_grpc_end_their_own_connection_alone(server: Server, garbage: bytes) -> None:
    with connected(server.endpoint) as stub:
        stub.Generate(LIGHT, timeout=PATIENCE_S)
        assert _hung_up(server.port, garbage)
        stub.Generate(LIGHT, timeout=PATIENCE_S)


def test_connections_that_say_half_a_greeting_hold_nobody_up(server: Server) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) for _ in range(50)]
    for connection in silent:
        connection.sendall(PREFACE[:10])
    server.ask()
    for connection in silent:
        connection.close()


def _hung_up(port: int, sent: bytes) -> bool:
    """Whether the server ends the connection; what it says before is its settings."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        try:
            connection.sendall(sent)
            while connection.recv(4096):
                pass
        except ConnectionError:
            pass
    return True
