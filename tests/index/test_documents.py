"""Templates, query bodies, documents and batches: what needs no node."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall.config.encoder import EncoderSection
from genrecall.config.opensearch import FusionSection, OpenSearchSection
from genrecall.errors import UserError
from index_mappings import search
from index_mappings.bulk import Document, batches, documents
from index_mappings.load import terms_of
from index_mappings.meta import IndexMeta, encoder_key, index_name
from index_mappings.pipelines import normalization, reciprocal_rank
from index_mappings.render import render
from tests.index.conftest import Shop

# --- templates


def test_values_keep_their_type_and_text_around_them_is_kept():
    meta = render("meta", codebook="v7", assignments="x", encoder="minilm")
    assert meta["mappings"]["_meta"]["genrecall"]["codebook"] == "v7"
    template = render(
        "index",
        index="shop",
        priority=1,
        components=["own"],
        dynamic="strict",
        analyzer="thai",
        shards=2,
        replicas=0,
        refresh_interval="1s",
        dimension=384,
        m=16,
        ef_construction=100,
    )
    assert template["index_patterns"] == ["shop-*"]
    vector = template["template"]["mappings"]["properties"]["vector"]
    assert vector["dimension"] == 384
    assert template["template"]["mappings"]["properties"]["title"]["analyzer"] == "thai"
    assert vector["method"]["engine"] == "lucene"
    assert template["composed_of"] == ["own"]
    assert "${" not in json.dumps(template)


def test_a_value_too_few_or_too_many_is_an_error():
    with pytest.raises(KeyError, match="assignments"):
        render("meta", codebook="v7", encoder="minilm")
    with pytest.raises(ValueError, match="does not use colour"):
        render("meta", codebook="v7", assignments="x", encoder="minilm", colour="red")


def test_weights_reach_the_pipelines():
    assert "[0.7, 0.3]" in json.dumps(normalization((0.7, 0.3)))
    assert "[1.0, 0.3]" in json.dumps(reciprocal_rank(60, (1.0, 0.3)))
    assert "weights" not in json.dumps(reciprocal_rank(60))


@pytest.mark.parametrize("weights", [(0.5, 0.6), (-0.5, 1.5)])
def test_weights_that_are_no_shares_are_refused(weights: tuple[float, float]):
    with pytest.raises(ValueError, match="sum to 1"):
        FusionSection(weights_two=weights)


# --- names


def test_codebook_that_cannot_name_an_index_is_refused():
    assert index_name(OpenSearchSection(index="shop"), "v7") == "shop-v7"
    for codebook in ("V7", "v" * 255):
        with pytest.raises(UserError, match="cannot name an index"):
            index_name(OpenSearchSection(index="shop"), codebook)


def test_the_encoder_of_an_index_is_known_by_its_content(tmp_path: Path):
    for folder in ("here/e5", "there/e5"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text('{"hidden_size": 8}')
        (tmp_path / folder / "model.safetensors").write_bytes(b"weights")
    here, there = (EncoderSection(checkpoint=str(tmp_path / folder)) for folder in ("here/e5", "there/e5"))
    assert encoder_key(here) == encoder_key(there)
    assert encoder_key(here).startswith("e5@")
    others = [here.model_copy(update={"item_prefix": "passage: "}), here.model_copy(update={"max_tokens": 128})]
    (tmp_path / "there/e5/model.safetensors").write_bytes(b"trained on")
    assert len({encoder_key(section) for section in [here, there, *others]}) == 4
    ours = IndexMeta("v1", "x", encoder_key(here), here.checkpoint)
    assert ours.same_encoder(IndexMeta("v1", "x", encoder_key(here)))
    assert ours.same_encoder(IndexMeta("v1", "x", here.checkpoint)), "an index of an earlier version names the path"
    for other in (encoder_key(there), there.checkpoint, "", "e5", "e5@0"):
        assert not ours.same_encoder(IndexMeta("v1", "x", other))


# --- clauses


def test_sid_terms_are_constant_scores_of_their_probability():
    clause = search.sid_terms(["v1/0/0/1", "v1/0/0/2"], [0.5, 0.25])
    first, second = clause["bool"]["should"]
    assert first == {"constant_score": {"filter": {"term": {"sid": "v1/0/0/1"}}, "boost": 0.5}}
    assert second["constant_score"]["boost"] == 0.25


@pytest.mark.parametrize("probability", [-0.1, float("nan"), float("inf")])
def test_scores_that_the_engine_cannot_take_are_refused(probability: float):
    with pytest.raises(ValueError, match="finite probability"):
        search.sid_terms(["v1/0/0/1"], [probability])


def test_ordered_sids_score_log_p_of_an_item_moved_to_one_and_add_the_query():
    query = {"match": {"title": "red"}}
    clause = search.ordered_sids(["v1/0/0/1", "v1/0/0/2"], [0.5, 0.25], [4, 1], query, weight=2)
    assert clause["bool"]["should"] == [{"function_score": {"query": query, "weight": 2}}]
    scores = [one["constant_score"]["boost"] for one in clause["bool"]["must"][0]["dis_max"]["queries"]]
    assert scores == pytest.approx([1, 1 + np.log(0.25) - np.log(0.5 / 4)])
    with pytest.raises(ValueError, match="finite probability"):
        search.ordered_sids(["v1/0/0/1"], [float("nan")], [1], query)


def test_the_default_orders_are_of_the_configured_fields():
    section = OpenSearchSection(bm25_fields=("title^2", "brand"))
    text = "${red} shoes"
    assert search.order_by_text(text, section, 0.5) == {"query": search.bm25(text, section), "weight": 0.5}
    both = search.order_by_text_and_vector(text, np.array([0.5, 1], np.float32), section)
    by_text, by_vector = both["query"]["bool"]["should"]
    assert by_text["combined_fields"] == {**search.bm25(text, section)["combined_fields"], "boost": 0.3}
    assert by_vector["script_score"]["boost"] == pytest.approx(12.0)
    assert by_vector["script_score"]["script"]["params"]["query_value"] == [0.5, 1.0]


def test_generative_clause_leaves_out_what_is_not_given():
    assert search.generative("red shoes", k=5) == {"generative": {"sid": {"query_text": "red shoes", "k": 5}}}
    assert search.generative(sids=["v1/0/0/1"], on_failure="fail") == {
        "generative": {"sid": {"sids": ["v1/0/0/1"], "on_failure": "fail"}}
    }


# --- documents and batches


def test_an_item_without_a_sid_has_no_sid_field():
    shop = Shop.of(3)
    del shop.terms["B0001"]
    sources = [json.loads(d.source) for d in documents(shop.items, shop.terms, shop.vectors)]
    assert [source.get("sid") for source in sources] == ["v1/0/0/0", None, "v1/2/2/0"]
    assert np.allclose([source["vector"] for source in sources], shop.vectors, atol=1e-6)
    assert sources[1]["category"] == ["Home", "lamp"]


def test_documents_go_on_from_a_row():
    shop = Shop.of(5)
    assert [d.id for d in documents(shop.items, shop.terms, shop.vectors, start=3)] == ["B0003", "B0004"]


def test_ids_that_json_must_escape_stay_whole():
    lines = Document('a"b\\c\n', "{}").lines.split("\n")
    assert json.loads(lines[0])["index"]["_id"] == 'a"b\\c\n'
    assert len(lines) == 3


def test_terms_are_of_the_bundles_codebook():
    from genrecall.bundle import assignments_table

    table = assignments_table(["a", "b"], np.array([[1, 2, 3], [0, 0, 7]]))
    assert terms_of(table, "v7") == {"a": "v7/1/2/3", "b": "v7/0/0/7"}


@given(st.lists(st.text(max_size=30), max_size=40), st.integers(1, 7), st.integers(1, 200))
def test_batches_keep_every_document_in_order_within_both_limits(texts: list[str], count: int, size: int):
    stream = [Document(str(i), json.dumps(text)) for i, text in enumerate(texts)]
    cut = list(batches(stream, count, size))
    assert [document for batch in cut for document in batch] == stream
    assert all(len(batch) <= count for batch in cut)
    assert all(len(batch) == 1 or sum(len(d.lines.encode()) for d in batch) <= size for batch in cut)
