"""What `order_within` costs: the clause with and without it beside a `match` query, on a real node.

    genrecall node start 'opensearch.node.jvm_options=[]'
    python -m benchmarks.order_within [--url http://127.0.0.1:9200] [--items 100000] [--blocks 10]

Fills an index of its own (genrecall-bench-within, one shard) with random items: titles of eight words out of 20,000,
the most frequent in one title of twenty, some four items a SID, vectors of 384 dimensions without a graph. SIDs are
given in the clause, so that no model is part of what is measured. For k = 20, 50, 100, 200:
  match                        BM25 of three words of a title over all items, the reference
  clause                       the k SIDs as without the option
  order_within, match          ordered by the same `match`
  order_within, text, vectors  ordered by the default template: 20 x exact cosine + BM25
  composed, match              the query that `index_mappings.compose` writes for the second
  exact vectors of all items   `script_score` over every item: what the clause spares
Milliseconds that one client waits for a response, 50 hits without source, and processor time of the node per query,
which other work on the machine disturbs less. Sides take turns in blocks. The node must run on this machine (Linux).
Prints a table and writes benchmarks/results/order_within.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from opensearchpy import OpenSearch
from opensearchpy.helpers import bulk
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.machine import machine_info
from genrecall.config.opensearch import OpenSearchSection
from index_mappings import search

INDEX = "genrecall-bench-within"
OUT = Path(__file__).parent / "results" / "order_within.json"
SECTION = OpenSearchSection(bm25_fields=("title",))
DIMENSION, VOCABULARY, WORDS, ITEMS_OF_A_SID = 384, 20_000, 8, 4
KS, HITS, BLOCK, WARM_UP = (20, 50, 100, 200), 50, 50, 4
SLOW = "exact vectors of all items"  # a tenth of the queries
TICK_MS = 1e3 / os.sysconf("SC_CLK_TCK")
MAPPING = {
    "_meta": {"genrecall": {"codebook": "v1"}},
    "properties": {
        "sid": {"type": "keyword"},
        "title": {"type": "text", "analyzer": "english"},
        "vector": {"type": "knn_vector", "dimension": DIMENSION},
    },
}


class Shop:
    """Random items: titles, and the row of each item's SID."""

    def __init__(self, items: int, rng: np.random.Generator) -> None:
        odds = 1 / (20 + np.arange(VOCABULARY))
        words = rng.choice(VOCABULARY, size=(items, WORDS), p=odds / odds.sum())
        self.titles = [" ".join(f"w{word}" for word in title) for title in words]
        self.sids = rng.integers(0, items // ITEMS_OF_A_SID, size=items)
        self.sizes = np.bincount(self.sids, minlength=items // ITEMS_OF_A_SID)

    def documents(self, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        for row, title in enumerate(self.titles):
            vector = rng.normal(size=DIMENSION).round(4).tolist()
            yield {"_index": INDEX, "_id": str(row), "sid": term(self.sids[row]), "title": title, "vector": vector}


def term(sid: int) -> str:
    return f"v1/{sid // 10_000}/{sid // 100 % 100}/{sid % 100}"


def fill(client: OpenSearch, shop: Shop, rng: np.random.Generator) -> None:
    client.indices.delete(index=INDEX, params={"ignore_unavailable": "true"})
    settings = {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"}
    client.indices.create(index=INDEX, body={"settings": settings, "mappings": MAPPING})
    bulk(client, track(shop.documents(rng), "filling", total=len(shop.titles)), chunk_size=1000)
    client.indices.refresh(index=INDEX)


def sides(shop: Shop, k: int, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """One query as each side asks it: a title's words, its item's SID and others that have items."""
    row = rng.integers(len(shop.titles))
    text = " ".join(rng.choice(shop.titles[row].split(), 3, replace=False))
    others = rng.choice(np.flatnonzero(shop.sizes), k, replace=False)
    sids = np.unique(np.append(others[others != shop.sids[row]][: k - 1], shop.sids[row]))
    scores = np.exp(-rng.exponential(3, size=len(sids))).astype(np.float32).tolist()
    sizes = shop.sizes[sids].tolist()
    terms = [term(sid) for sid in sids]
    entries = [
        {"sid": sid, "score": score, "items": items} for sid, score, items in zip(terms, scores, sizes, strict=True)
    ]
    match = {"match": {"title": text}}
    both = search.order_by_text_and_vector(text, rng.normal(size=DIMENSION), SECTION)
    return {
        "match": match,
        "clause": search.generative(sids=entries),
        "order_within, match": search.generative(sids=entries, order_within={"query": match}),
        "order_within, text, vectors": search.generative(sids=entries, order_within=both),
        "composed, match": search.ordered_sids(terms, scores, sizes, match),
        SLOW: both["query"]["bool"]["should"][1],
    }


def measure(client: OpenSearch, shop: Shop, k: int, blocks: int, rng: np.random.Generator) -> dict[str, Any]:
    pid = _node(client, "process")["process"]["id"]
    waited: dict[str, list[float]] = {}
    busy: dict[str, list[float]] = {}
    for number in track(range(-WARM_UP, blocks), f"k = {k}"):
        asked = [sides(shop, k, rng) for _ in range(BLOCK)]
        for name in asked[0]:
            some = asked[:: 10 if name == SLOW else 1]
            cpu, took = cpu_ms(pid), []
            for queries in some:
                body = search.body(queries[name], HITS)
                began = time.perf_counter()
                client.search(index=INDEX, body=body)
                took.append((time.perf_counter() - began) * 1e3)
            if number >= 0:
                waited.setdefault(name, []).extend(took)
                busy.setdefault(name, []).append((cpu_ms(pid) - cpu) / len(some))
    return {
        "k": k,
        "wait_ms": {name: spread(values) for name, values in waited.items()},
        "node_cpu_ms": {name: spread(values) for name, values in busy.items()},
    }


def cpu_ms(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_MS


def spread(ms: list[float]) -> dict[str, float]:
    p10, p90, p99 = np.percentile(ms, [10, 90, 99])
    figures = {"median": statistics.median(ms), "p10": float(p10), "p90": float(p90), "p99": float(p99)}
    return {**{name: round(value, 2) for name, value in figures.items()}, "runs": len(ms)}


def about(client: OpenSearch) -> dict[str, Any]:
    """Versions and options of the node, and of what the index is made."""
    node = _node(client, "jvm,plugins")
    return {
        "opensearch": node["version"],
        "jvm": node["jvm"]["version"],
        "heap_mb": node["jvm"]["mem"]["heap_max_in_bytes"] >> 20,
        "plugins": {plugin["name"]: plugin["version"] for plugin in node["plugins"]},
        "segments": len(client.cat.segments(index=INDEX, format="json")),
    }


def _node(client: OpenSearch, metric: str) -> dict[str, Any]:
    (node,) = client.nodes.info(metric=metric)["nodes"].values()
    found: dict[str, Any] = node
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    title = "ms: median of the node's processor time; median (p10 to p90) of the wait"
    shown = Table("side", *(f"k = {row['k']}" for row in rows), title=title)
    for name in rows[0]["wait_ms"]:
        cells = [(row["node_cpu_ms"][name]["median"], row["wait_ms"][name]) for row in rows]
        shown.add_row(name, *(f"{cpu:.1f}; {w['median']:.1f} ({w['p10']:.1f} to {w['p90']:.1f})" for cpu, w in cells))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:9200")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--blocks", type=int, default=10, help=f"of {BLOCK} queries for each side and k")
    args = parser.parse_args()

    client, rng = OpenSearch(args.url, timeout=120), np.random.default_rng(13)
    shop = Shop(args.items, rng)
    fill(client, shop, rng)
    rows = [measure(client, shop, k, args.blocks, rng) for k in KS]
    result = {
        "items": args.items,
        "node": about(client),
        "machine": machine_info(),
        "load": os.getloadavg()[1],
        "rows": rows,
    }
    client.indices.delete(index=INDEX)
    OUT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    Console().print(table(rows), f"{result['node']}\n{result['machine']}\nwritten to {OUT}")


if __name__ == "__main__":
    main()
