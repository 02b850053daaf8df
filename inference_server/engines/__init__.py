"""Engines run the search of one bundle. `create_engine` opens the one asked for, importing its framework only then."""

from genrecall.bundle import Bundle
from inference_server.engines.base import Engine

__all__ = ["Engine", "create_engine"]


def create_engine(bundle: Bundle, device: str = "auto") -> Engine:
    """The engine of `bundle` on `device` (auto, cpu, cuda, cuda:N), warm: its first caller waits no longer."""
    from inference_server.engines.torch_engine import TorchEngine

    engine = TorchEngine(bundle, device)
    engine.search(engine.prepare(["warm up"]), width=1)
    return engine
