"""Retries against a real server that fails as scripted."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from genrecall.client import Client, Retry, ServerError
from tests.client.scripted import Cable, Scripted, serving

UNAVAILABLE, FULL = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
QUICK = Retry(initial_backoff_s=0.01)


def test_a_call_that_fails_four_times_is_answered_at_the_fifth(connect):
    server = Scripted(UNAVAILABLE, UNAVAILABLE, (FULL, 1), UNAVAILABLE)
    with serving(server) as port:
        assert connect(port, retry=QUICK).generate(["ab"]).codes[0][0, 0] == 2
    assert len(server.requests) == 5


def test_attempts_are_bounded_and_the_error_counts_them(connect):
    server = Scripted(*[UNAVAILABLE] * 9)
    with (
        serving(server) as port,
        pytest.raises(ServerError, match=r"as scripted; 3 attempts.*genrecall serve") as caught,
    ):
        connect(port, retry=Retry(max_attempts=3, initial_backoff_s=0.01)).describe()
    assert caught.value.code == UNAVAILABLE
    assert len(server.requests) == 3


def test_a_full_server_is_asked_again_no_sooner_than_it_says(connect):
    server = Scripted((FULL, 300), (UNAVAILABLE, 200))
    with serving(server) as port:
        connect(port, retry=QUICK).generate(["a"])
    first, second, third = server.arrived
    assert second - first >= 0.3
    assert third - second >= 0.2


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ((FULL, -1), "is full"),
        ((FULL, "soon"), "is full"),
        ((UNAVAILABLE, -1), "no inference server answers"),
        (FULL, "too large"),  # no pushback: it was not for want of capacity
        (grpc.StatusCode.INVALID_ARGUMENT, "^as scripted$"),
        (grpc.StatusCode.FAILED_PRECONDITION, "^as scripted$"),
        (grpc.StatusCode.UNIMPLEMENTED, "does not offer this call"),
        (grpc.StatusCode.INTERNAL, "failed .INTERNAL: as scripted.: its log"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "did not answer within 10 s: raise timeout_s"),
    ],
)
def test_what_would_fail_again_is_sent_once(connect, failure, message):
    server = Scripted(failure)
    with serving(server) as port, pytest.raises(ServerError, match=message) as caught:
        connect(port, retry=QUICK).score("a", [[0, 0, 0]], codebook="v1")
    assert caught.value.code == (failure[0] if isinstance(failure, tuple) else failure)
    assert len(server.requests) == 1


@pytest.mark.parametrize("size", [5_000, 600_000])
def test_a_request_too_large_is_sent_once(connect, size):
    message = r"too large .*SERVER: Received.*max_request_bytes"
    with serving(Scripted(max_request_bytes=4096)) as port, pytest.raises(ServerError, match=message) as caught:
        connect(port, retry=QUICK).generate(["x" * size])
    assert "attempts" not in str(caught.value)
    assert caught.value.code == FULL


def test_attempts_share_one_deadline(connect):
    server = Scripted(*[(UNAVAILABLE, 150)] * 9)
    with serving(server) as port, pytest.raises(ServerError) as caught:
        connect(port, timeout_s=0.8, retry=Retry(max_attempts=99, initial_backoff_s=0.01)).describe()
    assert caught.value.code == UNAVAILABLE  # what failed, not that time ran out
    assert 2 <= len(server.requests) <= 5
    assert all(later <= earlier - 0.14 for earlier, later in zip(server.left, server.left[1:], strict=False))
    assert server.left[0] <= 0.81


def test_a_wait_beyond_the_deadline_is_not_begun(connect):
    with serving(Scripted((FULL, 60_000))) as port:
        started = time.monotonic()
        with pytest.raises(ServerError, match="is full"):
            connect(port, timeout_s=30).describe()
        assert time.monotonic() - started < 10


def test_a_slow_server_and_the_parts_of_a_call_end_at_the_same_deadline(connect):
    server = Scripted(max_queries=1, takes_s=0.2)
    with serving(server) as port:
        started = time.monotonic()
        with pytest.raises(ServerError, match=r"did not answer within 0\.7 s") as caught:
            connect(port, timeout_s=0.7).generate(["a"] * 20)
        assert time.monotonic() - started < 3  # all twenty take four
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(server.requests) <= 4


def test_a_call_may_have_a_timeout_of_its_own(connect):
    with serving(Scripted(takes_s=0.4)) as port:
        client = connect(port)
        with pytest.raises(ServerError, match=r"did not answer within 0\.1 s"):
            client.generate(["a"], timeout_s=0.1)
        assert client.generate(["a"]).codebook == "v1"


def test_a_server_started_again_is_found_by_the_client_of_before(connect):
    with serving(Scripted(codebook="v1")) as port:
        client = connect(port, retry=Retry(max_attempts=20, initial_backoff_s=0.1, max_backoff_s=0.2))
        assert client.generate(["a"]).codebook == "v1"
    with pytest.raises(ServerError, match="no inference server answers"):
        connect(port, retry=Retry(max_attempts=2)).describe()
    with serving(Scripted(codebook="v2"), port):
        assert client.generate(["a"]).codebook == "v2"


def test_a_call_made_while_the_server_is_away_waits_for_it(connect):
    with serving(Scripted()) as port:
        client = connect(port, retry=Retry(max_attempts=20, max_backoff_s=0.4))
        client.describe()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.generate, ["ab"])
        time.sleep(0.5)
        with serving(Scripted(), port):
            assert answer.result(10).codes[0][0, 0] == 2


def test_a_connection_that_died_without_a_word_is_noticed_and_the_call_retried(connect):
    with serving(Scripted()) as port, Cable(port) as cable:
        client = connect(cable.port, keepalive_s=0.3)
        client.describe()
        cable.cut()
        assert client.generate(["ab"]).codes[0][0, 0] == 2


class Failed(grpc.RpcError):
    def __init__(self, code, *metadata):
        self.code, self.trailing_metadata = lambda: code, lambda: metadata


def test_waits_are_spread_from_nothing_to_a_bound_that_doubles_and_ends():
    retry = Retry(max_attempts=100, initial_backoff_s=0.1, max_backoff_s=2)
    for attempt, bound in ((1, 0.1), (2, 0.2), (3, 0.4), (50, 2)):
        waits = [retry.wait_s(Failed(UNAVAILABLE), attempt) for _ in range(300)]
        assert 0 <= min(waits) < 0.1 * bound
        assert 0.9 * bound < max(waits) <= bound
    pushed = [retry.wait_s(Failed(FULL, ("grpc-retry-pushback-ms", "500")), 1) for _ in range(300)]
    assert 0.5 <= min(pushed) < 0.51
    assert 0.59 < max(pushed) <= 0.6


def test_retries_of_all_threads_stay_within_the_budget():
    server = Scripted(*[UNAVAILABLE] * 1000)
    retry = Retry(max_attempts=5, initial_backoff_s=0.001, budget=7)

    def ask(_):
        with pytest.raises(ServerError):
            client.describe()

    with serving(server) as port, Client(f"127.0.0.1:{port}", retry=retry) as client, ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(30)))
        assert len(server.requests) == 30 + 7
        server.failures.clear()
        for _ in range(20):  # twenty answers earn two retries
            client.describe()
        server.failures[:] = [UNAVAILABLE] * 1000
        server.requests.clear()
        list(pool.map(ask, range(10)))
        assert len(server.requests) == 10 + 2
