"""`genrecall index`, from a dataset folder and a bundle to the alias."""

import json
from pathlib import Path

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from genrecall import bundle
from genrecall.cli.index import app
from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from genrecall.opensearch import connect
from index_mappings.create import create
from index_mappings.meta import IndexMeta
from tests.client.scripted import Scripted, serving
from tests.index.conftest import Shop
from tests.pki import make

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
    bundle.publish(root, codebook, bundle.Contents(ids, codes, (2, 3, 5), kind="encoder"), write)


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
    meta = IndexMeta("v1", "0" * 64, "minilm")
    create(connect(section), section, meta, 384)
    with pytest.raises(UserError, match=r"another bundle of the name 'v1'.*--replace"):
        run("create")
    assert json.loads(run("create", "--replace", "--json"))["new"]


def test_status_of_no_index_says_how_to_make_one(run, section: OpenSearchSection):
    assert f"no index {section.index}-* at {section.url}; make one with" in run("status")


def test_a_bundle_that_is_not_there_is_named(run):
    with pytest.raises(UserError, match="v9"):
        run("load", "--bundle", "v9")


@pytest.mark.slow
def test_sync_follows_catalogue_and_assignments(run, section: OpenSearchSection, tmp_path: Path):
    alone = "opensearch.refresh.endpoint=null"  # no server to place what the bundle lacks
    run("load")
    assert json.loads(run("sync", alone, "--json"))["compared"] == 20
    items = tmp_path / "shop" / "items.jsonl"
    rows = [json.loads(line) for line in items.read_text().splitlines()]
    rows[3]["title"] = "something else"
    items.write_text("\n".join(json.dumps(row) for row in [*rows[:19], {"item_id": "NEW", "title": "a new lamp"}]))
    moved = bundle.assignments_table(["B0004", "B0005"], np.array([[0, 0, 0], [1, 1, 1]]))
    pq.write_table(moved, tmp_path / "moved.parquet")
    output = run("sync", alone, "--assignments", str(tmp_path / "moved.parquet"))
    assert "20 documents compared" in output
    assert "1 added, 1 changed, 2 with another SID, 1 deleted" in output
    client = connect(section)
    assert client.get(index=section.index, id="B0004")["_source"]["sid"] == "v1/0/0/0"
    assert client.get(index=section.index, id="B0003")["_source"]["title"] == "something else"
    assert len(client.get(index=section.index, id="NEW")["_source"]["vector"]) == 384


@pytest.mark.slow
def test_sync_asks_an_inference_server_that_wants_certificates(run, section: OpenSearchSection, tmp_path: Path):
    pki = make(tmp_path)
    pair = ((pki / "server.key").read_bytes(), (pki / "server.pem").read_bytes())
    credentials = grpc.ssl_server_credentials([pair], (pki / "ca.pem").read_bytes(), require_client_auth=True)
    run("load")
    with serving(Scripted(), credentials=credentials) as port:
        address = ("sync", "--endpoint", f"127.0.0.1:{port}", "--ca-cert", str(pki / "ca.pem"))
        with pytest.raises(UserError, match=r"2 items .*check the endpoint and the certificates"):
            run(*address)
        known = ("--cert", str(pki / "client.pem"), "--key", str(pki / "client.key"))
        assert json.loads(run(*address, *known, "--json"))["moved"] == 2
    assert connect(section).get(index=section.index, id="B0019")["_source"]["sid"] == "v1/20/2/7"


def test_assignments_that_the_codebook_lacks_are_refused(run, tmp_path: Path):
    pq.write_table(bundle.assignments_table(["B0004"], np.array([[9, 9, 9]])), tmp_path / "moved.parquet")
    with pytest.raises(UserError, match=r"1 SIDs are not in codebook 'v1', such as \[9, 9, 9\] of 'B0004'"):
        run("sync", "opensearch.refresh.endpoint=null", "--assignments", str(tmp_path / "moved.parquet"))


@pytest.mark.slow
def test_refresh_and_rollback_report_what_they_did(run, section: OpenSearchSection, tmp_path: Path):
    # without an inference server
    changes = ("endpoint=null", "drain_timeout_s=0", "max_without_sid=0.2", "sample_queries=0")
    quick = [f"opensearch.refresh.{change}" for change in changes]
    run("load")
    publish(tmp_path / "bundles", "v2", [f"B{i:04}" for i in range(20)][::-1])
    planned = run("refresh", *quick, "--dry-run")
    assert f"would build {section.index}-v2 from {section.index}-v1" in planned
    output = run("refresh", *quick)
    assert f"{section.index} now points to {section.index}-v2, before to {section.index}-v1" in output
    assert "20 documents sent" in output
    assert "serves codebook v2 already: nothing to do" in run("refresh", *quick)
    assert f"now points to {section.index}-v1" in run("rollback", *quick, "--queries", str(queries(tmp_path)))
    assert "no move of" in run("refresh", "--abandon")


def queries(folder: Path) -> Path:
    file = folder / "queries.txt"
    file.write_text("red shoe\n")
    return file


@pytest.mark.slow
def test_attach_gives_sids_to_an_index_of_ones_own(run, section: OpenSearchSection, client: OpenSearch):
    own = f"{section.index}-own"
    for n in range(20):
        client.index(index=own, id=f"B{n:04}", body={"title": f"thing {n}"})
    client.indices.refresh(index=own)
    done = json.loads(run("attach", own, "opensearch.refresh.endpoint=null", "--json"))
    assert (done["written"], done["unknown"]) == (18, 2)
    said = run("attach", own, "opensearch.refresh.endpoint=null")
    assert "0 got their SID in 'sid'" in said
    assert "2 are not in the bundle" in said
