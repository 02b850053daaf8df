"""Three real nodes of one cluster on loopback, which a test kills, restarts and upgrades."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError
from rich.console import Console

from genrecall.config.opensearch import NodeSection
from genrecall.local_node import node as local
from genrecall.local_node import process
from tests.conftest import CACHE, NODE, PORT

COUNT = 3
HEAP_MB = 384
PORTS = tuple(PORT + 1000 + number for number in range(COUNT))
QUIET = Console(quiet=True)
SETTLE_S = 120.0


@dataclass
class Cluster:
    """Attributes:
    sections: of the nodes, in the order of their ports.
    client: asks any node that answers, and another one where it does not.
    """

    sections: list[NodeSection]

    @classmethod
    def start(cls) -> Cluster:
        """UserError, with the reason, where it cannot be had."""
        sections = [NODE.model_copy(update={"port": port, "cluster": PORTS, "heap": f"{HEAP_MB}m"}) for port in PORTS]
        cluster = cls(sections)
        cluster.purge()  # what a killed session may have left
        CACHE.mkdir(parents=True, exist_ok=True)
        process.check_resources({"memory": COUNT * (HEAP_MB + process.JVM_OVERHEAD_MB), "disk": 0}, CACHE)
        try:
            with ThreadPoolExecutor(COUNT) as pool:  # at once: none answers before most are up
                list(pool.map(local.start, sections, [CACHE] * COUNT, [QUIET] * COUNT))
            cluster.settle()
        except BaseException:
            cluster.purge()
            raise
        return cluster

    def purge(self) -> None:
        for section in self.sections:
            local.stop(section, CACHE, QUIET, purge=True)

    @property
    def urls(self) -> list[str]:
        return [f"http://{process.HOST}:{section.port}" for section in self.sections]

    @property
    def client(self) -> OpenSearch:
        return patient(self.urls)

    def kill(self, number: int) -> Callable[[], None]:
        """As a machine that is gone: nothing is flushed, no shard is handed over. Call the result to wait for the end,
        until which the process holds its connections.
        """
        node = self._node(number)
        assert node.pid is not None
        os.kill(node.pid, signal.SIGKILL)

        def wait() -> None:
            while process.alive(node.pid, Path(node.folder)):
                time.sleep(0.005)

        return wait

    def restart(self, number: int, plugins: Sequence[Path] = ()) -> None:
        """Start a node that was killed or stopped; with `plugins` (zips), one that runs is stopped first."""
        if plugins:
            self.sections[number] = self.sections[number].model_copy(update={"plugins": tuple(map(str, plugins))})
        local.start(self.sections[number], CACHE, QUIET)

    def settle(self) -> None:
        """Wait until all nodes are there and all copies of all shards."""
        client, ends = self.client, time.monotonic() + SETTLE_S
        while True:
            health = client.cluster.health()
            if (health["number_of_nodes"], health["status"], health["relocating_shards"]) == (COUNT, "green", 0):
                return
            assert time.monotonic() < ends, client.cat.shards(params={"v": "true"})
            time.sleep(0.2)

    def manager(self) -> int:
        """The node that manages the cluster."""
        (row,) = self.client.cat.cluster_manager(format="json")
        return self._number(row["node"])

    def primaries(self, index: str) -> dict[int, int]:
        """shard -> the node of its primary"""
        rows = self.client.cat.shards(index=index, format="json")
        return {int(row["shard"]): self._number(row["node"]) for row in rows if row["prirep"] == "p"}

    def move_primary(self, index: str, shard: int) -> bool:
        """Have a primary go to a node without a copy of it; False while a copy of it is on the move already."""
        rows = [row for row in self.client.cat.shards(index=index, format="json") if int(row["shard"]) == shard]
        if any(row["state"] != "STARTED" for row in rows):
            return False
        source = self.primaries(index)[shard]
        free = sorted(set(range(COUNT)) - {self._number(row["node"]) for row in rows})
        at = {"index": index, "shard": shard, "from_node": self.name(source), "to_node": self.name(free[0])}
        try:
            self.client.cluster.reroute(body={"commands": [{"move": at}]})
        except RequestError:  # the cluster has begun to move it meanwhile
            return False
        return True

    def name(self, number: int) -> str:
        return f"genrecall-{self.sections[number].port}"

    def _number(self, name: str) -> int:
        return [self.name(number) for number in range(COUNT)].index(name.split(" ", maxsplit=1)[0])

    def _node(self, number: int) -> local.Node:
        section = self.sections[number]
        node = local.read(local.node_root(section, CACHE, local.node_account(section.user)), section.port)
        assert node
        return node


def patient(urls: Sequence[str], **options: Any) -> OpenSearch:
    """A client of several nodes: what one does not answer it asks the next."""
    own = {"timeout": 60, "max_retries": 5, "retry_on_status": (502, 503, 504), "dead_timeout": 1, **options}
    return OpenSearch(list(urls), **own)
