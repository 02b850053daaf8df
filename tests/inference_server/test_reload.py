"""Bundles that appear, break and go back while a server answers: real bundles, tiny."""

import asyncio
import logging
import shutil
import weakref
from contextlib import asynccontextmanager
from functools import partial

import grpc
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from genrecall import bundle
from genrecall.bundle import codes_of
from genrecall.config.server import ServerSection
from genrecall.decoding import GeneratedSids
from genrecall.errors import BundleError, UserError
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub
from inference_server.bundles.loaded import load_bundles, open_engine
from inference_server.bundles.reload import Reloader
from inference_server.bundles.self_test import self_test
from inference_server.engines.torch_engine import TorchEngine
from inference_server.server import stop
from tests.faults.bundles import publish
from tests.inference_server.serving import refusal, request, start
from trainer.export.attach import attach_onnx


@asynccontextmanager
async def serving(root, *names, **settings):
    """A stub and a reloader; `reload()` of it changes what is served."""
    section = ServerSection(**{"port": 0, "shutdown_delay_s": 0, "device": "cpu", **settings})
    running = await start(load_bundles(root, names, section), section)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            yield GenerativeRecallStub(channel), Reloader(root, names, running.service.executor), running.service
    finally:
        await stop(running)


def loaded(service):
    return [service.loaded.current, *(name for name in service.loaded.engines if name != service.loaded.current)]


def reloads(service):
    names = ("swapped", "failed")
    return {name: service.metrics.reloads.labels(name)._value.get() for name in names}


def without_numbers(root, codebook):
    """Publish a bundle that is as it was published, and whose weights are no numbers."""
    whole = bundle.open(root / "v1")
    items = whole.items()

    def write(folder):
        shutil.copytree(whole.generator_dir, folder / bundle.GENERATOR)
        weights = load_file(folder / bundle.GENERATOR / "model.safetensors")
        broken = {name: torch.full_like(w, torch.nan) for name, w in weights.items()}
        save_file(broken, folder / bundle.GENERATOR / "model.safetensors")

    contents = bundle.Contents(items["item_id"].to_pylist(), codes_of(items), whole.level_sizes, kind="lm")
    bundle.publish(root, codebook, contents, write)


def test_a_new_bundle_answers_by_default_and_the_one_before_stays_addressable(root):
    async def main():
        async with serving(root) as (stub, reloader, service):
            await reloader.reload()
            assert reloads(service) == {"swapped": 0, "failed": 0}
            publish(root, "v2")
            await reloader.reload()
            assert loaded(service) == ["v2", "v1"]
            answered = [
                (await stub.Generate(request("red shoes", codebook=name))).codebook for name in ("", "v1", "v2")
            ]
            assert answered == ["v2", "v1", "v2"]
            assert reloads(service) == {"swapped": 1, "failed": 0}

    asyncio.run(main())


def test_a_new_bundle_is_captured_at_every_width_before_it_answers(root, monkeypatch):
    captured = []

    async def main():
        async with serving(root, max_beam_width=60, widths=[50, 8, 16, 100]) as (_, reloader, service):
            capture = TorchEngine.capture

            def recorded(engine, widths, batches):
                captured.append((engine.bundle.codebook, loaded(service), widths, batches.max_batch))
                capture(engine, widths, batches)

            monkeypatch.setattr(TorchEngine, "capture", recorded)
            publish(root, "v2")
            await reloader.reload()
            assert loaded(service) == ["v2", "v1"]

    asyncio.run(main())
    assert captured == [("v2", ["v1"], [8, 16, 50, 60], 32)]


def test_a_bundle_whose_engine_is_too_narrow_for_the_default_is_not_served(root, monkeypatch):
    monkeypatch.setattr(TorchEngine, "max_beam_width", 40)
    with pytest.raises(UserError, match=r"'v1' is not served: .* at most 40, and server.default_k is 50"):
        load_bundles(root, [], ServerSection(device="cpu"))
    assert load_bundles(root, [], ServerSection(device="cpu", default_k=40)).names == ["v1"]


def test_calls_never_notice_a_swap(root):
    async def main():
        async with serving(root) as (stub, reloader, _):
            publish(root, "v2")
            looking, seen = asyncio.create_task(reloader.reload()), []
            while not looking.done() or "v2" not in seen:
                seen.append((await stub.Generate(request("red shoes"), timeout=20)).codebook)
            assert seen == sorted(seen)  # v1, then v2, and nobody failed
            assert seen[0] == "v1"

    asyncio.run(main())


