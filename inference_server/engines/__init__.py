"""Engines run the search of one bundle. `create_engine` opens the one asked for, importing its framework only then."""

from genrecall.bundle import Bundle
from inference_server.engines.base import Engine, Generation

__all__ = ["Engine", "Generation", "create_engine"]


def create_engine(bundle: Bundle, device: str = "auto") -> Engine:
    """The engine of `bundle` on `device` (auto, cpu, cuda, cuda:N)."""
    from inference_server.engines.torch_engine import TorchEngine

    return TorchEngine(bundle, device)
