"""Calls as many clients make them: each on its own connection, sent whether or not earlier ones have come back."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub
from tests.faults.process import LIGHT, OPTIONS, PATIENCE_S

OK = grpc.StatusCode.OK
REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED
GONE = grpc.StatusCode.UNAVAILABLE
LATE = grpc.StatusCode.DEADLINE_EXCEEDED
CANCELLED = grpc.StatusCode.CANCELLED

HEAVY = pb.GenerateRequest(queries=LIGHT.queries, k=1000)  # a tenth of a second of computing, a reply of 7 kB
NARROW = (("grpc.http2.lookahead_bytes", 1 << 12), ("grpc.http2.bdp_probe", 0))  # takes 4 kB of a reply unread


@contextmanager
def connected(endpoint: str, *options: tuple[str, int]) -> Iterator[GenerativeRecallStub]:
    """A connection of its own; closing it cancels what is under way."""
    with grpc.insecure_channel(endpoint, [*OPTIONS, *options]) as channel:
        yield GenerativeRecallStub(channel)


def send(
    stub: GenerativeRecallStub, count: int, request: pb.GenerateRequest, timeout_s: float = PATIENCE_S
) -> list[Any]:
    """`count` calls at once, not waited for."""
    return [stub.Generate.future(request, timeout=timeout_s) for _ in range(count)]


def codes(calls: Iterable[Any]) -> Counter[grpc.StatusCode]:
    """How often each status came, once all have: the deadline of each call bounds the wait."""
    return Counter(call.code() for call in calls)


def fill(stub: GenerativeRecallStub, max_pending: int, timeout_s: float = PATIENCE_S) -> list[Any]:
    """Heavy calls, more than the queue takes; returns when the first is refused, so that `max_pending` are accepted."""
    calls = send(stub, max_pending + 4, HEAVY, timeout_s)
    full = threading.Event()
    for call in calls:
        call.add_done_callback(lambda done: full.set() if done.code() is REFUSED else None)
    assert full.wait(PATIENCE_S), f"the queue never filled: {codes(calls)}"
    return calls


def until(stub: GenerativeRecallStub, wanted: Callable[[Counter[grpc.StatusCode]], bool], count: int = 1) -> Counter:
    """`count` light calls at once, again and again, until what they came to is `wanted`; all that came until then."""
    seen: Counter[grpc.StatusCode] = Counter()
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        round_ = codes(send(stub, count, LIGHT))
        seen += round_
        if wanted(round_):
            return seen
    raise AssertionError(f"never as wanted: {seen}")


class Load:
    """An open loop: `rate` light calls a second from a thread, over one connection, until the block ends."""

    def __init__(self, endpoint: str, rate: float = 20.0, timeout_s: float = PATIENCE_S) -> None:
        self._endpoint, self._pause, self._timeout = endpoint, 1 / rate, timeout_s
        self._calls: list[Any] = []
        self._seen: Counter[grpc.StatusCode] = Counter()
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def wait_for(self, *ends: grpc.StatusCode, more: int = 1) -> None:
        """Until `more` further calls have ended so, in one of these ways."""

        def ended() -> int:
            return sum(self._seen[code] for code in ends)

        with self._changed:
            wanted = ended() + more
            assert self._changed.wait_for(lambda: ended() >= wanted, PATIENCE_S), self._seen

    @property
    def codes(self) -> Counter[grpc.StatusCode]:
        """Of all calls, when the block has ended."""
        return codes(self._calls)

    def _run(self) -> None:
        with connected(self._endpoint) as stub:
            while not self._stopped.wait(self._pause):
                call = stub.Generate.future(LIGHT, timeout=self._timeout)
                call.add_done_callback(self._count)
                self._calls.append(call)
            codes(self._calls)  # before the connection is closed

    def _count(self, call: Any) -> None:
        with self._changed:
            self._seen[call.code()] += 1
            self._changed.notify_all()
