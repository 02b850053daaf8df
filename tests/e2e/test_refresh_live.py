"""Both codebooks live: the alias moves there and back under searches and writes, by the commands a user types.

Real node with the plugin, a real inference server that holds both bundles, real commands. Figures for docs/index.md:

    .venv/bin/python -m pytest tests/e2e/test_refresh_live.py -k under_load -s
"""

import gzip
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from genrecall import bundle
from genrecall.cli.evaluate import asking
from genrecall.cli.processes import inference_server
from genrecall.config import Config, load
from genrecall.rpc.client import Client
from index_mappings import lifecycle
from index_mappings.clause import Composer
from tests.e2e.commands import CONFIG, genrecall
from tests.e2e.live import Searches, Writer, everything, plain, table

pytestmark = [pytest.mark.node, pytest.mark.slow]
RATE = 20.0  # searches a second
WRITES_EVERY_S = 0.15
PIPELINE = "live-sids"
NEW = 10  # items of the second bundle that the index lacks
LEAN = ["generator.user.stage.steps=0", "generator.alignment.steps=0", "quantizer.candidates=[hierarchical]"]


@dataclass
class Shop:
    """A catalogue, bundle v1 of it, and v2 of most of it and of some more, by another kind of generator.

    Attributes:
        lacking: items that v2 does not know.
        endpoint: of the server that holds both.
    """

    settings: Config
    overrides: list[str]
    client: OpenSearch
    lacking: set[str]
    endpoint: str
    work: Path

    def terms(self, codebook: str) -> dict[str, str]:
        items = bundle.open(self.settings.run.bundles_dir / codebook).items()
        paths = zip(items["item_id"].to_pylist(), items["path"].to_pylist(), strict=True)
        return {item: f"{codebook}/{path}" for item, path in paths}

    @contextmanager
    def indexed(self, alias: str) -> Iterator[tuple[list[str], Any]]:
        """An index of v1 under `alias`; what to type for it, and its section."""
        overrides = [*self.overrides, f"opensearch.index={alias}"]
        genrecall("index", "load", "-c", CONFIG, "--bundle", "v1", *overrides)
        try:
            yield overrides, self.settings.opensearch.model_copy(update={"index": alias})
        finally:
            self.client.indices.delete(index=f"{alias}-*")
            self.client.indices.delete_index_template(name=alias)
            self.client.delete(index=".genrecall-jobs", id=alias, ignore=404)


@pytest.fixture(scope="module")
def shop(plugin_node, tmp_path_factory) -> Iterator[Shop]:
    work = tmp_path_factory.mktemp("live")
    overrides = [
        f"data.folder={work / 'shop'}",
        f"run.runs_dir={work / 'runs'}",
        f"run.bundles_dir={work / 'bundles'}",
        f"opensearch.url={plugin_node.url}",
    ]
    genrecall("data", "synthesize", "--items", 1000, "--out", work / "shop")
    lacking = other_catalogue(work / "shop", work / "other")
    genrecall("train", CONFIG, *overrides, *LEAN, "run.codebook=v1", "generator.encoder.stage.steps=20")
    other = [f"data.folder={work / 'other'}", "data.max_reject_share=1", "run.codebook=v2", "run.seed=1"]
    steps = ["generator.kind=lm", "generator.lm.item_stage.steps=10", "generator.lm.query_stage.steps=10"]
    genrecall("train", CONFIG, *overrides, *LEAN, *other, *steps)
    settings, client = load(Config, CONFIG, overrides), OpenSearch(plugin_node.url)
    with inference_server(settings, ["v1", "v2"], work / "server.log") as endpoint, asking(client, endpoint):
        client.ingest.put_pipeline(id=PIPELINE, body={"processors": [{"sid": {}}]})
        yield Shop(settings, overrides, client, lacking, endpoint, work)
    client.ingest.delete_pipeline(id=PIPELINE)


def other_catalogue(shop: Path, folder: Path) -> set[str]:
    """Write the shop without every fortieth item, and with NEW more. The items left out."""
    shutil.copytree(shop, folder)
    with gzip.open(shop / "items.jsonl.gz", "rt", encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    kept = [item for number, item in enumerate(items) if number % 40]
    more = [{**item, "item_id": f"more-{number}"} for number, item in enumerate(kept[:NEW])]
    with gzip.open(folder / "items.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(item) + "\n" for item in [*kept, *more])
    return {item["item_id"] for item in items[::40]}


def test_the_alias_moves_there_and_back_under_load_without_a_wrong_answer_or_a_lost_write(shop, record_property):
    client = shop.client
    with shop.indexed("live") as (overrides, section), Client(shop.endpoint) as server:
        lifecycle.put_settings(client, "live-v1", {"default_pipeline": PIPELINE})
        texts = [line.split("\t")[1] for line in (shop.work / "shop/queries.tsv").read_text().splitlines()]
        searches = Searches(section, Composer(client, server), texts, RATE)
        writer, reports, stopped = Writer(section, WRITES_EVERY_S), {}, {}
        searches.phase = "before"
        with searches.running():
            for phase, codebook in (("before", "v1"), ("refresh", "v2"), ("between", "v2"), ("rollback", "v1")):
                searches.phase = phase
                with writer.running():
                    if phase in ("refresh", "rollback"):
                        named = ["--bundle", "v2"] if phase == "refresh" else []
                        more = f"opensearch.refresh.endpoint={shop.endpoint}"
                        told = genrecall("index", phase, "-c", CONFIG, "--json", *named, *overrides, more)
                        reports[phase] = json.loads(told)
                    time.sleep(3)
                stopped[phase], writer.refused = max(writer.refused, default=0.0), []
                assert lifecycle.aliased(client, section) == [f"live-{codebook}"]
                found = everything(client, "live")
                assert {id: plain(source) for id, source in found.items()} == writer.documents
                assert {source["sid"].partition("/")[0] for source in found.values()} == {codebook}
            searches.phase = "after"
            time.sleep(3)
    answers = searches.answers
    blocked = {phase: round(report["timing"]["blocked"], 3) for phase, report in reports.items()}
    print(f"\n{table(answers)}\n{writer.writes} writes; blocked for {blocked} s, a write waited {stopped} s")
    record_property("searches", len(answers))
    assert [answer for answer in answers if answer.wrong] == []
    by_index = {phase: {a.index for a in answers if a.phase == phase} for phase in ("before", "between", "after")}
    assert by_index == {"before": {"live-v1"}, "between": {"live-v2"}, "after": {"live-v1"}}
    for phase in ("refresh", "rollback"):
        for composed in (True, False):
            seen = {a.index for a in answers if a.phase == phase and a.composed is composed}
            assert seen == {"live-v1", "live-v2"}, "the load saw both sides of the move"
    assert stopped["refresh"] > 0 or stopped["rollback"] > 0, "a writer met the block, or this proves little"
