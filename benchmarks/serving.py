"""The server under load, against a plain gRPC server: latency by rate, and the highest sustained rate.

    python -m benchmarks.serving                                  a small model of random weights, about 12 minutes
    python -m benchmarks.serving --bundles DIR --engine torch     the current bundle there
    python -m benchmarks.serving --rates 20,50 --seconds 5 --memory-seconds 0

Servers, each a process with one compute thread, started together and loaded in turns:
  serve, ENGINE    `genrecall serve`
  plain, ENGINE    `benchmarks.plain_server`: the same engine, weights and contract, one request at a time
  serve, ENGINE, SETTING    where --setting is given

Load is open-loop: ghz sends calls by the clock, evenly spaced, each with a deadline, and never waits for replies; times
count from when a call was due, not from when it was sent (`load.py`), so that delays of ghz itself are included.
Where there are two cores, one is for the server and the other for ghz and this script. One query per call, of various
lengths, in turns.

A rate is sustained where 99.9% of the calls are OK and the 99th percentile of the OK ones is within the limit, there
and at every lower rate. Then: memory over time at half of what the first server sustains, and the cost of gRPC by
itself, with a model so small that computing hardly counts. Prints tables; writes benchmarks/results/serving.json and
docs/results/serving.png.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import go_tools, processes, random_bundle
from benchmarks.load import Load, write_requests
from benchmarks.machine import machine_info
from benchmarks.models import SHAPES
from benchmarks.processes import Server, monitored
from genrecall import bundle

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks/results/serving.json"
RATES = "20,40,60,80,100,120,140,160,200,300"
LIMITS_MS = (40, 100, 250)
MIN_OK = 0.999  # share of OK replies of a sustained rate
OVERLOADED_OK = 0.5  # share of OK replies below which no higher rate is tried
MAX_OTHER_CPU, TRIES = 0.15, 3  # of one core, used by other processes
DEADLINE_S = 0.5
SIDES = {"serve": processes.genrecall_server, "plain": processes.plain_server}

Row = dict[str, Any]


def climb(servers: dict[str, Server], load: Load, rates: list[int], seconds: float, console: Console) -> list[Row]:
    """Every server at every rate, in turns, until it is overloaded.

    A measurement disturbed by other processes is repeated, and the least disturbed one counts.
    """
    rows: list[Row] = []
    climbing = list(servers)
    for rate in rates:
        for side in list(climbing):
            with console.status(f"{rate} calls a second to {side}"):
                attempts = [measure(servers[side], load, rate, seconds)]
                while attempts[-1]["other_cpu"] > MAX_OTHER_CPU and len(attempts) < TRIES:
                    attempts.append(measure(servers[side], load, rate, seconds))
            row = {"side": side, **min(attempts, key=lambda one: one["other_cpu"])}
            console.print(f"{side}: {rate}/s, p99 {row['p99_ms']} ms, {row['shares']}")
            rows.append(row)
            if row["shares"].get("OK", 0.0) < OVERLOADED_OK:
                climbing.remove(side)
    return rows


def measure(server: Server, load: Load, rate: int, seconds: float) -> Row:
    """Open-loop load for `seconds`; processor time as a share of one core."""
    with monitored(server) as usage:
        row = load.open_loop(server.endpoint, rate, seconds)
    load_cpu, server_cpu = row.pop("load_cpu_s") / usage.seconds, usage.cpu_s / usage.seconds
    return {
        **row,
        "server_cpu": round(server_cpu, 3),
        "load_cpu": round(load_cpu, 3),
        "other_cpu": round(usage.machine_cpu_s / usage.seconds - load_cpu - server_cpu, 3),
        "rss_mb": usage.memory_mb(),
        "inside": usage.server_figures(),
    }


def sustained(rows: list[Row], side: str, limit_ms: float) -> int:
    """The highest sustained rate; 0 where none is."""
    best = 0
    for row in (row for row in rows if row["side"] == side):
        if row["shares"].get("OK", 0.0) < MIN_OK or row["p99_ms"] > limit_ms:
            break
        best = row["rate"]
    return best


def overhead(folder: Path, load: Load, cores: str | None, texts: tuple[list[str], list[str]], seconds: float) -> Row:
    """Closed loops against the tiny model: a lone caller, 32 of them, and `Describe`, which computes nothing."""
    random_bundle.publish(folder, random_bundle.TINY, *texts, onnx=True)
    rows = []
    for side, started in SIDES.items():
        with started(folder, "onnx", cores) as server:
            load.closed_loop(server.endpoint, "Generate", 1, 1)
            for method, callers in (("Generate", 1), ("Generate", 32), ("Describe", 32)):
                if side == "plain" and method == "Describe":
                    continue
                with monitored(server) as usage:
                    row = load.closed_loop(server.endpoint, method, callers, seconds)
                figures = usage.server_figures() if method == "Generate" else {}
                rows.append(
                    {"side": side, **row, "cpu_ms": round(usage.cpu_s * 1e3 / row["answers"], 3), "inside": figures}
                )
    return {"model": random_bundle.TINY.__dict__, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, help="folder of bundles; random weights where there is none")
    parser.add_argument("--engine", action="append", choices=["onnx", "torch"], help="may be repeated; default: both")
    parser.add_argument("--rates", default=RATES, help="calls a second, ascending")
    parser.add_argument("--seconds", type=float, default=12, help="per rate and server")
    parser.add_argument("--memory-seconds", type=float, default=120)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--setting", action="append", default=[], help="for one more server: server.max_batch=4")
    parser.add_argument("--out", type=Path, default=OUT, help="the plot of another file lies beside it")
    args = parser.parse_args()

    console = Console()
    server_cores, load_cores = processes.separate_cores()
    engines = args.engine or ["onnx", "torch"]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        with console.status("preparing"):
            program = go_tools.install(go_tools.GHZ, ROOT / ".cache/tools", console)
            texts = random_bundle.shop_texts()
            write_requests(folder / "requests.json", texts[1], args.k)
            root = args.bundles or folder / "small"
            if args.bundles is None:
                random_bundle.publish(root, SHAPES["small"], *texts, onnx="onnx" in engines)
            served = bundle_facts(bundle.open(bundle.resolve(root)))
            if load_cores:
                os.sched_setaffinity(0, {int(load_cores)})  # this script monitors the servers
            load = Load(program, folder / "requests.json", load_cores, DEADLINE_S)
            servers = {}
            for engine in engines:
                for side, started in SIDES.items():
                    servers[f"{side}, {engine}"] = stack.enter_context(started(root, engine, server_cores))
                if args.setting:
                    varied = processes.genrecall_server(root, engine, server_cores, args.setting)
                    servers[f"serve, {engine}, {' '.join(args.setting)}"] = stack.enter_context(varied)
            busy = [Path("/proc/loadavg").read_text().split()[0]]
            for server in servers.values():
                load.open_loop(server.endpoint, 10, 1)
        rows = climb(servers, load, [int(rate) for rate in args.rates.split(",")], args.seconds, console)
        first = next(iter(servers))
        limits = {side: {str(limit): sustained(rows, side, limit) for limit in LIMITS_MS} for side in servers}
        memory: Row = {}
        if args.memory_seconds:
            half = max(1, limits[first][str(LIMITS_MS[1])] // 2)
            with console.status(f"{half} calls a second to {first} for {args.memory_seconds:.0f} s"):
                memory = {"side": first, **measure(servers[first], load, half, args.memory_seconds)}
        stack.close()
        with console.status("gRPC alone"):
            alone = overhead(folder / "tiny", load, server_cores, texts, min(args.seconds, 8))
        busy.append(Path("/proc/loadavg").read_text().split()[0])
    result = {
        "bundle": {"weights": "random" if args.bundles is None else "trained", **served},
        "settings": {
            "k": args.k,
            "deadline_ms": DEADLINE_S * 1e3,
            "overrides": args.setting,
            "seconds": args.seconds,
            "server_cores": server_cores,
            "load_cores": load_cores,
            "queries": len(texts[1]),
            "load_average": busy,
        },
        "ghz": go_tools.GHZ.version,
        "machine": machine_info(),
        "rates": rows,
        "holds": limits,
        "memory": memory,
        "overhead": alone,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    plot(rows, list(servers), args.out.with_suffix(".png") if args.out != OUT else ROOT / "docs/results/serving.png")
    for shown in tables(result):
        console.print(shown)
    console.print(f"{result['machine']}\nwritten to {args.out}")


def plot(rows: list[Row], sides: list[str], path: Path) -> None:
    """p99 by rate of every server; hollow where too few replies are OK."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for n, side in enumerate(sides):
        of = [row for row in rows if row["side"] == side and row["p99_ms"] is not None]
        (line,) = axes.plot([row["rate"] for row in of], [row["p99_ms"] for row in of], label=side)
        for row in of:
            enough = row["shares"].get("OK", 0.0) >= MIN_OK
            face = line.get_color() if enough else "white"
            axes.plot(row["rate"], row["p99_ms"], "os^D"[n % 4], color=line.get_color(), markerfacecolor=face)
    for limit in LIMITS_MS:
        axes.axhline(limit, color="#b0b0b0", linewidth=0.8, linestyle=":")
    axes.set(yscale="log", xlabel="calls a second", ylabel="p99 of OK replies, ms (hollow: under 99.9% OK)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=90)


def bundle_facts(served: bundle.Bundle) -> Row:
    config = json.loads((served.generator_dir / "config.json").read_text(encoding="utf-8"))
    sizes = {name: config[name] for name in ("num_hidden_layers", "hidden_size", "vocab_size")}
    return {"kind": served.manifest["kind"], **sizes, "sids": served.manifest["sids"], "levels": served.level_sizes}


def tables(result: Row) -> list[Table]:
    latencies = ("p50_ms", "p95_ms", "p99_ms")
    rates = Table("side", "calls/s", "OK/s", "OK", "p50", "p95", "p99 ms", "CPU", "others", "batch")
    for row in result["rates"]:
        rates.add_row(
            row["side"],
            *(f"{row[name]}" for name in ("rate", "ok_per_s")),
            f"{row['shares'].get('OK', 0):.1%}",
            *("" if row[name] is None else f"{row[name]:.0f}" for name in latencies),
            *(f"{row[name]:.0%}" for name in ("server_cpu", "other_cpu")),
            f"{row['inside'].get('batch_entries', 1):.1f}",
        )
    holds = Table("side", *(f"p99 <= {limit} ms" for limit in LIMITS_MS), title="highest sustained rate")
    for side, best in result["holds"].items():
        holds.add_row(side, *(f"{rate}" for rate in best.values()))
    alone = Table("side", "method", "callers", "calls/s", "p50 ms", "CPU ms a call", "compute ms", title="gRPC alone")
    for row in result["overhead"]["rows"]:
        compute = f"{row['inside']['batch_ms'] / row['inside']['batch_entries']:.2f}" if row["inside"] else ""
        cells = (row[name] for name in ("method", "callers", "per_s", "p50_ms", "cpu_ms"))
        alone.add_row(row["side"], *map(str, cells), compute)
    return [rates, holds, alone]


if __name__ == "__main__":
    main()
