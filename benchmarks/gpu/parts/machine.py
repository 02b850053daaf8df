"""The card, the versions, and what the card can do: a wrong machine shows in seconds."""

from __future__ import annotations

import subprocess

import torch

from benchmarks.gpu import roofline
from benchmarks.gpu.bench import Bench
from benchmarks.machine import machine_info


def run(bench: Bench) -> None:
    info = machine_info()
    if bench.cuda:
        of = torch.cuda.get_device_properties(0)
        asked = [
            "nvidia-smi",
            "--query-gpu=driver_version,clocks.sm,clocks.mem,temperature.gpu",
            "--format=csv,noheader",
        ]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        info |= {
            "multiprocessors": of.multi_processor_count,
            "memory_gib": round(of.total_memory / 2**30, 1),
            "capability": f"{of.major}.{of.minor}",
            "cuda": torch.version.cuda,
            "driver, clocks, temperature": answer.stdout.strip() or answer.stderr.strip(),
        }
    for name, value in info.items():
        bench.add("machine", name=name, value=value)
    found = roofline.ceilings(bench.device, bench.dtype)
    bench.add(
        "ceilings",
        copied_gb_s=round(found.bytes_s / 1e9, 1),
        product_tflop_s=round(found.flop_s / 1e12, 2),
        dtype=str(bench.dtype).removeprefix("torch."),
    )
