"""Engines compute the search and scores of one bundle: torch, ONNX Runtime, TensorRT. `create_engine` chooses one.

The framework of an engine is imported only when it is chosen.
"""

import logging
from importlib.util import find_spec

from genrecall.bundle import MEMORY, Bundle, attached_manifest
from genrecall.errors import UserError
from inference_server.engines.base import Engine, EngineName, Source
from inference_server.telemetry.logs import event

__all__ = ["Engine", "EngineName", "create_engine", "find_source"]

log = logging.getLogger(__name__)


def create_engine(
    bundle: Bundle,
    device: str = "auto",
    engine: EngineName = "auto",
    dtype: str = "float32",
    threads: int = 0,
    compiled: bool = False,
) -> Engine:
    """The engine of `bundle`, warmed up: its first call takes no longer than others.

    Args:
        device: auto, cpu, cuda or cuda:N.
        engine: auto takes TensorRT or ONNX Runtime where the bundle has the export and the machine the runtime, torch
            otherwise.
        dtype: of the weights: float32, bfloat16, float16; float8 of torch on CUDA; int8 of an export.
        threads: of ONNX Runtime on the CPU; 0: one per core. Those of torch are set per process.
        compiled: whether torch fuses the layers (`torch.compile`), on CUDA.

    Raises UserError for what the machine or the bundle does not have.
    """
    source = find_source(bundle, device, engine, dtype)
    chosen = source.engine
    created: Engine
    if chosen == "torch":
        from inference_server.engines.torch_engine import TorchEngine

        created = TorchEngine(bundle, device, dtype, compiled)
    elif chosen == "onnx":
        from inference_server.engines.onnx_engine import OnnxEngine

        created = OnnxEngine(bundle, device, dtype, threads)
    elif chosen == "tensorrt":
        from inference_server.engines.tensorrt_engine import TensorRtEngine

        created = TensorRtEngine(bundle, device, dtype)
    else:
        raise UserError(f"server.engine is {engine!r}: use auto, torch, onnx or tensorrt")
    created.source = source
    created.warm_up()
    event(log, logging.INFO, "engine", codebook=bundle.codebook, engine=created.name)
    return created


def find_source(bundle: Bundle, device: str, engine: EngineName, dtype: str) -> Source:
    """What `create_engine` would make an engine from now; it changes with what is attached to the bundle."""
    chosen = _choose(bundle, device, dtype) if engine == "auto" else engine
    memory, export = attached_manifest(bundle, MEMORY), b""
    if chosen == "onnx":
        export = attached_manifest(bundle, f"onnx/{dtype}")
    elif chosen == "tensorrt":
        from inference_server.engines.tensorrt_engine import attachment

        export = attached_manifest(bundle, attachment(dtype))
    return Source(chosen, memory, export)


def _choose(bundle: Bundle, device: str, dtype: str) -> EngineName:
    from genrecall import tensorrt

    if device != "cpu" and tensorrt.installed() and _cuda():
        from inference_server.engines.tensorrt_engine import attachment

        if (bundle.path / attachment(dtype)).is_dir():
            return "tensorrt"
    return "onnx" if find_spec("onnxruntime") and (bundle.path / "onnx" / dtype).is_dir() else "torch"


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()
