"""The process is killed, terminated, frozen; its clock jumps."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from genrecall.client import Client, ServerError
from tests.faults.conftest import MAX_PENDING, Proxied, StartServer
from tests.faults.load import (
    GONE,
    HEAVY,
    LATE,
    NARROW,
    OK,
    REFUSED,
    Load,
    codes,
    connected,
    fill,
    send,
)
from tests.faults.process import LIGHT, PATIENCE_S, Server, steady_port


def test_kill_9_under_load_fails_the_calls_in_flight_and_the_next_process_takes_over(start_server: StartServer) -> None:
    port = f"server.port={steady_port()}"
    server = start_server(port)
    with Load(server.endpoint) as load, connected(server.endpoint) as stub:
        load.wait_for(OK, more=5)
        in_flight = send(stub, MAX_PENDING, HEAVY)
        server.signal(signal.SIGKILL)
        assert GONE in codes(in_flight)
        load.wait_for(GONE)
        after = start_server(port)
        assert len(after.ask()) == 15
        load.wait_for(OK, more=5)  # the same client, over the connection that it makes anew
    assert set(load.codes) <= {OK, GONE, REFUSED}


def test_nobody_notices_that_one_of_two_replicas_is_killed(start_server: StartServer) -> None:
    port, metrics = steady_port(), ("server.metrics_port=0",)
    killed, other = start_server(f"server.port={port}", *metrics), start_server(*metrics)

    def answered(server: Server) -> float:
        return server.metric('genrecall_calls_total{code="OK",method="Generate"}')

    both = f"ipv4:{killed.endpoint},{other.endpoint}"
    failed: list[Exception] = []

    def call(client: Client) -> None:
        try:
            client.generate(["red shoes"], k=5)
        except ServerError as error:
            failed.append(error)

    with Client(both, timeout_s=PATIENCE_S) as client, ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: call(client), range(40)):
            pass
        assert min(answered(killed), answered(other)) > 0
        calls = [pool.submit(call, client) for _ in range(200)]
        killed.signal(signal.SIGKILL)
        for one in calls:
            one.result()
        again = start_server(f"server.port={port}", *metrics)
        end = time.monotonic() + PATIENCE_S
        while not answered(again):
            assert time.monotonic() < end
            call(client)
    assert not failed


def test_sigterm_under_load_answers_every_accepted_call_and_refuses_new_ones(start_server: StartServer) -> None:
    server = start_server()
    with connected(server.endpoint) as stub:
        calls = fill(stub, MAX_PENDING)
        with Load(server.endpoint, rate=200) as load:
            load.wait_for(OK, REFUSED)
            server.signal(signal.SIGTERM)
            load.wait_for(GONE)
        seen = codes(calls)
    assert seen[OK] >= MAX_PENDING
    assert set(seen) | set(load.codes) <= {OK, REFUSED, GONE}
    assert server.process.wait(PATIENCE_S) == 0
    assert "Traceback" not in server.stderr


def test_a_client_that_does_not_read_cannot_keep_a_server_from_stopping(
    start_server: StartServer, proxied: Proxied
) -> None:
    server = start_server("server.shutdown_grace_s=0.5")
    with proxied(server) as proxy, connected(proxy.endpoint, *NARROW) as stub:
        stub.Generate(LIGHT, timeout=PATIENCE_S)
        proxy.poison("bandwidth", "downstream", rate=0)
        stuck = send(stub, 4, HEAVY)
        server.ask()  # those before it have been computed meanwhile
        server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
        proxy.heal()
        assert set(codes(stuck)) == {GONE}


def test_a_frozen_server_costs_a_client_its_deadline_and_no_more(server: Server) -> None:
    with connected(server.endpoint) as stub:
        stub.Generate(LIGHT, timeout=PATIENCE_S)
        server.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert set(codes(send(stub, 20, LIGHT, 0.3))) == {LATE}
            assert time.monotonic() - began < PATIENCE_S / 2
        finally:
            server.signal(signal.SIGCONT)
        stub.Generate(LIGHT, timeout=PATIENCE_S)


# Python's clocks but not gRPC's: gRPC takes the remaining time as the difference of two readings of the system's clock,
# and would see one of them jump without the other here.
JUMPING = """\
import time, types
from grpc._cython import cygrpc
cygrpc.time = types.SimpleNamespace(**vars(time))
real, real_ns = time.time, time.time_ns
def jump():
    with open({file!r}) as file:
        return int(file.read() or 0)
time.time = lambda: real() + jump()
time.time_ns = lambda: real_ns() + jump() * 10**9
"""


def test_a_clock_that_jumps_changes_no_deadline_and_no_turn(start_server: StartServer, tmp_path: Path) -> None:
    jump = tmp_path / "jump"
    jump.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(JUMPING.format(file=str(jump)))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    server = start_server(env={"PYTHONPATH": path})
    server.ask()
    years = {_year(0)}
    with connected(server.endpoint) as stub:
        for day in (400, -400):
            began = time.monotonic()
            waiting = fill(stub, MAX_PENDING)
            _replace(jump, day * 86_400)
            seen = codes(waiting)
            assert seen[OK] >= MAX_PENDING
            assert set(seen) == {OK, REFUSED}
            elapsed_ms = (time.monotonic() - began) * 1e3
            timings = [call.result().timings for call in waiting if call.code() is OK]
            assert all(0 <= t.queue_ms <= t.total_ms <= elapsed_ms for t in timings)
            assert set(codes(send(stub, MAX_PENDING, LIGHT))) == {OK}
            years.add(_year(day))
    assert set(re.findall(r"\b2\d{3}(?=-)", server.stderr)) == years  # the log tells that it did jump


def _year(day: int) -> str:
    """The year of the day so far from today."""
    return str(time.localtime(time.time() + day * 86_400).tm_year)


def _replace(file: Path, seconds: int) -> None:
    """In one step: the server reads it at any moment."""
    new = file.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(file)
