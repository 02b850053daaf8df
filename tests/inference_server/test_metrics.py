"""What is counted, read as Prometheus reads it."""

import asyncio
import re
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from genrecall.config.server import ServerSection
from genrecall.rpc import generative_recall_pb2 as pb
from inference_server.bundles.loaded import LoadedBundles
from inference_server.telemetry.metrics import Metrics
from tests.inference_server.serving import SIDS, ThreeSids, pending, refusal, request, score_request, served


class Scraped:
    """The samples of one scrape of `running`'s HTTP endpoint."""

    def __init__(self, running):
        with urllib.request.urlopen(f"http://127.0.0.1:{running.metrics_port}/metrics", timeout=10) as reply:
            families = text_string_to_metric_families(reply.read().decode())
        self._samples = [sample for family in families for sample in family.samples]

    def __call__(self, name, **labels):
        found = [s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items()]
        assert found, f"no {name} {labels}"
        return sum(found)

    def labels(self, name):
        return [s.labels for s in self._samples if s.name == name]


async def scrape(running):
    return await asyncio.to_thread(Scraped, running)


def test_answered_calls_show_by_stage_and_batches_by_size_and_padding():
    async def main():
        engine = ThreeSids()
        async with served(engine, metrics_port=0) as (stub, running, _):
            await stub.Generate(request("a" * 20, "b" * 10))
            await stub.Score(score_request(SIDS[0], SIDS[1]))
            await stub.Describe(pb.DescribeRequest())
            return await scrape(running)

    seen = asyncio.run(main())
    for stage in ("prepare", "queue", "compute", "reply", "total"):
        assert seen("genrecall_stage_seconds_count", method="Generate", stage=stage) == 1
    assert seen("genrecall_stage_seconds_count", method="Score", stage="compute") == 1
    assert seen("genrecall_calls_total", method="Describe", code="OK") == 1
    assert seen("genrecall_batch_entries_sum", workload="search") == 2
    assert seen("genrecall_batch_entries_count", workload="search") == 1
    assert seen("genrecall_batch_tokens_total", workload="search", use="text") == 30
    assert seen("genrecall_batch_tokens_total", workload="search", use="padding") == 2 * 32 - 30
    assert seen("process_resident_memory_bytes") > 0


def test_calls_under_way_show_and_so_does_every_way_to_be_shed():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        async with served(engine, metrics_port=0, max_pending=3, max_concurrent_score=1) as (stub, running, _):
            first = stub.Generate(request("a"))
            await asyncio.to_thread(engine.running.wait, 10)
            scoring = stub.Score(score_request(SIDS[0]))
            left = stub.Generate(request("b"))
            await pending(running, 3)
            during = await scrape(running)
            await refusal(stub.Score(score_request(SIDS[0])))
            await refusal(stub.Generate(request("c")))
            left.cancel()
            await pending(running, 2)
            for _ in range(20):  # on a busy machine gRPC may cancel a call at its deadline before the queue drops it
                await refusal(stub.Generate(request("d"), timeout=0.2))
                await pending(running, 2)
                if {"reason": "expired"} in (await scrape(running)).labels("genrecall_calls_shed_total"):
                    break
            engine.gate.set()
            await asyncio.gather(first, scoring)
            return during, await scrape(running)

    during, after = asyncio.run(main())
    assert during("genrecall_calls_in_flight", method="Generate") == 2
    assert during("genrecall_entries_pending") == 3
    shed = {reason: after("genrecall_calls_shed_total", reason=reason) for reason in ("refused", "busy", "expired")}
    assert shed == {"refused": 1, "busy": 1, "expired": 1}
    assert after("genrecall_calls_shed_total", reason="cancelled") >= 1
    assert after("genrecall_calls_total", code="RESOURCE_EXHAUSTED") == 2
    assert after("genrecall_calls_total", method="Generate", code="CANCELLED") >= 1
    assert after("genrecall_calls_in_flight") == 0
    assert after("genrecall_entries_pending") == 0


def test_the_bundles_held_show_as_labels():
    async def main():
        async with served(ThreeSids("v2"), ThreeSids("v1"), metrics_port=0) as (_, running, __):
            return await scrape(running)

    seen = asyncio.run(main())
    found = {
        labels["codebook"]: (labels["engine"], labels["current"]) for labels in seen.labels("genrecall_bundle_info")
    }
    assert found == {"v2": ("three-sids", "true"), "v1": ("three-sids", "false")}
    assert seen("genrecall_server_info") == 1


def test_there_is_no_endpoint_unless_asked_for_and_two_servers_count_apart():
    async def main():
        async with served(ThreeSids()) as (_, running, __):
            assert running.metrics_port is None
        async with (
            served(ThreeSids(), metrics_port=0) as (stub, one, _),
            served(ThreeSids(), metrics_port=0) as (__, other, ___),
        ):
            await stub.Generate(request("a"))
            assert (await scrape(one))("genrecall_calls_total", code="OK") == 1
            with pytest.raises(AssertionError, match="no genrecall_calls_total"):
                (await scrape(other))("genrecall_calls_total")

    asyncio.run(main())


def test_the_manual_names_every_setting_and_every_metric():
    manual = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in manual.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    metrics = Metrics()
    metrics.register_bundles(lambda: LoadedBundles({"v1": ThreeSids()}, "v1"))
    shown = {
        f"{metric.name}_{metric.type}" if metric.type == "info" else metric.name + "_total" * (metric.type == "counter")
        for metric in metrics.registry.collect()
        if metric.name.startswith("genrecall_")
    }
    assert set(ServerSection.model_fields) <= named
    assert shown == {name for name in named if name.startswith("genrecall_")}
