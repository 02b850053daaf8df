"""bm25s runs JAX at import where there is JAX: it must not be on the GPU, whose memory torch needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["genrecall.evaluation.channels_offline", "simulation.click_model"])
def test_jax_stays_on_the_cpu(module: str, tmp_path: Path) -> None:
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("")
    (tmp_path / "jax" / "lax.py").write_text("import os\ntop_k = lambda *_: print(os.environ['JAX_PLATFORMS'])")
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    command = [sys.executable, "-c", f"import {module}"]
    environment["PYTHONPATH"] = paths
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout == "cpu\n", answer.stderr
