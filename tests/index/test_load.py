"""Creating, loading and searching an index of the real node."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection, RefreshSection
from genrecall.errors import UserError
from genrecall.opensearch import connect, explain_errors
from index_mappings import search
from index_mappings.alias import aliased
from index_mappings.bulk import Reject
from index_mappings.create import create, put_template
from index_mappings.lease import JobLease
from index_mappings.load import LoadProgress
from index_mappings.meta import read_mapping, read_meta, vector_dimension
from index_mappings.migration import refresh
from index_mappings.migration.context import MigrationContext
from index_mappings.pipelines import normalization, reciprocal_rank
from index_mappings.progress import Progress
from index_mappings.sids import Sids
from index_mappings.status import status
from tests.index.conftest import META, Faults, Shop, fill

pytestmark = pytest.mark.node


# --- create


def test_created_index_names_its_codebook_and_uses_the_lucene_engine(client: OpenSearch, section: OpenSearchSection):
    name, new = create(client, section, META, 8)
    assert (name, new) == (f"{section.index}-v1", True)
    assert read_meta(client, name) == META
    mapping = client.indices.get_mapping(index=name)[name]["mappings"]
    assert mapping["properties"]["vector"]["method"]["engine"] == "lucene"
    assert mapping["properties"]["sid"] == {"type": "keyword"}
    assert mapping["dynamic"] == "strict"


def test_texts_are_analyzed_as_the_configuration_says(client: OpenSearch, section: OpenSearchSection):
    thai = section.model_copy(update={"analyzer": "thai"})
    name, _ = create(client, thai, META, 8)
    found = client.indices.analyze(index=name, body={"field": "title", "text": "เสื้อยืดผู้ชายสีดำ"})["tokens"]
    assert len(found) > 1
    assert "".join(token["token"] for token in found) in "เสื้อยืดผู้ชายสีดำ"


def test_an_analyzer_that_the_cluster_lacks_is_named(client: OpenSearch, section: OpenSearchSection):
    with pytest.raises(UserError, match=r"klingon"), explain_errors(section):
        create(client, section.model_copy(update={"analyzer": "klingon"}), META, 8)


def test_creating_again_changes_nothing(client: OpenSearch, section: OpenSearchSection):
    create(client, section, META, 8)
    assert create(client, section, META, 8) == (f"{section.index}-v1", False)


@pytest.mark.parametrize(
    ("change", "dimension", "message"),
    [
        ({"assignments": "b" * 64}, 8, "another bundle of the name 'v1'"),
        ({"encoder": "other"}, 8, "encoder 'minilm', but the section encoder .* is 'other'"),
        ({}, 16, "dimension 8 .* makes 16"),
    ],
)
def test_index_of_something_else_is_refused(client: OpenSearch, section, change: dict, dimension: int, message: str):
    create(client, section, META, 8)
    with pytest.raises(UserError, match=message):
        create(client, section, replace(META, **change), dimension)


def test_index_of_another_codebook_is_refused(client: OpenSearch, section: OpenSearchSection):
    put_template(client, section, 8)
    body = {"mappings": {"_meta": {"genrecall": {"codebook": "v9"}}}}
    client.indices.create(index=f"{section.index}-v1", body=body)
    with pytest.raises(UserError, match="holds codebook 'v9', not 'v1'"):
        create(client, section, META, 8)


def test_index_that_genrecall_did_not_make_is_refused(client: OpenSearch, section: OpenSearchSection):
    client.indices.create(index=f"{section.index}-v1")
    with pytest.raises(UserError, match="names no codebook"):
        create(client, section, META, 8)


def test_replace_makes_the_index_anew(client: OpenSearch, section: OpenSearchSection, tmp_path: Path):
    fill(section, Shop.of(5), tmp_path)
    client.indices.delete_alias(index=f"{section.index}-v1", name=section.index)
    assert create(client, section, replace(META, encoder="other"), 16, replace=True)[1]
    assert vector_dimension(read_mapping(client, f"{section.index}-v1")) == 16


def test_an_index_in_the_place_of_the_alias_is_refused(client: OpenSearch, section: OpenSearchSection):
    taken = section.model_copy(update={"index": f"{section.index}-taken"})
    client.indices.create(index=taken.index)
    with pytest.raises(UserError, match="is an index of 0 documents, but is to be an alias"):
        create(client, taken, META, 8)


def test_no_cluster_is_reported_with_the_remedy():
    section = OpenSearchSection(url="http://127.0.0.1:9")
    with (
        pytest.raises(UserError, match=r"no OpenSearch answers at .*:9 .*genrecall node start"),
        explain_errors(section),
    ):
        connect(section).info()


# --- load


def test_loaded_index_holds_every_item_with_its_sid(client: OpenSearch, section: OpenSearchSection, tmp_path: Path):
    report = fill(section, Shop.of(25), tmp_path)
    assert (report.rows, report.documents, report.rejected, report.resumed_at) == (25, 25, 0, 0)
    (one,) = status(client, section)
    assert (one.codebook, one.documents, one.with_sid, one.dimension) == ("v1", 25, 25, 8)
    assert one.aliased
    source = client.get(index=section.index, id="B0007")["_source"]
    assert source["sid"] == "v1/1/3/1"
    settings = client.indices.get_settings(index=report.index)[report.index]["settings"]["index"]
    assert settings["refresh_interval"] == "1s"


def test_an_index_of_an_earlier_version_is_known_by_the_path_of_its_encoder(section: OpenSearchSection, tmp_path: Path):
    shop, now = Shop.of(10), replace(META, encoder="minilm@5bb88aa3d20d69c6", checkpoint=META.encoder)
    fill(section, shop, tmp_path)
    assert fill(section, shop, tmp_path, meta=now).resumed_at == 10
    with pytest.raises(UserError, match="encoder 'minilm', but the section encoder"):
        fill(section, shop, tmp_path, meta=replace(now, checkpoint="models/minilm"))


def test_loading_again_sends_nothing(section: OpenSearchSection, tmp_path: Path):
    fill(section, Shop.of(25), tmp_path)
    again = fill(section, Shop.of(25), tmp_path)
    assert (again.resumed_at, again.documents) == (25, 25)


def test_documents_deleted_since_are_loaded_again(client: OpenSearch, section: OpenSearchSection, tmp_path: Path):
    fill(section, Shop.of(25), tmp_path)
    client.delete(index=section.index, id="B0003", refresh=True)
    again = fill(section, Shop.of(25), tmp_path)
    assert (again.resumed_at, again.documents) == (0, 25)


def test_items_that_the_bundle_lacks_are_indexed_without_sid_and_counted(section: OpenSearchSection, tmp_path: Path):
    shop = Shop.of(25)
    del shop.terms["B0000"], shop.terms["B0001"]
    shop.terms["GONE"] = "v1/0/0/0"
    report = fill(section, shop, tmp_path)
    assert (report.documents, report.without_sid, report.not_in_catalogue) == (25, 2, 1)
    (one,) = status(connect(section), section)
    assert (one.documents, one.with_sid) == (25, 23)


def test_rejected_documents_are_listed_with_their_reason(section: OpenSearchSection, tmp_path: Path):
    shop = Shop.of(25)
    shop.vectors[3] = 0  # cosine has no answer for a zero vector
    rows = shop.items.to_pylist()
    rows[7]["item_id"] = "x" * 600
    shop = replace(shop, items=shop.items.from_pylist(rows, shop.items.schema))
    tolerant = section.model_copy(update={"bulk": section.bulk.model_copy(update={"max_reject_share": 0.1})})
    report = fill(tolerant, shop, tmp_path)
    assert (report.documents, report.rejected) == (23, 2)
    rejects = [json.loads(line) for line in (tmp_path / f"{report.index}.rejects.jsonl").read_text().splitlines()]
    assert {(reject["item_id"][:5], reject["status"]) for reject in rejects} == {("B0003", 400), ("xxxxx", 400)}
    assert {True} == {"zero vector" in reject["reason"] or "512 bytes" in reject["reason"] for reject in rejects}


def test_too_many_rejects_fail_the_load_and_leave_the_alias(section: OpenSearchSection, tmp_path: Path):
    shop = Shop.of(25)
    shop.vectors[3] = 0
    with pytest.raises(UserError, match=r"1 of 25 documents were rejected .*max_reject_share is 1.0%"):
        fill(section, shop, tmp_path)
    assert aliased(connect(section), section.index) == []


def test_document_of_somebody_else_is_found_out(client: OpenSearch, section: OpenSearchSection, tmp_path: Path):
    name, _ = create(client, section, META, 8)
    client.index(index=name, id="foreign", body={"title": "not of this catalogue"})
    with pytest.raises(UserError, match="holds 26 documents, but 25 were expected"):
        fill(section, Shop.of(25), tmp_path)


# --- alias


def test_alias_moves_to_the_next_codebook_only_on_request(section: OpenSearchSection, tmp_path: Path):
    client, second = connect(section), replace(META, codebook="v2")
    fill(section, Shop.of(5), tmp_path)
    assert "still points to" in fill(section, Shop.of(6), tmp_path, second).alias
    assert aliased(client, section.index) == [f"{section.index}-v1"]
    assert "now points to" in fill(section, Shop.of(6), tmp_path, second, switch=True).alias
    assert aliased(client, section.index) == [f"{section.index}-v2"]
    assert client.count(index=section.index)["count"] == 6
    assert [one.codebook for one in status(client, section)] == ["v2", "v1"]


def test_alias_that_begins_alike_is_not_mixed_up(section: OpenSearchSection, tmp_path: Path):
    longer = section.model_copy(update={"index": f"{section.index}-eu"})
    fill(section, Shop.of(5), tmp_path)
    fill(longer, Shop.of(6), tmp_path)
    client = connect(section)
    assert [one.documents for one in status(client, section)] == [5]
    assert [one.documents for one in status(client, longer)] == [6]
    client.indices.delete_index_template(name=longer.index)


# --- failures on the way


def test_lost_connections_and_refusals_for_now_are_sent_again(flaky: tuple[OpenSearchSection, Faults], tmp_path: Path):
    section, faults = flaky
    faults.planned = [429, "drop", 503]
    report = fill(section, Shop.of(25), tmp_path)
    assert (report.documents, report.rejected) == (25, 0)
    assert faults.bulks == 3 + 3


def test_load_that_gave_up_goes_on_from_there(flaky: tuple[OpenSearchSection, Faults], tmp_path: Path):
    section, faults = flaky

    def fail_after_the_first_batch(done: int, rows: int) -> None:
        faults.planned = [503] * section.bulk.attempts if done else []

    with pytest.raises(
        UserError, match=r"10 documents could not be sent in 4 attempts, the last with '503 planned'.*run the same"
    ):
        fill(section, Shop.of(25), tmp_path, advance=fail_after_the_first_batch)
    assert aliased(connect(section), section.index) == []
    report = fill(section, Shop.of(25), tmp_path)
    assert (report.resumed_at, report.documents) == (10, 25)


def test_what_no_repetition_mends_is_reported_at_once(flaky: tuple[OpenSearchSection, Faults], tmp_path: Path):
    section, faults = flaky
    faults.planned = [413]
    with pytest.raises(UserError, match="answered 413: planned"), explain_errors(section):
        fill(section, Shop.of(25), tmp_path)
    assert faults.bulks == 1


def test_refused_credentials_are_reported_with_where_they_come_from(flaky: tuple[OpenSearchSection, Faults], tmp_path):
    section, faults = flaky
    faults.planned = [401]
    with (
        pytest.raises(UserError, match=r"refused the credentials .*GENRECALL_OPENSEARCH_PASSWORD"),
        explain_errors(section),
    ):
        fill(section, Shop.of(5), tmp_path)


KILLED = """
import sys, time
from pathlib import Path
from genrecall.config.opensearch import OpenSearchSection, RefreshSection
from tests.index.conftest import Shop, fill
def advance(done, rows):
    print(done, flush=True)
    time.sleep(0.5)
