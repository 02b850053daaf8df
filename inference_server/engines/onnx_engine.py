"""The ONNX Runtime engine: `search.onnx` and `score.onnx` of a bundle, on CPU or CUDA.

The constraint tables are copied to the device once; a batch of prompts is one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genrecall.bundle import Bundle
from genrecall.decoding import GeneratedSids
from genrecall.decoding.export_modules import Arrays
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.errors import UserError
from inference_server.engines.exported import ExportedEngine


class OnnxEngine(ExportedEngine["Session"]):
    """Loads what `genrecall export --format onnx` attached to the bundle.

    Args:
        device: auto, cpu, cuda or cuda:N; auto takes CUDA where this onnxruntime has it.
        dtype: which export: float32, float16, bfloat16 or int8.
        threads: of one run on the CPU; 0: one per core.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", dtype: str = "float32", threads: int = 0) -> None:
        provider, number = _provider(device)
        if provider == CPU and dtype == "bfloat16":
            raise UserError(
                "server.dtype is 'bfloat16', which ONNX Runtime computes on CUDA alone: use float32, or "
                "server.engine=torch"
            )

        def open_session(path: Path, tables: Arrays) -> Session:
            return Session(path.with_suffix(".onnx"), provider, number, threads, tables)

        super().__init__(bundle, f"onnx/{dtype}", open_session)
        self.name = f"onnx-{'cpu' if provider == CPU else f'cuda:{number}'}-{dtype}"

    def search(self, prompts: Sequence[TokenizedPrompt], width: int) -> GeneratedSids:
        sid, score = self._search.run(self._search_inputs(prompts, width))
        return GeneratedSids.of(self.bundle.space, sid, score, width)

    def score_rows(self, prompt: TokenizedPrompt, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([self._score.run(inputs)[0] for inputs in self._score_inputs(prompt, rows)])


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Session:
    """An ONNX Runtime session whose table inputs stay on the device."""

    def __init__(self, path: Path, provider: str, number: int, threads: int, tables: Arrays) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers = [(CUDA, {"device_id": number}), CPU] if provider == CUDA else [CPU]
        self._session: Any = ort.InferenceSession(path, options, providers=providers)
        if self._session.get_providers()[0] != provider:  # it goes on with what it could load
            raise UserError(
                f"onnxruntime could not load {provider}: the CUDA and cuDNN libraries of its version must be where the "
                "loader finds them; install those, or set server.device=cpu or server.engine=torch"
            )
        self._device = ("cuda", number) if provider == CUDA else ("cpu", 0)
        self._outputs = [output.name for output in self._session.get_outputs()]
        names = {node.name for node in self._session.get_inputs()}
        self.reads = frozenset(names)
        self._names = names - set(tables)
        self._binding = self._session.io_binding()
        self._tables = {n: ort.OrtValue.ortvalue_from_numpy(a, *self._device) for n, a in tables.items() if n in names}

    def run(self, arrays: Arrays) -> list[np.ndarray]:
        """The outputs. arrays: the inputs other than tables; those that the graph does not read are ignored."""
        binding = self._binding
        binding.clear_binding_inputs()
        for name, table in self._tables.items():
            binding.bind_ortvalue_input(name, table)
        for name in self._names:
            binding.bind_cpu_input(name, arrays[name])
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())


def _provider(device: str) -> tuple[str, int]:
    """The execution provider and device number of `device`."""
    import onnxruntime as ort

    has_cuda = CUDA in ort.get_available_providers()
    if device == "auto":
        return (CUDA, 0) if has_cuda else (CPU, 0)
    if device == "cpu":
        return CPU, 0
    if not has_cuda:
        raise UserError(
            f"server.device is {device!r}, but this onnxruntime has no CUDA: install genrecall[gpu], or use 'cpu'"
        )
    return CUDA, int(device.partition(":")[2] or 0)
