"""`kill -9` at any moment, then the same command again: the result is that of a run that nobody disturbed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.generator.shop import tiny_encoder

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def start(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-m", "tests.trainer.killed", str(folder)], cwd=ROOT)


def kill_when(folder: Path, pattern: str) -> None:
    """Run until a path of this pattern is there, and kill in that moment, in the middle of its writing or not."""
    process = start(folder)
    while process.poll() is None and not any(folder.glob(pattern)):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"it ended before there was a {pattern}"


def finish(folder: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    assert start(folder).wait() == 0
    return json.loads((folder / "metrics.json").read_text()), load_file(folder / "generator" / "model.safetensors")


def test_killed_in_every_stage_it_ends_as_if_undisturbed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny_encoder(tmp_path / "encoder")
    expected, weights = finish(tmp_path / "whole")
    for moment in (
        "work/mixed-*/checkpoint-20",
        "work/mixed-*/stage.safetensors",
        "work/user-*/checkpoint-20/optimizer.pt",
        "work/alignment-*/checkpoint-10",
        "work/alignment-*/checkpoint-20/whole",
    ):
        kill_when(tmp_path / "killed", moment)
    assert not (tmp_path / "killed" / "generator").exists(), "what is not done is not there"
    found, resumed = finish(tmp_path / "killed")
    for stage, of in expected["stages"].items():
        assert found["stages"][stage]["loss"] == pytest.approx(of["loss"], rel=1e-3), stage
        assert found["stages"][stage]["evaluations"][-1]["eval_recall"] == of["evaluations"][-1]["eval_recall"], stage
    for name, weight in weights.items():
        torch.testing.assert_close(resumed[name], weight, rtol=1e-3, atol=1e-4, msg=name)
