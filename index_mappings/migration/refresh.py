"""From one codebook to the next without losing a query or a write: what `genrecall index refresh` and `rollback` run.

Owns when a migration may begin, what is resumed and what is refused. Its steps are in `alias_migration`, the lease that
keeps out a second job in `lease`, and what must hold before the switch in `verify`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from genrecall.client import Client
from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from genrecall.opensearch import reason_of
from index_mappings import checks, fence, search
from index_mappings.alias import aliased, aliases_of, serving
from index_mappings.compose.composer import Composer
from index_mappings.create import check_plugins
from index_mappings.index_settings import uuid_of
from index_mappings.lease import JobLease, before_it, refuse_unfinished, unfinished, with_predecessor
from index_mappings.meta import IndexMeta, check_meta, index_name, read_mapping, read_meta
from index_mappings.migration import changes, indices, verify
from index_mappings.migration.alias_migration import AliasMigration
from index_mappings.migration.context import MigrationContext, Search

TIMEOUT = "30s"  # of a sample query: a slow moment must not look like a bad index
SAMPLE_HITS = 20  # hits of a sample query that are compared
PLUGIN = "genrecall"


@dataclass(frozen=True)
class MigrationReport:
    """What a migration did. `resumed`: an earlier run had begun it; `sent`: documents written by this run."""

    kind: str
    source: str
    target: str
    resumed: bool
    sent: int
    seconds: float
    timing: Mapping[str, Any]
    drift: Mapping[str, Any]
    removed: Sequence[str]

    @property
    def per_second(self) -> float:
        copying = self.timing["steps"].get("copy", 0.0)
        return self.sent / copying if copying else 0.0


@dataclass(frozen=True)
class RefreshPlan:
    """What a refresh would do.

    Attributes:
        step, copied: where an unfinished refresh stands; "create" and 0 without one.
        not_in_bundle, not_in_index: documents without an item of the bundle, and the reverse.
        same_path: documents whose codes stay.
        endpoint: of the inference server that would assign SIDs to items that the bundle lacks.
        removes: indices that served before and would be deleted at the end.
    """

    source: str
    target: str
    step: str
    copied: int
    documents: int
    not_in_bundle: int
    not_in_index: int
    same_path: int
    endpoint: str | None
    removes: Sequence[str]


def refresh(
    client: OpenSearch, section: OpenSearchSection, meta: IndexMeta, context: MigrationContext
) -> MigrationReport | None:
    """Build the index of `meta.codebook` from the one that serves, and move the alias there; None if it serves already.

    Raises UserError while another job runs or another migration is unfinished, where the new index must not serve, and
    for whatever stopped it on the way. Then the alias is where it was, and the same call goes on.
    """
    check_plugins(client, section)
    with JobLease.take(client, section.index, section.lease_s, context.progress.message) as lease:
        target = index_name(section, meta.codebook)
        resumed = unfinished(lease.state)
        if resumed:
            _check_same(client, lease, "refresh", target, meta)
        elif not _begin(client, section, lease, target, meta):
            return None
        if lease.state["step"] == "create":
            _create(client, lease, meta)
        return _run(client, section, lease, context, resumed)


def rollback(client: OpenSearch, section: OpenSearchSection, context: MigrationContext) -> MigrationReport:
    """Move the alias back to the previous index, with what was written since, in the SIDs of that one's codebook.

    `context.sids` are of the codebook that `previous` names. Raises as `refresh`.
    """
    with JobLease.take(client, section.index, section.lease_s, context.progress.message) as lease:
        resumed = unfinished(lease.state)
        if resumed and lease.state["kind"] != "rollback":
            refuse_unfinished(lease.state)
        if not resumed:
            last = lease.state
            back = previous(client, section, last)
            source, target = last["target"], last["source"]
            checks.check_rollback_target(client, target)
            checks.check_source(client, source)
            lease.note(
                before=before_it(last),
                kind="rollback",
                source=source,
                target=target,
                uuids={target: uuid_of(client, target), source: last["uuids"][source]},
                codebook=back.codebook,
                assignments=back.assignments,
                position=last["since"],
                copied=0,
                rejected=[],
                step="copy",
            )
        return _run(client, section, lease, context, resumed)


def previous(client: OpenSearch, section: OpenSearchSection, state: Mapping[str, Any]) -> IndexMeta:
    """Of the index that a rollback goes to: the target of an unfinished one, else the source of the last migration.

    Raises UserError where no migration is on record, or its indices are no longer those.
    """
    if unfinished(state) and state["kind"] == "rollback":
        return read_meta(client, state["target"])
    current = aliased(client, section.index)
    if state.get("step") != "done" or current != [state["target"]]:
        if unfinished(state):
            raise UserError(
                f"{state['kind']} to {state['target']!r} is unfinished: run it again, or give it up by --abandon"
            )
        raise UserError(
            f"no refresh led to {', '.join(current) or 'the alias'}: there is nothing to roll back to. "
            f"`genrecall index load --bundle NAME --switch` moves the alias to the index of any bundle"
        )
    index = str(state["source"])
    if not client.indices.exists(index=index) or uuid_of(client, index) != state["uuids"][index]:
        raise UserError(
            f"the previous index, {index!r}, was deleted or recreated since: `genrecall index refresh` builds one of "
            "its bundle, published under another codebook name"
        )
    return read_meta(client, index)


def abandon(client: OpenSearch, section: OpenSearchSection, message: Callable[[str], None]) -> str:
    """Give an unfinished migration up: the serving index takes writes again, a half-built one is deleted.

    Returns a sentence about what was done.
    """
    with JobLease.take(client, section.index, section.lease_s, message) as lease:
        state = lease.state
        if not unfinished(state):
            return f"no move of {section.index!r} is unfinished"
        source, target = str(state["source"]), str(state["target"])
        moved = aliased(client, section.index) == [target]
        undo = [(source, lambda: indices.announce(client, source, None))]
        if not moved:
            undo.append((source, lambda: indices.block_writes(client, source, False)))
        if state["kind"] == "rollback" or moved:
            undo.append((target, lambda: fence.close(client, target)))
        elif _made_here(client, state, target):
            undo.append((target, lambda: indices.delete_index(client, target)))
        for index, step in undo:
            try:
                if client.indices.exists(index=index):
                    step()
            except (TransportError, UserError) as error:  # whatever state it is in, the migration is given up
                reason = str(error) if isinstance(error, UserError) else reason_of(error.info) or str(error.error)
                message(f"{index}: {reason}; look after it by hand")
        if moved:
            lease.note(step="done", removed=[], history=with_predecessor(state, source, state["uuids"][source]))
            return f"{section.index} points to {target} already: what was left of the {state['kind']} is left undone"
        lease.forget()
        return f"gave up the {state['kind']} to {target}; {section.index} points to {source} as before"


def _made_here(client: OpenSearch, state: Mapping[str, Any], target: str) -> bool:
    """Whether `target` is the index that the unfinished refresh made, and serves nobody."""
    if not client.indices.exists(index=target) or aliases_of(client, target):
        return False
    uuid = state["uuids"].get(target)
    if uuid is None:  # killed while it was created
        return read_meta(client, target).assignments == state["assignments"]
    return uuid_of(client, target) == uuid


def plan(client: OpenSearch, section: OpenSearchSection, meta: IndexMeta, terms: Mapping[str, str]) -> RefreshPlan:
    """What a refresh would do, without doing it: reads the ids and SIDs of the index that serves.

    Raises UserError for what would stop it at its beginning.
    """
    source, target = serving(client, section.index), index_name(section, meta.codebook)
    state, _ = JobLease.peek(client, section.index)
    _check_fits(client, source, target, meta, state)
    documents = known = same = 0
    everything = changes.start(client, source), changes.now(client, source)
    for _, page in changes.pages(client, source, *everything, changes.IDS_A_PAGE, ["sid"]):
        for document in page:
            documents += 1
            if term := terms.get(document.id):
                known += 1
                same += verify.path_of((document.source or {}).get("sid")) == verify.path_of(term)
    begun = unfinished(state)
    return RefreshPlan(
        source=source,
        target=target,
        step=state["step"] if begun else "create",
        copied=state.get("copied", 0) if begun else 0,
        documents=documents,
        not_in_bundle=documents - known,
        not_in_index=len(terms) - known,
        same_path=same,
        endpoint=section.refresh.endpoint,
        removes=indices.removable(client, state, target, source, section.refresh.keep),
    )


def generative_search(client: OpenSearch, server: Client | None) -> Search | None:
    """Searches by the plugin's generative clause, or composes it where the cluster has none; None without either."""
    rows = client.cat.plugins(format="json", h="component")
    with_plugin = any(row["component"] == PLUGIN for row in rows)
    if not with_plugin and server is None:
        return None

    def run(index: str, queries: Sequence[str]) -> list[search.Hits]:
        bodies = [search.body(search.generative(text, timeout=TIMEOUT), SAMPLE_HITS) for text in queries]
        if not with_plugin and server is not None:
            composer = Composer(client, server)
            bodies = [composer.compose(body, index=index) for body in bodies]
        return search.search_all(client, index, bodies)

    return run


