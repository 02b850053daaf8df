"""The torch engine: `genrecall.decoding` on CPU or CUDA."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from genrecall.bundle import Bundle
from genrecall.decoding import Generator
from genrecall.errors import UserError
from genrecall.rpc import generative_recall_pb2 as pb
from inference_server.engines.base import Generation
from inference_server.users import UserResolver


class TorchEngine:
    """Loads the generator of `bundle` and answers one call, so that the first user pays no warm-up."""

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        self.bundle = bundle
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError(f"server.device is {device!r}, but torch sees no CUDA device: use 'cpu' or 'auto'")
        self._generator = Generator.load(bundle.generator_dir, bundle.space, device)
        self._users = UserResolver(bundle)
        if self._generator.user:
            self._users.warm()
        self.generate(["warm up"], k=1, beam_width=1)

    def generate(
        self, texts: Sequence[str], k: int, beam_width: int, users: Sequence[pb.User | None] | None = None
    ) -> Generation:
        known = [self._users(user) for user in users] if users and self._generator.user else None
        found = self._generator.generate(list(texts), k, beam_width, known)
        return Generation(
            codes=found.codes,
            scores=found.scores,
            counts=found.valid.sum(axis=1),
            encode_ms=found.encode_ms,
            search_ms=found.search_ms,
        )
