"""`genrecall index`, from a dataset folder and a bundle to the alias."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from genrecall import bundle
from genrecall.cli.index import app
from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from index_mappings import lifecycle
from index_mappings.client import connect
from tests.index.conftest import Shop

pytestmark = pytest.mark.node


@pytest.fixture
def run(section: OpenSearchSection, tmp_path: Path):
    """Runs a subcommand on a shop of 20 items, of which the bundle `v1` knows the first 18."""
    shop = Shop.of(20)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "items.jsonl").write_text("\n".join(json.dumps(row) for row in shop.items.to_pylist()))
    publish(tmp_path / "bundles", "v1", shop.items["item_id"].to_pylist()[:18])
    config = {
        "run": {name: str(tmp_path / name) for name in ("runs_dir", "bundles_dir", "cache_dir")}
        | {"bundles_dir": str(tmp_path / "bundles")},
        "data": {"folder": str(tmp_path / "shop")},
        "opensearch": {"url": section.url, "index": section.index},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))

    def command(*words: str) -> str:
        arguments = [words[0], "-c", str(tmp_path / "run.yaml"), *words[1:]]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return command


def publish(root: Path, codebook: str, ids: list[str]) -> None:
    def write(folder: Path) -> None:
        (folder / "generator").mkdir()
        (folder / "generator" / "model.safetensors").write_bytes(b"weights")

    codes = np.array([[i % 2, i % 3, i % 5] for i in range(len(ids))])
    facts = {"config": {}, "fingerprints": {}, "metrics": {}}
    bundle.publish(root, codebook, ids, codes, (2, 3, 5), write, kind="encoder", **facts)


@pytest.mark.slow
def test_a_catalogue_gets_into_its_index_and_stays_as_it_is_when_loaded_again(run, section: OpenSearchSection):
    assert json.loads(run("create", "--json")) == {"index": f"{section.index}-v1", "new": True}
    assert "is there already" in run("create")
    report = json.loads(run("load", "--json"))
    assert (report["documents"], report["without_sid"], report["rejected"]) == (20, 2, 0)
    (status,) = json.loads(run("status", "--json"))
    assert (status["documents"], status["with_sid"], status["dimension"], status["aliased"]) == (20, 18, 384, True)
    again = run("load")
    assert "20 documents; 0 sent" in again
    assert "2 items are not in the bundle" in again
    assert f"{section.index} -> {section.index}-v1: 20 documents, 18 with a SID of v1" in run("status")
    source = connect(section).get(index=section.index, id="B0007")["_source"]
    assert source["sid"] == "v1/1/1/2"


def test_index_of_another_bundle_of_the_same_name_is_refused(run, section: OpenSearchSection):
    meta = lifecycle.Meta("v1", "0" * 64, "minilm")
    lifecycle.create(connect(section), section, meta, 384)
    with pytest.raises(UserError, match=r"another bundle of the name 'v1'.*--replace"):
        run("create")
    assert json.loads(run("create", "--replace", "--json"))["new"]


def test_status_of_no_index_says_how_to_make_one(run, section: OpenSearchSection):
    assert f"no index {section.index}-* at {section.url}; make one with" in run("status")


def test_a_bundle_that_is_not_there_is_named(run):
    with pytest.raises(UserError, match="v9"):
        run("load", "--bundle", "v9")
