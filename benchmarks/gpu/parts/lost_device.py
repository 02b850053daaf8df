"""A server that loses its device behind its first answer: an illegal index makes every later use of it fail. A CPU
cannot be lost, and the error is raised instead. Run by `faults`, with the folder of bundles and the device.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

import torch

from genrecall.client import Client
from genrecall.config.server import ServerSection
from inference_server.engines.base import DeviceLost
from inference_server.engines.torch_engine import TorchEngine, device_errors
from inference_server.server import serve
from inference_server.startup import ReadyInfo

PATIENCE_S = 20.0


def lose(device: str) -> NoReturn:
    with device_errors():
        if device == "cuda":
            torch.zeros(1, device="cuda")[torch.tensor([99], device="cuda")].sum()
            torch.cuda.synchronize()
    raise DeviceLost("as if an illegal access had been made")


def ask(port: int, device: str) -> None:
    """A call that is answered, then one that meets a lost device."""
    with Client(f"127.0.0.1:{port}") as client:
        client.generate(["red shoes"], k=5)
        TorchEngine.search = lambda *_: lose(device)  # type: ignore[method-assign]
        try:
            client.generate(["red shoes"], k=5)
        except Exception as error:
            print(f"the call ended with {error!r}", flush=True)
    time.sleep(PATIENCE_S)
    print("still running", flush=True)


def main() -> None:
    root, device = sys.argv[1:]
    section = ServerSection(port=0, device=device, engine="torch", shutdown_delay_s=0.1, shutdown_grace_s=1)

    def ready(server: ReadyInfo) -> None:
        threading.Thread(target=ask, args=(server.port, device), daemon=True).start()

    serve(Path(root), [], section, ready)


if __name__ == "__main__":
    main()