def test_a_call_that_waits_is_answered_by_the_engine_it_began_with(root):
    async def main():
        async with serving(root, max_loaded=1) as (stub, reloader, service):
            publish(root, "v2")
            release = asyncio.get_running_loop().create_future()
            engine = service.loaded.engines["v1"]
            searched = asyncio.Event()
            loop, search = asyncio.get_running_loop(), engine.search

            def slow(prompts, width):
                loop.call_soon_threadsafe(searched.set)
                asyncio.run_coroutine_threadsafe(_wait(release), loop).result(30)
                return search(prompts, width)

            engine.search = slow
            running = stub.Generate(request("red shoes"))
            await searched.wait()
            waiting = stub.Generate(request("lamp"))
            while service.executor.pending < 2:
                await asyncio.sleep(0.01)
            looking = asyncio.create_task(reloader.reload())
            await asyncio.sleep(0.3)
            release.set_result(None)
            assert [(await call).codebook for call in (running, waiting)] == ["v1", "v1"]
            await looking
            assert loaded(service) == ["v2"]
            assert (await refusal(stub.Generate(request("a", codebook="v1")))).code() == (
                grpc.StatusCode.FAILED_PRECONDITION
            )

    asyncio.run(main())


async def _wait(future):
    await future


def test_a_bundle_that_is_dropped_leaves_the_memory(root):
    async def main():
        async with serving(root, max_loaded=1) as (stub, reloader, service):
            await stub.Generate(request("red shoes"))
            gone = weakref.ref(service.loaded.engines["v1"])
            publish(root, "v2")
            await reloader.reload()
            await stub.Generate(request("red shoes"))
            assert gone() is None

    asyncio.run(main())


def _cut(root):
    path = root / "v2" / "generator" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def _manifest(root):
    (root / "v2" / "manifest.json").write_text("{")


