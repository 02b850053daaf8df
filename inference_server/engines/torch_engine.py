"""The torch engine: `genrecall.decoding`, eager on a CPU, as captured graphs on CUDA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product

import numpy as np
import torch

from genrecall.bundle import Bundle
from genrecall.decoding import GeneratedSids, Generator
from genrecall.decoding.decoder import Decoder
from genrecall.decoding.float8 import check_float8, to_float8
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.devices import find_device
from genrecall.errors import UserError
from inference_server.batching.batcher import BatchSettings
from inference_server.engines.base import DeviceLost, Engine, OutOfMemory, rounded
from inference_server.engines.cuda_graphs import BATCHES, LENGTHS, Capture, CapturedSearch
from inference_server.engines.transfer import Transfer

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float8": torch.bfloat16,  # of all but the matrices
}
RECOMPILE_LIMIT = 512  # of torch.compile: a batch, length and width of the ladder is three forwards


class TorchEngine(Engine):
    """Loads the generator of `bundle`.

    Args:
        device: auto, cpu, cuda or cuda:N.
        dtype: of the weights, one of DTYPES; float8 on CUDA alone.
        compiled: fuse the layers with torch.compile, on CUDA alone; minutes at the start.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", dtype: str = "float32", compiled: bool = False) -> None:
        if dtype not in DTYPES:
            raise UserError(f"server.dtype is {dtype!r}, but torch serves {', '.join(DTYPES)}")
        where = find_device(device, "server.device")
        if dtype == "float8":
            check_float8(where)
        generator = Generator.load(bundle.generator_dir, bundle.space, where, DTYPES[dtype])
        super().__init__(bundle, generator.request_tokenizer)
        self._search = StaticSearch(generator, dtype == "float8", compiled) if where.type == "cuda" else None
        self._generator = generator
        self.name = f"torch-{where}-{dtype}{'-compiled' if compiled and self._search else ''}"

    def search(self, prompts: Sequence[TokenizedPrompt], width: int) -> GeneratedSids:
        if self._search is None:
            return self._generator.search(prompts, width)
        with device_errors():
            return self._search(prompts, width)

    def score_rows(self, prompt: TokenizedPrompt, rows: np.ndarray) -> np.ndarray:
        if self._search is None:
            return self._generator.score(prompt, rows)
        with device_errors(), torch.cuda.stream(self._search.stream):
            return self._generator.score(prompt, rows)

    def capture(self, widths: Sequence[int], batches: BatchSettings) -> None:
        """The largest first: smaller ones use the memory of larger ones."""
        if self._search is None:
            return
        config, longest = self.request_tokenizer.config, self.request_tokenizer.max_length
        gates = (0.0, 0.5) if config.evidence is not None and config.evidence.gates.open else (0.0,)
        lengths = LENGTHS[: LENGTHS.index(rounded(min(longest, LENGTHS[-1]), LENGTHS)) + 1]
        for width, length in product(reversed(widths), reversed(lengths)):
            most = rounded(batches.entries(length, 2 * width), BATCHES)
            for batch, gate in product([size for size in reversed(BATCHES) if size <= most], gates):
                self.search([TokenizedPrompt([0] * min(length, longest), gate=gate)] * batch, width)


class StaticSearch:
    """The search of one generator on its device: pinned copies in and out around a captured graph, on its own stream.

    Args:
        float8, compiled: of the decoder's layers, which are changed in place.
        capture: see `CapturedSearch`; a device without graphs needs `repeated`.
    """

    def __init__(
        self, generator: Generator, float8: bool = False, compiled: bool = False, capture: Capture | None = None
    ) -> None:
        generator.decoder.pack()
        if float8:
            to_float8(generator.decoder)
        if compiled:
            compile_layers(generator.decoder)
        self._generator = generator
        self._transfer = Transfer(generator.device)
        self.captured = CapturedSearch(generator, capture)
        self.stream: torch.cuda.Stream | None = None
        if generator.device.type == "cuda":
            self.stream = torch.cuda.Stream(generator.device)
            self.stream.wait_stream(torch.cuda.current_stream(generator.device))  # on which the weights were made
        generator.upload = self._transfer.to_device

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[TokenizedPrompt], width: int) -> GeneratedSids:
        with torch.cuda.stream(self.stream):  # without effect for None
            beams = self.captured(self._generator.prefix(prompts), min(width, len(self._generator.space)))
            sid, scores = self._transfer.to_host((beams.sid, beams.scores))
        return GeneratedSids.of(self._generator.space, sid, scores, width)


def compile_layers(decoder: Decoder, backend: str = "inductor") -> None:
    """Compile the layers in place, at their first call with each shape; all layers share what is compiled."""
    torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
    for layer in decoder.layers:
        layer.compile(dynamic=False, fullgraph=True, backend=backend)


@contextmanager
def device_errors() -> Iterator[None]:
    """DeviceLost for an error after which this process cannot use the device; OutOfMemory, which is given back."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory(str(error).splitlines()[0]) from error
    except torch.AcceleratorError as error:
        try:
            torch.cuda.synchronize()
        except torch.AcceleratorError:
            raise DeviceLost(str(error).splitlines()[0]) from error
        raise
