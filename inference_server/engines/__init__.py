"""Engines run the search of one bundle. `create_engine` opens the one asked for, importing its framework only then."""

import logging
from importlib.util import find_spec
from typing import Literal

from genrecall.bundle import Bundle
from genrecall.decoding.heads import Normalizer
from genrecall.errors import UserError
from inference_server.engines.base import Engine
from inference_server.telemetry.logs import event

__all__ = ["Engine", "EngineName", "create_engine"]

EngineName = Literal["auto", "torch", "onnx", "tensorrt"]
log = logging.getLogger(__name__)


def create_engine(
    bundle: Bundle,
    device: str = "auto",
    engine: EngineName = "auto",
    dtype: str = "float32",
    normalizer: Normalizer | None = None,
    threads: int = 0,
) -> Engine:
    """The engine of `bundle`, warm: its first caller waits no longer than others.

    Args:
        device: auto, cpu, cuda or cuda:N.
        engine: auto takes TensorRT or ONNX Runtime where the bundle has the export and the machine the runtime, torch
            otherwise.
        dtype: of the weights: float32, bfloat16; of an export also float16, int8.
        normalizer: in place of the one trained with; torch alone, as an export has its own inside.
        threads: of ONNX Runtime on the CPU; 0: one a core. Those of torch belong to the process.

    Raises UserError for what the machine or the bundle does not have.
    """
    chosen = _choose(bundle, device, dtype, normalizer) if engine == "auto" else engine
    if normalizer is not None and chosen != "torch":
        raise UserError(
            f"server.normalizer is {normalizer!r}, but {chosen} has the one it was exported with inside: "
            "set server.engine=torch, or leave server.normalizer out"
        )
    made: Engine
    if chosen == "torch":
        from inference_server.engines.torch_engine import TorchEngine

        made = TorchEngine(bundle, device, dtype, normalizer)
    elif chosen == "onnx":
        from inference_server.engines.onnx_engine import OnnxEngine

        made = OnnxEngine(bundle, device, dtype, threads)
    elif chosen == "tensorrt":
        from inference_server.engines.tensorrt_engine import TensorRtEngine

        made = TensorRtEngine(bundle, device, dtype)
    else:
        raise UserError(f"server.engine is {engine!r}: use auto, torch, onnx or tensorrt")
    made.search(made.prepare(["warm up"]), width=1)
    event(log, logging.INFO, "engine", codebook=bundle.codebook, engine=made.name)
    return made


def _choose(bundle: Bundle, device: str, dtype: str, normalizer: Normalizer | None) -> EngineName:
    from genrecall import tensorrt

    if normalizer is not None:
        return "torch"
    if device != "cpu" and tensorrt.installed() and _cuda():
        from inference_server.engines.tensorrt_engine import attachment

        if (bundle.path / attachment(dtype)).is_dir():
            return "tensorrt"
    return "onnx" if find_spec("onnxruntime") and (bundle.path / "onnx" / dtype).is_dir() else "torch"


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()
