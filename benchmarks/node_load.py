"""A node under load by `opensearch-benchmark`: the clause beside `match`, `terms`, `knn` and `hybrid`, by `k` and size.

    python -m venv /tmp/osb && /tmp/osb/bin/pip install opensearch-benchmark   # apart: it pins what we use otherwise
    genrecall node start --port 9200
    python -m benchmarks.node_load --osb /tmp/osb/bin/opensearch-benchmark [--items 10000] [--vectors] [--rate 20]

Fills an index of its own (genrecall-osb, one shard) with random items (titles of eight words out of 20,000, at most
13,000 SIDs with four items or more, with `--vectors` 384 dimensions and their graph), and starts `genrecall serve` with
a small model of random weights. opensearch-benchmark sends searches by the clock (open loop: latency counts from when a
search was due), 50 hits without source:
  match                two words of a title, the reference
  knn                  the 50 nearest of a random vector
  terms, k             a filter of the k SIDs as plain terms
  clause of sids, k    the clause with its SIDs given: no model
  clause, k            the clause with a text: the server generates the SIDs of each search anew
  hybrid, k            match and clause, fused by the node
The server and the client share the machine with the node. Prints a table and writes benchmarks/results/node_load.json,
a row a run, which later runs replace by size.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from opensearchpy import OpenSearch
from rich.console import Console
from rich.table import Table

from benchmarks import order_within, processes, random_bundle
from benchmarks.machine import machine_info
from genrecall import bundle
from index_mappings import search

INDEX = "genrecall-osb"
PIPELINE: dict[str, Any] = {"phase_results_processors": [{"normalization-processor": {}}]}
OUT = Path(__file__).parent / "results" / "node_load.json"
KS, HITS, BODIES, CLIENTS = (20, 50, 100, 500), 50, 400, 8
SHOWN = {"50th percentile latency": "p50", "99th percentile latency": "p99", "error rate": "errors %"}
Row = dict[str, Any]


def mapping(codebook: str, vectors: bool) -> Row:
    properties: Row = {"sid": {"type": "keyword"}, "title": {"type": "text", "analyzer": "english"}}
    settings: Row = {"number_of_shards": 1, "number_of_replicas": 0}
    if vectors:
        method = {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"}
        properties["vector"] = {"type": "knn_vector", "dimension": order_within.DIMENSION, "method": method}
        settings["index.knn"] = True
    meta = {"genrecall": {"codebook": codebook}}
    return {"settings": settings, "mappings": {"_meta": meta, "properties": properties}}


def documents(titles: list[str], terms: list[str], vectors: bool, rng: np.random.Generator) -> Iterator[str]:
    for title, term in zip(titles, terms, strict=True):
        document: Row = {"title": title, "sid": term}
        if vectors:
            document["vector"] = rng.normal(size=order_within.DIMENSION).round(4).tolist()
        yield json.dumps(document)


def bodies(
    titles: list[str], every: list[str], vectors: bool, count: int, rng: np.random.Generator
) -> dict[str, list[Row]]:
    """Of each task its searches, each drawn anew: neither cache of requests nor of answers is what is measured."""

    def words() -> str:
        return " ".join(rng.choice(titles[rng.integers(len(titles))].split(), 2, replace=False))

    def sids(k: int) -> list[str]:
        return rng.choice(every, k, replace=False).tolist()

    def given(k: int) -> Row:
        scores = np.exp(-rng.exponential(3, size=k)).astype(np.float32).tolist()
        return search.generative(sids=[{"sid": s, "score": p} for s, p in zip(sids(k), scores, strict=True)])

    tasks: dict[str, list[Row]] = {"match": [{"match": {"title": words()}} for _ in range(count)]}
    if vectors:
        drawn = rng.normal(size=(count, order_within.DIMENSION)).round(4)
        tasks["knn"] = [{"knn": {"vector": {"vector": one.tolist(), "k": HITS}}} for one in drawn]
    for k in KS:
        tasks[f"terms, {k}"] = [{"terms": {"sid": sids(k)}} for _ in range(count)]
        tasks[f"clause of sids, {k}"] = [given(k) for _ in range(count)]
        tasks[f"clause, {k}"] = [search.generative(f"{words()} {n}", k=k) for n in range(count)]
        tasks[f"hybrid, {k}"] = [
            {"hybrid": {"queries": [{"match": {"title": words()}}, search.generative(f"{words()} {n}", k=k)]}}
            for n in range(count)
        ]
    return {
        name: [search.body(query, HITS, PIPELINE if "hybrid" in query else None) for query in queries]
        for name, queries in tasks.items()
    }


def write_workload(folder: Path, index: Row, lines: Iterator[str], tasks: dict[str, list[Row]], rate: float) -> None:
    shutil.copy(Path(__file__).parent / "osb" / "workload.py", folder)
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    with (folder / "documents.json").open("w", encoding="utf-8") as file:
        count = sum(bool(file.write(line + "\n")) for line in lines)
    schedule: list[Row] = [
        {"operation": {"operation-type": "delete-index"}},
        {"operation": {"operation-type": "create-index"}},
        {"name": "bulk", "operation": {"operation-type": "bulk", "bulk-size": 500}, "clients": 1},
        {"operation": {"operation-type": "force-merge", "max-num-segments": 1, "request-timeout": 600}},
        {"operation": {"operation-type": "refresh"}},
    ]
    for number, (name, queries) in enumerate(tasks.items()):
        path = f"bodies-{number}.json"
        (folder / path).write_text("\n".join(map(json.dumps, queries)), encoding="utf-8")
        operation: Row = {"operation-type": "search", "param-source": "bodies", "index": INDEX, "bodies": path}
        each = len(queries) // CLIENTS  # iterations are a client's
        times: Row = {"warmup-iterations": each // 8, "iterations": each - each // 8}
        times |= {"clients": CLIENTS, "target-throughput": rate}
        schedule.append({"name": name, "operation": operation, **times})
    size = (folder / "documents.json").stat().st_size
    source = {"source-file": "documents.json", "document-count": count, "uncompressed-bytes": size}
    workload = {
        "version": 2,
        "description": "the generative clause beside other queries",
        "indices": [{"name": INDEX, "body": "index.json"}],
        "corpora": [{"name": INDEX, "documents": [source]}],
        "test_procedures": [{"name": "all", "default": True, "schedule": schedule}],
    }
    (folder / "workload.json").write_text(json.dumps(workload), encoding="utf-8")


def run(osb: Path, folder: Path, host: str) -> list[Row]:
    """What opensearch-benchmark reports: rows of Metric, Task, Value, Unit."""
    report = folder / "report.csv"
    command = [str(osb), "run", "--pipeline=benchmark-only", f"--target-hosts={host}", f"--workload-path={folder}"]
    command += ["--offline", "--results-format=csv", f"--results-file={report}", "--kill-running-processes"]
    subprocess.run(command, check=True, env={**os.environ, "BENCHMARK_HOME": str(folder / "home")})
    with report.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def about_index(client: OpenSearch) -> Row:
    stats = client.indices.stats(index=INDEX)["_all"]["primaries"]
    return {"documents": stats["docs"]["count"], "bytes": stats["store"]["size_in_bytes"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--osb", type=Path, required=True, help="the program opensearch-benchmark")
    parser.add_argument("--host", default="127.0.0.1:9200")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--vectors", action="store_true")
    parser.add_argument("--searches", type=int, default=BODIES, help="of each task, an eighth of them to warm up")
    parser.add_argument("--rate", type=float, default=20.0, help="searches a second of each task")
    args = parser.parse_args()

    client, rng, console = OpenSearch(f"http://{args.host}", timeout=120), np.random.default_rng(13), Console()
    titles = order_within.Shop(args.items, rng).titles
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random_bundle.publish(folder / "bundles", random_bundle.TINY, *random_bundle.shop_texts(), onnx=True)
        opened = bundle.open(bundle.resolve(folder / "bundles"))
        rows = rng.choice(
            len(opened.space), min(len(opened.space), args.items // order_within.ITEMS_OF_A_SID), replace=False
        )
        every = [f"{opened.codebook}/{'/'.join(map(str, sid))}" for sid in opened.space.sids[rows].tolist()]
        terms = [every[n] for n in rng.integers(0, len(every), args.items)]
        tasks = bodies(titles, every, args.vectors, args.searches, rng)
        lines = documents(titles, terms, args.vectors, rng)
        write_workload(folder, mapping(opened.codebook, args.vectors), lines, tasks, args.rate)
        with processes.genrecall_server(folder / "bundles", "onnx", None) as server:
            client.cluster.put_settings(body={"transient": {"genrecall.endpoint": server.endpoint}})
            report = run(args.osb, folder, args.host)
            made = about_index(client)
    client.indices.delete(index=INDEX)
    result = {"items": args.items, "vectors": args.vectors, "rate": args.rate, **made, "load": os.getloadavg()[1]}
    result |= {"machine": machine_info(), "report": [row for row in report if row["Task"] or "GC" in row["Metric"]]}
    written = json.loads(OUT.read_text("utf-8")) if OUT.exists() else []
    same = ("items", "vectors", "rate")
    kept = [one for one in written if any(one[name] != result[name] for name in same)]
    OUT.write_text(json.dumps([*kept, result], indent=1) + "\n", encoding="utf-8")
    console.print(table(result))


def table(result: Row) -> Table:
    found: dict[str, dict[str, str]] = {}
    for row in result["report"]:
        if row["Metric"] in SHOWN:
            found.setdefault(row["Task"], {})[SHOWN[row["Metric"]]] = f"{float(row['Value']):.1f}"
    title = f"{result['items']:,} items, vectors: {result['vectors']}, {result['rate']:g} searches a second; ms"
    shown = Table("task", *SHOWN.values(), title=title)
    for task, values in found.items():
        shown.add_row(task, *(values.get(name, "") for name in SHOWN.values()))
    return shown


if __name__ == "__main__":
    main()
