"""Server processes pinned to cores: started, monitored through /proc and their metrics, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

STAGES = ("prepare", "queue", "compute", "reply", "total")
SAMPLE_S = 0.2  # between two samples of memory
TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Server:
    """A server that is ready; `metrics_port` None where it has no metrics."""

    process: subprocess.Popen[str]
    port: int
    metrics_port: int | None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def rss_mb(self) -> float:
        """Resident memory of the process and those it started (what they share counts for each), MiB."""
        return (
            sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._process_tree()) * PAGE / 2**20
        )

    @property
    def cpu_s(self) -> float:
        """Processor time of the process and those it started, seconds."""
        read = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self._process_tree())
        return sum(int(fields[11]) + int(fields[12]) for fields in read) / TICKS

    def _process_tree(self) -> list[int]:
        # not from /proc/PID/task/*/children, which not every kernel has
        stats = {int(path.parent.name): path for path in Path("/proc").glob("[0-9]*/stat")}
        children: dict[int, list[int]] = {}
        for pid, path in stats.items():
            with contextlib.suppress(OSError):  # it has ended
                children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(pid)
        pids = [self.process.pid]
        for pid in pids:  # grows during the loop
            pids += children.get(pid, [])
        return pids

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Every sample, by its name and the values of its labels in the order of their names."""
        if self.metrics_port is None:
            return {}
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as reply:
            families = text_string_to_metric_families(reply.read().decode())
            return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


@contextmanager
def genrecall_server(bundles: Path, engine: str, cores: str | None, overrides: Sequence[str] = ()) -> Iterator[Server]:
    """`genrecall serve` with one compute thread."""
    settings = [f"run.bundles_dir={bundles}", "server.port=0", "server.metrics_port=0", "server.device=cpu"]
    settings += ["server.threads=1", f"server.engine={engine}", *overrides]
    with _started([sys.executable, "-m", "genrecall", "serve", "--json", *settings], cores) as server:
        yield server


@contextmanager
def plain_server(bundles: Path, engine: str, cores: str | None) -> Iterator[Server]:
    """`benchmarks.plain_server` with one compute thread."""
    command = [sys.executable, "-m", "benchmarks.plain_server", "--bundles", str(bundles), "--engine", engine]
    with _started(command, cores) as server:
        yield server


def on_cores(command: Sequence[str], cores: str | None) -> list[str]:
    """The command pinned by `taskset`; unchanged where cores is None."""
    return [*(["taskset", "-c", cores] if cores else []), *command]


def separate_cores() -> tuple[str | None, str | None]:
    """A core for the server and one for the load; None and None where there is one core, or no `taskset`."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2 or shutil.which("taskset") is None:
        return None, None
    return str(allowed[0]), str(allowed[1])


@contextmanager
def _started(command: Sequence[str], cores: str | None) -> Iterator[Server]:
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(on_cores(command, cores), stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                log.seek(0)
                raise RuntimeError(f"{' '.join(command)} did not start:\n{log.read()}")
            ready = json.loads(line)
            yield Server(process, ready["port"], ready.get("metrics_port"))
        finally:
            process.terminate()


@dataclass
class Usage:
    """What a server used while it was monitored.

    Attributes:
        rss_mb: resident memory every SAMPLE_S, MiB.
        cpu_s, machine_cpu_s: processor seconds of the server, and of everything on the machine.
        seconds: how long.
        metrics: increase of each sample of its metrics.
    """

    rss_mb: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    machine_cpu_s: float = 0.0
    seconds: float = 0.0
    metrics: Mapping[tuple[str, ...], float] = field(default_factory=dict)

    def memory_mb(self) -> dict[str, float]:
        """Resident memory: medians of the first, middle and last tenth, and the peak."""
        tenth = max(1, len(self.rss_mb) // 10)
        middle = len(self.rss_mb) // 2
        parts = {
            "start": self.rss_mb[:tenth],
            "middle": self.rss_mb[middle - tenth // 2 :][:tenth],
            "end": self.rss_mb[-tenth:],
        }
        return {name: round(float(np.median(p)), 1) for name, p in parts.items()} | {"peak": round(max(self.rss_mb), 1)}

    def server_figures(self) -> dict[str, float]:
        """The server's own figures: mean milliseconds by stage and of a batch, entries of a batch, share of padding,
        calls answered, and calls left unanswered by reason.
        """
        if not self.metrics:
            return {}
        get = self.metrics.get
        stages = {f"{s}_ms": self._mean("genrecall_stage_seconds", "Generate", s) * 1e3 for s in STAGES}
        text, padding = (get(("genrecall_batch_tokens_total", use, "search"), 0.0) for use in ("text", "padding"))
        batch = {
            "batch_ms": self._mean("genrecall_batch_seconds", "search") * 1e3,
            "batch_entries": self._mean("genrecall_batch_entries", "search"),
            "padding_share": padding / max(1.0, text + padding),
        }
        calls = {"answered": get(("genrecall_calls_total", "OK", "Generate"), 0.0)}
        calls |= {
            key[1]: grown for key, grown in self.metrics.items() if key[0] == "genrecall_calls_shed_total" and grown
        }
        return {name: round(value, 3) for name, value in (stages | batch | calls).items()}

    def _mean(self, name: str, *labels: str) -> float:
        count = self.metrics.get((f"{name}_count", *labels), 0.0)
        return self.metrics.get((f"{name}_sum", *labels), 0.0) / max(1.0, count)


@contextmanager
def monitored(server: Server) -> Iterator[Usage]:
    """Usage of the server from here to the end of the block, filled in when it ends."""
    usage, ended = Usage(), threading.Event()

    def sample_memory() -> None:
        while True:
            usage.rss_mb.append(server.rss_mb)
            if ended.wait(SAMPLE_S):
                return

    thread = threading.Thread(target=sample_memory)
    before, cpu_s, machine_cpu_s, began = server.metrics(), server.cpu_s, _machine_cpu_s(), time.monotonic()
    thread.start()
    try:
        yield usage
    finally:
        ended.set()
        thread.join()
        usage.cpu_s, usage.machine_cpu_s = server.cpu_s - cpu_s, _machine_cpu_s() - machine_cpu_s
        usage.seconds = time.monotonic() - began
        usage.metrics = {key: value - before.get(key, 0.0) for key, value in server.metrics().items()}


def _machine_cpu_s() -> float:
    """Processor time of everything on the machine since it started, seconds."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS
