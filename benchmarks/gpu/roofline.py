"""What a search must read and compute at least, and what the device can read and compute: measured, not looked up."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from benchmarks.gpu.bench import synchronize
from benchmarks.models import Shape
from genrecall.sid import LEVELS


@dataclass(frozen=True)
class Ceilings:
    """bytes_s: read plus written by a large copy; flop_s: of a large product, random numbers in the given dtype."""

    bytes_s: float
    flop_s: float


def ceilings(device: str, dtype: torch.dtype) -> Ceilings:
    """A second's work at most."""
    megabytes, side = (2048, 8192) if device == "cuda" else (64, 512)
    source = torch.empty(megabytes << 20, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    copy = _seconds(lambda: target.copy_(source), device)
    product = _seconds(lambda: left @ right, device)
    return Ceilings(2 * source.nbytes / copy, 2 * side**3 / product)


def _seconds(run: object, device: str, repeats: int = 10) -> float:
    assert callable(run)
    taken = []
    for _ in range(repeats):
        synchronize(device)
        began = time.perf_counter()
        run()
        synchronize(device)
        taken.append(time.perf_counter() - began)
    return sorted(taken)[repeats // 2]


def counted(shape: Shape, batch: int, length: int, width: int, bytes_a_weight: float) -> tuple[float, float]:
    """(bytes, FLOP) of a search at least.

    Bytes: the weights of the layers once a forward (three of them: the prefix, and two of the beams), those of the
    level heads once, each key and value written once and read by every later forward. FLOP: products with the weights,
    and of attention. Constraint tables, activations and the sort of candidates are not counted.
    """
    head = shape.hidden // shape.heads
    kv = shape.kv_heads * head
    weights = shape.layers * (2 * shape.hidden**2 + 2 * shape.hidden * kv + 3 * shape.hidden * shape.intermediate)
    heads = shape.hidden * sum(shape.level_sizes)
    rows = [length, width, width]
    seen = [length, length + width, length + 2 * width]
    cached = sum(rows) + seen[1] + seen[2]
    bytes_read = bytes_a_weight * (LEVELS * weights + heads) + 2 * batch * cached * 2 * kv * shape.layers
    of_heads = 2 * shape.hidden * (shape.level_sizes[0] + width * sum(shape.level_sizes[1:]))
    attention = sum(4 * r * s * shape.hidden * shape.layers for r, s in zip(rows, seen, strict=True))
    return bytes_read, float(batch * (2 * weights * sum(rows) + of_heads + attention))


def floor_ms(of: Ceilings, bytes_read: float, flop: float) -> float:
    """The larger of the two times."""
    return 1e3 * max(bytes_read / of.bytes_s, flop / of.flop_s)
