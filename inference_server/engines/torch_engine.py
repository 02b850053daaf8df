"""The torch engine: `genrecall.decoding`, eager on a CPU, as captured graphs on CUDA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from genrecall.bundle import Bundle
from genrecall.decoding import GeneratedSids, Generator
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.errors import UserError
from inference_server.engines.base import Engine
from inference_server.engines.cuda_graphs import CapturedSearch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchEngine(Engine):
    """Loads the generator of `bundle`.

    Args:
        device: auto, cpu, cuda or cuda:N.
        dtype: of the weights, one of DTYPES.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", dtype: str = "float32") -> None:
        if dtype not in DTYPES:
            raise UserError(f"server.dtype is {dtype!r}, but torch serves {', '.join(DTYPES)}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError(f"server.device is {device!r}, but torch sees no CUDA device: use 'cpu' or 'auto'")
        self._generator = Generator.load(bundle.generator_dir, bundle.space, device, DTYPES[dtype])
        super().__init__(bundle, self._generator.request_tokenizer)
        self._captured_search: CapturedSearch | None = None
        if self._generator.device.type == "cuda":
            self._captured_search = CapturedSearch(self._generator)
        self.name = f"torch-{device}-{dtype}"

    def search(self, prompts: Sequence[TokenizedPrompt], width: int) -> GeneratedSids:
        return self._generator.search(prompts, width, self._captured_search)

    def score_rows(self, prompt: TokenizedPrompt, rows: np.ndarray) -> np.ndarray:
        return self._generator.score(prompt, rows)
