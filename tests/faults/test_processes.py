"""Several processes behind one port: they answer as one, and any of them may die."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from genrecall import bundle
from genrecall.config.server import ServerSection
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub
from inference_server.bundles.loaded import load_bundles
from inference_server.server import stop
from tests.faults import bundles as made
from tests.faults import process
from tests.faults.conftest import MAX_PENDING, StartServer
from tests.faults.load import GONE, HEAVY, OK, REFUSED, Load, codes, connected, fill, send, until
from tests.faults.process import LIGHT, PATIENCE_S, Server
from tests.inference_server.bundles import train_shop
from tests.inference_server.serving import start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone spreads connections over a port's sockets")
FRONTENDS = 2
SETTINGS = (f"server.max_pending={MAX_PENDING}", "server.shutdown_grace_s=30", "server.max_queries=4")
INVALID, NOT_HELD, LATE = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`shop`, which can encode items, and `v2`, current, whose searches take their time."""
    _, shop = train_shop(tmp_path_factory.mktemp("shop"), "hierarchical", "lm")
    made.publish(shop.path.parent, "v2")
    return shop.path.parent


@pytest.fixture(scope="module")
def many(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("many") / "server.log"
    server = process.start(root, log, f"server.processes={FRONTENDS}", "server.metrics_port=0", *SETTINGS)
    yield server
    everyone = [*children(server, "frontend"), *children(server, "engine")]
    server.end()
    wait_for(lambda: not any(alive(pid) for pid in everyone))  # none outlives the parent, however that ends


def children(server: Server, name: str) -> list[int]:
    """Process ids of the frontends, or of the engine process."""
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(server.process.pid)], capture_output=True, text=True, check=False
    )  # fails where there is none
    return [int(line.split()[0]) for line in found.stdout.splitlines() if line.endswith(f"processes.{name}")]


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_they_answer_as_one_process_does(many: Server, root: Path) -> None:
    async def one() -> list[Any]:
        section = ServerSection(port=0, device="cpu", shutdown_delay_s=0, max_pending=MAX_PENDING, max_queries=4)
        running = await start(load_bundles(root, (), section), section)
        try:
            return await asyncio.to_thread(_answers, f"127.0.0.1:{running.port}", root)
        finally:
            await stop(running)

    expected = asyncio.run(one())
    assert [code for code, _ in expected[-4:]] == [INVALID, NOT_HELD, LATE, REFUSED]
    assert _answers(many.endpoint, root) == expected


def _answers(endpoint: str, root: Path) -> list[Any]:
    with connected(endpoint) as stub:
        return _asked(stub, root)


def _asked(stub: GenerativeRecallStub, root: Path) -> list[Any]:
    shop = bundle.open(root / "v1")
    texts = [pb.Query(text=text) for text in ("red shoe", "blue lamp acme", "a")]
    found = stub.Generate(pb.GenerateRequest(queries=texts, k=7, beam_width=9), timeout=PATIENCE_S)
    wanted = [*bundle.codes_of(shop.items())[:20].ravel().tolist(), 0, 0, 1 << 20]
    user = pb.User(gender="f", recent_sids=["v1/0/0/0", "v9/1/1/1"], recent_items=["i1", "i0"])
    score = pb.ScoreRequest(codebook="v1", query=pb.Query(text="red shoe", user=user), codes=wanted)
    items = [pb.Item(title="acme red shoe", category=["home", "shoe"], brand="acme"), pb.Item(title="حذاء")]
    encoded = stub.Encode(pb.EncodeRequest(codebook="v1", items=items), timeout=PATIENCE_S)
    description = stub.Describe(pb.DescribeRequest(), timeout=PATIENCE_S)
    return [
        [(list(one.codes), list(one.scores)) for one in found.results],
        list(stub.Score(score, timeout=PATIENCE_S).scores),
        list(encoded.codes),
        [(one.codebook, one.model, one.sids, one.engine) for one in description.codebooks],
        (description.current_codebook, description.limits),
        _refused(stub, pb.GenerateRequest(queries=[pb.Query(text="red")] * 5)),
        _refused(stub, pb.GenerateRequest(queries=LIGHT.queries, codebook="v9")),
        _refused(stub, LIGHT, timeout_s=-1),  # 0 may still be answered by a quick server
        (next(iter({c.code() for c in fill(stub, MAX_PENDING)} - {OK})), ""),
    ]


