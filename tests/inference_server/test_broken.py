"""A server that can compute no more says so and ends, so that whoever runs it starts it again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest

from genrecall.errors import BundleError
from inference_server.batching import executor as module
from inference_server.batching.scheduler import FAILURES
from tests.faults.bundles import publish
from tests.inference_server.serving import ThreeSids, refusal, request, served

ROOT = Path(__file__).parents[2]


class Failing(ThreeSids):
    """Fails for texts with an x."""

    def search(self, prompts, width):
        if any("x" in prompt for prompt in prompts):
            raise RuntimeError("no answer to that")
        return super().search(prompts, width)


@pytest.mark.parametrize("healthy", [True, False])
def test_engines_are_tested_when_batches_fail_in_a_row(healthy, monkeypatch):
    """One client with requests that nothing can answer does not end a server whose engines are well."""
    tested = []

    def self_test(engine):
        tested.append(engine)
        if not healthy:
            raise BundleError("its answer makes no sense")

    monkeypatch.setattr(module, "self_test", self_test)

    async def main():
        async with served(Failing()) as (stub, running, _):
            executor = running.service.executor
            watching = asyncio.create_task(executor.watch_engines())
            for _ in range(FAILURES - 1):
                await refusal(stub.Generate(request("x")))
            assert not executor.suspect.is_set()
            await stub.Generate(request("a"))
            for _ in range(FAILURES):
                assert not tested, "failures in a row alone count"
                await refusal(stub.Generate(request("x")))
            if healthy:
                async with asyncio.timeout(10):
                    while executor.suspect.is_set():
                        await asyncio.sleep(0.01)
                assert len((await stub.Generate(request("a"))).results) == 1
            else:
                async with asyncio.timeout(10):
                    await executor.broken.wait()
                assert "the test of the engines too: its answer makes no sense" in executor.reason
            assert executor.broken.is_set() != healthy
            watching.cancel()
        assert len(tested) == 1

    asyncio.run(main())


def test_a_batch_that_never_ends_fails_its_calls_and_breaks_the_server():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        async with served(engine, batch_timeout_s=0.3) as (stub, running, _):
            error = await refusal(stub.Generate(request("a")))
            executor = running.service.executor
            assert executor.broken.is_set()
            assert executor.stuck
            engine.gate.set()
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert "has not ended within 0.3 s" in error.details()

    asyncio.run(main())
    assert threading.active_count() < 50


@pytest.mark.slow
@pytest.mark.parametrize(("what", "said"), [("hang", "has not ended within 1 s"), ("fail", "failed, and the test")])
def test_a_server_whose_engine_stops_answering_ends_with_an_exit_code(what: str, said: str, tmp_path: Path):
    publish(tmp_path, "v1")
    command = [sys.executable, "-m", "tests.inference_server.hanging", str(tmp_path), what]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert said in answer.stdout + answer.stderr
    assert "the call ended with" in answer.stdout