fill(OpenSearchSection.model_validate_json(sys.argv[1]), Shop.of(95), Path(sys.argv[2]), advance=advance)
"""


def test_killed_load_goes_on_where_it_was(section: OpenSearchSection, tmp_path: Path):
    command = [sys.executable, "-c", KILLED, section.model_dump_json(), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= 40:
                process.send_signal(signal.SIGKILL)
                break
    assert aliased(connect(section), section.index) == []
    (unfinished,) = status(connect(section), section)
    assert re.fullmatch(r"load unfinished: \d+ of 95 documents", unfinished.job)
    report = fill(section, Shop.of(95), tmp_path / "another machine")
    assert 40 <= report.resumed_at < 95
    assert report.documents == 95


# --- one job at a time, and how far it came


def test_progress_of_the_same_load_is_resumed(client: OpenSearch, section: OpenSearchSection, tmp_path: Path):
    load, rejects = {"index": "shop-v1", "uuid": "x", "rows": 9}, tmp_path / "a" / "shop-v1.rejects.jsonl"
    with JobLease.take(client, section.index, 60) as lease:
        LoadProgress(lease, load, rejects).advance(5, [Reject("B1", 400, "bad")])
    with JobLease.take(client, section.index, 60) as lease:
        again = LoadProgress(lease, load, rejects)
        assert (again.done, again.rejected) == (5, 1)
    assert json.loads(again.rejects.read_text()) == {"item_id": "B1", "status": 400, "reason": "bad"}


def test_progress_of_another_load_starts_over(client: OpenSearch, section: OpenSearchSection, tmp_path: Path):
    rejects = tmp_path / "shop-v1.rejects.jsonl"
    with JobLease.take(client, section.index, 60) as lease:
        LoadProgress(lease, {"uuid": "x"}, rejects).advance(5, [Reject("B1", 400, "bad")])
        other = LoadProgress(lease, {"uuid": "y"}, rejects)
        assert (other.done, other.rejected) == (0, 0)
        other.restart(fresh=True)
        assert not other.rejects.exists()
        assert LoadProgress(lease, {"uuid": "y"}, rejects).done == 0


def test_a_second_load_is_refused_while_the_first_runs(section: OpenSearchSection, tmp_path: Path):
    section, refused = section.model_copy(update={"lease_s": 1}), []

    def second(done: int, rows: int) -> None:
        if not refused:
            with pytest.raises(UserError, match=r"a job of .* is running already \(process \d+"):
                fill(section, Shop.of(25), tmp_path)
            refused.append(True)

    assert fill(section, Shop.of(25), tmp_path, advance=second).documents == 25
    assert refused


def test_a_load_is_refused_while_a_refresh_runs(section: OpenSearchSection, tmp_path: Path):
    section, refused = section.model_copy(update={"lease_s": 1}), []
    fill(section, Shop.of(25), tmp_path)

    def load_meanwhile(done: int, documents: int) -> None:
        if not refused:
            with pytest.raises(UserError, match=r"a job of .* is running already \(process \d+"):
                fill(section, Shop.of(25), tmp_path)
            refused.append(True)

    terms = {id: term.replace("v1/", "v2/") for id, term in Shop.of(25).terms.items()}
    context = MigrationContext(Sids(terms, None), None, (), tmp_path, Progress(advance=load_meanwhile))
    quick = section.model_copy(update={"refresh": RefreshSection(drain_timeout_s=0, catch_up_threshold=3)})
    report = refresh.refresh(connect(section), quick, replace(META, codebook="v2"), context)
    assert refused
    assert report.drift["documents"] == 25


def test_a_load_leaves_the_way_back_of_a_refresh(section: OpenSearchSection, tmp_path: Path):
    """The lease's document keeps both."""
    fill(section, Shop.of(25), tmp_path)
    client, quick = connect(section), section.model_copy(update={"refresh": RefreshSection(drain_timeout_s=0)})
    terms = {id: term.replace("v1/", "v2/") for id, term in Shop.of(25).terms.items()}
    refresh.refresh(
        client, quick, replace(META, codebook="v2"), MigrationContext(Sids(terms, None), None, (), tmp_path)
    )
    assert fill(section, Shop.of(25), tmp_path).resumed_at == 25
    back = MigrationContext(Sids(Shop.of(25).terms, None), None, (), tmp_path)
    assert refresh.rollback(client, quick, back).target == f"{section.index}-v1"