def _refused(
    stub: GenerativeRecallStub, request: pb.GenerateRequest, timeout_s: float = PATIENCE_S
) -> tuple[object, str]:
    call = stub.Generate.future(request, timeout=timeout_s)
    return call.code(), "" if call.code() is LATE else call.details()


def test_a_client_that_leaves_gives_its_places_back(many: Server) -> None:
    with connected(many.endpoint) as other:
        with connected(many.endpoint) as stub:
            fill(stub, MAX_PENDING)
        until(other, lambda seen: seen[OK] == MAX_PENDING, MAX_PENDING)


def test_a_frontend_that_is_killed_is_started_again_and_the_others_notice_nothing(many: Server) -> None:
    before = set(children(many, "frontend"))
    assert len(before) == FRONTENDS
    with ExitStack() as open_:
        stubs = [open_.enter_context(connected(many.endpoint)) for _ in range(16)]  # each front has some
        assert set(codes(call for stub in stubs for call in send(stub, 1, LIGHT))) <= {OK, REFUSED}
        in_flight = [call for stub in stubs for call in send(stub, 1, HEAVY)]
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        seen = codes(in_flight)
        assert seen[OK]
        assert set(seen) <= {OK, GONE, REFUSED}
        for stub in stubs:  # each finds a frontend, those of the killed one over a new connection
            until(stub, lambda round_: bool(round_[OK]))
    wait_for(lambda: len(children(many, "frontend")) == FRONTENDS and "frontend restarted" in many.stderr)
    assert victim not in children(many, "frontend")


def test_a_port_that_they_share_is_nobody_elses(many: Server, root: Path) -> None:
    ended = process.refused(root, f"server.port={many.port}", "server.processes=2")
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{many.port}" in ended.stderr


def test_metrics_are_those_of_all(many: Server) -> None:

    def shown(name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{many.metrics_port}/metrics", timeout=PATIENCE_S) as reply:
            lines = reply.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    answered = 'genrecall_calls_total{code="OK",method="Generate"}'
    before = shown(answered)
    for _ in range(20):
        many.ask()  # a connection each
    wait_for(lambda: shown(answered) == before + 20)
    assert shown("genrecall_batch_entries_count") > 0
    assert shown("genrecall_bundle_info") == 2


def test_sigterm_under_load_answers_every_accepted_call(many: Server) -> None:
    """The last of those that share the server."""
    everyone = [*children(many, "frontend"), *children(many, "engine")]
    with connected(many.endpoint) as stub:
        calls = fill(stub, MAX_PENDING)
        with Load(many.endpoint, rate=100) as load:
            load.wait_for(OK, REFUSED)
            many.signal(signal.SIGTERM)
            load.wait_for(GONE)
        seen = codes(calls)
    assert seen[OK] >= MAX_PENDING
    assert set(seen) | set(load.codes) <= {OK, REFUSED, GONE}
    assert many.process.wait(PATIENCE_S) == 0
    assert "Traceback" not in many.stderr
    assert not any(alive(pid) for pid in everyone)


def test_without_its_engine_process_a_server_ends_and_says_so(root: Path, start_server: StartServer) -> None:
    server = start_server("server.processes=2", root=root)
    frontends = children(server, "frontend")
    (engine,) = children(server, "engine")
    with Load(server.endpoint) as load, connected(server.endpoint) as stub:
        load.wait_for(OK)
        in_flight = send(stub, MAX_PENDING, HEAVY)
        os.kill(engine, signal.SIGKILL)
        assert GONE in codes(in_flight)
        load.wait_for(GONE)
    assert set(load.codes) <= {OK, GONE, REFUSED}
    assert server.process.wait(PATIENCE_S) == 1
    assert "engine process exited code=-9" in server.stderr
    wait_for(lambda: not any(alive(pid) for pid in frontends))
