"""Tests, measures and profiles everything CUDA, on a bare machine, in the minutes that it is there.

    python -m benchmarks.gpu.wheels                      where there is a network: what it lacks, into .cache/gpu
    python -m benchmarks.gpu --seconds 480               on the machine: every part, most important first
    python -m benchmarks.gpu --part serving              some parts; those that are done are left out, unless --again
    python -m benchmarks.gpu --device cpu --small        rehearses all of it, on any machine, in some minutes

Each part runs in a process of its own: what fails, hangs or breaks the device ends that part alone. Results are written
as soon as they are there, to OUT/records.jsonl, and OUT/gpu.md is made of them after every part; OUT/parts.log has what
the parts printed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu import records, wheels


@dataclass(frozen=True)
class Part:
    """name: of the module in `parts`; seconds: what it may take at most."""

    name: str
    title: str
    seconds: int


PARTS = (
    Part("machine", "The machine and its ceilings", 40),
    Part("search", "The search alone", 110),
    Part("parity", "Parity: captured, eager, Hugging Face", 60),
    Part("serving", "gRPC under open-loop load", 200),
    Part("encoder", "The demo's kind of generator", 60),
    Part("kernels", "Where one search spends its time", 30),
    Part("training", "Training", 75),
    Part("vectors", "Embedding and quantizer", 120),
    Part("faults", "Memory over many calls, reload under load, device errors", 130),
    Part("fused", "torch.compile against hand capture", 150),
    Part("scratch", "A language model trained from scratch", 200),
)
LEAST_S = 15  # a part is not begun with less
WITH_ERRORS = 4  # as `bench` has it, which is not imported here: it loads torch
KILLED_S = 3  # between SIGTERM and SIGKILL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny models and few repetitions: a rehearsal")
    parser.add_argument("--seconds", type=float, default=480, help="for all parts together")
    parser.add_argument("--part", action="append", choices=[part.name for part in PARTS], help="may be repeated")
    parser.add_argument("--again", action="store_true", help="parts that are done, too")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--carried", type=Path, default=wheels.FOLDER, help="what benchmarks.gpu.wheels downloaded")
    args = parser.parse_args()

    ends = time.monotonic() + args.seconds
    site, out = args.carried.absolute() / "site", args.out.absolute()
    installed = wheels.install(args.carried / wheels.WHEELS, site)
    lines, report = out / "records.jsonl", out / "gpu.md"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1"}
    paths = [str(wheels.ROOT), str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    if installed:
        print(f"installed from {args.carried}: {', '.join(installed)}", flush=True)
    titles = {part.name: part.title for part in PARTS}
    chosen = [part for part in PARTS if not args.part or part.name in args.part]
    for part in chosen:
        if records.outcome(records.read(lines), part.name) in records.ENDED and not args.again:
            print(f"{part.name}: done before", flush=True)
            continue
        left = ends - time.monotonic()
        if left < LEAST_S:
            records.append(lines, {"part": part.name, "status": records.NO_TIME, "seconds": 0})
        else:
            options = ["--device", args.device, *(["--small"] if args.small else []), "--records", str(lines)]
            options += ["--seconds", str(min(part.seconds, left - KILLED_S)), "--carried", str(args.carried.absolute())]
            run(part, options, environment, lines, min(part.seconds, left - KILLED_S))
        report.write_text(records.markdown(records.read(lines), titles), encoding="utf-8")
    every = records.read(lines)
    failed = [part.name for part in chosen if records.outcome(every, part.name) != records.DONE]
    failed += [f"{r['part']} ({r['table']})" for r in every if "error" in r.get("row", {})]
    print(report.read_text(encoding="utf-8"))
    print(f"written to {report}, log beside it; {'not done: ' + ', '.join(failed) if failed else 'all parts done'}")
    return bool(failed)


def run(part: Part, options: list[str], environment: dict[str, str], lines: Path, seconds: float) -> None:
    """The part in a process of its own, which ends with all that it started; how it ended is recorded."""
    records.append(lines, {"part": part.name, "status": "started"})
    log = lines.with_name("parts.log")  # one for all: machines that are lent hand few files back
    began, before = time.monotonic(), log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "benchmarks.gpu.bench", part.name, *options]
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, cwd=wheels.ROOT, start_new_session=True
        )
        try:
            code = process.wait(seconds)
            status = {0: records.DONE, WITH_ERRORS: records.ERRORS}.get(code, records.FAILED)
        except subprocess.TimeoutExpired:
            status = records.TIMEOUT
        finally:
            _end(process)
    ended: records.Record = {"part": part.name, "status": status, "seconds": round(time.monotonic() - began, 1)}
    if status != records.DONE:
        said = log.read_bytes()[before:].decode(errors="replace").strip().splitlines()
        ended["error"] = said[-1][:300] if said else ""
    records.append(lines, ended)
    print(f"{part.name}: {status}, {ended['seconds']:.0f} s", flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole session of the process: servers and load generators that it started too."""
    for number, wait_s in ((signal.SIGTERM, KILLED_S), (signal.SIGKILL, KILLED_S)):
        try:
            os.killpg(process.pid, number)
            process.wait(wait_s)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


if __name__ == "__main__":
    sys.exit(main())