# --- search


@pytest.fixture
def loaded(section: OpenSearchSection, tmp_path: Path) -> tuple[OpenSearchSection, Shop]:
    shop = Shop.of(60)
    fill(section, shop, tmp_path)
    return section, shop


def ask(section: OpenSearchSection, *requests: dict) -> list[search.Hits]:
    return search.search_all(connect(section), section.index, requests)


def test_bm25_finds_words_in_any_field_whatever_their_form(loaded):
    section, _ = loaded
    ((ids, scores),) = ask(section, search.body(search.bm25("reds shoes", section), 5))
    assert all(int(i[1:]) % 4 == 0 and int(i[1:]) % 3 == 0 for i in ids)  # red shoes
    assert (np.diff(scores) <= 0).all()


def test_knn_ranks_by_cosine(loaded):
    section, shop = loaded
    wanted = np.argsort(-(shop.vectors @ shop.vectors[9]))[:10]
    ((ids, scores),) = ask(section, search.body(search.knn(shop.vectors[9], 10), 10))
    assert ids.tolist() == [f"B{i:04}" for i in wanted]
    assert np.allclose(scores, (1 + (shop.vectors @ shop.vectors[9])[wanted]) / 2, atol=1e-5)


def test_knn_filter_does_not_cost_results(loaded):
    section, shop = loaded
    only_lamps = {"term": {"category.keyword": "lamp"}}
    ((ids, _),) = ask(section, search.body(search.knn(shop.vectors[9], 15, only_lamps), 15))
    assert len(ids) == 15
    assert all(int(i[1:]) % 3 == 1 for i in ids)


