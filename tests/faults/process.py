"""`genrecall serve` as a process of its own: started, called, signalled, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub

LIGHT = pb.GenerateRequest(queries=[pb.Query(text="red shoes")], k=5)
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # channels to one address share a connection otherwise
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_retries", 0),  # what the server answers is what the test sees
]
START_S = 60.0  # a slow machine that imports torch for the first time
PATIENCE_S = 30.0  # deadline of calls that must be answered: far above what they take, so that no test is a race


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    process: subprocess.Popen[str]
    port: int
    metrics_port: int | None
    log: Path

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def stderr(self) -> str:
        return self.log.read_text(encoding="utf-8")

    @property
    def memory_mb(self) -> float:
        """Resident memory, MiB."""
        answer = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.process.pid)], capture_output=True, text=True, check=True
        )
        return int(answer.stdout) / 1024

    def metric(self, sample: str) -> float:
        """Of a server with a `server.metrics_port`; 0 for a sample that is not there yet."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=PATIENCE_S) as reply:
            lines = reply.read().decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample)), 0.0)

    def ask(self) -> list[int]:
        """The codes of five SIDs, over a new connection and at the first try."""
        with grpc.insecure_channel(self.endpoint, OPTIONS) as channel:
            reply = GenerativeRecallStub(channel).Generate(LIGHT, timeout=PATIENCE_S)
        return list(reply.results[0].codes)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        """End the process, whatever state it is in; nothing when it has ended."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def start(bundles: Path, log: Path, *overrides: str, env: Mapping[str, str] | None = None) -> Server:
    """Run `genrecall serve` until its line of readiness; AssertionError with its stderr when none comes."""
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            _command(bundles, "server.device=cpu", "server.threads=1", *overrides),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(env or {})},
        )
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_S)
    line = process.stdout.readline() if readable else ""
    ready = json.loads(line or "{}")
    server = Server(process, ready.get("port", 0), ready.get("metrics_port"), log)
    if not line:
        server.end()
        raise AssertionError(f"the server did not start:\n{server.stderr}")
    return server


def steady_port() -> int:
    """A free port below those that systems give to clients: one that retries there could meet itself otherwise."""
    while True:
        port = random.randint(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def refused(bundles: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """`genrecall serve` where it is expected to end by itself."""
    return subprocess.run(_command(bundles, *overrides), capture_output=True, text=True, timeout=START_S, check=False)


def _command(bundles: Path, *overrides: str) -> list[str]:
    settings = [f"run.bundles_dir={bundles}", "server.port=0", *overrides]
    return [sys.executable, "-m", "genrecall", "serve", "--json", "--verbose", *settings]
