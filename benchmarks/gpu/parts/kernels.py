"""One search under torch's profiler: its largest kernels, what lies between kernels, and the time of the host."""

from __future__ import annotations

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.bench import Bench, synchronize
from benchmarks.gpu.parts.search import LENGTH, WIDTH, Sides
from benchmarks.models import SHAPES
from benchmarks.random_bundle import TINY
from inference_server.engines.torch_engine import StaticSearch

LARGEST = 10


def run(bench: Bench) -> None:
    sides = Sides(bench, TINY if bench.small else SHAPES["0.5b"])
    engine = StaticSearch(sides.generator(), capture=sides.capture)
    for batch in (1,) if bench.small else (1, 32):
        prompts = sides.prompts(batch, 16 if bench.small else LENGTH)
        for _ in range(3):
            engine(prompts, WIDTH)
        synchronize(bench.device)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.cuda else [])]
        with profile(activities=activities) as profiled:
            engine(prompts, WIDTH)
            synchronize(bench.device)
        kernels = sorted(
            (event for event in profiled.events() if on_device(event, bench.cuda)), key=lambda e: e.time_range.start
        )
        if not kernels:
            raise RuntimeError("the profiler saw no kernel")
        busy = sum(event.time_range.elapsed_us() for event in kernels)
        span = max(e.time_range.end for e in kernels) - kernels[0].time_range.start
        bench.add(
            "search",
            B=batch,
            kernels=len(kernels),
            busy_ms=round(busy / 1e3, 3),
            from_first_to_last_ms=round(span / 1e3, 3),
            between_kernels_ms=round((span - busy) / 1e3, 3) if bench.cuda else None,
            host_ms=round(sum(e.self_cpu_time_total for e in profiled.key_averages()) / 1e3, 3),
        )
        by_name: dict[str, list[float]] = {}
        for event in kernels:
            by_name.setdefault(event.name, []).append(event.time_range.elapsed_us())
        for name, spent in sorted(by_name.items(), key=lambda item: -sum(item[1]))[:LARGEST]:
            of_all = round(sum(spent) / busy, 3)
            bench.add("kernels", B=batch, kernel=name[:90], calls=len(spent), us=round(sum(spent), 1), share=of_all)


def on_device(event: Any, cuda: bool) -> bool:
    """Kernels and copies of the device; on a CPU the operators that call no other."""
    if cuda:
        return event.device_type == torch.autograd.DeviceType.CUDA
    return not event.cpu_children
