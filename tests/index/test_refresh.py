"""From one codebook to the next and back, on the real node, with writes and accidents on the way."""

import json
import multiprocessing
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError, TransportError

from genrecall.config.opensearch import BulkSection, OpenSearchSection, RefreshSection
from genrecall.errors import UserError
from genrecall.opensearch import connect, explain_errors
from index_mappings.alias import aliased
from index_mappings.bulk import send
from index_mappings.index_settings import put_settings, settings_of
from index_mappings.lease import JobLease
from index_mappings.meta import read_meta
from index_mappings.migration import refresh
from index_mappings.migration.alias_migration import AliasMigration
from index_mappings.migration.context import MigrationContext
from index_mappings.migration.indices import await_health
from index_mappings.progress import Progress
from index_mappings.sids import Sids
from index_mappings.status import status
from tests.index import killed
from tests.index.conftest import META, Faults, Shop, everything, fill

pytestmark = pytest.mark.node
NEXT = replace(META, codebook="v2", assignments="b" * 64)
COUNT = 45


def quick(section: OpenSearchSection, **changes: object) -> OpenSearchSection:
    settings = RefreshSection(slices=2, drain_timeout_s=0, catch_up_threshold=3, sample_queries=0, **changes)
    return section.model_copy(update={"refresh": settings, "lease_s": 1})


@pytest.fixture
def loaded(section: OpenSearchSection, tmp_path: Path) -> OpenSearchSection:
    fill(section, Shop.of(COUNT), tmp_path)
    return quick(section)


def second() -> dict[str, str]:
    """The same items in codebook v2, three of them with other codes."""
    terms = {id: term.replace("v1/", "v2/") for id, term in Shop.of(COUNT).terms.items()}
    return terms | {"B0000": "v2/7/7/7", "B0001": "v2/7/7/7", "B0002": "v2/7/7/7"}


def context(folder: Path, terms: dict[str, str] | None = None, encode=None, **progress) -> MigrationContext:
    return MigrationContext(Sids(second() if terms is None else terms, encode), None, (), folder, Progress(**progress))


