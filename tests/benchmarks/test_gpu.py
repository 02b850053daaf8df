"""`make gpu` is rehearsed: all that a GPU machine will run runs here first, at small size, each part in its process."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import records, wheels
from benchmarks.gpu.bench import WITH_ERRORS, Bench
from benchmarks.gpu.roofline import Ceilings, counted, floor_ms
from benchmarks.models import SHAPES

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable
TITLES = {"one": "The first", "two": "The second"}


@pytest.mark.slow
@pytest.mark.parametrize("part", [part.name for part in gpu.PARTS])
def test_every_part_runs_on_a_cpu(part: str, tmp_path: Path) -> None:
    lines = tmp_path / "records.jsonl"
    carried = ROOT / ".cache/gpu"  # a ghz that was built once is used again
    bench = Bench(part, "cpu", True, time.monotonic() + 300, lines, tmp_path, carried)
    importlib.import_module(f"benchmarks.gpu.parts.{part}").run(bench)
    found = [record["row"] for record in records.read(lines)]
    assert found
    assert not bench.failed, [row for row in found if "error" in row]
    assert not [row for row in found if "note" in row], "something was left out"


@pytest.mark.slow
def test_the_command_runs_parts_in_processes_of_their_own_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--small", "--out", str(tmp_path)]
    command += ["--part", "machine", "--part", "kernels"]
    for again in (False, True):
        answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert answer.stdout.count("done before") == (2 if again else 0)
    report = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    titles = [part.title for part in gpu.PARTS if part.name in ("machine", "kernels")]
    assert [line for line in report.splitlines() if line.startswith("## ")] == [f"## {title}" for title in titles]


def run(name: str, code: str, folder: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> list[records.Record]:
    """Run `code` in place of a part."""
    monkeypatch.setattr(gpu.sys, "executable", str(folder / "python"))
    (folder / "python").write_text(f"#!{PYTHON}\n{code}\n")
    (folder / "python").chmod(0o755)
    lines = folder / "out/records.jsonl"
    gpu.run(gpu.Part(name, name, 1), [], {}, lines, seconds)
    return records.read(lines)


def test_a_part_that_fails_or_hangs_is_recorded_and_what_it_started_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "KILLED_S", 1)
    found = run("one", "import sys; print('CUDA error: an illegal access'); sys.exit(3)", tmp_path, 20, monkeypatch)
    assert (found[-1]["status"], found[-1]["error"]) == (records.FAILED, "CUDA error: an illegal access")
    found = run("one", "import sys; sys.exit(4)", tmp_path, 20, monkeypatch)
    assert found[-1]["status"] == records.ERRORS
    assert gpu.WITH_ERRORS == WITH_ERRORS
    child = "import subprocess, time; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"
    found = run("two", child, tmp_path, 2, monkeypatch)
    assert found[-1]["status"] == records.TIMEOUT
    pid = int((tmp_path / "out/parts.log").read_text().splitlines()[-1])
    until = time.monotonic() + 10  # a kill takes effect when the process is next scheduled
    while running(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not running(pid)
    assert {record["part"] for record in found} == {"one", "two"}, "the next part does not erase the one before"


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_part_that_begins_again_replaces_its_results(tmp_path: Path) -> None:
    lines = tmp_path / "records.jsonl"
    for part, p50 in (("one", 3.0), ("two", 7.0), ("one", 2.0)):
        records.append(lines, {"part": part, "status": "started"})
        records.append(lines, {"part": part, "table": "speed", "row": {"B": 1, "p50_ms": p50}})
        records.append(lines, {"part": part, "status": records.DONE, "seconds": 1})
    found = records.read(lines)
    assert [record["row"]["p50_ms"] for record in found if "row" in record] == [7.0, 2.0]
    assert records.outcome(found, "one") == records.DONE
    assert records.outcome(found, "three") is None


def test_the_report_says_what_is_not_done(tmp_path: Path) -> None:
    lines = tmp_path / "records.jsonl"
    records.append(lines, {"part": "two", "status": "started"})
    records.append(lines, {"part": "two", "table": "speed", "row": {"side": "a|b", "p50_ms": 1234.5}})
    records.append(lines, {"part": "two", "table": "speed", "row": {"side": "c", "error": "OutOfMemoryError: no"}})
    records.append(lines, {"part": "two", "status": records.TIMEOUT, "seconds": 9, "error": "killed"})
    report = records.markdown(records.read(lines), TITLES)
    assert report.splitlines()[:3] == ["## The second", "", "**timed out**: `killed`"]
    assert "| side | p50_ms | error |" in report
    assert "| a/b | 1,234 |  |" in report
    assert "The first" not in report


def test_what_the_machine_lacks_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wheels.install(tmp_path, tmp_path / "site") == [], "the development environment has all of it"
    monkeypatch.setitem(wheels.CARRIED, "a-package-that-is-nowhere", "1.0")
    with pytest.raises(
        SystemExit, match=r"a-package-that-is-nowhere missing or too old: run `python -m benchmarks.gpu"
    ):
        wheels.install(tmp_path, tmp_path / "site")
    monkeypatch.setitem(wheels.EXPECTED, "numpy", "99.0")
    with pytest.raises(SystemExit, match="numpy missing or too old, and too large to be carried"):
        wheels.install(tmp_path, tmp_path / "site")


def test_the_floor_of_a_search_is_that_of_its_weights() -> None:
    read, flop = counted(SHAPES["0.5b"], 1, 128, 50, 2)
    assert read == pytest.approx(3 * 2 * 358e6, rel=0.05), "three forwards of 358 million weights in two bytes each"
    assert flop == pytest.approx(2 * 358e6 * (128 + 50 + 50), rel=0.1)
    card = Ceilings(3e12, 800e12)
    assert floor_ms(card, read, flop) == pytest.approx(read / 3e9)
    read, flop = counted(SHAPES["0.5b"], 64, 128, 50, 2)
    assert floor_ms(card, read, flop) == pytest.approx(flop / 800e9), "a large batch is bound by arithmetic"
