"""`genrecall bundle`: choosing and removing bundles, and what `train` says of `current`."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from genrecall import bundle
from genrecall.cli.bundle import app
from genrecall.cli.train import about_current
from genrecall.errors import BundleError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """v1 to v4, the last one current, with an export in v4."""

    def write(folder: Path) -> None:
        (folder / "generator").mkdir()
        (folder / "generator" / "model.safetensors").write_bytes(b"weights")

    for name in ("v1", "v2", "v3", "v4"):
        contents = bundle.Contents(["a"], np.array([[0, 0, 0]]), (1, 1, 1), kind="encoder")
        bundle.publish(tmp_path / "bundles", name, contents, write)

    def graph(folder: Path) -> dict:
        (folder / "search.onnx").write_bytes(b"x" * 5_000_000)
        return {}

    bundle.attach(bundle.open(tmp_path / "bundles" / "v4"), "onnx/int8", graph)
    return tmp_path / "bundles"


def run(root: Path, *words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--bundles", str(root)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_list_counts_exports(root: Path):
    rows = {row["codebook"]: row for row in json.loads(run(root, "list", "--json"))}
    assert rows["v4"]["exports"] == ["onnx/int8"]
    assert rows["v3"]["exports"] == []
    assert rows["v4"]["bytes"] > 5_000_000 > rows["v3"]["bytes"]
    assert "5.0 MB" in run(root, "list")


def test_a_bundle_is_made_current_once_it_is_verified(root: Path):
    assert run(root, "use", "v2") == "current -> v2 (before: v4)\n"
    assert (bundle.pointer(root, "current"), bundle.pointer(root, "previous")) == ("v2", "v4")
    assert json.loads(run(root, "use", "previous", "--json")) == {"current": "v4", "before": "v2"}
    (root / "v3/generator/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="was altered"):
        run(root, "use", "v3")
    with pytest.raises(BundleError, match="there: v4, v3, v2, v1"):
        run(root, "use", "v9")
    assert bundle.pointer(root, "current") == "v4"


def test_old_bundles_are_removed_once_shown(root: Path):
    run(root, "use", "v1")  # previous: v4
    assert "would remove" in run(root, "prune", "--keep", "1", "--dry-run")
    assert (root / "v2").is_dir()
    told = run(root, "prune", "--keep", "1")
    assert [line.split()[1] for line in told.splitlines()] == [str(root / "v3"), str(root / "v2")]
    assert sorted(path.name for path in root.iterdir()) == ["current", "previous", "v1", "v4"]
    assert "nothing to remove" in run(root, "prune", "--keep", "0")


def test_train_says_whether_current_moved():
    assert about_current("v2", "v1", "v2") == "current -> v2 (before: v1)"
    assert about_current("v1", None, "v1") == about_current("v1", "v1", "v1") == "current -> v1"
    assert about_current("x", "v1", "v1").startswith("current stays v1: ")
    assert about_current("x", None, None).startswith(
        "no bundle is current: a bundle of a given name does not move it; `genrecall bundle use x` does"
    )
