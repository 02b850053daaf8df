"""Random interleavings of writes, deletions, refreshes, rollbacks, loads, deaths and faults, on the real node, against
a model of what the alias must show.

    GENRECALL_SEED=7 GENRECALL_EXAMPLES=20 python -m pytest tests/index/test_interleavings.py

is another and longer run; a failure prints its seed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError, TransportError

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from genrecall.opensearch import connect
from genrecall.records import ITEMS
from index_mappings import lease
from index_mappings.alias import aliased
from index_mappings.lease import JobLease, unfinished
from index_mappings.meta import IndexMeta, read_meta
from index_mappings.migration import refresh
from index_mappings.migration.context import MigrationContext
from index_mappings.sids import Sids
from tests.index.conftest import META, Shop, fill
from tests.index.killed import READING
from tests.index.test_refresh import quick

pytestmark = [pytest.mark.node, pytest.mark.slow]
SEED = int(os.environ.get("GENRECALL_SEED", "13"))
EXAMPLES, STEPS = int(os.environ.get("GENRECALL_EXAMPLES", "3")), 14
ITEM_COUNT = 9
ids = st.integers(0, ITEM_COUNT + 2).map(lambda n: f"B{n:04}")
deaths = st.one_of(st.none(), st.integers(1, 25))
"""Behind which change of the cluster a process dies."""


class Dead(TransportError):
    """Whatever a process asks for once it is dead."""


def mortal(section: OpenSearchSection, changes: int | None) -> OpenSearch:
    """A client of a process that dies behind its n-th change of the cluster, all its threads at once."""
    client = connect(section)
    perform, done = client.transport.perform_request, 0

    def request(method: str, url: str, **options: Any) -> Any:
        nonlocal done
        if changes is not None and done >= changes:
            raise Dead(418, "dead", {})
        answer = perform(method, url, **options)
        done += method in ("PUT", "POST", "DELETE") and not url.endswith(READING)
        return answer

    client.transport.perform_request = request  # type: ignore[method-assign]
    return client


def meta_of(number: int) -> IndexMeta:
    return replace(META, codebook=f"v{number}", assignments=str(number) * 8)


class Moves(RuleBasedStateMachine):
    """`documents`: id -> title, what the alias must show."""

    section: OpenSearchSection
    number = 0

    @initialize()
    def load(self) -> None:
        Moves.number += 1
        alias = f"{self.section.index}-run{self.number}"
        own = {"max_delete_share": 1.0, "max_without_sid": 1.0}
        shop = quick(self.section.model_copy(update={"index": alias}), **own)
        self.shop = shop.model_copy(update={"lease_s": 60})  # no renewals: their moment would be chance
        self.client, self.folder = connect(self.shop), Path(tempfile.mkdtemp())
        self.last = 1
        self._fill(1, switch=True)

    def _fill(self, number: int, switch: bool) -> None:
        shop = Shop.of(ITEM_COUNT)
        rows = [{**row, "title": f"title {n}"} for n, row in enumerate(shop.items.to_pylist())]
        shop = replace(shop, items=pa.Table.from_pylist(rows, ITEMS), terms=self._terms(number))
        fill(self.shop, shop, self.folder, meta_of(number), switch)
        if switch:
            self.documents = {row["item_id"]: row["title"] for row in rows}

    @staticmethod
    def _terms(number: int) -> dict[str, str]:
        return {f"B{n:04}": f"v{number}/{n % 3}/{n % 2}/0" for n in range(ITEM_COUNT + 3)}

    def _context(self, number: int) -> MigrationContext:
        return MigrationContext(Sids(self._terms(number), None), None, (), self.folder)

    @property
    def state(self) -> dict[str, Any]:
        return JobLease.peek(self.client, self.shop.index)[0]

    @property
    def underway(self) -> bool:
        return unfinished(self.state)

    def _taken(self, change: Callable[[], Any]) -> bool:
        """Whether a writer's change was done. It is refused only by the block of a switch."""
        try:
            change()
        except NotFoundError:
            return False
        except TransportError as error:
            if error.status_code != 403 or self.state["step"] != "switch":
                raise
            return False
        return True

    @rule(id=ids, title=st.integers(0, 99))
    def write(self, id: str, title: int) -> None:
        if self._taken(lambda: self.client.index(index=self.shop.index, id=id, body={"title": f"title {title}"})):
            self.documents[id] = f"title {title}"

    @rule(id=ids)
    def delete(self, id: str) -> None:
        if self._taken(lambda: self.client.delete(index=self.shop.index, id=id)):
            del self.documents[id]

    @precondition(lambda self: self.underway)
    @rule(id=ids, deleted=st.booleans())
    def spoil_the_other_index(self, id: str, deleted: bool) -> None:
        """By name, where nobody should write: the ids there must be right all the same when it serves."""
        if aliased(self.client, self.shop.index) != [self.state["target"]]:
            with contextlib.suppress(TransportError):
                if deleted:
                    self.client.delete(index=self.state["target"], id=id)
                elif id not in self.documents and self.client.indices.exists(index=self.state["target"]):
                    self.client.index(index=self.state["target"], id=id, body={"title": "foreign"})

    @rule(death=deaths)
    def refresh(self, death: int | None) -> None:
        state = self.state
        if unfinished(state) and state["kind"] == "rollback":
            return
        number = int(state["codebook"][1:]) if unfinished(state) else self.last + 1
        self.last = max(self.last, number)
        with contextlib.suppress(Dead):
            refresh.refresh(mortal(self.shop, death), self.shop, meta_of(number), self._context(number))

    @rule(death=deaths)
    def rollback(self, death: int | None) -> None:
        state = self.state
        if unfinished(state) and state["kind"] == "refresh":
            return
        try:
            back = int(refresh.previous(self.client, self.shop, state).codebook[1:])
        except UserError:
            return  # nothing to go back to
        with contextlib.suppress(Dead):
            refresh.rollback(mortal(self.shop, death), self.shop, self._context(back))

    @precondition(lambda self: self.underway)
    @rule()
    def abandon(self) -> None:
        refresh.abandon(self.client, self.shop, note)
        assert not self.underway

    @rule(switch=st.booleans())
    def load_another(self, switch: bool) -> None:
        if switch and self.underway:
            with pytest.raises(UserError, match="is unfinished"):
                self._fill(self.last + 1, switch)
            return
        self.last += 1
        self._fill(self.last, switch)

    @invariant()
    def the_alias_shows_what_was_written(self) -> None:
        index, *others = aliased(self.client, self.shop.index)
        assert not others
        self.client.indices.refresh(index=index)
        hits = self.client.search(index=self.shop.index, body={"size": 1000})["hits"]["hits"]
        assert {hit["_id"]: hit["_source"]["title"] for hit in hits} == self.documents
        codebook = read_meta(self.client, index).codebook
        assert {hit["_source"].get("sid", codebook).split("/")[0] for hit in hits} <= {codebook}

    def teardown(self) -> None:
        try:
            if self.underway:
                self.abandon()
            self.the_alias_shows_what_was_written()
            self.client.index(index=self.shop.index, id="LAST", body={"title": "writable"})
        finally:
            note(f"GENRECALL_SEED={SEED}")
            self.client.indices.delete(index=f"{self.shop.index}-*")
            self.client.indices.delete_index_template(name=self.shop.index, ignore=404)


def test_whatever_comes_between_the_alias_shows_what_was_written(
    section: OpenSearchSection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lease, "_has_ended", lambda holder: True)  # the dead ones of this process
    fill(section, Shop.of(1), Path(tempfile.mkdtemp()))
    machine = seed(SEED)(type("OnThisNode", (Moves,), {"section": section}))
    limits = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, derandomize=False, deadline=None, database=None)
    run_state_machine_as_test(machine, settings=limits)
