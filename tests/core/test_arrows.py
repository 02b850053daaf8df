"""What importing must not do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement", ["import genrecall", "from genrecall.cli.main import build; build()", "import genrecall.bundle"]
)
def test_no_torch_is_loaded_before_it_is_used(statement):
    assert not {"torch", "transformers"} & loaded_by(statement)


def test_decoding_needs_no_more_than_torch_numpy_and_transformers():
    assert not {"pydantic", "pyarrow", "typer", "grpc", "yaml"} & {
        name.partition(".")[0] for name in loaded_by("import genrecall.decoding")
    }


def test_nothing_imports_the_command_line():
    """Not even what the import contracts do not name, such as examples and the modules of the core itself."""
    product = "genrecall", "trainer", "inference_server", "index_mappings"
    files = {
        file
        for room in (*product, "simulation", "experiments", "benchmarks", "examples")
        for file in (ROOT / room).rglob("*.py")
    }
    files -= {*(ROOT / "genrecall/cli").rglob("*.py"), ROOT / "genrecall/__main__.py"}
    upward = re.compile(r"^\s*(from genrecall\.cli\b|import genrecall\.cli\b|from genrecall import .*\bcli\b)", re.M)
    assert len(files) > 100
    assert [str(file) for file in files if upward.search(file.read_text())] == []
