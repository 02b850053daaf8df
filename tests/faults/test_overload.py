"""More calls than can be computed, callers that leave, deadlines too short."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub
from inference_server.admission.overload import MIN_PUSHBACK_MS
from tests.faults.conftest import MAX_PENDING, Proxied
from tests.faults.load import CANCELLED, GONE, HEAVY, LATE, OK, REFUSED, codes, connected, fill, send, until
from tests.faults.process import LIGHT, Server
from tests.faults.toxiproxy import Proxy

BURST = 150
MORE_MB = 200  # what 300 calls may add to the memory of a process of 800 MB


def test_a_full_queue_refuses_at_once_answers_what_it_accepted_and_stays_small(server: Server) -> None:
    with connected(server.endpoint) as stub:
        codes(send(stub, MAX_PENDING, HEAVY))
        memory = server.memory_mb
        for _ in range(2):
            calls = send(stub, BURST, HEAVY)
            seen = codes(calls)
            assert seen[OK] >= MAX_PENDING
            assert seen[OK] + seen[REFUSED] == BURST
            assert seen[REFUSED] > BURST / 2
            refused = [dict(call.trailing_metadata()) for call in calls if call.code() is REFUSED]
            assert min(int(metadata["grpc-retry-pushback-ms"]) for metadata in refused) >= MIN_PUSHBACK_MS
            timings = [call.result().timings for call in calls if call.code() is OK]
            slowest_ms = max(t.encode_ms + t.search_ms for t in timings)
            assert max(t.queue_ms for t in timings) <= 2 * (MAX_PENDING + 1) * slowest_ms
        assert server.memory_mb - memory < MORE_MB


Calls = list[Any]
Leave = Callable[[Calls, ExitStack, Proxy], None]


def _cancel(calls: Calls, connection: ExitStack, proxy: Proxy) -> None:
    for call in calls:
        call.cancel()


def _close(calls: Calls, connection: ExitStack, proxy: Proxy) -> None:
    connection.close()


def _toxic(kind: str, **attributes: int) -> Leave:
    return lambda calls, connection, proxy: proxy.poison(kind, "downstream", **attributes)


@pytest.mark.parametrize(
    ("leave", "seen_by_the_client"),
    [
        pytest.param(_cancel, CANCELLED, id="cancelled"),
        pytest.param(_close, CANCELLED, id="closed"),
        pytest.param(_toxic("reset_peer", timeout=0), GONE, id="reset"),
        pytest.param(_toxic("limit_data", bytes=10), GONE, id="cut within a reply"),
        pytest.param(_toxic("timeout", timeout=0), LATE, id="silent"),
    ],
)
def test_the_queue_empties_when_a_client_leaves(
    server: Server, proxied: Proxied, leave: Leave, seen_by_the_client: grpc.StatusCode
) -> None:
    with proxied(server) as proxy, ExitStack() as connection, connected(server.endpoint) as other:
        calls = fill(connection.enter_context(connected(proxy.endpoint)), MAX_PENDING, timeout_s=2.0)
        leave(calls, connection, proxy)
        seen = codes(calls)
        assert seen_by_the_client in seen
        assert set(seen) <= {seen_by_the_client, OK, REFUSED, LATE}
        _wait_for_room(other)


@pytest.mark.parametrize("timeout_s", [-1, 0, 1e-6, 1e-3])
def test_a_deadline_that_is_past_or_too_short_is_exceeded_and_harms_nobody(server: Server, timeout_s: float) -> None:
    with connected(server.endpoint) as hasty, connected(server.endpoint) as patient:
        seen = codes(send(hasty, 50, LIGHT, timeout_s))
        # gRPC counts in whole milliseconds: a server may be the first to give up, and its client calls that CANCELLED.
        assert set(seen) <= ({LATE, CANCELLED, OK, REFUSED} if timeout_s > 0 else {LATE})
        _wait_for_room(patient)


def _wait_for_room(stub: GenerativeRecallStub) -> None:
    """Until the queue takes as many calls at once as it may hold; each is answered or refused."""
    assert set(until(stub, lambda seen: seen[OK] == MAX_PENDING, MAX_PENDING)) <= {OK, REFUSED}
