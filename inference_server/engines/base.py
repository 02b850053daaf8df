"""The interface of an engine, and what all engines share: tokenizing requests, users, unknown SIDs in scoring."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from genrecall.bundle import Bundle
from genrecall.decoding.request_tokenizer import RequestTokenizer, TokenizedPrompt
from genrecall.rpc import generative_recall_pb2 as pb
from inference_server.batching.batcher import BatchSettings
from inference_server.engines.users import UserResolver

if TYPE_CHECKING:
    from genrecall.decoding import GeneratedSids


class DeviceLost(Exception):
    """The device answers this process no more, as after an illegal access: only a new process can use it again."""


class OutOfMemory(Exception):
    """The device has no room for a batch now; the memory that it took is given back."""


EngineName = Literal["auto", "torch", "onnx", "tensorrt"]


class Source(NamedTuple):
    """What an engine is made from: by which runtime, and the manifests of memory and export, where it takes them."""

    engine: EngineName
    memory: bytes
    export: bytes


class Engine(ABC):
    """One bundle, ready to answer. `prepare` may be called from any thread, all else from one at a time.

    Attributes:
        name: what computes, for `Describe`, logs and metrics: "torch-cpu-float32".
        source: see `find_source`.
        max_beam_width: the widest beam that it computes, whatever the settings allow.
    """

    name: str
    source: Source
    max_beam_width: int = sys.maxsize

    def __init__(self, bundle: Bundle, request_tokenizer: RequestTokenizer) -> None:
        self.bundle = bundle
        self.request_tokenizer = request_tokenizer
        self._users = UserResolver(bundle)
        _ = bundle.item_table  # mapped now rather than for the first request

    def prepare(
        self,
        texts: Sequence[str],
        users: Sequence[pb.User | None] | None = None,
        remember: Sequence[bool] | None = None,
    ) -> list[TokenizedPrompt]:
        """One prompt per text; a generator trained without users ignores them, one without a memory `remember`."""
        resolved = [self._users(user) for user in users] if users and self.request_tokenizer.config.user else None
        return self.request_tokenizer(texts, resolved, remember)

    def length(self, prompt: TokenizedPrompt) -> int:
        """Tokens that the model reads, before a batch is padded."""
        return self.request_tokenizer.length(prompt)

    @abstractmethod
    def search(self, prompts: Sequence[TokenizedPrompt], width: int) -> GeneratedSids:
        """The SIDs that a beam of `width` finds for each prompt, all in one batch: codes int32 [B, width, 3]."""

    def warm_up(self) -> None:
        """Do what the first call would otherwise wait for."""
        self.search(self.prepare(["warm up"]), width=1)

    def capture(self, widths: Sequence[int], batches: BatchSettings) -> None:  # noqa: B027  (most engines need none)
        """Prepare for searches of these widths in batches of any size that `batches` allows, where shapes matter."""

    def score(self, prompt: TokenizedPrompt, codes: np.ndarray) -> np.ndarray:
        """float32 [n]: log p of each SID, int [n, 3]; -inf for one that no item of the codebook has."""
        rows = self.request_tokenizer.space.index_of(codes)
        out = np.full(len(rows), -np.inf, dtype=np.float32)
        known, back = np.unique(rows[rows >= 0], return_inverse=True)
        if len(known):
            out[rows >= 0] = self.score_rows(prompt, known)[back]
        return out

    @abstractmethod
    def score_rows(self, prompt: TokenizedPrompt, rows: np.ndarray) -> np.ndarray:
        """float32 [n]: log p of SIDs given as ascending int64 [n] rows of `SidSpace.sids`."""


def rounded(size: int, sizes: Sequence[int]) -> int:
    """The next of ascending `sizes`; beyond the last, the size itself."""
    at = bisect_left(sizes, size)
    return sizes[at] if at < len(sizes) else size
