"""A cluster of three nodes, an inference server with two codebooks, and the load that goes on while an alias moves."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from genrecall.config import Config
from genrecall.config.opensearch import BulkSection, OpenSearchSection, RefreshSection
from genrecall.config.run import RunSection
from genrecall.errors import UserError
from genrecall.evaluation.folds_node import plugin_endpoint
from genrecall.evaluation.server_process import inference_server
from genrecall.opensearch import connect, is_transient
from genrecall.records import ITEMS
from index_mappings.alias import aliased
from index_mappings.load import LoadInput, load, terms_of
from index_mappings.meta import IndexMeta
from index_mappings.migration import refresh
from index_mappings.migration.context import MigrationContext
from index_mappings.migration.refresh import MigrationReport
from index_mappings.progress import Progress
from index_mappings.sids import Sids
from tests.cluster.nodes import Cluster, patient
from tests.e2e.live import AT_ONCE, Answer, Searches, Writer, answering, plain
from tests.faults.bundles import publish

DIMENSION = 8
LOADED = 1000  # items of the 2,000 that the bundles know
SHARDS, REPLICAS = 3, 1
RATE = 8.0  # searches a second
WRITES_EVERY_S = 0.02
QUICK = {
    "drain_timeout_s": 1,
    "catch_up_threshold": 20,
    "docs_per_s": 400,
    "max_delete_share": 1,
    "max_without_sid": 1,  # writers bring documents without SIDs: a refresh gives them one, before a rollback none has
}
WORDS = ["red shoes", "blue lamp", "blue shoes", "red lamp"]
LEFT = r"search_phase_execution_exception.*('root_cause': \[\]|not connected|node_closed|node_disconnected)"
_names = itertools.count()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """It fails, with the reason, where three nodes cannot be had."""
    try:
        cluster = Cluster.start()
    except UserError as error:
        pytest.fail(f"no cluster to test with: {error}", pytrace=False)
    yield cluster
    cluster.purge()


@dataclass
class Shop:
    """Attributes:
    metas, terms: of each codebook.
    """

    cluster: Cluster
    metas: dict[str, IndexMeta]
    terms: dict[str, dict[str, str]]
    folder: Path

    @contextmanager
    def indexed(self, replication: str = "DOCUMENT", **changes: Any) -> Iterator[Move]:
        """An index of v1 under an alias of its own, loaded, with all its replicas."""
        name = f"shop{next(_names)}"
        client = self.cluster.client
        settings = {"template": {"settings": {"index.replication.type": replication}}}
        client.cluster.put_component_template(name=name, body=settings)
        section = OpenSearchSection(
            url=self.cluster.urls,
            index=name,
            shards=SHARDS,
            replicas=REPLICAS,
            components=(name,),
            bulk=BulkSection(docs=50),
            refresh=RefreshSection(**{**QUICK, **changes}),
        )
        rows = [
            {
                "item_id": f"item-{n}",
                "title": f"{WORDS[n % 4]} number {n}",
                "category": ["Home"],
                "brand": f"brand {n % 5}",
                "text": "",
            }
            for n in range(LOADED)
        ]
        vectors = np.random.default_rng(0).normal(size=(LOADED, DIMENSION)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        source = LoadInput(self.metas["v1"], pa.Table.from_pylist(rows, ITEMS), self.terms["v1"], vectors, {})
        load(connect(section, retry=section.bulk), section, source, self.folder)
        self.cluster.settle()
        try:
            yield Move(self, section)
        finally:
            self.cluster.settle()
            client.indices.delete(index=f"{name}-*")
            client.indices.delete_index_template(name=name)
            client.cluster.delete_component_template(name=name)
            client.delete(index=".genrecall-jobs", id=name, ignore=404)


@pytest.fixture(scope="module")
def shop(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("cluster")
    bundles = {codebook: publish(folder / "bundles", codebook, seed) for seed, codebook in enumerate(("v1", "v2"))}
    settings = Config(run=RunSection(bundles_dir=folder / "bundles"))
    metas = {name: IndexMeta.of(bundle, settings.encoder) for name, bundle in bundles.items()}
    terms = {name: terms_of(bundle.items(), name) for name, bundle in bundles.items()}
    with (
        inference_server(settings, list(bundles), folder / "server.log") as endpoint,
        plugin_endpoint(cluster.client, endpoint),
    ):
        yield Shop(cluster, metas, terms, folder)


class JudgedSearches(Searches):
    """Hybrid searches, each answer compared with the SIDs that its index must have."""

    def __init__(self, shop: Shop, section: OpenSearchSection) -> None:
        client = patient(shop.cluster.urls, pool_maxsize=AT_ONCE)
        super().__init__(section, None, WORDS, RATE, client, DIMENSION)
        self._terms, self._alias = shop.terms, section.index

    def judged(self, answer: Mapping[str, Any], composed: bool) -> tuple[str, tuple[str, ...], str]:
        """A document that a writer has just replaced has no SID until somebody assigns one."""
        index, fault = answering(answer)
        if fault:
            return "", (), fault
        hits, terms = answer["hits"]["hits"], self._terms[index.removeprefix(f"{self._alias}-")]
        wrong = [hit for hit in hits if hit["_source"].get("sid") not in (None, terms[hit["_id"]])]
        if wrong:
            return index, (), f"{wrong[0]['_id']} of {index} has SID {wrong[0]['_source']['sid']}"
        if not any("gen" in hit.get("matched_queries", ()) for hit in hits):
            return index, (), "the generative clause matched nothing"
        return index, (), ""


class PatientWriter(Writer):
    """What it adds the bundles know; while a shard has no primary, or a node is gone, it tries again."""

    def new_id(self, number: int) -> str:
        return f"item-{LOADED + number % 1000}"

    def repeats(self, error: TransportError) -> bool:
        return super().repeats(error) or is_transient(error)


@dataclass
class Move:
    """The index of one test, under searches and writes, and what came of them."""

    shop: Shop
    section: OpenSearchSection
    killed: list[tuple[float, float]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    writes: int = 0
    waited: float = 0.0

    @property
    def alias(self) -> str:
        return self.section.index

    @contextmanager
    def under_load(self, restarts: bool = False) -> Iterator[None]:
        """Afterwards the alias must hold what the writer has written, and no search failed but in a kill.

        restarts: whether searches may fail of a node that left between two of their phases.
        """
        searches = JudgedSearches(self.shop, self.section)
        # It repeats by itself: behind a client that does, a deletion whose answer was lost would look like a loss.
        client = patient(self.shop.cluster.urls, max_retries=0)
        writer = PatientWriter(self.section, WRITES_EVERY_S, client)
        with searches.running(), writer.running():
            yield
        self.answers, self.writes, self.waited = searches.answers, writer.writes, max(writer.refused, default=0.0)
        failed = [answer for answer in self.answers if answer.wrong]
        print(
            f"\n{self.alias}: {len(self.answers)} searches, {len(failed)} failed; {self.writes} writes, the longest "
            f"waited {self.waited:.2f} s"
        )
        if restarts:
            failed = [answer for answer in failed if not re.search(LEFT, answer.wrong)]
        assert [answer for answer in failed if not self._in_flight(answer)] == [], self.killed
        self.compare(writer.documents)

    def kill(self, number: int) -> None:
        """Kill a node; searches that are under way between the kill and the end of the process may fail."""
        began = time.monotonic()
        wait = self.shop.cluster.kill(number)

        def note() -> None:
            wait()
            self.killed.append((began, time.monotonic()))

        threading.Thread(target=note).start()

    def _in_flight(self, answer: Answer) -> bool:
        ended = answer.sent + answer.seconds
        return any(answer.sent <= gone and began <= ended for began, gone in self.killed)

    def compare(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Every copy of every shard holds these, with SIDs of one codebook."""
        self.shop.cluster.settle()
        (index,) = aliased(self.shop.cluster.client, self.alias)
        terms = self.shop.terms[index.removeprefix(f"{self.alias}-")]
        for copy in ("_primary", "_replica"):
            found = held(self.shop.cluster.client, index, copy, documents.keys())
            assert {id: plain(source) for id, source in found.items()} == documents, copy
            assert all(source.get("sid") in (None, terms[id]) for id, source in found.items())

    def refresh(self, **progress: Any) -> MigrationReport:
        """To v2."""
        client, context = self._job("v2", progress)
        report = refresh.refresh(client, self.section, self.shop.metas["v2"], context)
        assert report is not None
        assert aliased(client, self.alias) == [f"{self.alias}-v2"]
        return report

    def rollback(self, **progress: Any) -> MigrationReport:
        """To v1."""
        client, context = self._job("v1", progress)
        report = refresh.rollback(client, self.section, context)
        assert aliased(client, self.alias) == [f"{self.alias}-v1"]
        return report

    def _job(self, codebook: str, progress: Any) -> tuple[OpenSearch, MigrationContext]:
        client = connect(self.section, retry=self.section.bulk)
        search = refresh.generative_search(client, None)
        sids = Sids(self.shop.terms[codebook], None)
        return client, MigrationContext(sids, search, WORDS, self.shop.folder, Progress(**progress))


def held(client: OpenSearch, index: str, copy: str, wanted: Any) -> dict[str, dict[str, Any]]:
    """All documents of the primaries or of the replicas. Replicas that copy segments get some seconds to do so."""
    ends = time.monotonic() + 10
    while True:
        client.indices.refresh(index=index)
        hits = client.search(index=index, body={"size": 10_000}, params={"preference": copy})["hits"]["hits"]
        found = {hit["_id"]: hit["_source"] for hit in hits}
        assert len(found) == len(hits)
        if found.keys() == wanted or time.monotonic() > ends:
            return found
        time.sleep(0.2)


def once(act: Callable[[], None], when: Callable[..., bool]) -> Callable[..., None]:
    """Calls `act` at the first call for which `when` holds."""
    done = threading.Event()

    def call(*arguments: Any) -> None:
        if not done.is_set() and when(*arguments):
            done.set()
            act()

    return call
