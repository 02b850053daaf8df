"""Both codebooks live: the alias moves there and back under searches and writes, by the commands a user types.

Real node with the plugin, a real inference server that holds both bundles, real commands. The figures in
docs/refresh_faults.md:

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
from genrecall.client import Client
from genrecall.config import Config, load
from genrecall.evaluation.folds_node import plugin_endpoint
from genrecall.evaluation.server_process import inference_server
from genrecall.sid import Sid
from index_mappings import search, sids
from index_mappings.alias import aliased
from index_mappings.compose.composer import Composer
from index_mappings.index_settings import put_settings
from index_mappings.lease import JobLease
from tests.e2e.commands import CONFIG, folders, genrecall
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
        """An index of v1 under `alias`, with the processor `sid`; what to type for it, and its section."""
        overrides = [*self.overrides, f"opensearch.index={alias}"]
        genrecall("index", "load", "-c", CONFIG, "--bundle", "v1", *overrides)
        put_settings(self.client, f"{alias}-v1", {"default_pipeline": PIPELINE})
        try:
            yield overrides, self.settings.opensearch.model_copy(update={"index": alias})
        finally:
            self.client.indices.delete(index=f"{alias}-*")
            self.client.indices.delete_index_template(name=alias)
            self.client.delete(index=".genrecall-jobs", id=alias, ignore=404)


@pytest.fixture(scope="module")
def shop(plugin_node, tmp_path_factory) -> Iterator[Shop]:
    work = tmp_path_factory.mktemp("live")
    overrides = folders(work, plugin_node.url)
    genrecall("data", "synthesize", "--items", 1000, "--out", work / "shop")
    lacking = other_catalogue(work / "shop", work / "other")
    genrecall("train", "-c", CONFIG, *overrides, *LEAN, "run.codebook=v1", "generator.encoder.stage.steps=20")
    other = [f"data.folder={work / 'other'}", "data.max_reject_share=1", "run.codebook=v2", "run.seed=1"]
    steps = ["generator.kind=lm", "generator.lm.item_stage.steps=10", "generator.lm.query_stage.steps=10"]
    genrecall("train", "-c", CONFIG, *overrides, *LEAN, *other, *steps)
    settings, client = load(Config, CONFIG, overrides), OpenSearch(plugin_node.url)
    with inference_server(settings, ["v1", "v2"], work / "server.log") as endpoint, plugin_endpoint(client, endpoint):
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
                        output = genrecall("index", phase, "-c", CONFIG, "--json", *named, *overrides, more)
                        reports[phase] = json.loads(output)
                    time.sleep(3)
                stopped[phase], writer.refused = max(writer.refused, default=0.0), []
                assert aliased(client, section.index) == [f"live-{codebook}"]
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
    stale = [answer for answer in answers if answer.stale]
    print(f"stale SIDs in {len(stale)} answers, of { ({id for answer in stale for id in answer.stale}) }")
    assert {answer.phase for answer in stale} <= {"refresh", "rollback"}
    assert len({(answer.phase, id) for answer in stale for id in answer.stale}) <= 2, "one write a move, at most"
    by_index = {phase: {a.index for a in answers if a.phase == phase} for phase in ("before", "between", "after")}
    assert by_index == {"before": {"live-v1"}, "between": {"live-v2"}, "after": {"live-v1"}}
    for phase in ("refresh", "rollback"):
        for composed in (True, False):
            seen = {a.index for a in answers if a.phase == phase and a.composed is composed}
            assert seen == {"live-v1", "live-v2"}, "the load saw both sides of the move"
    assert stopped["refresh"] > 0 or stopped["rollback"] > 0, "a writer met the block, or this proves little"


def test_while_the_server_lacks_the_new_bundle_the_alias_stays_and_once_it_has_it_the_same_command_goes_on(shop):
    client, quick = shop.client, ["opensearch.refresh.drain_timeout_s=0"]
    with shop.indexed("unserved") as (overrides, section):
        with (
            inference_server(shop.settings, ["v1"], shop.work / "old.log") as old,
            plugin_endpoint(client, old),
            Client(old) as server,
        ):
            command = ["index", "refresh", "-c", CONFIG, "--bundle", "v2", *overrides, *quick]
            placing = genrecall(*command, f"opensearch.refresh.endpoint={old}", code=2)
            assert f"{len(shop.lacking)} items are not in bundle 'v2'" in placing
            assert "'v2' is not loaded on this server" in placing
            assert "Serve that bundle there" in placing
            # with items placed elsewhere, or none to place, it comes as far as the questions
            asked = genrecall(*command, "opensearch.refresh.endpoint=null", code=2)
            assert "the generative clause gets no answer in codebook 'v2'" in asked
            assert "Let the inference servers that the clause asks load that bundle too" in asked
            assert JobLease.peek(client, section.index)[0]["step"] == "verify"
            assert aliased(client, section.index) == ["unserved-v1"]
            searches, writer = Searches(section, Composer(client, server), ["red jumper"], RATE), Writer(section, 0.05)
            with searches.running(), writer.running():
                time.sleep(1)
            assert {(answer.index, answer.stale, answer.wrong) for answer in searches.answers} == {
                ("unserved-v1", (), "")
            }
        report = json.loads(genrecall(*command, "--json", "opensearch.refresh.endpoint=null"))
        assert report["resumed"] is True
        assert aliased(client, section.index) == ["unserved-v2"]
        found = everything(client, "unserved")
        assert {id: plain(source) for id, source in found.items()} == writer.documents


def test_items_that_the_bundle_lacks_are_placed_by_the_server_and_recalled_and_those_it_has_more_are_reported(shop):
    client, terms = shop.client, shop.terms("v2")
    with shop.indexed("placed") as (overrides, _):
        more = ["opensearch.refresh.drain_timeout_s=0", f"opensearch.refresh.endpoint={shop.endpoint}"]
        output = genrecall("index", "refresh", "-c", CONFIG, "--bundle", "v2", *overrides, *more)
        assert f"  {len(shop.lacking)} documents are not in the bundle\n" in output
        assert f"  {NEW} items of the bundle are not in the index\n" in output
        assert "; 0 without SID\n" in output
        found = everything(client, "placed")
        assert all(source["sid"] == terms[id] for id, source in found.items() if id in terms)
        lacking = {id: found[id] for id in shop.lacking}
        with Client(shop.endpoint) as server:
            codes = server.encode([sids.item(*each) for each in lacking.items()], codebook="v2")
            assert {id: source["sid"] for id, source in lacking.items()} == {
                id: Sid(*code).term("v2") for id, code in zip(lacking, codes.tolist(), strict=True)
            }
        clause = search.generative("jumper", k=len(set(terms.values())), timeout="30s")
        hits = client.search(index="placed", body=search.body(clause, 2000))["hits"]["hits"]
        assert shop.lacking <= {hit["_id"] for hit in hits}, "where every SID is generated, each of them is recalled"
