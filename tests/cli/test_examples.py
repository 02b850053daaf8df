"""The example in the help of each command runs as it stands."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from simulation import synthesize
from simulation.config import ShopSection
from tests.cli.lines import ROOT, commands, parse

EXAMPLES = {
    name: shlex.split(line)[1:]
    for name, command in commands().items()
    for line in re.findall(r"Example: `(genrecall [^`]*)`", command.help or "")
}
# Parsed here, and run elsewhere: each needs what this folder has not.
PARSED = {
    "data fetch": "the network, or the files of the dataset (tests/data/test_fetch.py)",
    "export": "a minute or more: the same line, into a smaller type (tests/engines/test_export.py)",
    "remember": "the logs of later months (tests/trainer/test_remember.py)",
    "demo": "everything else, for minutes (`make demo`)",
    **dict.fromkeys(("node start", "node stop"), "a distribution of OpenSearch, and a port (tests/local_node)"),
    **{name: "a node (tests/index/test_commands.py)" for name in commands() if name.startswith("index ")},
}
# In this order: each uses what those before it made.
RUN = [
    "data import", "data synthesize", "data simulate", "data judge", "data check", "node status", "train", "report",
    "bundle list", "bundle show", "bundle verify", "bundle use", "bundle prune", "serve", "generate", "evaluate",
]  # fmt: skip


def test_every_command_has_one_example_that_is_run_or_parsed():
    assert set(EXAMPLES) == set(commands())
    assert {*RUN, *PARSED} == set(commands())
    assert not set(RUN) & set(PARSED)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example_parses_as_its_command(name: str):
    assert parse(EXAMPLES[name])[0] == name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder whose configuration `demo`, which the examples read, takes seconds: a file has precedence."""
    folder = tmp_path_factory.mktemp("examples")
    synthesize(ShopSection(items=1000, queries=40, sessions=10), folder / "data/esci-us", lambda *_: None)
    for logs in (folder / "data/esci-us").glob("ubi_*"):  # people's judgments alone, as ESCI
        logs.unlink()
    (folder / "products_export.csv").write_text("Handle,Title,Vendor,Type\ntee,Plain Tee,Acme,Shirts\n")
    settings = yaml.safe_load((ROOT / "configs/tiny.yaml").read_text())
    settings["run"]["name"] = "demo"
    settings["quantizer"]["candidates"] = ["hierarchical"]
    settings["generator"]["encoder"]["stage"]["steps"] = 20
    settings["evaluation"]["regimes"] = ["recurring"]
    settings["server"] = {"port": 0, "metrics_port": None}
    (folder / "demo").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[subprocess.Popen]:
    """`genrecall serve` as its example starts it."""
    with started(folder, [*EXAMPLES["serve"], "--json"], stdout=subprocess.PIPE) as process:
        yield process
        process.terminate()
        assert process.wait(30) == 0


def started(folder: Path, words: list[str], **options: object) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **options.pop("env", {})}  # type: ignore[dict-item]
    command = [sys.executable, "-m", "genrecall", *words]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **options)  # type: ignore[call-overload]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_example_runs(name: str, folder: Path, request: pytest.FixtureRequest):
    environment = {}
    if name in ("serve", "generate"):
        process = request.getfixturevalue("server")
        if name == "serve":
            folder.joinpath("endpoint").write_text(json.loads(process.stdout.readline())["endpoint"])
            return
        environment = {"GENRECALL_ENDPOINT": folder.joinpath("endpoint").read_text()}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(folder, EXAMPLES[name], env=environment, **pipes) as process:
        out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert out
    if name == "generate":
        assert "such as" in out, "the titles behind the SIDs"
