"""The search on CUDA as captured graphs, one per batch size, prompt length and beam width, replayed in one launch.

Launched one by one, the several hundred kernels of a search take the host longer than the device. Batches and lengths
are rounded up to a few sizes; a graph is captured when its sizes first occur, and the least recently used of more than
`MAX_GRAPHS` is dropped. Used by one thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from genrecall.decoding import Generator
from genrecall.decoding.search import Beams, Prefix, beam_search

BATCHES = (1, 2, 4, 8, 16, 32, 64)
LENGTHS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
MAX_GRAPHS = 48
_BY_ROW = ("text", "evidence", "gate")  # of a prefix: one row a prompt, whatever its length
_WARM_UPS = 3  # eager runs before a capture, so that libraries have initialized what they do at first use


@dataclass(frozen=True)
class _Captured:
    """A graph, the buffers that it reads and those that it writes."""

    graph: torch.cuda.CUDAGraph
    prefix: Prefix
    beams: Beams

    def replay(self, prefix: Prefix) -> Beams:
        """Valid until the next replay. Shorter prefixes are padded at the left; rows beyond the batch are ignored."""
        batch, length = prefix.mask.shape
        self.prefix.mask.zero_()
        self.prefix.mask[:batch, -length:].copy_(prefix.mask)
        self.prefix.embeds[:batch, -length:].copy_(prefix.embeds)
        for name in _BY_ROW:
            buffer, value = getattr(self.prefix, name), getattr(prefix, name)
            if buffer is not None and value is not None:
                buffer[:batch].copy_(value)
        self.graph.replay()
        return Beams(self.beams.sid[:batch], self.beams.scores[:batch], self.beams.valid[:batch])


class CapturedSearch:
    """`beam_search` of one generator: prefix and width -> beams."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._captured: OrderedDict[tuple[int, int, int, bool], _Captured] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle()

    @torch.inference_mode()
    def __call__(self, prefix: Prefix, width: int) -> Beams:
        batch, length = prefix.mask.shape
        key = (_rounded(batch, BATCHES), _rounded(length, LENGTHS), width, prefix.asks_decoder)
        if key not in self._captured:
            while len(self._captured) >= MAX_GRAPHS:
                self._captured.popitem(last=False)
            self._captured[key] = self._capture(prefix, *key[:3])
        self._captured.move_to_end(key)
        return self._captured[key].replay(prefix)

    def _capture(self, like: Prefix, batch: int, length: int, width: int) -> _Captured:
        embeds = like.embeds.new_zeros((batch, length, like.embeds.shape[-1]))
        mask = torch.ones((batch, length), dtype=torch.bool, device=embeds.device)
        rows = {name: _rows(getattr(like, name), batch) for name in _BY_ROW}
        prefix = Prefix(embeds, mask, **rows)
        side_stream = torch.cuda.Stream(embeds.device)
        side_stream.wait_stream(torch.cuda.current_stream(embeds.device))
        with torch.cuda.stream(side_stream):
            for _ in range(_WARM_UPS):
                self._run(prefix, width)
        torch.cuda.current_stream(embeds.device).wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        # Another thread may use the device: a new bundle is warmed up while the loaded ones answer.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            beams = self._run(prefix, width)
        return _Captured(graph, prefix, beams)

    def _run(self, prefix: Prefix, width: int) -> Beams:
        generator = self._generator
        return beam_search(generator.decoder, generator.heads, generator.tables, prefix, width)


def _rows(like: Tensor | None, batch: int) -> Tensor | None:
    return None if like is None else like.new_zeros((batch, *like.shape[1:]))


def _rounded(size: int, sizes: tuple[int, ...]) -> int:
    """The next of `sizes`; beyond the last, the size itself."""
    at = bisect_left(sizes, size)
    return sizes[at] if at < len(sizes) else size
