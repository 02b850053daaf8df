"""What sharing calls saves: processor time of the inference server for a question, by `genrecall.batch_window`.

    genrecall node start 'opensearch.node.jvm_options=[]'
    python -m benchmarks.micro_batching [--url http://127.0.0.1:9200] [--seconds 8]

Questions that no two ask alike go to the dry run of a node at a fixed rate, by the clock, whether earlier ones are
answered or not (open loop), and from there to a server of its own. Its model takes next to no time, so that what a call
costs beside its questions is seen. Windows take turns at each rate. All run on this machine (Linux).
Prints a table and writes benchmarks/results/micro_batching.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from opensearchpy import AsyncOpenSearch, OpenSearch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_info
from benchmarks.processes import Server, genrecall_server
from benchmarks.random_bundle import TINY, publish, shop_texts
from genrecall.evaluation.folds_node import plugin_endpoint

OUT = Path(__file__).parent / "results" / "micro_batching.json"
WINDOWS_MS, RATES = (0, 1, 2, 5), (25, 50, 100, 200)
PATH, K = "/_plugins/_genrecall", 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:9200")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rates", type=int, nargs="+", default=RATES)
    options = parser.parse_args()
    node = OpenSearch(options.url)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        titles, queries = shop_texts()
        publish(Path(folder), TINY, titles, queries, onnx=False)
        with genrecall_server(Path(folder), "torch", None) as server, plugin_endpoint(node, server.endpoint):
            _ask(options.url, 50, 2.0, queries)  # connections, code that the JVM compiles
            for rate in options.rates:
                for window_ms in WINDOWS_MS:
                    _set(node, f"{window_ms}ms")
                    rows.append(measure(node, options.url, server, rate, window_ms, options.seconds, queries))
            _set(node, None)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine_info(), "rows": rows}, indent=2) + "\n", encoding="utf-8")
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


def measure(
    node: OpenSearch, url: str, server: Server, rate: int, window_ms: int, seconds: float, queries: list[str]
) -> dict[str, Any]:
    calls, cpu_s = _calls(node), server.cpu_s
    taken_ms = _ask(url, rate, seconds, queries)
    calls, cpu_s = _calls(node) - calls, server.cpu_s - cpu_s
    return {
        "rate": rate,
        "window_ms": window_ms,
        "questions_a_call": round(len(taken_ms) / calls, 2),
        "server_cpu_ms": round(1e3 * cpu_s / len(taken_ms), 2),
        "p50_ms": round(float(np.median(taken_ms)), 1),
        "p99_ms": round(float(np.percentile(taken_ms, 99)), 1),
    }


def _ask(url: str, rate: int, seconds: float, queries: list[str]) -> list[float]:
    """Milliseconds until each answer, from when its question was due."""

    async def run() -> list[float]:
        client = AsyncOpenSearch(url, timeout=30, pool_maxsize=256, max_retries=0)
        began = time.perf_counter()

        async def one(number: int) -> float:
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            text = f"{queries[number % len(queries)]} {time.monotonic_ns()}"
            body = {"codebook": "v1", "query_text": text, "k": K, "timeout": "20s"}
            await client.transport.perform_request("POST", f"{PATH}/generate", body=body)
            return 1e3 * (time.perf_counter() - due)

        try:
            return await asyncio.gather(*(one(number) for number in range(round(rate * seconds))))
        finally:
            await client.close()

    return asyncio.run(run())


def _calls(node: OpenSearch) -> int:
    stats = node.transport.perform_request("GET", f"{PATH}/stats")["nodes"]
    return sum(one["calls"]["count"] for one in stats.values())


def _set(node: OpenSearch, window: str | None) -> None:
    node.cluster.put_settings(body={"persistent": {"genrecall.batch_window": window}})


if __name__ == "__main__":
    main()
