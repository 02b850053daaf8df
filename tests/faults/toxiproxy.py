"""Toxiproxy, a TCP proxy that misbehaves on demand, driven by its HTTP interface on loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.faults.process import START_S

Stream = Literal["upstream", "downstream"]
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, whatever the environment says


@dataclass(frozen=True)
class Toxiproxy:
    url: str

    @contextmanager
    def to(self, upstream: str) -> Iterator[Proxy]:
        """A healthy way to `upstream` (host:port) by a port of its own."""
        settings = {"name": "faults", "listen": "127.0.0.1:0", "upstream": upstream, "enabled": True}
        made = self.call("POST", "/proxies", settings)
        try:
            yield Proxy(self, made["listen"])
        finally:
            self.call("DELETE", "/proxies/faults")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.url + path, method=method, data=json.dumps(body).encode() if body else None
        )
        with _OPENER.open(request, timeout=START_S) as answer:
            return json.loads(answer.read() or "null")


@dataclass(frozen=True)
class Proxy:
    owner: Toxiproxy
    endpoint: str

    def poison(self, kind: str, stream: Stream, **attributes: int) -> None:
        """Add a toxic, to connections that are there as well. Downstream is what the server sends."""
        toxic = {"name": f"{kind}-{stream}", "type": kind, "stream": stream, "attributes": attributes}
        self.owner.call("POST", "/proxies/faults/toxics", toxic)

    def heal(self) -> None:
        for toxic in self.owner.call("GET", "/proxies/faults/toxics"):
            self.owner.call("DELETE", f"/proxies/faults/toxics/{toxic['name']}")


@contextmanager
def run(program: Path, log: Path) -> Iterator[Toxiproxy]:
    """Toxiproxy on a free port until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(program), "-host", "127.0.0.1", "-port", str(port)], stdout=output, stderr=output
        )
    try:
        proxy = Toxiproxy(f"http://127.0.0.1:{port}")
        _wait(proxy, process, log)
        yield proxy
    finally:
        process.kill()
        process.wait()


def _wait(proxy: Toxiproxy, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            proxy.call("GET", "/version")
            return
        except urllib.error.URLError:
            time.sleep(0.02)
    raise AssertionError(f"toxiproxy does not answer:\n{log.read_text()}")
