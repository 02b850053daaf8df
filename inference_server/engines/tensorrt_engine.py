"""The TensorRT engine: the engines that `genrecall export --format tensorrt` attached for this platform.

Buffers are torch tensors on the device; the constraint tables are copied there once. A batch larger than the
optimization profiles that take its prompts and beams is split. Profiles that do not take the longest prompt are an
error at the start, and the widest beam of the others is the engine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrecall import tensorrt
from genrecall.bundle import Bundle
from genrecall.decoding import GeneratedSids
from genrecall.decoding.export_modules import Arrays
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.errors import UserError
from inference_server.engines.exported import ExportedEngine


def attachment(dtype: str) -> str:
    """Where in a bundle this platform's engines are."""
    return f"tensorrt/{tensorrt.platform()}/{dtype}"


class TensorRtEngine(ExportedEngine["_TrtSession"]):
    """Needs CUDA. dtype: of the export the engines were built from."""

    def __init__(self, bundle: Bundle, device: str = "auto", dtype: str = "float16") -> None:
        if not torch.cuda.is_available() or device == "cpu":
            raise UserError("server.engine is 'tensorrt', which needs a CUDA device: use 'onnx' or 'torch' on a CPU")
        where = torch.device("cuda" if device == "auto" else device)

        def open_session(path: Path, tables: Arrays) -> _TrtSession:
            return _TrtSession(path.with_suffix(".engine"), where, tables)

        super().__init__(bundle, attachment(dtype), open_session)
        self.name = f"tensorrt-{where}-{dtype}"
        self._profiles = self._search.profiles()
        self.max_beam_width = widest_beam(self._profiles, self.request_tokenizer.max_length)

    def search(self, prompts: Sequence[TokenizedPrompt], width: int) -> GeneratedSids:
        inputs = self._search_inputs(prompts, width)
        beams = inputs.pop("beams")
        rows = largest_batch(self._profiles, inputs["ids"].shape[1], len(beams))
        parts = [
            self._search.run({**{name: array[i : i + rows] for name, array in inputs.items()}, "beams": beams})
            for i in range(0, len(prompts), rows)
        ]
        sid, score = (np.concatenate([part[name] for part in parts]) for name in ("sid", "score"))
        return GeneratedSids.of(self.bundle.space, sid, score, width)

    def score_rows(self, prompt: TokenizedPrompt, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([self._score.run(inputs)["score"] for inputs in self._score_inputs(prompt, rows)])


@dataclass(frozen=True)
class Most:
    """What one optimization profile of the search takes at most."""

    batch: int
    tokens: int
    beams: int


def widest_beam(profiles: Sequence[Most], longest: int) -> int:
    """The widest beam for which prompts of any length up to `longest` tokens fit a profile. Raises UserError."""
    fitting = [profile.beams for profile in profiles if profile.tokens >= longest]
    if not fitting:
        raise UserError(
            f"the TensorRT engine takes prompts of {max(profile.tokens for profile in profiles)} tokens at most, and "
            f"this generator reads {longest}: export it again with a profile of BATCHx{longest}xBEAMS"
        )
    return max(fitting)


def largest_batch(profiles: Sequence[Most], tokens: int, beams: int) -> int:
    """The most prompts of `tokens` that one profile takes together, with `beams` each."""
    return max(profile.batch for profile in profiles if profile.tokens >= tokens and profile.beams >= beams)


class _TrtSession:
    """A deserialized engine with one context per profile, and its table inputs on the device."""

    def __init__(self, path: Path, device: torch.device, tables: Arrays) -> None:
        trt = tensorrt.library()
        self._device = device
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine: Any = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise UserError(f"{path} does not load in {tensorrt.platform()}: export it again on this machine")
        names = [self._engine.get_tensor_name(n) for n in range(self._engine.num_io_tensors)]
        self._inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self.reads = frozenset(self._inputs)
        self._outputs = [n for n in names if n not in self._inputs]
        self._tables = {n: torch.from_numpy(a).to(device) for n, a in tables.items() if n in self._inputs}
        self._stream = torch.cuda.Stream(device)
        self._contexts = []
        for profile in range(self._engine.num_optimization_profiles):
            context = self._engine.create_execution_context()
            context.set_optimization_profile_async(profile, self._stream.cuda_stream)
            self._contexts.append(context)

    def profiles(self) -> list[Most]:
        """Of a search."""
        shapes = [
            [tuple(self._engine.get_tensor_profile_shape(name, p)[2]) for name in ("ids", "beams")]
            for p in range(len(self._contexts))
        ]
        return [Most(int(batch), int(tokens), int(beams)) for (batch, tokens), (beams,) in shapes]

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        inputs = {**self._tables, **{n: torch.from_numpy(a).to(self._device) for n, a in arrays.items()}}
        context = self._contexts[self._profile(inputs)]
        for name in self._inputs:
            context.set_input_shape(name, tuple(inputs[name].shape))
            context.set_tensor_address(name, inputs[name].data_ptr())
        outputs = {name: self._empty(name, tuple(context.get_tensor_shape(name))) for name in self._outputs}
        for name, tensor in outputs.items():
            context.set_tensor_address(name, tensor.data_ptr())
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        context.execute_async_v3(self._stream.cuda_stream)
        self._stream.synchronize()
        return {name: tensor.cpu().numpy() for name, tensor in outputs.items()}

    def _empty(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, dtype=torch.float32 if name == "score" else torch.int64, device=self._device)

    def _profile(self, inputs: dict[str, Tensor]) -> int:
        """The first profile that allows the shapes: profiles are ordered from the smallest to the largest."""
        for profile in range(len(self._contexts)):
            limits = {n: self._engine.get_tensor_profile_shape(n, profile)[2] for n in self._inputs}
            if all(all(a <= b for a, b in zip(inputs[n].shape, limits[n], strict=True)) for n in self._inputs):
                return profile
        shapes = {n: tuple(inputs[n].shape) for n in self._inputs if n not in self._tables}
        raise UserError(f"no TensorRT profile allows {shapes}: export with a larger --profile BATCHxTOKENSxBEAMS")
