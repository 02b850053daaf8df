"""From logs to requests: how many a second, and how much memory at the peak, by the length of the log.

    python -m benchmarks.logs [--requests 100000 1000000]

The log is random (20 items shown, 1.3 clicks and 0.2 purchases a request, 4 requests a client), written as JSON lines.
Each length is built in a process of its own, as the partitions of the default settings have it. Its resident memory is
split into what the process allocated (anonymous: what a machine must have) and pages of files that it read through
memory maps, which the system takes back when it needs them. Prints a table, and writes benchmarks/results/logs.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.machine import machine_info
from genrecall.config.data import DataSection
from genrecall.config.logs import LogsSection
from genrecall.data.rejects import Rejects
from genrecall.records import Split

ITEMS, SHOWN, CLICKS, PURCHASES, REQUESTS_A_CLIENT, TEXTS = 50_000, 20, 1.3, 0.2, 4, 20_000
START, DAYS = datetime(2025, 1, 1, tzinfo=UTC), 90
SAMPLE_S = 0.02  # between two samples of memory


def write_log(requests: int, folder: Path) -> int:
    """A random log of UBI 1.3; its size in bytes."""
    random = np.random.default_rng(0)
    with (folder / "ubi_queries.jsonl").open("w") as queries, (folder / "ubi_events.jsonl").open("w") as events:
        for n in track(range(requests), "writing", console=Console(stderr=True), transient=True):
            moment = START + timedelta(milliseconds=int(random.integers(DAYS * 86_400_000)))
            client = f"client-{random.integers(1 + requests // REQUESTS_A_CLIENT):08}"
            about = {"query_id": f"request-{n:010}", "client_id": client}
            items = [f"B{item:09}" for item in random.integers(ITEMS, size=SHOWN).tolist()]
            text = {"user_query": f"words of query {random.integers(TEXTS)}", "timestamp": moment.isoformat()}
            queries.write(json.dumps({**about, **text, "query_response_hit_ids": items}) + "\n")
            for action, rate in (("click", CLICKS), ("purchase", PURCHASES)):
                for rank in random.integers(SHOWN, size=random.poisson(rate)).tolist():
                    later = {"timestamp": (moment + timedelta(seconds=4 * rank + 4)).isoformat()}
                    what = {"object": {"object_id": items[rank]}, "position": {"ordinal": rank + 1}}
                    event = {"action_name": action, **about, **later, "event_attributes": what}
                    events.write(json.dumps(event) + "\n")
    return sum(path.stat().st_size for path in folder.glob("*.jsonl"))


def measure(folder: Path) -> dict[str, Any]:
    """Build and part the requests of `folder` in this process."""
    from trainer.logs import build_requests, open_requests, split_requests
    from trainer.logs.fingerprint import partitions

    data = DataSection(folder=folder, max_reject_share=0)
    items = pa.table({"item_id": [f"B{item:09}" for item in range(ITEMS)]})
    nothing = pa.table({"query_id": pa.array([], pa.string()), "text": pa.array([], pa.string())})
    unjudged = Split("none", nothing, nothing, nothing)
    with Memory() as memory:
        start = time.perf_counter()
        path = build_requests(data, LogsSection(), items, folder / "logs", Rejects(), progress=False)
        built = time.perf_counter()
        requests = open_requests(path)
        split_requests(requests, unjudged, nothing, LogsSection(split="time"), folder / "parts")
    return {
        "partitions": partitions(data),
        "requests_a_second": round(len(requests) / (built - start)),
        "build_s": round(built - start, 1),
        "split_s": round(time.perf_counter() - built, 1),
        "load": round(os.getloadavg()[0], 1),  # others at work beside it show here
        **memory.peak,
    }


class Memory:
    """A context that watches the memory of its process (Linux); `peak`, in MB, beyond what it had at the beginning."""

    def __enter__(self) -> Memory:
        self.start = self._now()
        self.peak = {name: 0 for name in self.start}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            for name, size in self._now().items():
                self.peak[name] = max(self.peak[name], size - self.start[name])

    @staticmethod
    def _now() -> dict[str, int]:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        kb = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Rss")}
        return {"allocated_mb": int(kb["RssAnon"]) // 1024, "mapped_mb": int(kb["RssFile"]) // 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "logs.json")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # set for the child process
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    rows = []
    for requests in args.requests:
        with tempfile.TemporaryDirectory() as folder:
            size = write_log(requests, Path(folder))
            command = [sys.executable, "-m", "benchmarks.logs", "--measure", folder]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows.append({"requests": requests, "log_mb": size >> 20, **json.loads(result)})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": machine_info(), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    table = Table(title="logs to requests")
    for name in rows[0]:
        table.add_column(name.replace("_", "\n"), justify="right")
    for row in rows:
        table.add_row(*(f"{value:,}" for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
