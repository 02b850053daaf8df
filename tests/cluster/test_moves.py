"""Refresh and rollback on three nodes that break, under searches and writes: 3 shards, 1 replica.

At the end of each move every copy of every shard holds what the writer wrote, every answer was checked, and only
searches that were under way when a node was killed may have failed. The figures in docs/refresh_faults.md:

    .venv/bin/python -m pytest tests/cluster -m node -s

`make test` runs two of them, `make test-cluster` all.
"""

from __future__ import annotations

import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from genrecall.local_node.node import configured_plugins
from index_mappings.index_settings import settings_of
from index_mappings.lease import JobLease
from index_mappings.migration import indices
from tests.cluster.conftest import SHARDS, Shop, once
from tests.cluster.nodes import COUNT
from tests.conftest import NODE

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


def other_version(plugin: Path, out: Path) -> Path:
    """The same plugin, named as another version of it."""
    with zipfile.ZipFile(plugin) as read, zipfile.ZipFile(out, "w") as write:
        for name in read.namelist():
            content = read.read(name)
            if name == "plugin-descriptor.properties":
                content = re.sub(rb"(?m)^version=.*$", f"version={NEWER}".encode(), content)
            write.writestr(name, content)
    return out
