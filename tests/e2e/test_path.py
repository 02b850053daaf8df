"""The whole path on real parts: a generated shop -> bundles of both kinds -> gRPC server -> plugin -> answers.

Everything is done by the commands a user would type. One module-wide run serves every test here.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from genrecall import bundle
from genrecall.client import Client
from genrecall.config import Config, load
from genrecall.evaluation.folds_node import plugin_endpoint
from genrecall.evaluation.server_process import inference_server
from genrecall.sid import Sid
from tests.e2e.commands import CONFIG, folders, genrecall

pytestmark = [pytest.mark.node, pytest.mark.slow]
QUERY = "red shoes"


@dataclass
class Built:
    """What the commands made."""

    settings: Config
    overrides: list[str]
    client: OpenSearch
    endpoint: str

    def search(self, clause: dict, size: int = 10, **more: object) -> dict:
        return self.client.search(index=self.settings.opensearch.index, body={"query": clause, "size": size, **more})

    def failure(self, clause: dict, index: str | None = None) -> tuple[int, str]:
        with pytest.raises(TransportError) as caught:
            self.client.search(index=index or self.settings.opensearch.index, body={"query": clause})
        return caught.value.status_code, json.dumps(caught.value.info)


def generative(**options: object) -> dict:
    return {"generative": {"sid": {"query_text": QUERY, "k": 20, "timeout": "20s", **options}}}


@pytest.fixture(scope="module")
def path(plugin_node, tmp_path_factory) -> Iterator[Built]:
    work = tmp_path_factory.mktemp("path")
    overrides = [
        *folders(work, plugin_node.url),
        "opensearch.index=e2e",
    ]
    genrecall("data", "synthesize", "--items", 1000, "--out", work / "shop")
    genrecall(
        "train", "-c", CONFIG, *overrides, "quantizer.candidates=[cq_sid]", "generator.kind=lm", "run.codebook=tiny-lm"
    )
    genrecall("train", "-c", CONFIG, *overrides)
    genrecall("index", "load", "-c", CONFIG, "--bundle", work / "bundles" / "tiny-lm", *overrides)
    genrecall("index", "load", "-c", CONFIG, "--switch", *overrides)
    settings = load(Config, CONFIG, overrides)
    client = OpenSearch(plugin_node.url)
    with (
        inference_server(settings, ["v1", "tiny-lm"], work / "server.log") as endpoint,
        plugin_endpoint(client, endpoint),
    ):
        yield Built(settings, overrides, client, endpoint)
    client.indices.delete(index="e2e-*")


def test_training_tried_both_quantizers_and_published_the_better_on_dev(path):
    metrics = bundle.open(bundle.resolve(path.settings.run.bundles_dir)).manifest["metrics"]
    dev = {kind: of["dev"]["R@50"] for kind, of in metrics["candidates"].items()}
    assert set(dev) == {"cq_sid", "hierarchical"}
    assert dev[metrics["quantizer"]] == max(dev.values())
    assert metrics["simulated"] is True


def test_training_again_returns_the_same_bundle_at_once(path):
    before = bundle.open(bundle.resolve(path.settings.run.bundles_dir)).manifest["created"]
    assert "bundle v1" in genrecall("train", "-c", CONFIG, *path.overrides)
    assert bundle.open(bundle.resolve(path.settings.run.bundles_dir)).manifest["created"] == before


@pytest.mark.parametrize("codebook", ["v1", "tiny-lm"])
def test_every_sid_that_the_server_writes_belongs_to_an_item(path, codebook):
    space = bundle.open(path.settings.run.bundles_dir / codebook).space
    with Client(path.endpoint) as client:
        reply = client.generate([QUERY, "👟 حذاء أحمر", "schuhe für damen"], codebook=codebook, k=50)
    for codes, scores in zip(reply.codes, reply.scores, strict=True):
        assert (space.index_of(codes) >= 0).all()
        assert len({*map(tuple, codes.tolist())}) == len(codes) == 50
        assert (scores[:-1] >= scores[1:]).all()


def test_the_clause_recalls_exactly_the_items_of_the_sids_that_the_server_writes(path):
    with Client(path.endpoint) as client:
        reply = client.generate([QUERY], codebook="v1", k=20)
    terms = {Sid(*codes).term("v1") for codes in reply.codes[0].tolist()}
    expected = path.search({"terms": {"sid": sorted(terms)}}, size=1000)["hits"]["hits"]
    found = path.search(generative(), size=1000)["hits"]["hits"]
    assert {hit["_id"] for hit in found} == {hit["_id"] for hit in expected}
    assert found[0]["_source"]["sid"] == Sid(*reply.codes[0][0].tolist()).term("v1")


def test_a_user_in_the_clause_reaches_the_generator(path):
    """The shop has logs, so stage 3 was trained: what a user bought changes how likely a SID is."""
    manifest = bundle.open(path.settings.run.bundles_dir / "v1").manifest["metrics"]
    learned = manifest["candidates"][manifest["quantizer"]]["generator"]
    assert list(learned["stages"]) == ["mixed", "user", "alignment"]
    item, *_ = path.search({"match_all": {}}, size=1)["hits"]["hits"]
    everyone, known, stranger = (
        path.search(generative(**user), size=5)["hits"]["hits"]
        for user in ({}, {"user": {"recent_items": [item["_id"]]}}, {"user": {"recent_items": ["sold out"]}})
    )
    scores = [[hit["_score"] for hit in hits] for hits in (everyone, known, stranger)]
    assert scores[0] == pytest.approx(scores[2])
    assert scores[0] != pytest.approx(scores[1], rel=1e-3)
    by_sid = path.search(generative(user={"recent_sids": [item["_source"]["sid"]]}), size=5)["hits"]["hits"]
    assert [hit["_score"] for hit in by_sid] == pytest.approx(scores[1])


def test_a_hybrid_query_blends_the_clause_with_bm25_and_vectors(path):
    from genrecall.embeddings import embed

    vector = embed([QUERY], "query", path.settings.encoder, path.settings.run.cache_dir, progress=False)[0].tolist()
    clauses = [
        {"multi_match": {"query": QUERY, "fields": ["title"]}},
        {"knn": {"vector": {"vector": vector, "k": 50}}},
        generative(_name="gen"),
    ]
    body = {"hybrid": {"queries": clauses, "pagination_depth": 100}}
    answer = path.search(body, size=100, search_pipeline=path.settings.opensearch.fusion.rrf)
    alone = [{hit["_id"] for hit in path.search(c, size=100)["hits"]["hits"]} for c in clauses]
    found = {hit["_id"] for hit in answer["hits"]["hits"]}
    assert found <= set.union(*alone)
    assert found & alone[2] - alone[0] - alone[1], "the generative clause brought nothing of its own"


def test_each_index_is_asked_in_its_own_codebook(path):
    for index, codebook in (("e2e-v1", "v1"), ("e2e-tiny-lm", "tiny-lm")):
        hits = path.client.search(index=index, body={"query": generative()})["hits"]["hits"]
        assert hits
        assert all(hit["_source"]["sid"].startswith(f"{codebook}/") for hit in hits)
    both = path.client.search(index="e2e-*", body={"query": generative(), "size": 1000})["hits"]["hits"]
    assert {hit["_index"] for hit in both} == {"e2e-v1", "e2e-tiny-lm"}


def test_filters_aggregations_and_explain_work_beside_the_clause(path):
    answer = path.search(
        {"bool": {"must": [generative()], "filter": [{"exists": {"field": "brand"}}]}},
        aggs={"sids": {"terms": {"field": "sid"}}},
        explain=True,
    )
    assert answer["aggregations"]["sids"]["buckets"]
    assert "ConstantScore(sid:v1/" in json.dumps(answer["hits"]["hits"][0]["_explanation"])


@pytest.mark.parametrize(
    ("clause", "status", "message"),
    [
        (generative(k=100_000), 400, "k"),
        (generative(query_text="a" * 10_000), 400, "query_text"),
        (generative(query_text=" "), 400, "query_text"),
        (generative(kk=3), 400, "kk"),
        ({"generative": {"title": {"query_text": QUERY, "timeout": "20s"}}}, 400, "keyword"),
    ],
)
def test_bad_requests_are_refused_by_name(path, clause, status, message):
    found, text = path.failure(clause)
    assert found == status
    assert message in text


@pytest.mark.parametrize("text", ["👟👟", "حذاء أحمر", "a" * 1000, "<b>\"'; DROP", "\u202ered\u202c"])
def test_any_text_of_reasonable_length_is_answered(path, text):
    assert path.search(generative(query_text=text))["hits"]["total"]["value"] > 0


def test_a_server_that_is_down_fails_or_falls_back_as_the_clause_says(path):
    with plugin_endpoint(path.client, "127.0.0.1:1"):
        status, text = path.failure(generative(query_text="never asked before"))
        assert status == 503
        assert "the inference server cannot be reached" in text
        assert "127.0.0.1:1" not in text, "addresses are told to operators"
        nothing = path.search(generative(query_text="nor this", on_failure="match_none"))
        assert nothing["hits"]["total"]["value"] == 0
        other = path.search(generative(query_text="nor that", on_failure={"match_all": {}}))
        assert other["hits"]["total"]["value"] == 1000
    assert path.search(generative(query_text="back again"))["hits"]["total"]["value"] > 0


def test_a_codebook_that_the_server_lacks_is_a_failure_never_a_wrong_answer(path):
    mapping = path.client.indices.get_mapping(index="e2e-v1")["e2e-v1"]["mappings"]
    mapping["_meta"]["genrecall"]["codebook"] = "v9"
    path.client.indices.create(index="e2e-other", body={"mappings": mapping})
    status, text = path.failure(generative(), index="e2e-other")
    assert status >= 400
    assert "'v9' is not loaded on this server" in text


def test_a_truncated_bundle_is_not_served(path, tmp_path):
    import shutil

    broken = tmp_path / "bundles" / "v1"
    shutil.copytree(path.settings.run.bundles_dir / "v1", broken)
    os.truncate(broken / "generator" / "model.safetensors", 1000)
    message = genrecall("serve", f"run.bundles_dir={broken.parent}", "--bundle", "v1", "server.port=0", code=2)
    assert "model.safetensors has 1000 bytes" in message


def test_a_catalogue_without_queries_trains_on_synthetic_ones(path, tmp_path):
    import shutil

    (tmp_path / "shop").mkdir()
    for items in Path(path.settings.data.folder).glob("items*"):
        shutil.copy2(items, tmp_path / "shop")
    changes = [
        f"data.folder={tmp_path / 'shop'}",
        f"run.runs_dir={tmp_path}",
        f"run.bundles_dir={tmp_path / 'bundles'}",
    ]
    genrecall("train", "-c", CONFIG, *changes, "generator.encoder.stage.steps=5", "quantizer.candidates=[hierarchical]")
    metrics = bundle.open(bundle.resolve(tmp_path / "bundles")).manifest["metrics"]
    assert metrics["candidates"]["hierarchical"]["generator"]["queries"] == "synthetic"