@pytest.mark.parametrize(("damage", "message"), [(_cut, "truncated copy"), (_manifest, "is not JSON")])
def test_a_damaged_bundle_changes_nothing_is_logged_once_and_served_when_it_is_whole(root, caplog, damage, message):
    async def main():
        async with serving(root) as (stub, reloader, service):
            engine = service.loaded.engines["v1"]
            publish(root, "v2")
            shutil.copytree(root / "v2", root.parent / "whole")
            damage(root)
            for _ in range(3):
                await reloader.reload()
            assert loaded(service) == ["v1"]
            assert service.loaded.engines["v1"] is engine
            assert reloads(service) == {"swapped": 0, "failed": 1}
            assert (await stub.Generate(request("red shoes"))).codebook == "v1"
            shutil.copytree(root.parent / "whole", root / "v2", dirs_exist_ok=True)
            await reloader.reload()
            assert loaded(service) == ["v2", "v1"]

    asyncio.run(main())
    (refused,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert refused.getMessage() == "reload failed"
    assert message in refused.keys["reason"]


def test_a_damaged_bundle_that_is_not_current_is_passed_over_and_reported_once(root, caplog):
    async def main():
        async with serving(root) as (_, reloader, service):
            shutil.copytree(root / "v1", root / "old")
            (root / "old" / "manifest.json").write_text("{")
            publish(root, "v2")
            for _ in range(3):
                await reloader.reload()
            assert loaded(service) == ["v2", "v1"]

    asyncio.run(main())
    (passed,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert passed.getMessage() == "bundle passed over"
    assert "old/manifest.json is not JSON" in passed.keys["reason"]


@pytest.mark.parametrize("damage", [_cut, _manifest])
def test_a_server_starts_beside_a_damaged_bundle_and_not_with_one_that_was_named(root, caplog, damage):
    publish(root, "v2")
    damage(root)
    assert load_bundles(root, [], ServerSection(device="cpu")).names == ["v1"]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "bundle passed over"
    ]
    with pytest.raises(UserError):
        load_bundles(root, ["v2"], ServerSection(device="cpu"))
    shutil.rmtree(root / "v1")
    with pytest.raises(UserError):
        load_bundles(root, [], ServerSection(device="cpu"))


def test_a_bundle_whose_answers_make_no_sense_is_never_served(root):
    async def main():
        async with serving(root) as (_, reloader, service):
            without_numbers(root, "v2")
            await reloader.reload()
            assert loaded(service) == ["v1"]
            assert reloads(service) == {"swapped": 0, "failed": 1}

    asyncio.run(main())
    with pytest.raises(BundleError, match="'v2' is not served: its answer to 'red running shoes'"):
        load_bundles(root, ["v2"], ServerSection(device="cpu"))


def test_an_export_of_a_bundle_that_is_served_is_taken_up_and_a_damaged_one_is_not(root, caplog):
    async def main():
        async with serving(root) as (stub, reloader, service):

            async def engine():
                return (await stub.Describe(pb.DescribeRequest())).codebooks[0].engine

            before = await stub.Generate(request("red shoes", k=5))
            assert await engine() == "torch-cpu-float32"
            await asyncio.to_thread(attach_onnx, bundle.open(root / "v1"), "float32", ["red shoes"])
            for _ in range(2):
                await reloader.reload()
            assert await engine() == "onnx-cpu-float32"
            assert reloads(service) == {"swapped": 1, "failed": 0}
            after = await stub.Generate(request("red shoes", k=5))
            assert after.results[0].codes == before.results[0].codes

            kept = service.loaded.engines["v1"]
            shutil.copytree(root / "v1/onnx/float32", root / "v1/onnx/.new")
            manifest = root / "v1/onnx/.new/manifest.json"
            manifest.write_text(manifest.read_text().replace('"sha256": "', '"sha256": "0', 1))
            shutil.rmtree(root / "v1/onnx/float32")
            (root / "v1/onnx/.new").rename(root / "v1/onnx/float32")
            await reloader.reload()
            assert service.loaded.engines["v1"] is kept
            assert reloads(service) == {"swapped": 1, "failed": 1}

            shutil.rmtree(root / "v1/onnx")
            await reloader.reload()
            assert await engine() == "torch-cpu-float32"

    asyncio.run(main())
    (refused,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "onnx/float32" in refused.keys["reason"]


def test_a_memory_that_is_renewed_is_taken_up(root):
    async def main():
        async with serving(root) as (_, reloader, service):
            for content in ("one", "two"):
                before = service.loaded.engines["v1"]
                bundle.attach(before.bundle, bundle.MEMORY, partial(_note, content))
                await reloader.reload()
                assert service.loaded.engines["v1"] is not before
            await reloader.reload()
            assert bundle.detach(before.bundle, bundle.MEMORY)
            await reloader.reload()
            assert reloads(service) == {"swapped": 3, "failed": 0}

    asyncio.run(main())


def _note(content, folder):
    """Read by no generator without evidence; enough to tell that it changed."""
    (folder / "note").write_text(content)
    return {}


def test_going_back_needs_no_loading(root):
    async def main():
        async with serving(root) as (_, reloader, service):
            publish(root, "v2")
            await reloader.reload()
            engines = dict(service.loaded.engines)
            bundle.point(root, "v1")
            await reloader.reload()
            assert loaded(service) == ["v1", "v2"]
            assert all(service.loaded.engines[name] is engine for name, engine in engines.items())

    asyncio.run(main())


def test_named_codebooks_stay_and_a_named_pointer_is_followed(root):
    async def main():
        async with serving(root, "v1") as (_, fixed, service), serving(root, "current") as (__, following, other):
            publish(root, "v2")
            await fixed.reload()
            await following.reload()
            assert loaded(service) == ["v1"]
            assert loaded(other) == ["v2", "v1"]

    asyncio.run(main())


@pytest.mark.parametrize("reload_interval_s", [0, 0.05])
def test_the_server_looks_by_itself_and_when_asked(root, reload_interval_s):
    async def main():
        async with serving(root, reload_interval_s=reload_interval_s) as (_, reloader, service):
            requested = asyncio.Event()
            watching = asyncio.create_task(reloader.watch(requested))
            publish(root, "v2")
            if not reload_interval_s:
                await asyncio.sleep(0.2)
                assert loaded(service) == ["v1"]
                requested.set()
            async with asyncio.timeout(30):
                while loaded(service) != ["v2", "v1"]:
                    await asyncio.sleep(0.02)
            watching.cancel()

    asyncio.run(main())


SIDS, SCORES = [[0, 0, 1], [0, 1, 2]], [-1.0, -2.0]


@pytest.mark.parametrize(
    ("codes", "scores", "fault"),
    [
        (SIDS, [-1.0, np.nan], "has the score nan"),
        (SIDS, [-2.0, -1.0], "is not in order"),
        ([SIDS[0], SIDS[0]], SCORES, "has a SID twice"),
        ([SIDS[0], [99, 0, 0]], SCORES, r"has \[99, 0, 0\], which no item has"),
        ([], [], "has no SID"),
    ],
)
def test_the_self_test_names_what_is_wrong(root, codes, scores, fault):
    engine = open_engine(root / "v1", ServerSection(device="cpu"))
    known = engine.bundle.space.sids
    codes = np.array([known[code[2]] if code in SIDS else code for code in codes], np.int32).reshape(-1, 3)

    def search(prompts, width):
        rows = len(prompts)
        valid = np.ones((rows, len(codes)), bool)
        return GeneratedSids(np.stack([codes] * rows), np.array([scores] * rows, np.float32), valid)

    engine.search = search
    with pytest.raises(BundleError, match=fault):
        self_test(engine)
