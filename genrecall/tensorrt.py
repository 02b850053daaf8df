"""Which TensorRT this machine has, and the name under which its engines are kept: builder and server must agree.

`tensorrt` (NVIDIA's own index; built on the GPU that will run it) is taken before `tensorrt_rtx` (the Python index; an
engine for any RTX GPU, built without one). An engine belongs to one version and one kind of GPU, so both are part of
the name. Imports neither before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from genrecall.errors import UserError

_MODULES = ("tensorrt", "tensorrt_rtx")


def installed() -> bool:
    return any(find_spec(name) for name in _MODULES)


def library() -> Any:
    """The module. Raises UserError where there is none."""
    for name in _MODULES:
        if find_spec(name):
            return import_module(name)
    raise UserError(
        "TensorRT is not installed: pip install tensorrt (NVIDIA's index, for the GPU of this machine) or "
        "pip install tensorrt-rtx (RTX GPUs; builds without one), or use --format onnx"
    )


def platform() -> str:
    """`tensorrt-10.8.0-sm90`: module, version and compute capability; `any` for RTX engines, which fit every one."""
    module = library()
    return f"{module.__name__}-{module.__version__}-{'any' if module.__name__ == 'tensorrt_rtx' else _capability()}"


def _capability() -> str:
    import torch

    if not torch.cuda.is_available():
        raise UserError("TensorRT engines are built on the GPU that runs them, and torch sees none on this machine")
    return "sm{}{}".format(*torch.cuda.get_device_capability())
