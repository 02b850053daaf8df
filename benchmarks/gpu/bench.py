"""What a part works with: its device, its time, its records. `python -m benchmarks.gpu.bench PART` runs one."""

from __future__ import annotations

import argparse
import importlib
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import records

Row = dict[str, Any]
WITH_ERRORS = 4  # exit code of a part that came to its end, some rows of which are errors


@dataclass
class Bench:
    """One run of a part.

    Attributes:
        small: sizes of a rehearsal.
        ends: by `time.monotonic`, when the part must have ended.
        folder: to write in, removed afterwards; carried: what travelled with the checkout.
        failed: whether something did not work that should have.
    """

    part: str
    device: str
    small: bool
    ends: float
    records: Path
    folder: Path
    carried: Path
    failed: bool = field(default=False)

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.cuda else torch.float32

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def add(self, table: str, **row: Any) -> None:
        records.append(self.records, {"part": self.part, "table": table, "row": row})
        print(table, row, flush=True)

    def measure(self, table: str, labels: Row, make: Callable[..., Row], *args: Any, needs: float = 2) -> Row | None:
        """Add the row of `labels` and what `make(*args)` returns; or the error, or that there was no time for it.

        needs: seconds that it takes at least.
        """
        if self.left < needs:
            self.add(table, **labels, note="left out: no time")
            return None
        try:
            made = make(*args)
        except Exception as error:  # what one row does wrong is recorded, and the others go on
            traceback.print_exc()
            self.failed = True
            self.add(table, **labels, error=f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
            return None
        self.add(table, **labels, **made)
        return made


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def times(run: Callable[[], object], device: str, seconds: float, most: int, warm_ups: int = 3) -> Row:
    """Milliseconds of a call that launches work: by events of the device, by the clock on a CPU."""
    taken: list[float] = []
    for _ in range(warm_ups):
        run()
    synchronize(device)
    ends = time.monotonic() + seconds
    while len(taken) < 2 or (len(taken) < most and time.monotonic() < ends):
        if device == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            run()
            end.record()
            end.synchronize()
            taken.append(begin.elapsed_time(end))
        else:
            began = time.perf_counter()
            run()
            taken.append((time.perf_counter() - began) * 1e3)
    return percentiles(taken)


def wall_times(run: Callable[[], object], seconds: float, most: int, warm_ups: int = 3) -> Row:
    """Milliseconds of a call that returns once its result is on the host."""
    return times(run, "cpu", seconds, most, warm_ups)


def percentiles(taken: list[float]) -> Row:
    ordered = sorted(taken)
    return {
        "p50_ms": round(statistics.median(ordered), 4),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 4),
        "runs": len(ordered),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--carried", type=Path, required=True)
    args = parser.parse_args()

    ends = time.monotonic() + args.seconds
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device: --device cpu --small rehearses without one")
    folder = Path(tempfile.mkdtemp(prefix=f"gpu-{args.part}-"))
    bench = Bench(args.part, args.device, args.small, ends, args.records, folder, args.carried)
    try:
        importlib.import_module(f"benchmarks.gpu.parts.{args.part}").run(bench)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return WITH_ERRORS if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
