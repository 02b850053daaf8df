"""A refresh on a node that breaks: restarted in the middle, its disk full, its shards away.

The node is one of its own, on another port: others at work on the shared one would break with it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError
from rich.console import Console

from genrecall.config.opensearch import BulkSection, OpenSearchSection, RefreshSection
from genrecall.errors import UserError
from genrecall.local_node import node as local
from genrecall.opensearch import connect, explain_errors
from index_mappings.alias import aliased
from index_mappings.index_settings import settings_of
from index_mappings.migration import changes, indices, refresh
from tests.conftest import CACHE, NODE
from tests.index.conftest import Shop, everything, fill
from tests.index.test_refresh import COUNT, NEXT, context, second, without_sids

pytestmark = [pytest.mark.node, pytest.mark.slow]
QUIET = Console(quiet=True)
FRAGILE = NODE.model_copy(update={"port": 9256})
WATERMARKS = "cluster.routing.allocation.disk"
FULL = {  # more free space is asked for than there is
    f"{WATERMARKS}.threshold_enabled": True,
    f"{WATERMARKS}.watermark.low": "900tb",
    f"{WATERMARKS}.watermark.high": "800tb",
    f"{WATERMARKS}.watermark.flood_stage": "700tb",
}


@pytest.fixture(scope="module")
def fragile() -> Iterator[local.Node]:
    local.stop(FRAGILE, CACHE, QUIET, purge=True)  # what a killed session may have left
    node = local.start(FRAGILE, CACHE, Console(stderr=True, soft_wrap=True))
    OpenSearch(node.url).cluster.put_settings(body={"persistent": {"cluster.info.update.interval": "10s"}})
    yield node
    local.stop(FRAGILE, CACHE, QUIET, purge=True)


@pytest.fixture
def loaded(fragile: local.Node, tmp_path: Path) -> Iterator[OpenSearchSection]:
    """An index of v1. Bulk requests are repeated as the defaults say."""
    settings = RefreshSection(slices=1, drain_timeout_s=0, catch_up_threshold=3, sample_queries=0)
    bulk = BulkSection(docs=5)
    section = OpenSearchSection(url=fragile.url, index="fragile", bulk=bulk, refresh=settings, lease_s=1)
    client = connect(section)
    fill(section, Shop.of(COUNT), tmp_path)
    yield section
    client.indices.delete(index="fragile-*")
    client.delete(index=".genrecall-jobs", id="fragile", ignore=404)


def once(done: int, act: Callable[[], None]) -> Callable[[int, int], None]:
    """Do it when so many documents are copied."""
    return lambda copied, documents: act() if copied == done else None


@pytest.mark.parametrize("moment", ["copy", "switch"])
def test_a_node_that_restarts_meanwhile_is_waited_for_and_nothing_is_lost(
    loaded: OpenSearchSection, fragile: local.Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    client, threads = connect(loaded, retry=loaded.bulk), []
    before = everything(client, loaded.index)

    def restart() -> None:
        local.stop(FRAGILE, CACHE, QUIET)
        local.start(FRAGILE, CACHE, QUIET)

    def begin() -> None:
        threads.append(threading.Thread(target=restart))
        threads[0].start()
        while local.answer(fragile):
            time.sleep(0.01)

    if moment == "switch":  # writes have just been stopped, and the last of them is not read yet
        block = indices.block_writes

        def stop(client: OpenSearch, index: str, blocked: bool) -> None:
            if blocked:
                client.update(index=index, id="B0003", body={"doc": {"title": "the last write"}})
            block(client, index, blocked)
            if blocked:
                begin()

        monkeypatch.setattr(indices, "block_writes", stop)
        before["B0003"]["title"] = "the last write"
        work = context(tmp_path)
    else:
        work = context(tmp_path, advance=once(20, begin))
    began = time.monotonic()
    report = refresh.refresh(client, loaded, NEXT, work)
    threads[0].join()
    print(f"\nrestarted in the {moment}: {time.monotonic() - began:.1f} s in all")
    assert (report.resumed, report.drift["documents"]) == (False, COUNT)
    assert aliased(client, loaded.index) == [report.target]
    after = everything(client, loaded.index)
    assert without_sids(after) == without_sids(before)
    assert {id: doc["sid"] for id, doc in after.items()} == second()
    client.index(index=loaded.index, id="B0001", body={"title": "writable"})


def test_a_full_disk_stops_the_job_with_its_remedy_and_it_goes_on_when_there_is_room(
    loaded: OpenSearchSection, tmp_path: Path
):
    client, target = connect(loaded, retry=loaded.bulk), f"{loaded.index}-v2"
    short = loaded.model_copy(update={"bulk": BulkSection(docs=5, attempts=3, backoff_s=0.1)})
    try:
        with pytest.raises(UserError, match=r"(?s)disk.*room") as caught, explain_errors(loaded):
            refresh.refresh(
                connect(short, retry=short.bulk),
                short,
                NEXT,
                context(tmp_path, advance=once(20, lambda: fill_disk(client, target))),
            )
        print(f"\n{caught.value}")
        assert aliased(client, loaded.index) == [f"{loaded.index}-v1"]
        assert client.count(index=loaded.index)["count"] == COUNT, "it serves"
        with pytest.raises(UserError, match=r"(?s)disk.*room"), explain_errors(loaded):
            refresh.refresh(connect(short, retry=short.bulk), short, NEXT, context(tmp_path))
    finally:
        make_room(client)
    report = refresh.refresh(client, loaded, NEXT, context(tmp_path))
    assert report.resumed
    assert {id: doc["sid"] for id, doc in everything(client, loaded.index).items()} == second()


def fill_disk(client: OpenSearch, index: str) -> None:
    """Have the node count as full, and wait until the index takes no writes for it."""
    client.cluster.put_settings(body={"transient": FULL})
    ends = time.monotonic() + 40
    while "read_only_allow_delete" not in settings_of(client, index).get("blocks", {}):
        assert time.monotonic() < ends, "the node does not count as full"
        time.sleep(0.2)


def make_room(client: OpenSearch) -> None:
    client.cluster.put_settings(body={"transient": dict.fromkeys(FULL)})
    blocks = {"index.blocks.read_only_allow_delete": None}
    client.indices.put_settings(index="*", body=blocks, params={"expand_wildcards": "all"})
    client.cluster.put_settings(body={"persistent": {"cluster.blocks.create_index": None}})


def test_shards_that_are_away_are_not_taken_for_empty_ones(loaded: OpenSearchSection, monkeypatch: pytest.MonkeyPatch):
    """Statistics leave them out: a reading that believed them would end early, and lose what they hold."""
    client, index = connect(loaded), "fragile-away"
    nowhere = {"number_of_shards": 2, "number_of_replicas": 0, "routing.allocation.require._name": "nowhere"}
    params = {"wait_for_active_shards": "0"}
    client.indices.create(index=index, body={"settings": {"index": nowhere}}, params=params)
    monkeypatch.setattr(changes, "SHARD_TIMEOUT_S", 1)
    with pytest.raises(UserError, match=r"0 of 2 shards of 'fragile-away' answer"):
        changes.now(client, index)
    with pytest.raises((UserError, TransportError)):
        changes.pending(client, index, {0: -1, 1: -1})
