"""docs/walk.md, typed: from a shop's export and its log (both simulated) to an evaluated, served bundle."""

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
from opensearchpy import OpenSearch

from genrecall.config import Config, load
from genrecall.evaluation.folds_node import plugin_endpoint
from genrecall.evaluation.server_process import inference_server
from genrecall.local_node.node import Node
from tests.e2e import shopify
from tests.e2e.commands import CONFIG

pytestmark = [pytest.mark.node, pytest.mark.slow]
PAGE = (CONFIG.parents[1] / "docs" / "walk.md").read_text(encoding="utf-8")
ELSEWHERE = ("genrecall serve", "genrecall node start")  # what keeps running: the test's own


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


class Shop:
    """A work folder, in which lines of the page are typed."""

    def __init__(self, folder: Path, node: Node) -> None:
        self.folder, self.node, self.endpoint = folder, node, ""
        settings = yaml.safe_load(CONFIG.read_text()) | yaml.safe_load(blocks("yaml")[0])
        settings["quantizer"]["candidates"] = ["hierarchical"]
        settings["evaluation"]["regimes"] = ["recurring"]
        settings["opensearch"]["index"] = "walk"
        (folder / "my-shop.yaml").write_text(yaml.safe_dump(settings))
        shopify.write(folder)
        self.settings = load(Config, folder / "my-shop.yaml", [f"run.bundles_dir={folder / 'bundles'}"])

    def type(self, line: str) -> str:
        line = line.replace("genrecall ", f"{shlex.quote(sys.executable)} -m genrecall ", line.startswith("genrecall "))
        line = line.replace("localhost:9200/products", f"localhost:{self.node.port}/walk")
        line = line.replace("localhost:9200", f"localhost:{self.node.port}")
        environment = {
            **os.environ, "PYTHONPATH": str(CONFIG.parents[1]), "OMP_NUM_THREADS": "1", "COLUMNS": "200",
            "GENRECALL_ENDPOINT": self.endpoint or "127.0.0.1:1", "GENRECALL_OPENSEARCH_URL": self.node.url,
        }  # fmt: skip
        done = subprocess.run(
            line, shell=True, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def shop(plugin_node: Node, tmp_path: Path) -> Iterator[Shop]:
    client = OpenSearch(plugin_node.url)
    yield Shop(tmp_path, plugin_node)
    client.indices.delete(index="walk-*")
    client.indices.delete_index_template(name="walk", ignore=404)
    client.cluster.delete_component_template(name="my-shop-fields", ignore=404)


def test_the_page_works_as_it_is_written(shop: Shop):
    data, train, serve, index, follow, measure = [block.strip().splitlines() for block in blocks("sh")]
    preview, imported, judged, checked = map(shop.type, data)
    assert "Shopify" in preview
    assert "nothing was written" in preview
    assert re.search(r"items written\s+│ 225", imported)
    assert "recurring queries, parted at 2026-03-" in judged
    assert "my-shop, judged by clicks" in checked
    assert "current -> v1" in shop.type(train[0])
    shop.type(train[1])
    assert (shop.folder / "runs/my-shop/report.md").exists()
    client = OpenSearch(shop.node.url)
    with (
        inference_server(shop.settings, ["v1"], shop.folder / "server.log") as shop.endpoint,
        plugin_endpoint(client, shop.endpoint),
    ):
        lines = [line for line in [*serve, *index] if line not in ELSEWHERE]
        assert len(lines) == len([*serve, *index]) - len(ELSEWHERE)
        generated, template, loaded, searched = map(shop.type, lines)
        assert "Sneakers" in generated, "the titles behind the SIDs"
        assert json.loads(template) == {"acknowledged": True}
        assert "225 documents" in loaded
        hits = json.loads(searched)["hits"]["hits"]
        assert hits
        assert all(hit["_source"]["price"] < 40 for hit in hits)
        catalogue = shop.folder / "products_export.csv"
        catalogue.write_text(catalogue.read_text(encoding="utf-8").replace(",5.90,", ",4.50,"), encoding="utf-8")
        *_, synced = map(shop.type, follow)
        assert re.search(r"0 added, [1-9]\d* changed, 0 with another SID, 0 deleted", synced)
        assert (
            client.search(index="walk", body={"query": {"range": {"price": {"lt": 5}}}})["hits"]["total"]["value"] > 0
        )
    evaluated = shop.type(measure[0])
    assert "Recurring queries, items first wanted after 2026-03-" in evaluated
    regime = json.loads((shop.folder / "runs/my-shop/evaluation.json").read_text())["regimes"]["recurring"]
    assert regime["queries"] > 5
    assert regime["systems"]["bm25"]["R@50"]["mean"] > 0
