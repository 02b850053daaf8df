"""Calls a second that a server on this machine holds, ghz and server sharing its cores.

A server holds a rate where 99.9% of the calls are OK and the 99th percentile of those, counted from when a call was
due, is within the limit. The load climbs until that fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from benchmarks import go_tools, processes, random_bundle
from benchmarks.gpu.bench import Bench, Row
from benchmarks.gpu.wheels import TOOLS
from benchmarks.load import Load, write_requests
from benchmarks.models import SHAPES
from benchmarks.serving import MIN_OK

LIMIT_MS = 40.0
RATES = (100, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 2000, 2500, 3000, 4000)
K, DEADLINE_S = 50, 0.5


def run(bench: Bench) -> None:
    texts = random_bundle.shop_texts()
    shape = random_bundle.TINY if bench.small else SHAPES["0.5b"]
    root = bench.folder / "bundles"
    random_bundle.publish(root, shape, *texts, onnx=False, device=bench.device, dtype=bench.dtype)
    load = loader(bench, bench.folder / "requests.json", texts[1])
    bench.measure("serving", {}, climb, bench, root, load, needs=15)


def climb(bench: Bench, root: Path, load: Load) -> Row:
    """Adds a row a rate; the highest that the server holds."""
    rates, seconds = ((20,), 1.0) if bench.small else (RATES, 3.0)
    best: Row = {}
    with server(bench, root) as running:
        load.open_loop(running.endpoint, rates[0], 1.0)
        for rate in rates:
            if bench.left < 3 * seconds:
                break
            with processes.monitored(running) as usage:
                found = load.open_loop(running.endpoint, rate, seconds)
            inside = usage.server_figures()
            row = {
                **{key: found[key] for key in ("p50_ms", "p99_ms", "ok_per_s", "sent_late_p99_ms")},
                "ok": found["shares"].get("OK", 0.0),
                "batch": inside.get("batch_entries", 0.0),
                "compute_ms": inside.get("batch_ms", 0.0),
                "server_cores": round(usage.cpu_s / usage.seconds, 2),
            }
            bench.add("rates", rate=rate, **row)
            slow = row["p99_ms"] > LIMIT_MS and not bench.small  # a rehearsal measures nothing
            if row["ok"] < MIN_OK or slow:
                break
            best = {"rate": rate, **row}
    if not best:
        raise RuntimeError(f"{rates[0]} calls a second are too many: p99 {row['p99_ms']} ms, OK {row['ok']:.1%}")
    return {"holds_per_s": best["rate"], "p50_ms": best["p50_ms"], "p99_ms": best["p99_ms"]}


@contextmanager
def server(bench: Bench, root: Path, *settings: str) -> Iterator[processes.Server]:
    """`genrecall serve` of torch on the device, in the precision of the benchmark."""
    dtype = str(bench.dtype).removeprefix("torch.")
    own = [f"server.device={bench.device}", f"server.dtype={dtype}", "server.threads=0", f"server.default_k={K}"]
    with processes.genrecall_server(root, "torch", None, [*own, *settings]) as running:
        yield running


def loader(bench: Bench, data: Path, queries: list[str]) -> Load:
    """ghz, as it was carried here; built where Go is at hand."""
    write_requests(data, queries, K)
    return Load(go_tools.install(go_tools.GHZ, bench.carried / TOOLS, Console()), data, None, DEADLINE_S)
