"""The search on CUDA as captured graphs, one per batch size, prompt length and beam width, replayed in one launch.

Launched one by one, the several hundred kernels of a search take the host longer than the device. Batches and lengths
are rounded up to a few sizes, widths by who asks (`server.widths`). A graph is captured when its sizes first occur,
before a bundle is served for those that its engine was asked to `capture`; the least recently used of more than
`MAX_GRAPHS` is dropped. Used by one thread. Whatever tensors a prefix has are copied, so a generator's inner structure
does not matter here.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genrecall.decoding import Generator
from genrecall.decoding.search import Beams, Prefix, beam_search
from inference_server.engines.base import rounded

BATCHES = (1, 2, 4, 8, 16, 32, 64)
LENGTHS = (1, 16, 32, 64, 128, 256, 512, 1024)  # those by which the server batches, and a lone text vector
MAX_GRAPHS = 512
_WARM_UPS = 3  # eager runs before a capture, so that libraries have initialized what they do at first use
_PADDED = ("embeds", "mask")  # tensors of a prefix that are as long as the prompt

Run = Callable[[], Beams]
Capture = Callable[[Run], tuple[Callable[[], object], Beams]]
"""Makes of a search over fixed buffers what repeats it, and the beams that each repetition fills."""


class Shape(NamedTuple):
    """Of one graph: rows, rows of the prefix, beams, and further tensors of the prefix by name and size of a row."""

    batch: int
    length: int
    width: int
    others: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @classmethod
    def of(cls, prefix: Prefix, width: int) -> Shape:
        """The smallest one that `prefix` and `width` fit."""
        batch, length = prefix.mask.shape
        others = tuple((name, tuple(t.shape[1:])) for name, t in tensors(prefix) if name not in _PADDED)
        return cls(rounded(batch, BATCHES), rounded(length, LENGTHS), width, others)


@dataclass(frozen=True)
class _Captured:
    """A search over fixed buffers: what it reads, what repeats it, what it writes."""

    prefix: Prefix
    replay: Callable[[], object]
    beams: Beams

    def __call__(self, prefix: Prefix) -> Beams:
        """Valid until the next replay. Shorter prefixes are padded at the left; rows beyond the batch are ignored."""
        batch, length = prefix.mask.shape
        self.prefix.mask.zero_()
        for (name, buffer), (_, tensor) in zip(tensors(self.prefix), tensors(prefix), strict=True):
            (buffer[:batch, -length:] if name in _PADDED else buffer[:batch]).copy_(tensor)
        self.replay()
        return Beams(*(t[:batch] for t in (self.beams.sid, self.beams.scores, self.beams.valid)))


class CapturedSearch:
    """`beam_search` of one generator: prefix and width -> beams, on the stream that is current.

    Args:
        capture: how; a CPU has nothing to capture, and `repeated` runs the same search over the same buffers.
    """

    def __init__(self, generator: Generator, capture: Capture | None = None) -> None:
        self._generator = generator
        self._captured: OrderedDict[Shape, _Captured] = OrderedDict()
        self._capture = capture or cuda_graphs(generator.device)

    @torch.inference_mode()
    def __call__(self, prefix: Prefix, width: int) -> Beams:
        shape = Shape.of(prefix, width)
        if shape not in self._captured:
            while len(self._captured) >= MAX_GRAPHS:
                self._captured.popitem(last=False)
            self._captured[shape] = self._make(prefix, shape)
        self._captured.move_to_end(shape)
        return self._captured[shape](prefix)

    def _make(self, like: Prefix, shape: Shape) -> _Captured:
        def buffer(name: str, tensor: Tensor) -> Tensor:
            further = (shape.length, *tensor.shape[2:]) if name in _PADDED else tensor.shape[1:]
            return tensor.new_zeros((shape.batch, *further))

        prefix = mapped(like, buffer)
        prefix.mask.fill_(True)
        of = self._generator
        run = lambda: beam_search(of.decoder, of.heads, of.tables, prefix, shape.width)  # noqa: E731
        return _Captured(prefix, *self._capture(run))


def cuda_graphs(device: torch.device) -> Capture:
    """Captures as CUDA graphs that share their memory: one replays at a time."""
    pool = torch.cuda.graph_pool_handle()

    def capture(run: Run) -> tuple[Callable[[], object], Beams]:
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                run()
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Another thread may use the device: a new bundle is warmed up while the loaded ones answer.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            beams = run()
        return graph.replay, beams

    return capture


def repeated(run: Run) -> tuple[Callable[[], object], Beams]:
    """Repeats by computing again: the static shapes without a graph, for any device."""
    beams = run()

    def replay() -> None:
        again = run()
        for buffer, tensor in zip(tensors(beams), tensors(again), strict=True):
            buffer[1].copy_(tensor[1])

    return replay, beams


def tensors(of: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a dataclass, with the name of its field, those of nested ones too."""
    for field in dataclasses.fields(of):
        value = getattr(of, field.name)
        if isinstance(value, Tensor):
            yield field.name, value
        elif dataclasses.is_dataclass(value):
            yield from tensors(value)


def mapped(of: Any, make: Callable[[str, Tensor], Tensor]) -> Any:
    """The dataclass with another tensor in place of each."""
    changes = {}
    for field in dataclasses.fields(of):
        value = getattr(of, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = make(field.name, value)
        elif dataclasses.is_dataclass(value):
            changes[field.name] = mapped(value, make)
    return dataclasses.replace(of, **changes)
