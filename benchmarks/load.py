"""Open-loop load by ghz: calls sent by the clock, whether or not earlier ones are answered, timed from when due.

`ghz --async` starts each call on a goroutine of its own, at i / rate seconds after the start, and at once where it has
fallen behind: a slow server does not slow the load down. What ghz reports as latency starts when the call is sent, so
that a load generator which comes late (it shares the machine) would hide that time. Here the time is counted from the
moment a call was due: the end of each call (`timestamp` in ghz's details) less its place in the schedule. The origin
of the schedule is the latest one by which no call was sent before it was due.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import on_cores

PROTO = Path(__file__).parents[1] / "proto/genrecall/v1/generative_recall.proto"
CONNECTIONS = 8
WARM_S = 1.0  # of the schedule, not counted: connections are opened, caches filled
CODES = {"OK": "OK", "ResourceExhausted": "RESOURCE_EXHAUSTED", "DeadlineExceeded": "DEADLINE_EXCEEDED"}


@dataclass(frozen=True)
class Load:
    """A load generator: the ghz program, a JSON file of requests used in turns, its cores, a deadline."""

    program: Path
    data: Path
    cores: str | None
    deadline_s: float

    def open_loop(self, endpoint: str, rate: int, seconds: float) -> dict[str, Any]:
        """`rate` calls per second, evenly spaced; `summary` of those after the warm-up."""
        count = round(rate * (seconds + WARM_S))
        report, cpu_s = self._run(endpoint, "Generate", CONNECTIONS, "--async", f"--rps={rate}", f"-n{count}")
        return {"rate": rate, **summary(report["details"], rate, WARM_S), "load_cpu_s": round(cpu_s, 2)}

    def closed_loop(self, endpoint: str, method: str, callers: int, seconds: float) -> dict[str, Any]:
        """Callers that wait for a reply before the next call: throughput, or latency for one caller."""
        wait = f"-z{seconds}s"
        report, _ = self._run(endpoint, method, callers, wait, "--duration-stop=wait")
        taken = np.array([call["latency"] for call in report["details"] if call["status"] == "OK"]) / 1e6
        return {
            "method": method,
            "callers": callers,
            "answers": len(taken),
            "per_s": round(len(taken) / (report["total"] / 1e9), 1),
            "p50_ms": round(float(np.median(taken)), 2),
        }

    def _run(self, endpoint: str, method: str, workers: int, *options: str) -> tuple[dict[str, Any], float]:
        """ghz's report, and the processor seconds that it took; each of `workers` has one of the connections."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "report.json"
            command = [str(self.program), "--insecure", f"--proto={PROTO}", f"--timeout={self.deadline_s}s"]
            command += [f"--call=genrecall.v1.GenerativeRecall/{method}", f"-c{workers}"]
            command += [f"--connections={min(workers, CONNECTIONS)}", *options]
            command += ["--disable-template-functions", "--disable-template-data", "--format=json", f"--output={out}"]
            command += [f"--data-file={self.data}" if method == "Generate" else "--data={}", endpoint]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            env = {**os.environ, "TZ": "UTC"}
            subprocess.run(on_cores(command, self.cores), check=True, stdout=subprocess.DEVNULL, env=env)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            return json.loads(out.read_text(encoding="utf-8")), cpu_s


def write_requests(path: Path, queries: Sequence[str], k: int) -> None:
    path.write_text(json.dumps([{"queries": [{"text": text}], "k": k} for text in queries]), encoding="utf-8")


def summary(details: Sequence[dict[str, Any]], rate: int, warm_s: float) -> dict[str, Any]:
    """Milliseconds from when a call was due to its OK, OK replies a second, and the share of each status.

    Args:
        details: of each call its `timestamp` (the end of it, ISO 8601 in UTC), its `latency` in ns from the sending,
            and its `status`.
        warm_s: seconds of the schedule that are not counted.
    """
    end = np.array([np.datetime64(call["timestamp"].rstrip("Z"), "ns") for call in details])
    end_s = (end - end.min()).astype(np.int64) / 1e9
    sent_s = end_s - np.array([call["latency"] for call in details]) / 1e9
    order = np.argsort(sent_s, kind="stable")
    place = np.arange(len(order)) / rate
    origin = (sent_s[order] - place).min()
    counted = place >= warm_s
    due_s, calls = (origin + place)[counted], order[counted]
    status = np.array([call["status"] for call in details])[calls]
    taken = (end_s[calls] - due_s)[status == "OK"] * 1e3
    late = (sent_s[calls] - due_s) * 1e3
    counts = Counter(CODES.get(code, code) for code in status.tolist())
    quantiles = np.quantile(taken, (0.5, 0.95, 0.99)).round(2).tolist() if len(taken) else [None] * 3
    return {
        "calls": len(calls),
        **dict(zip(("p50_ms", "p95_ms", "p99_ms"), quantiles, strict=True)),
        "ok_per_s": round(len(taken) * rate / len(calls), 1),
        "shares": {code: round(count / len(calls), 5) for code, count in sorted(counts.items())},
        "sent_late_p99_ms": round(float(np.quantile(late, 0.99)), 2),
    }
