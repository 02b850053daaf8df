"""Refresh and rollback on three nodes that break, under searches and writes: 3 shards, 1 replica.

At the end of each move every copy of every shard holds what the writer wrote, every answer was checked, and only
searches that were under way when a node was killed may have failed. The figures in docs/refresh_faults.md:

    .venv/bin/python -m pytest tests/cluster -m node -s

`make test` runs two of them, `make test-cluster` all.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from genrecall.local_node.node import configured_plugins
from index_mappings.index_settings import settings_of
from index_mappings.lease import JobLease
from index_mappings.migration import indices
from tests.cluster.conftest import SHARDS, Shop, once
from tests.cluster.nodes import COUNT
from tests.conftest import CACHE, NODE, ROOT

pytestmark = [pytest.mark.node, pytest.mark.slow]
NEWER = "0.1.0-next"
PAUSE_S = 15.0  # between pages while nodes restart: a copy of a larger index
PHASES = ("copy", "verify", "switch", "finish")


@pytest.mark.parametrize("replication", [pytest.param("DOCUMENT", marks=pytest.mark.long), "SEGMENT"])
def test_there_and_back_with_replicas_that_copy_documents_or_segments(shop: Shop, replication: str):
    with shop.indexed(replication) as move:
        with move.under_load():
            time.sleep(1)
            there = move.refresh()
            back = move.rollback()
            time.sleep(1)
        for index in (there.source, there.target):
            assert settings_of(shop.cluster.client, index)["replication"] == {"type": replication}
        print(f"{replication}: blocked for {there.timing['blocked']:.2f} s there, {back.timing['blocked']:.2f} s back")
        assert {answer.index for answer in move.answers} == {f"{move.alias}-v1", f"{move.alias}-v2"}


@pytest.mark.parametrize(
    "phase", [phase if phase == "switch" else pytest.param(phase, marks=pytest.mark.long) for phase in PHASES]
)
def test_a_node_killed_in_any_step_costs_no_write_and_no_search(shop: Shop, phase: str):
    """It has primaries of the index that is read, and in the steps on which all depends it manages the cluster.

    While documents are copied the new index has no replicas: the job waits until the node is back.
    """
    cluster = shop.cluster
    with shop.indexed() as move, move.under_load():
        for verb in (move.refresh, move.rollback) if phase in ("copy", "switch") else (move.refresh,):
            victim = cluster.manager() if phase in ("verify", "switch") else (cluster.manager() + 1) % COUNT
            back = threading.Thread(target=cluster.restart, args=(victim,))
            lost = []

            def kill(victim: int = victim, back: threading.Thread = back, lost: list[int] = lost) -> None:
                lost += [shard for shard, node in cluster.primaries(move.alias).items() if node == victim]
                move.kill(victim)
                if phase == "copy":
                    back.start()

            with moment(phase, kill):
                report = verb()
            print(f"\n{report.kind}, killed in {phase}: {report.seconds:.1f} s, primaries of shards {lost} lost")
            assert lost
            assert not report.resumed
            if phase != "copy":
                back.start()
            back.join()
            cluster.settle()


@contextmanager
def moment(phase: str, act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` once: when the first page is copied, when writes have just been blocked, or when a step begins."""
    with pytest.MonkeyPatch.context() as patch:
        if phase == "switch":
            block = indices.block_writes
            blocks = once(act, lambda blocked: blocked)

            def blocking(client: OpenSearch, index: str, blocked: bool) -> None:
                block(client, index, blocked)
                blocks(blocked)

            patch.setattr(indices, "block_writes", blocking)
        else:
            note = JobLease.note
            begins = once(act, lambda new: new.get("copied", 0) > 0 if phase == "copy" else new.get("step") == phase)

            def noting(lease: JobLease, **changes: Any) -> None:
                note(lease, **changes)
                begins(changes)

            patch.setattr(JobLease, "note", noting)
        yield


@pytest.mark.long
def test_primaries_that_move_while_they_are_read_and_written(shop: Shop):
    cluster, moved = shop.cluster, set()
    with shop.indexed(docs_per_s=150) as move:

        def advance(done: int, total: int) -> None:
            for shard in range(SHARDS):
                for index in (f"{move.alias}-v1", f"{move.alias}-v2"):
                    if (index, shard) not in moved and cluster.move_primary(index, shard):
                        moved.add((index, shard))
                        return

        with move.under_load():
            move.refresh(advance=advance)
            move.rollback()
    assert len(moved) == 2 * SHARDS