def interrupt(client: OpenSearch, section: OpenSearchSection, folder: Path) -> None:
    """Leave a refresh unfinished, after its first page."""

    def stop(done: int, documents: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refresh.refresh(client, section, NEXT, context(folder, advance=stop))


def without_sids(documents: dict[str, dict]) -> dict[str, dict]:
    return {id: {name: value for name, value in doc.items() if name != "sid"} for id, doc in documents.items()}


# --- the whole way


def test_refresh_moves_the_alias_to_the_same_documents_with_the_new_sids(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)
    before = everything(client, loaded.index)
    report = refresh.refresh(client, loaded, NEXT, context(tmp_path))
    assert (report.source, report.target, report.sent) == (f"{loaded.index}-v1", f"{loaded.index}-v2", COUNT)
    assert aliased(client, loaded.index) == [f"{loaded.index}-v2"]
    after = everything(client, loaded.index)
    assert without_sids(after) == without_sids(before)
    assert {id: doc["sid"] for id, doc in after.items()} == second()
    assert (report.drift["documents"], report.drift["without_sid"], report.drift["same_path"]) == (COUNT, 0, 0.9333)
    assert read_meta(client, loaded.index + "-v2") == NEXT
    assert [(one.codebook, one.writable) for one in status(client, loaded)] == [("v2", True), ("v1", False)]
    settings = settings_of(client, report.target)
    assert (settings["refresh_interval"], settings["number_of_replicas"]) == ("1s", "0")


def test_refresh_again_does_nothing(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)
    refresh.refresh(client, loaded, NEXT, context(tmp_path))
    assert refresh.refresh(client, loaded, NEXT, context(tmp_path)) is None


def test_fields_and_settings_that_users_added_are_kept(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)
    client.indices.put_mapping(index=loaded.index, body={"properties": {"price": {"type": "float"}}})
    client.indices.put_settings(index=loaded.index, body={"index": {"max_result_window": 12345}})
    client.index(index=loaded.index, id="B0007", body={"title": "dear", "price": 99.5})
    refresh.refresh(client, loaded, NEXT, context(tmp_path))
    found = client.search(index=loaded.index, body={"query": {"range": {"price": {"gt": 99}}}})["hits"]["hits"]
    assert [hit["_id"] for hit in found] == ["B0007"]
    assert settings_of(client, f"{loaded.index}-v2")["max_result_window"] == "12345"


def test_a_filter_of_the_alias_stays_with_it(loaded: OpenSearchSection, tmp_path: Path):
    client, only = connect(loaded), {"term": {"category.keyword": "lamp"}}
    action = {"add": {"index": f"{loaded.index}-v1", "alias": loaded.index, "filter": only}}
    client.indices.update_aliases(body={"actions": [action]})
    refresh.refresh(client, loaded, NEXT, context(tmp_path))
    assert client.indices.get_alias(name=loaded.index) == {
        f"{loaded.index}-v2": {"aliases": {loaded.index: {"filter": only}}}
    }
    assert (client.count(index=loaded.index)["count"], client.count(index=f"{loaded.index}-v2")["count"]) == (15, COUNT)


def test_replicas_that_do_not_come_are_reported(loaded: OpenSearchSection):
    client, whole, lacking = connect(loaded), f"{loaded.index}-v1", f"{loaded.index}-lacking"
    client.indices.create(
        index=lacking, body={"settings": {"number_of_replicas": 1}}
    )  # the one node has no place for it
    with pytest.raises(UserError, match=r"-lacking' is not green after 0.1 s .*_cluster/allocation"):
        await_health(client, whole, lacking, 0.1, print)
    await_health(client, lacking, whole, 0.1, print)
    await_health(client, lacking, lacking, 0.1, print)


def test_documents_with_a_routing_of_their_own_are_reported(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)
    client.index(index=loaded.index, id="ROUTED", body={"title": "routed"}, routing="elsewhere")
    with pytest.raises(UserError, match="a routing of their own, such as 'ROUTED'"):
        refresh.refresh(client, loaded, NEXT, context(tmp_path))
    assert aliased(client, loaded.index) == [f"{loaded.index}-v1"]


def test_what_is_written_and_deleted_meanwhile_is_in_the_new_index(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)

    def interfere(done: int, documents: int) -> None:
        if done == 20:  # behind us: B0000 to B0019
            client.update(index=loaded.index, id="B0003", body={"doc": {"title": "changed behind"}}, refresh=True)
            client.update(index=loaded.index, id="B0030", body={"doc": {"title": "changed ahead"}}, refresh=True)
            client.delete(index=loaded.index, id="B0004", refresh=True)
            client.delete(index=loaded.index, id="B0031", refresh=True)
            client.index(index=loaded.index, id="B0005", body={"title": "replaced"}, refresh=True)
            client.indices.put_mapping(index=loaded.index, body={"properties": {"colour": {"type": "keyword"}}})
            client.index(index=loaded.index, id="NEW", body={"title": "new", "colour": "red"}, refresh=True)

    report = refresh.refresh(client, loaded, NEXT, context(tmp_path, advance=interfere))
    after = everything(client, loaded.index)
    assert without_sids(after) == without_sids(everything(client, report.source))
    assert (after["B0003"]["title"], after["B0030"]["title"]) == ("changed behind", "changed ahead")
    assert after.keys().isdisjoint({"B0004", "B0031"})
    assert after["NEW"] == {"title": "new", "colour": "red"}


def test_a_document_that_a_pipeline_placed_in_the_old_codebook_is_placed_anew(
    loaded: OpenSearchSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its SID was asked for before the alias moved, and it was written after."""
    client, point = connect(loaded), AliasMigration._point

    def late(migration: AliasMigration) -> None:
        point(migration)
        client.index(index=loaded.index, id="B0003", body={"title": "late", "sid": "v1/1/1/1"})
        client.index(index=loaded.index, id="NEW", body={"title": "new", "sid": "v1/1/1/1"})

    monkeypatch.setattr(AliasMigration, "_point", late)
    refresh.refresh(client, loaded, NEXT, context(tmp_path, encode=lambda items: ["v2/9/9/9"] * len(items)))
    after = everything(client, loaded.index)
    assert after["B0003"] == {"title": "late", "sid": second()["B0003"]}
    assert after["NEW"] == {"title": "new", "sid": "v2/9/9/9"}


def test_rollback_goes_back_with_what_was_written_since(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)
    refresh.refresh(client, loaded, NEXT, context(tmp_path))
    client.update(index=loaded.index, id="B0003", body={"doc": {"title": "changed since"}})
    client.delete(index=loaded.index, id="B0004")
    client.index(index=loaded.index, id="NEW", body={"title": "new", "sid": "v2/1/1/1"})
    report = refresh.rollback(client, loaded, context(tmp_path, Shop.of(COUNT).terms))
    assert (report.target, report.sent) == (f"{loaded.index}-v1", 2)
    after = everything(client, loaded.index)
    assert len(after) == COUNT
    assert after["B0003"]["title"] == "changed since"
    assert after["B0003"]["sid"] == Shop.of(COUNT).terms["B0003"]
    assert after["NEW"] == {"title": "new"}, "an item that bundle v1 lacks has no SID of v1, and none of v2"
    client.update(index=loaded.index, id="B0005", body={"doc": {"title": "and on"}})
    assert refresh.rollback(client, loaded, context(tmp_path)).target == f"{loaded.index}-v2", "there and back again"
    assert everything(client, loaded.index)["B0005"]["title"] == "and on"


def test_rollback_keeps_sids_that_a_pipeline_gave_before_the_refresh(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)
    client.index(index=loaded.index, id="B0005", body={"title": "written anew", "sid": "v1/8/8/8"}, refresh=True)
    refresh.refresh(client, loaded, NEXT, context(tmp_path))
    refresh.rollback(client, loaded, context(tmp_path, Shop.of(COUNT).terms))
    assert everything(client, loaded.index)["B0005"] == {"title": "written anew", "sid": "v1/8/8/8"}


def test_items_that_the_bundle_lacks_are_placed_by_the_server(loaded: OpenSearchSection, tmp_path: Path):
    client, terms, asked = connect(loaded), second(), []
    del terms["B0010"]

    def encode(items):
        asked.extend(items)
        return ["v2/9/9/9"] * len(items)

    report = refresh.refresh(client, loaded, NEXT, context(tmp_path, terms, encode))
    assert everything(client, loaded.index)["B0010"]["sid"] == "v2/9/9/9"
    assert (report.drift["not_in_bundle"], report.drift["without_sid"]) == (1, 0)
    assert asked == [
        {"item_id": "B0010", "title": "green lamp number 10", "category": ["Home", "lamp"], "brand": "brand 0"}
    ]


def test_indices_beyond_those_to_keep_are_deleted(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)
    refresh.refresh(client, loaded, NEXT, context(tmp_path))
    third = {id: term.replace("v2/", "v3/") for id, term in second().items()}
    report = refresh.refresh(client, loaded, replace(NEXT, codebook="v3"), context(tmp_path, third))
    assert report.removed == [f"{loaded.index}-v1"]
    assert [one.codebook for one in status(client, loaded)] == ["v3", "v2"]


def test_dry_run_reports_and_changes_nothing(loaded: OpenSearchSection, tmp_path: Path):
    client, terms = connect(loaded), second()
    del terms["B0010"]
    plan = refresh.plan(client, loaded, NEXT, terms | {"GONE": "v2/0/0/0"})
    assert (plan.documents, plan.not_in_bundle, plan.not_in_index, plan.same_path) == (COUNT, 1, 1, 41)
    assert [one.codebook for one in status(client, loaded)] == ["v1"]
    assert JobLease.peek(client, loaded.index)[0] == {}


# --- one job at a time


def test_a_second_job_is_refused_while_the_first_runs(loaded: OpenSearchSection, tmp_path: Path):
    client, seen = connect(loaded), []

    def second_job(done: int, documents: int) -> None:
        if not seen:
            with pytest.raises(UserError, match=r"a job of .* is running already \(process \d+"):
                refresh.refresh(connect(loaded), loaded, NEXT, context(tmp_path))
            seen.append(True)

    refresh.refresh(client, loaded, NEXT, context(tmp_path, advance=second_job))
    assert seen


def test_a_job_that_lost_its_lease_writes_no_note(loaded: OpenSearchSection):
    client = connect(loaded)
    with JobLease.take(client, loaded.index, 60) as frozen:
        frozen.note(step="copy")
        with JobLease.take(client, loaded.index, 60, wait=lambda seconds: None) as other:  # it does not beat meanwhile
            other.note(step="verify")
            with pytest.raises(UserError, match="another process took over"):
                frozen.note(step="switch")
            assert other.state["step"] == "verify"


def test_an_unfinished_refresh_keeps_out_another_and_can_be_given_up(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)
    interrupt(client, loaded, tmp_path)
    with pytest.raises(UserError, match=r"the refresh to .*-v2' is unfinished \(step copy\)"):
        refresh.refresh(client, loaded, replace(NEXT, codebook="v3"), context(tmp_path))
    with pytest.raises(UserError, match="is unfinished"):
        refresh.rollback(client, loaded, context(tmp_path))
    jobs = {one.codebook: one.job for one in status(client, loaded)}
    assert jobs == {"v1": "", "v2": "refresh unfinished: step copy, 20 documents copied"}
    assert "gave up the refresh" in refresh.abandon(client, loaded, print)
    assert [one.codebook for one in status(client, loaded)] == ["v1"]
    client.index(index=loaded.index, id="B0001", body={"title": "writable"})


def test_without_a_refresh_there_is_nothing_to_roll_back_to(loaded: OpenSearchSection, tmp_path: Path):
    with pytest.raises(UserError, match=r"no refresh led to .*-v1.*index load"):
        refresh.rollback(connect(loaded), loaded, context(tmp_path))


# --- what must not serve


def test_a_refused_document_stops_the_switch_and_is_sent_again(loaded: OpenSearchSection, tmp_path: Path):
    client, target = connect(loaded), f"{loaded.index}-v2"

    def relax(done: int, documents: int) -> None:  # of the old index alone, which takes unknown fields from now on
        if done == 20:
            client.indices.put_mapping(index=loaded.index, body={"dynamic": False})
            client.index(index=loaded.index, id="ODD", body={"title": "odd", "colour": "red"}, refresh=True)

    with pytest.raises(UserError, match=r"1 documents were refused by .*-v2'; reasons are in .*rejects.jsonl"):
        refresh.refresh(client, loaded, NEXT, context(tmp_path, advance=relax))
    (reject,) = [json.loads(line) for line in (tmp_path / f"{target}.rejects.jsonl").read_text().splitlines()]
    assert (reject["item_id"], reject["status"]) == ("ODD", 400)
    assert "colour" in reject["reason"]
    assert aliased(client, loaded.index) == [f"{loaded.index}-v1"]
    client.index(index=loaded.index, id="B0001", body={"title": "writable"})
    client.indices.put_mapping(index=target, body={"dynamic": False})
    assert refresh.refresh(client, loaded, NEXT, context(tmp_path)).resumed
    assert everything(client, loaded.index)["ODD"]["colour"] == "red"


def test_a_mapping_that_does_not_fit_is_reported(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)

    def conflict(done: int, documents: int) -> None:
        if done == 20:
            for index, kind in (("v1", "keyword"), ("v2", "integer")):
                client.indices.put_mapping(
                    index=f"{loaded.index}-{index}", body={"properties": {"price": {"type": kind}}}
                )
            client.index(index=loaded.index, id="B0001", body={"title": "dear", "price": "much"}, refresh=True)

    with pytest.raises(UserError, match=r"mapping of .*-v1' does not fit .*-v2': .*price.*--abandon"):
        refresh.refresh(client, loaded, NEXT, context(tmp_path, advance=conflict))
    assert aliased(client, loaded.index) == [f"{loaded.index}-v1"]


def test_too_many_documents_without_sid_stop_the_switch(loaded: OpenSearchSection, tmp_path: Path):
    terms = {id: term for id, term in second().items() if id < "B0040"}
    with pytest.raises(UserError, match=r"5 of 45 documents of .* would have no SID .*max_without_sid is 5.0%"):
        refresh.refresh(connect(loaded), loaded, NEXT, context(tmp_path, terms))
    client = connect(loaded)
    assert aliased(client, loaded.index) == [f"{loaded.index}-v1"]
    tolerant = quick(loaded, max_without_sid=0.2)
    report = refresh.refresh(client, tolerant, NEXT, context(tmp_path, terms | {"GONE": "v2/0/0/0"}))
    assert (report.resumed, report.sent) == (True, 0)
    assert (report.drift["without_sid"], report.drift["not_in_bundle"], report.drift["not_in_index"]) == (5, 5, 1)


def test_vectors_of_another_encoder_are_not_copied(loaded: OpenSearchSection, tmp_path: Path):
    with pytest.raises(UserError, match=r"holds vectors by 'minilm', but the bundle's are by 'other'"):
        refresh.refresh(connect(loaded), loaded, replace(NEXT, encoder="other"), context(tmp_path))


def test_an_index_of_that_name_is_not_overwritten(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)
    client.indices.create(index=f"{loaded.index}-v2")
    with pytest.raises(UserError, match="is there already"):
        refresh.refresh(client, loaded, NEXT, context(tmp_path))


def test_a_target_that_was_deleted_meanwhile_is_reported(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)
    interrupt(client, loaded, tmp_path)
    client.indices.delete(index=f"{loaded.index}-v2")
    with pytest.raises(UserError, match="was deleted or recreated since the refresh began"):
        refresh.refresh(client, loaded, NEXT, context(tmp_path))
    refresh.abandon(client, loaded, print)
    assert refresh.refresh(client, loaded, NEXT, context(tmp_path)).sent == COUNT


# --- accidents


@pytest.mark.slow
@pytest.mark.parametrize("move", ["refresh", "rollback"])
def test_killed_behind_any_change_of_the_cluster_it_goes_on_and_nothing_is_lost(
    loaded: OpenSearchSection, tmp_path: Path, move: str
):
    """It dies by SIGKILL behind its first change, its second, and so on until it lives; each time on a new copy."""
    spawn = multiprocessing.get_context("forkserver")  # threads of other tests must not be forked
    spawn.set_forkserver_preload(["tests.index.killed"])
    client, steps = connect(loaded), set()
    for changes in range(1, 100):
        section = loaded.model_copy(update={"index": f"{loaded.index}-{move}{changes}"})
        shop = Shop.of(COUNT)
        fill(section, shop, tmp_path / section.index)
        terms = second() if move == "refresh" else shop.terms
        if move == "rollback":
            refresh.refresh(client, section, NEXT, context(tmp_path))
            client.index(index=section.index, id="NEW", body={"title": "new"}, refresh=True)
            client.delete(index=section.index, id="B0002", refresh=True)
        before = without_sids(everything(client, section.index))
        child = spawn.Process(target=killed.run, args=(section, NEXT, terms, tmp_path, move, changes))
        child.start()
        child.join(60)
        assert child.exitcode in (0, -signal.SIGKILL)
        step = JobLease.peek(client, section.index)[0].get("step")
        steps.add(step)
        where = f"{section.index}-{'v2' if move == 'refresh' else 'v1'}"
        if child.exitcode == -signal.SIGKILL:
            work = context(tmp_path, terms)
            tolerant = section.model_copy(
                update={"refresh": section.refresh.model_copy(update={"max_without_sid": 0.1})}
            )
            if move == "refresh":
                refresh.refresh(client, tolerant, NEXT, work)
            elif step != "done" or aliased(client, section.index) != [where]:
                refresh.rollback(client, tolerant, work)
        assert aliased(client, section.index) == [where]
        after = everything(client, section.index)
        assert without_sids(after) == before
        assert {id: doc.get("sid") for id, doc in after.items()} == {id: terms.get(id) for id in before}
        assert "next" not in json.dumps([client.indices.get_mapping(index=f"{section.index}-*")])
        client.index(index=section.index, id="B0001", body={"title": "writable"})
        client.indices.delete(index=f"{section.index}-*")
        client.indices.delete_index_template(name=section.index)
        if child.exitcode == 0:
            break
    else:
        pytest.fail("it never came to its end")
    assert changes > 12, "it made fewer changes than there are steps"
    assert {"copy", "verify", "switch", "finish", "done"} <= steps


def test_lost_connections_and_refusals_for_now_are_waited_for(flaky: tuple[OpenSearchSection, Faults], tmp_path: Path):
    section, faults = flaky
    fill(section, Shop.of(COUNT), tmp_path)
    faults.planned, faults.bulks = ["429 items", "drop", 503, "429 items"], 0
    report = refresh.refresh(connect(section, retry=section.bulk), quick(section), NEXT, context(tmp_path))
    assert faults.planned == []
    assert report.drift["documents"] == COUNT


def test_every_answer_is_lost_on_the_way_once_and_nothing_comes_of_it(loaded: OpenSearchSection, tmp_path: Path):
    """What changes the cluster is done, but the response is lost, and so it is requested again."""
    section = quick(loaded).model_copy(update={"bulk": BulkSection(attempts=3, backoff_s=0.01)})
    client, lost = connect(section, retry=section.bulk), set()
    connection = client.transport.get_connection()
    perform = connection.perform_request

    def lossy(method: str, url: str, params=None, body=None, **options: object) -> object:
        answer = perform(method, url, params=params, body=body, **options)
        asked = (method, url, str(params), str(body))
        if method in ("PUT", "POST", "DELETE") and not url.endswith(killed.READING) and asked not in lost:
            lost.add(asked)
            raise ConnectionError("N/A", "the answer was lost", OSError())
        return answer

    connection.perform_request = lossy
    before = without_sids(everything(client, section.index))
    assert refresh.refresh(client, section, NEXT, context(tmp_path)).sent == COUNT
    third = {id: term.replace("v2/", "v3/") for id, term in second().items()}
    report = refresh.refresh(client, section, replace(NEXT, codebook="v3"), context(tmp_path, third))
    assert report.removed == [f"{section.index}-v1"]
    connect(section).delete(index=section.index, id="B0004")
    refresh.rollback(client, section, context(tmp_path))
    after = everything(client, section.index)
    assert {id: doc["sid"] for id, doc in after.items()} == {id: term for id, term in second().items() if id != "B0004"}
    assert without_sids(after) == {id: doc for id, doc in before.items() if id != "B0004"}
    assert len(lost) > 30
    assert not any(one.aliased for one in status(client, section) if one.codebook != "v2")


def test_a_request_that_is_repeated_keeps_its_options(flaky: tuple[OpenSearchSection, Faults]):
    section, faults = flaky
    faults.searches = [503, 503]
    client = connect(section, retry=section.bulk)
    assert client.search(index="no-such-index", ignore=404)["status"] == 404
    assert faults.searches == []


def test_refusals_that_do_not_end_stop_the_job_and_it_goes_on_later(
    flaky: tuple[OpenSearchSection, Faults], tmp_path: Path
):
    section, faults = flaky
    fill(section, Shop.of(COUNT), tmp_path)

    def refuse(done: int, documents: int) -> None:
        faults.planned = ["429 items"] * 100

    with pytest.raises(UserError, match=r"could not be sent in 4 attempts, the last with '429 planned"):
        refresh.refresh(connect(section, retry=section.bulk), quick(section), NEXT, context(tmp_path, advance=refuse))
    assert aliased(connect(section), section.index) == [f"{section.index}-v1"]
    faults.planned = []
    report = refresh.refresh(connect(section, retry=section.bulk), quick(section), NEXT, context(tmp_path))
    assert (report.resumed, report.sent) == (True, COUNT - 20)


def test_an_index_that_takes_no_writes_is_reported_and_the_job_goes_on_later(loaded: OpenSearchSection, tmp_path: Path):
    client, target = connect(loaded), f"{loaded.index}-v2"

    def block(done: int, documents: int) -> None:
        if done == 20:
            put_settings(client, target, {"blocks.read_only": True})

    with pytest.raises(UserError, match=r"-v2' takes no writes: .*read-only"), explain_errors(loaded):
        refresh.refresh(client, loaded, NEXT, context(tmp_path, advance=block))
    put_settings(client, target, {"blocks.read_only": None})
    assert refresh.refresh(client, loaded, NEXT, context(tmp_path)).resumed
    assert len(everything(client, loaded.index)) == COUNT


def test_writers_are_refused_for_the_switch_alone_and_lose_nothing(loaded: OpenSearchSection, tmp_path: Path):
    """A writer that repeats what is refused, as it must, finds all it wrote in the new index."""
    client, stop = connect(loaded), threading.Event()
    wrote, refused = {}, set()

    def write() -> None:
        own, number = connect(loaded), 0
        while not stop.is_set():
            number += 1
            id, body = f"W{number % 40:02}", {"title": f"number {number}"}
            try:
                own.index(index=loaded.index, id=id, body=body)
                wrote[id] = body
            except TransportError as error:
                refused.add((error.status_code, error.error))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        report = refresh.refresh(client, quick(loaded, max_without_sid=1.0), NEXT, context(tmp_path))
    finally:
        stop.set()
        writer.join()
    after = everything(client, report.target)
    assert {id: doc for id, doc in after.items() if id.startswith("W")} == wrote
    assert len(after) == COUNT + len(wrote)
    assert refused <= {(403, "cluster_block_exception")}


def test_a_job_that_is_alone_after_a_kill_does_not_wait_for_the_dead(loaded: OpenSearchSection, tmp_path: Path):
    spawn = multiprocessing.get_context("forkserver")
    child = spawn.Process(target=killed.run, args=(loaded, NEXT, second(), tmp_path, "refresh", 4))
    child.start()
    child.join(60)
    waits = []
    with JobLease.take(connect(loaded), loaded.index, 60, wait=waits.append):
        pass
    assert waits == []


def test_a_document_goes_on_with_its_guard(loaded: OpenSearchSection):
    """Writes of somebody else in between are found out."""
    from index_mappings.bulk import Document

    client = connect(loaded)
    found = client.get(index=loaded.index, id="B0001")
    guard = (found["_seq_no"], found["_primary_term"])
    client.update(index=loaded.index, id="B0001", body={"doc": {"title": "changed"}})
    batch = [Document("B0001", '{"sid": "v1/5/5/5"}', "update", guard), Document("NONE", "", "delete")]
    (reject,) = send(client, loaded.index, batch, loaded.bulk)
    assert (reject.item_id, reject.status) == ("B0001", 409)
    assert np.isclose(np.linalg.norm(found["_source"]["vector"]), 1, atol=1e-4)
