"""The memory of a bundle, renewed from logs: what it keeps, what it leaves out, what it refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from genrecall import bundle
from genrecall.analyzer import Analyzer
from genrecall.bundle import MEMORY, Bundle
from genrecall.cli.remember import app
from genrecall.config import Config
from genrecall.decoding import Generator
from genrecall.decoding.memory import Memory
from genrecall.errors import BundleError, UserError
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub
from tests.inference_server.bundles import train_shop
from tests.inference_server.test_reload import serving
from tests.logs.log import event, query, requests, write
from trainer.generator.memory import logged_wants, query_hashes
from trainer.remember import remember

ENGLISH = Analyzer("english")
LEAST = 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Bundle]:
    return train_shop(tmp_path_factory.mktemp("shop"), "hierarchical", "encoder")


def wanted(texts: dict[str, list[tuple[str, str]]], folder: Path) -> Any:
    """Logs in which each text was asked by clients who then clicked an item: text -> (client, item)."""
    queries, events = [], []
    for text, clicks in texts.items():
        for client, item in clicks:
            name, at = f"q{len(queries)}", 100.0 * len(queries)
            queries.append(query(name, at, [item], client, text))
            events.append(event("click", name, at + 1, item, client))
    return write(folder, queries, events)


def test_a_query_needs_clients_enough_and_stems_make_it() -> None:
    rows = [
        {"text": "Red pans", "client_id": "ann", "clicked": ["a", "b"]},
        {"text": "pan red", "client_id": "bob", "clicked": ["a"], "purchased": ["a"]},
        {"text": "lid", "client_id": "ann", "clicked": ["a"]},
        {"text": "lid", "client_id": "ann", "clicked": ["b"]},
        {"text": "pot", "client_id": "", "clicked": ["gone"]},
        {"text": "pot", "client_id": "", "clicked": ["b"]},
        {"text": "pot", "client_id": "", "clicked": ["b"]},
        {"text": "shown only", "client_id": "ann", "exposed": ["a"]},
    ]
    wants, left_out = logged_wants(requests(rows), ENGLISH, ["a", "b"], least=2)
    red, pot = query_hashes(ENGLISH, ["red pan", "pot"]).tolist()
    found = set(zip(wants.query.tolist(), wants.item.tolist(), wants.weight.tolist(), strict=True))
    assert found == {(red, 0, 3.0), (red, 1, 1.0), (pot, 1, 2.0)}, "lid is one person's alone; gone is no item"
    assert left_out == 1
    assert not len(logged_wants(requests(rows), ENGLISH, ["a", "b"], least=4)[0].query)


def test_newer_logs_renew_it_and_nothing_else_changes(trained: tuple[Config, Bundle], tmp_path: Path) -> None:
    config, published = trained
    manifest = (published.path / "manifest.json").read_bytes()
    logs = wanted({"gift": [("ann", "311"), ("bob", "312"), ("cy", "312")], "one": [("ann", "000")]}, tmp_path / "logs")
    changed = {"data": logs, "generator": {"memory": {"least": LEAST}}, "run": config.run.model_dump()}
    settings = Config(**changed)
    before = Generator.load(published.generator_dir, published.space).generate(["gift"], 5)
    told = remember(settings, published, dry_run=True, progress=False)
    again = Generator.load(published.generator_dir, published.space).generate(["gift"], 5)
    np.testing.assert_array_equal(before.scores, again.scores)
    about = remember(settings, published, progress=False)
    assert told == about
    assert (about.queries, about.left_out, about.requests) == (1, 1, 4)
    opened = bundle.open(published.path)
    assert bundle.attached(opened, MEMORY)["queries"] == 1
    assert manifest == (published.path / "manifest.json").read_bytes()
    items = opened.items()
    code_of = dict(zip(items["item_id"].to_pylist(), items["codes"].to_pylist(), strict=True))
    knows = Generator.load(opened.generator_dir, opened.space)
    first = knows.generate(["Gifts"], 2).codes[0].tolist()
    assert code_of["312"] in first
    assert sorted(first) == sorted([code_of["311"], code_of["312"]])
    plain = knows.request_tokenizer(["gift"], remember=[False])
    np.testing.assert_allclose(knows.search(plain, 5).scores, before.scores, atol=1e-5)


def test_what_cannot_be_remembered_is_refused_and_the_memory_stays(
    trained: tuple[Config, Bundle], tmp_path: Path
) -> None:
    config, published = trained
    file = published.path / MEMORY / "memory.safetensors"
    before = file.read_bytes() if file.exists() else None
    logs = wanted({"gift": [("ann", "311")], "other": [("bob", "nowhere")]}, tmp_path / "logs")
    settings = Config(data=logs, run=config.run.model_dump())
    with pytest.raises(
        UserError, match=r"no query that 5 clients wanted .*lower generator\.memory\.least; nothing was"
    ):
        remember(settings, published, progress=False)
    with pytest.raises(UserError, match="has no logs: name a dataset with ubi_queries"):
        remember(Config(data={"folder": tmp_path}, run=config.run.model_dump()), published, progress=False)
    assert before == (file.read_bytes() if file.exists() else None)


def test_a_damaged_memory_is_refused_and_can_be_forgotten(trained: tuple[Config, Bundle], tmp_path: Path) -> None:
    config, published = trained
    Memory.of(np.array([1]), np.array([0]), np.ones(1)).save(tmp_path)
    bundle.attach(published, MEMORY, lambda to: (tmp_path / "memory/memory.safetensors").rename(to / "m") and {})
    (published.path / MEMORY / "m").write_bytes(b"x")
    with pytest.raises(BundleError, match="generator/memory is damaged"):
        bundle.open(published.path)
    assert any("generator/memory" in fault for fault in bundle.verify(published.path))
    args = ["-c", "tiny", f"run.bundles_dir={config.run.bundles_dir}", "--bundle", "v1"]
    assert "nothing was removed" in CliRunner().invoke(app, [*args, "--forget", "--dry-run"]).stdout
    assert "v1: the memory is removed" in CliRunner().invoke(app, [*args, "--forget"]).stdout
    bundle.open(published.path)


def test_a_server_takes_a_renewed_memory_up_while_it_answers(trained: tuple[Config, Bundle], tmp_path: Path) -> None:
    config, published = trained
    bundle.detach(published, MEMORY)
    logs = wanted({"present": [("ann", "300"), ("bob", "300")]}, tmp_path / "logs")
    settings = Config(data=logs, generator={"memory": {"least": LEAST}}, run=config.run.model_dump())
    code = dict(zip(*(published.items()[name].to_pylist() for name in ("item_id", "codes")), strict=True))["300"]

    async def first(stub: GenerativeRecallStub, **of_query: bool) -> list[int]:
        query = pb.Query(text="Presents", **of_query)
        reply = await stub.Generate(pb.GenerateRequest(codebook="v1", queries=[query], k=1))
        return list(reply.results[0].codes)

    async def main() -> None:
        async with serving(config.run.bundles_dir, "v1") as (stub, reloader, _):
            before = await first(stub)
            assert before != code
            await asyncio.to_thread(remember, settings, published, progress=False)
            await reloader.reload()
            assert await first(stub) == code
            assert await first(stub, without_memory=True) == before
            bundle.detach(published, MEMORY)
            await reloader.reload()
            assert await first(stub) == before

    asyncio.run(main())