def test_sid_terms_find_the_items_of_the_sids_in_their_order(loaded):
    section, shop = loaded
    ((ids, scores),) = ask(section, search.body(search.sid_terms(["v1/1/1/1", "v1/2/2/0"], [0.2, 0.7]), 50))
    expected = {"v1/1/1/1": 0.2, "v1/2/2/0": 0.7}
    assert {i for i, term in shop.terms.items() if term in expected} == set(ids)
    assert np.allclose(scores, [expected[shop.terms[i]] for i in ids])


@pytest.mark.parametrize("clauses", [2, 3])
@pytest.mark.parametrize("fusion", ["stored", "inline", "rrf", "weighted rrf"])
def test_hybrid_pipelines_fuse_the_clauses(loaded, clauses: int, fusion: str):
    section, shop = loaded
    some = [
        search.bm25("red shoe", section),
        search.knn(shop.vectors[5], 20),
        search.sid_terms(["v1/0/0/0"], [0.9]),
    ][:clauses]
    stored, weights = {
        2: (section.fusion.two, section.fusion.weights_two),
        3: (section.fusion.three, section.fusion.weights_three),
    }[clauses]
    pipeline = {
        "stored": stored,
        "inline": normalization(weights),
        "rrf": section.fusion.rrf,
        "weighted rrf": reciprocal_rank(60, weights),
    }[fusion]
    singles = ask(section, *(search.body(clause, 60) for clause in some))
    ((ids, scores),) = ask(section, search.body(search.hybrid(some, depth=60), 60, pipeline))
    assert set(ids) == {i for found, _ in singles for i in found}
    assert (np.diff(scores) <= 1e-9).all()
    assert np.allclose(scores, [expected_score(i, singles, weights, fusion) for i in ids], atol=1e-5)


