"""A server whose engine answers once and never again. Run with the folder of bundles and what happens: hang or fail."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

from genrecall.client import Client, Retry
from genrecall.config.server import ServerSection
from inference_server.engines.torch_engine import TorchEngine
from inference_server.server import serve
from inference_server.startup import ReadyInfo
from inference_server.telemetry import logs


def ask(port: int, what: str) -> None:
    def search(*_: Any) -> Any:
        if what == "hang":
            time.sleep(600)
        raise RuntimeError("no longer")

    with Client(f"127.0.0.1:{port}", retry=Retry(max_attempts=1)) as client:
        client.generate(["red shoes"], k=5)
        TorchEngine.search = search  # type: ignore[method-assign]
        for _ in range(8):
            try:
                client.generate(["red shoes"], k=5)
            except Exception as error:
                print(f"the call ended with {error}", flush=True)


def main() -> None:
    root, what = sys.argv[1:]
    logs.configure("text", False)
    section = ServerSection(port=0, device="cpu", engine="torch", batch_timeout_s=1, shutdown_delay_s=0.2)

    def ready(server: ReadyInfo) -> None:
        threading.Thread(target=ask, args=(server.port, what), daemon=True).start()

    serve(Path(root), [], section, ready)


if __name__ == "__main__":
    main()
