"""What importing must not do."""

import subprocess
import sys

import pytest


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