@pytest.mark.long
def test_a_rolling_restart_with_another_plugin_during_the_copy(shop: Shop, tmp_path: Path):
    cluster, reports, restarted = shop.cluster, [], threading.Event()
    newer = other_version(configured_plugins(NODE)[0], tmp_path / "genrecall-next.zip")

    def pause(done: int, total: int) -> None:
        restarted.wait(PAUSE_S)

    with shop.indexed() as move, move.under_load():
        job = threading.Thread(target=lambda: reports.append(move.refresh(advance=pause)))
        job.start()
        for number in range(COUNT):
            cluster.restart(number, [newer])
            cluster.settle()
        assert job.is_alive(), "the copy lasted longer than the restarts"
        restarted.set()
        job.join()
        reports.append(move.rollback())
    print(f"\nrefresh {reports[0].seconds:.0f} s with all nodes restarted, rollback {reports[1].seconds:.0f} s")
    rows = cluster.client.cat.plugins(format="json", h="name,component,version")
    assert [row["version"] for row in rows if row["component"] == "genrecall"] == [NEWER] * COUNT


@pytest.mark.long
def test_a_rolling_upgrade_from_an_older_release(shop: Shop):
    """Clauses are answered and statistics told by every node all the while, whichever releases the others have."""
    cluster, current = shop.cluster, configured_plugins(NODE)[0]
    older = older_release()
    for number in range(COUNT):
        cluster.restart(number, [older])
        cluster.settle()
    with shop.indexed() as move:
        with move.under_load(restarts=True):
            for upgraded in range(COUNT + 1):
                if upgraded:
                    cluster.restart(upgraded - 1, [current])
                    cluster.settle()
                for url in cluster.urls:
                    of_releases(OpenSearch(url, timeout=60), move.alias, upgraded)
        assert move.answers


def of_releases(node: OpenSearch, alias: str, upgraded: int) -> None:
    """What one node answers while so many have the current release."""
    clause: dict[str, Any] = {"query_text": "red shoes", "timeout": "30s"}
    found = node.search(index=alias, body={"query": {"generative": {"sid": clause}}})
    assert found["_shards"]["failed"] == 0
    assert found["hits"]["hits"]
    stats = node.transport.perform_request("GET", "/_plugins/_genrecall/stats")
    assert stats["_nodes"] == {"total": COUNT, "successful": COUNT, "failed": 0}
    assert all(of["calls"]["count"] >= 0 for of in stats["nodes"].values())
    assert all(of.get("endpoints") for of in stats["nodes"].values()) is (upgraded == COUNT)
    clause["order_within"] = {"query": {"match": {"title": "red"}}}
    if upgraded == COUNT:
        assert node.search(index=alias, body={"query": {"generative": {"sid": clause}}})["_shards"]["failed"] == 0
    else:  # by name, or as an option that the older release does not know
        with pytest.raises(RequestError, match="order_within"):
            node.search(index=alias, body={"query": {"generative": {"sid": clause}}})


def older_release(commit: str = "1c0f9041c7bb7dd86c89e116349ce5c599018645") -> Path:
    """The plugin as it was before `order_within`, built once."""
    out = CACHE / f"genrecall-{commit[:7]}.zip"
    if not out.exists():
        with tempfile.TemporaryDirectory() as folder:
            archive = subprocess.run(
                ["git", "archive", commit, "plugin", "proto"], cwd=ROOT, check=True, stdout=subprocess.PIPE
            )
            subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
            subprocess.run(["plugin/build.sh", "-q", "package", "-DskipTests"], cwd=folder, check=True)
            (built,) = Path(folder).glob("plugin/target/releases/*.zip")
            shutil.copy(built, out)
    return out


def other_version(plugin: Path, out: Path) -> Path:
    """The same plugin, named as another version of it."""
    with zipfile.ZipFile(plugin) as read, zipfile.ZipFile(out, "w") as write:
        for name in read.namelist():
            content = read.read(name)
            if name == "plugin-descriptor.properties":
                content = re.sub(rb"(?m)^version=.*$", f"version={NEWER}".encode(), content)
            write.writestr(name, content)
    return out