def expected_score(item: str, singles: list[search.Hits], weights: tuple[float, ...], fusion: str) -> float:
    """Fused by hand: min-max with a weighted mean (a miss counts 0, the lowest hit .001), or reciprocal ranks."""
    total = 0.0
    for (ids, scores), weight in zip(singles, weights, strict=True):
        at = np.flatnonzero(ids == item)
        if not len(at):
            continue
        if "rrf" in fusion:
            total += (weight if "weighted" in fusion else 1.0) / (61 + at[0])
        else:
            low, high = scores.min(), scores.max()
            total += weight * (1.0 if low == high else max((scores[at[0]] - low) / (high - low), 0.001))
    return total


def test_hybrid_filter_holds_for_every_clause(loaded):
    section, shop = loaded
    some = [search.bm25("red", section), search.knn(shop.vectors[5], 40)]
    query = search.hybrid(some, filter={"term": {"category.keyword": "shoe"}})
    ((ids, _),) = ask(section, search.body(query, 50, section.fusion.two))
    assert len(ids)
    assert all(int(i[1:]) % 3 == 0 for i in ids)


def test_a_search_that_fails_says_why(loaded):
    section, _ = loaded
    with pytest.raises(UserError, match=r"a search failed: .*dimension"):
        ask(section, search.body(search.knn(np.ones(3, np.float32), 5), 5))
