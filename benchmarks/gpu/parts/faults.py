"""What must not go wrong: memory over many calls, a reload under load, memory that runs out, a kernel that hangs for a
while, a device that is lost.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import random_bundle
from benchmarks.gpu.bench import Bench, Row, synchronize
from benchmarks.gpu.parts.search import Sides
from benchmarks.gpu.parts.serving import loader, server
from benchmarks.gpu.wheels import ROOT
from benchmarks.models import SHAPES
from benchmarks.random_bundle import TINY
from benchmarks.serving import MIN_OK
from genrecall import bundle
from genrecall.client import Client
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from inference_server.engines.base import OutOfMemory
from inference_server.engines.torch_engine import StaticSearch, device_errors

GROWTH_MB = 64  # of memory, over the calls after the first tenth


def run(bench: Bench) -> None:
    sides = Sides(bench, TINY if bench.small else SHAPES["small"])
    bench.measure("many calls", {}, many_calls, bench, sides, needs=10)
    texts = random_bundle.shop_texts()
    root = bench.folder / "bundles"
    random_bundle.publish(root, TINY, *texts, onnx=False, device=bench.device)
    bench.measure("reload under load", {}, reloaded, bench, root, texts, needs=25)
    if bench.cuda:
        bench.measure("memory runs out", {}, out_of_memory, sides, needs=5)
        bench.measure("a slow kernel", {}, slow_kernel, sides, needs=5)
    bench.measure("device lost", {}, device_lost, bench, root, needs=25)


def many_calls(bench: Bench, sides: Sides) -> Row:
    """Batches and lengths of all sizes, one width: memory of the device and of the process, early and at the end."""
    engine, rng = StaticSearch(sides.generator(), capture=sides.capture), np.random.default_rng(0)
    calls, early = (40, (0, 0.0)) if bench.small else (10_000, (0, 0.0))
    done = 0
    for done in range(1, calls + 1):
        batch, length = int(rng.integers(1, 9)), int(rng.integers(1, 33))
        engine([TokenizedPrompt(rng.integers(0, 999, length).tolist())] * batch, 50)
        if done == max(1, calls // 10):
            early = used(bench)
        if bench.left < 30:
            break
    synchronize(bench.device)
    late = used(bench)
    grown = [(after - before) / 2**20 for before, after in zip(early, late, strict=True)]
    row = {"calls": done, "device_grew_mb": round(grown[0], 1), "process_grew_mb": round(grown[1], 1)}
    if not bench.small and max(grown) > GROWTH_MB:
        raise RuntimeError(f"memory grows: {row}")
    return row


def used(bench: Bench) -> tuple[int, int]:
    """Bytes that torch holds on the device, and resident ones of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return torch.cuda.memory_reserved() if bench.cuda else 0, pages * os.sysconf("SC_PAGE_SIZE")


def reloaded(bench: Bench, root: Path, texts: tuple[list[str], list[str]]) -> Row:
    """A second bundle is published while calls come in by the clock: none may fail, and the new one answers then."""
    seconds, rate = (5.0, 10) if bench.small else (12.0, 100)
    load = loader(bench, bench.folder / "requests.json", texts[1])
    found: Row = {}

    def calls(endpoint: str) -> None:
        found.update(load.open_loop(endpoint, rate, seconds))

    with server(bench, root, "server.reload_interval_s=0.5") as running:
        loading = threading.Thread(target=calls, args=(running.endpoint,))
        loading.start()
        time.sleep(1)
        random_bundle.publish(root, TINY, *texts, onnx=False, device=bench.device, codebook="v2")
        loading.join()
        with Client(running.endpoint) as client:
            answered = client.generate(["red shoes"], k=1).codebook
    row = {"rate": rate, "ok": found["shares"].get("OK", 0.0), "p99_ms": found["p99_ms"], "now_answers": answered}
    if row["ok"] < MIN_OK or answered != bundle.open(bundle.resolve(root)).codebook:
        raise RuntimeError(f"the reload was noticed, or not done: {row}")
    return row


def out_of_memory(sides: Sides) -> Row:
    """All memory but a little is taken, and a new shape asked for: an error, and right answers once there is some."""
    engine, asked = StaticSearch(sides.generator()), sides.prompts(1, 16)
    before = engine(asked, 50)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(free - (32 << 20), dtype=torch.uint8, device="cuda")
    said = "no error"
    try:
        with device_errors():
            engine(sides.prompts(64, 512), 256)
    except OutOfMemory as error:
        said = type(error).__name__
    same = bool((engine(asked, 50).codes == before.codes).all())
    del taken
    torch.cuda.empty_cache()
    after = engine(sides.prompts(64, 512), 256)
    row = {"said": said, "known_shapes_go_on": same, "answers_later": bool(after.valid.any())}
    if row != {"said": "OutOfMemory", "known_shapes_go_on": True, "answers_later": True}:
        raise RuntimeError(f"not as it should be: {row}")
    return row


def slow_kernel(sides: Sides) -> Row:
    """A kernel that takes half a second on the engine's stream: the call waits for it, the next one does not."""
    engine, asked = StaticSearch(sides.generator()), sides.prompts(1, 16)
    before = engine(asked, 50)
    taken = []
    for cycles in (1_000_000_000, 0):
        if cycles:
            with torch.cuda.stream(engine.stream):
                torch.cuda._sleep(cycles)
        began = time.perf_counter()
        after = engine(asked, 50)
        taken.append(round((time.perf_counter() - began) * 1e3, 2))
        if (after.codes != before.codes).any():
            raise RuntimeError("the answers differ")
    return {"behind_it_ms": taken[0], "next_ms": taken[1]}


def device_lost(bench: Bench, root: Path) -> Row:
    """A server whose device fails for good: calls get an error, and the process ends so that it is started again."""
    command = [sys.executable, "-m", "benchmarks.gpu.parts.lost_device", str(root), bench.device]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    try:
        output, _ = process.communicate(timeout=min(60, bench.left))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
    print(output, flush=True)
    if not process.returncode or "INTERNAL" not in output:  # its libraries may abort on a device that is gone
        raise RuntimeError(f"exit code {process.returncode}: {output.strip()[-200:]}")
    return {"exit_code": process.returncode, "call": "INTERNAL"}
