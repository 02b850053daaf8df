"""The committed stubs are those of the contract."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_stubs_are_generated_from_the_contract_as_it_is(tmp_path):
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Igenrecall/rpc=proto/genrecall/v1"]
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([*command, *outputs, "genrecall/rpc/generative_recall.proto"], check=True, cwd=ROOT)
    made = sorted((tmp_path / "genrecall" / "rpc").iterdir())
    assert len(made) == 3
    for path in made:
        assert path.read_text() == (ROOT / "genrecall" / "rpc" / path.name).read_text(), (
            f"run `make proto`: {path.name}"
        )
