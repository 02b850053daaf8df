"""A small shop, and a cluster that can be made to fail on the way."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pytest
from opensearchpy import OpenSearch

from genrecall.config.opensearch import BulkSection, OpenSearchSection
from genrecall.local_node.node import Node
from genrecall.opensearch import connect
from genrecall.records import ITEMS
from index_mappings.load import LoadInput, LoadReport, load
from index_mappings.meta import IndexMeta
from index_mappings.progress import Progress
from tests.index.proxy import Relaying

DIMENSION = 8
META = IndexMeta(codebook="v1", assignments="a" * 64, encoder="minilm")
_names = itertools.count()


@dataclass(frozen=True)
class Shop:
    items: pa.Table
    terms: dict[str, str]
    vectors: np.ndarray

    @classmethod
    def of(cls, count: int) -> "Shop":
        colours, things = ["red", "blue", "green", "black"], ["shoe", "lamp", "chair"]
        rows = [
            {
                "item_id": f"B{i:04}",
                "title": f"{colours[i % 4]} {things[i % 3]} number {i}",
                "category": ["Home", things[i % 3]],
                "brand": f"brand {i % 5}",
                "text": "",
            }
            for i in range(count)
        ]
        vectors = np.random.default_rng(0).normal(size=(count, DIMENSION)).astype(np.float32)
        terms = {row["item_id"]: f"v1/{i % 3}/{i % 4}/{i % 2}" for i, row in enumerate(rows)}
        return cls(pa.Table.from_pylist(rows, ITEMS), terms, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def fill(
    section: OpenSearchSection,
    shop: Shop,
    folder: Path,
    meta: IndexMeta = META,
    switch: bool = False,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> LoadReport:
    source = LoadInput(meta, shop.items, shop.terms, shop.vectors, {"items": "sha"})
    return load(connect(section), section, source, folder, switch, Progress(advance=advance))


def everything(client: OpenSearch, index: str) -> dict[str, dict]:
    """Every document of an index of less than a thousand."""
    client.indices.refresh(index=index)
    hits = client.search(index=index, body={"size": 1000})["hits"]["hits"]
    return {hit["_id"]: hit["_source"] for hit in hits}


@dataclass
class Faults:
    """What happens to the next bulk requests, in order, and to the next searches: statuses to answer with.

    A status to answer with, "drop" the connection, or "429 items": answer that each of its items was refused for now.
    """

    url: str = ""
    planned: list[int | str] = field(default_factory=list)
    searches: list[int] = field(default_factory=list)
    bulks: int = 0


@pytest.fixture
def section(node: Node) -> Iterator[OpenSearchSection]:
    """The real node, under an alias that no other test uses; its indices are removed afterwards."""
    section = OpenSearchSection(
        url=node.url, index=f"shop{next(_names)}", bulk=BulkSection(docs=10, attempts=4, backoff_s=0.01)
    )
    yield section
    client = connect(section)
    client.indices.delete(index=f"{section.index}-*")
    client.indices.delete_index_template(name=section.index, ignore=404)


@pytest.fixture
def client(section: OpenSearchSection) -> OpenSearch:
    return connect(section)


@pytest.fixture
def flaky(section: OpenSearchSection) -> Iterator[tuple[OpenSearchSection, Faults]]:
    """The real node behind a proxy that makes bulk requests fail as planned."""
    faults = Faults()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _proxy(section.url, faults))
    Thread(target=server.serve_forever, daemon=True).start()
    faults.url = f"http://127.0.0.1:{server.server_port}"
    yield section.model_copy(update={"url": faults.url}), faults
    server.shutdown()
    server.server_close()


def _proxy(target: str, faults: Faults) -> type[BaseHTTPRequestHandler]:
    class Proxy(Relaying):
        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if "_bulk" in self.path:
                faults.bulks += 1
                fault = faults.planned.pop(0) if faults.planned else None
                if fault == "drop":
                    self.close_connection = True
                    return
                if fault == "429 items":
                    items = [{"index": {"status": 429, "error": {"reason": "planned"}}}] * body.count(
                        b'{"index":{"_id"'
                    )
                    return self.answer(200, json.dumps({"errors": True, "items": items}).encode())
                if fault is not None:
                    return self.answer(int(fault), b'{"error":{"reason":"planned"},"status":%d}' % int(fault))
            if "_search" in self.path and faults.searches:
                return self.answer(faults.searches.pop(0), b'{"error":{"reason":"planned"}}')
            self.pass_on(target + self.path, body, self.headers)

    return Proxy