def _begin(client: OpenSearch, section: OpenSearchSection, lease: JobLease, target: str, meta: IndexMeta) -> bool:
    """Note a new migration, before any of it exists; False where the alias points to `target` already."""
    source = serving(client, section.index)
    if source == target:
        check_meta(client, target, meta)
        return False
    _check_fits(client, source, target, meta, lease.state)
    checks.check_source(client, source)
    position = changes.start(client, source)
    lease.note(
        before=before_it(lease.state),
        kind="refresh",
        source=source,
        target=target,
        uuids={source: uuid_of(client, source)},
        codebook=meta.codebook,
        assignments=meta.assignments,
        position=position,
        copied=0,
        rejected=[],
        step="create",
    )
    return True


def _create(client: OpenSearch, lease: JobLease, meta: IndexMeta) -> None:
    """Killed in here, the target may exist already, and empty."""
    source, target = lease.state["source"], lease.state["target"]
    indices.delete_index(client, target)
    indices.clone_index(client, source, target, meta)
    lease.note(uuids={**lease.state["uuids"], target: uuid_of(client, target)}, step="copy")


def _run(
    client: OpenSearch, section: OpenSearchSection, lease: JobLease, context: MigrationContext, resumed: bool
) -> MigrationReport:
    began = time.monotonic()
    migration = AliasMigration(client, section, lease, context)
    migration.run()
    return MigrationReport(
        kind=lease.state["kind"],
        source=lease.state["source"],
        target=lease.state["target"],
        resumed=resumed,
        sent=migration.sent,
        seconds=time.monotonic() - began,
        timing=vars(migration.timing),
        drift=lease.state["verified"],
        removed=lease.state["removed"],
    )


def _check_fits(client: OpenSearch, source: str, target: str, meta: IndexMeta, state: Mapping[str, Any]) -> None:
    found = read_meta(client, source)
    if not meta.same_encoder(found) and "vector" in read_mapping(client, source).get("properties", {}):
        raise UserError(
            f"index {source!r} holds vectors by {found.encoder!r}, but the bundle's are by {meta.encoder!r}: a refresh "
            "copies vectors; `genrecall index load --switch` builds the index from the catalogue"
        )
    begun = unfinished(state) and state.get("target") == target
    if client.indices.exists(index=target) and not begun and source != target:
        raise UserError(
            f"index {target!r} is there already: go back to it by `genrecall index rollback`, or publish the bundle "
            "under another codebook name; if it is not needed, delete it"
        )


def _check_same(client: OpenSearch, lease: JobLease, kind: str, target: str, meta: IndexMeta) -> None:
    """UserError where the unfinished migration is another one."""
    state = lease.state
    if (state["kind"], state["target"], state["assignments"]) != (kind, target, meta.assignments):
        refuse_unfinished(state)
    indices.check_uuids(client, state)
