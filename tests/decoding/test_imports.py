import subprocess
import sys


def test_decoding_needs_neither_pydantic_nor_pyarrow() -> None:
    """It runs where a model is served, on torch, NumPy and transformers alone."""
    script = "import sys; sys.modules.update(pydantic=None, pyarrow=None, trainer=None); import genrecall.decoding"
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
