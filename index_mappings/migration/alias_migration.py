"""Moves an alias from one index to another that comes to hold the same documents with SIDs of another codebook.

A refresh and a rollback are both such a migration; they differ in where reading begins. Its steps, noted in the lease:

    copy      read the source in the order of its writes and send each document with its new SID, until few are left
    verify    SIDs, counts and answers of the target, while the source still serves and takes writes
    switch    ids are compared; clauses ask in both codebooks; writes are blocked; the last ones are copied; the alias
              moves atomically
    finish    clauses ask in one codebook again; earlier indices beyond those to keep are deleted

Killed at any of them, the same call resumes from the last note. Writers are refused (403, `cluster_block_exception`)
from the block to the move, some tenths of a second, so that no write is lost. A document's `_version` starts from 1 in
the target.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from genrecall.opensearch import reason_of
from index_mappings import bulk, fence
from index_mappings.alias import aliased, point_alias
from index_mappings.bulk import Document, Reject
from index_mappings.index_settings import LOADING, put_settings, settings_of
from index_mappings.lease import JobLease, with_predecessor
from index_mappings.migration import changes, indices, verify
from index_mappings.migration.context import IndexPair, MigrationContext
from index_mappings.migration.snapshot import Snapshot, absent

MAX_REJECTED = 1000  # documents set aside before a migration gives up
READINGS = 10  # after so many, of what was written meanwhile, the operator is told
REPAIR_INTERVAL_S = 0.5  # between two searches for documents with SIDs of the old codebook
FORBIDDEN = 403


@dataclass
class Timing:
    """Where the time of this run went, in seconds."""

    read: float = 0.0
    place: float = 0.0
    send: float = 0.0
    blocked: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            if name in vars(self):
                setattr(self, name, getattr(self, name) + time.monotonic() - began)
            else:
                self.steps[name] = self.steps.get(name, 0.0) + time.monotonic() - began


class AliasMigration:
    """One migration, described by `lease.state`: source, target, codebook, position."""

    def __init__(
        self, client: OpenSearch, section: OpenSearchSection, lease: JobLease, context: MigrationContext
    ) -> None:
        self._client, self._section, self._settings = client, section, section.refresh
        self._lease, self._context = lease, context
        self._source, self._target = str(lease.state["source"]), str(lease.state["target"])
        self._rejects = context.folder / f"{self._target}.rejects.jsonl"
        self._since_compared: list[str] = []  # ids that were written to the source since `_compare`
        self._target_compared: changes.Position = {}  # where the target was then,
        self._written = 0  # and what was written to it by this migration since
        self._deleted = 0
        self._page_size = self._documents = 0
        self.timing = Timing()
        self.sent = 0

    def run(self) -> None:
        """Raises UserError where the target must not serve; the alias is then unchanged and writes go on."""
        if self._lease.state["step"] == "switch" and not self._switched():
            self._back_out()  # an earlier run ended in it: servers and documents may have changed since
            self._lease.note(step="verify")
        steps = {"copy": self._copy, "verify": self._verify, "switch": self._switch, "finish": self._finish}
        if self._lease.state["step"] != "finish" and not self._switched():
            indices.check_uuids(self._client, self._lease.state)
            fence.open_for(self._client, self._target, self._lease.token)
        with ThreadPoolExecutor(self._settings.slices) as self._pool:
            for name, step in steps.items():
                if self._lease.state["step"] == name:
                    with self.timing.of(name):
                        step()

    def _switched(self) -> bool:
        return aliased(self._client, self._section.index) == [self._target]

    # --- copy

    def _copy(self) -> None:
        client, source, target = self._client, self._source, self._target
        indices.block_writes(client, target, False)  # from an earlier migration, in which it was the source
        if (
            self._lease.state["kind"] == "refresh"
        ):  # an index that served has all but the last writes: it keeps its replicas
            put_settings(client, target, LOADING)
        for reading in itertools.count(1):
            until = changes.now(client, source)
            self._catch_up(until)
            left = changes.pending(client, source, until)
            if left <= self._settings.catch_up_threshold:
                break
            if reading % READINGS == 0:
                self._context.progress.message(
                    f"{left:,} writes came in the meantime, reading {reading}: writers are as fast as the copy. Raise "
                    "opensearch.refresh.docs_per_s or catch_up_threshold, or slow them down"
                )
        settings = settings_of(client, source)
        own = {name: settings.get(name) for name in ("refresh_interval", "number_of_replicas")}
        put_settings(client, target, own)
        client.indices.refresh(index=target)
        timeout_s, message = self._settings.replica_timeout_s, self._context.progress.message
        indices.await_health(client, source, target, timeout_s, message)
        self._lease.note(step="verify")

    def _catch_up(self, until: changes.Position) -> None:
        """Send what was written to the source up to `until`, and once more what the target rejected before."""
        indices.check_uuids(self._client, self._lease.state)
        indices.copy_new_fields(self._client, self._source, self._target)
        rejected = list(self._lease.state.get("rejected", []))
        if rejected:
            self._rejects.unlink(missing_ok=True)
            self._lease.note(rejected=self._send(self._of_source(rejected), before=0))
        position = changes.from_json(self._lease.state["position"])
        section = self._section.bulk
        if self._page_size < 2:  # once there are documents to tell it by: writers may be waiting for the last of these
            slices = self._settings.slices
            megabytes = section.megabytes * slices
            self._page_size = changes.page_size(self._client, self._source, section.docs * slices, megabytes)
            self._documents = changes.count(self._client, self._source)
        stream = changes.pages(self._client, self._source, position, until, self._page_size)
        began, sent = time.monotonic(), 0
        while True:
            with self.timing.of("read"):
                shard, page = next(stream, (0, []))
            if not page:
                break
            before = len(self._lease.state.get("rejected", []))
            rejected = self._send([(document.id, document.source or {}) for document in page], before)
            self._since_compared += [document.id for document in page]
            position[shard] = page[-1].seq_no
            self._lease.note(
                position=dict(position),
                copied=self._lease.state.get("copied", 0) + len(page),
                rejected=[*self._lease.state.get("rejected", []), *rejected],
            )
            self._context.progress.advance(self._lease.state["copied"], self._documents)
            sent += len(page)
            if self._settings.docs_per_s:
                time.sleep(max(0.0, sent / self._settings.docs_per_s - (time.monotonic() - began)))
        self._lease.note(position=until)

    def _send(self, documents: Sequence[tuple[str, Mapping[str, Any]]], before: int) -> list[str]:
        """Write documents of the source to the target with their SIDs there; ids of those that it rejected.

        before: how many others are set aside already.
        """
        with self.timing.of("place"):
            terms = self._context.sids.of(documents)
            made = [with_sid(id, source, term) for (id, source), term in zip(documents, terms, strict=True)]
        with self.timing.of("send"):
            rejects = self._bulk(made)
        self.sent += len(documents)
        bulk.append_rejects(self._rejects, rejects)
        if before + len(rejects) > MAX_REJECTED:
            raise UserError(f"more than {MAX_REJECTED} documents were refused by {self._target!r}; {self._remedy()}")
        return [reject.item_id for reject in rejects]

    def _bulk(self, documents: Sequence[Document]) -> list[Reject]:
        section = self._section.bulk
        batches = bulk.batches(documents, section.docs, section.megabytes * 1e6)
        token = self._lease.token
        self._written += len(documents)
        results = self._pool.map(
            lambda batch: bulk.send(self._client, self._target, batch, section, token=token), list(batches)
        )
        rejects = [reject for some in results for reject in some]
        for reject in rejects:
            if reject.status == FORBIDDEN:
                raise UserError(
                    f"index {self._target!r} takes no writes: {reject.reason}. Nothing is lost: fix that and run the "
                    "same command again"
                )
        return rejects

    def _remedy(self) -> str:
        return (
            f"reasons are in {self._rejects}. The alias was not moved; fix the documents in {self._source!r} or the "
            f"mapping of {self._target!r} and run the same command again, which sends them once more"
        )

    # --- verify

    def _verify(self) -> None:
        self._check_fields()
        self._none_rejected()
        state = self._lease.state
        pair = IndexPair(self._source, self._target, str(state["codebook"]), new=state["kind"] == "refresh")
        drift = verify.check(self._client, self._settings, pair, self._context)
        self._lease.note(verified=drift, step="switch")

    def _check_fields(self) -> None:
        """That no field was lost on the way: the target has as many documents with it as the source had before."""
        client = self._client
        client.indices.refresh(index=self._source)
        wanted, sent = verify.documents_with_fields(client, self._source), self.sent
        self._catch_up(changes.now(client, self._source))
        client.indices.refresh(index=self._target)
        found = verify.documents_with_fields(client, self._target)
        verify.check_fields(wanted, found, self.sent - sent, IndexPair(self._source, self._target, "", new=False))

    def _none_rejected(self) -> None:
        if rejected := self._lease.state.get("rejected"):
            raise UserError(f"{len(rejected)} documents were refused by {self._target!r}; {self._remedy()}")

    # --- switch

    def _switch(self) -> None:
        client, source = self._client, self._source
        if not self._switched():
            try:
                snapshots = self._compare()
                indices.announce(client, source, self._lease.state["codebook"])
                time.sleep(self._settings.drain_timeout_s)
                self._catch_up(changes.now(client, source))
                with self.timing.of("blocked"):
                    indices.block_writes(client, source, True)
                    self._catch_up(changes.now(client, source, blocked=True))
                    self._none_rejected()
                    self._lease.note(since=self._settle(*snapshots))
                    indices.check_uuids(client, self._lease.state)
                    self._point()
            except BaseException:
                self._back_out()
                raise
        history = with_predecessor(self._lease.state, source, self._lease.state["uuids"][source])
        self._lease.note(step="finish", history=history)

    def _compare(self) -> tuple[Snapshot, Snapshot]:
        """Make the target hold the ids of the source; both as they were then. Writers go on, but for `_settle`."""
        client, source, target = self._client, self._source, self._target
        until = changes.now(client, source)
        self._catch_up(until)
        self._since_compared = []
        before = Snapshot.take(client, source, until)
        _ = before.hashes  # now, rather than when writers wait
        self._target_compared, self._written = changes.now(client, target), 0
        after = Snapshot.take(client, target, self._target_compared)
        gone = absent(client, source, after.without(before))  # those written again meanwhile are still there
        self._delete(gone)
        self._restore(before.without(after))
        return before, after.leaving_out(gone)

    def _settle(self, before: Snapshot, after: Snapshot) -> changes.Position:
        """The same for what happened since, quickly: the source takes no writes now. Returns where the target is.

        Whether documents were deleted in the source, or written in the target by others, is counted; documents are
        looked for only if so.
        """
        client, source, target = self._client, self._source, self._target
        known, theirs = set(self._since_compared), changes.count(client, source)
        gone = absent(client, source, known)
        if before.deletions(known, len(known - gone), theirs):
            gone |= absent(client, source, before.leaving_out(known).changed(client))
        lost, at = absent(client, target, known), changes.now(client, target)
        if sum(at.values()) - sum(self._target_compared.values()) != self._written:
            lost |= absent(client, target, after.leaving_out(known).changed(client))
        lost -= gone
        self._delete(gone)
        self._restore(sorted(lost))
        if gone or lost:
            at = changes.now(client, target)
        ours = changes.count(client, target)
        if ours != theirs:  # by name, others added documents there
            self._compare()
            at = changes.now(client, target)
            ours = changes.count(client, target)
        if ours != theirs:
            raise UserError(
                f"{target!r} holds {ours} documents and {source!r} {theirs}, though writes are blocked: does another "
                "program write to it? The alias was not moved; run this again"
            )
        return at

    def _delete(self, ids: Collection[str]) -> None:
        """Delete in the target what the source no longer has. UserError for too many: the source may have been emptied
        by mistake.
        """
        if not ids:
            return
        documents = changes.count(self._client, self._target)
        self._deleted += len(ids)
        if self._deleted > self._settings.max_delete_share * documents:
            raise UserError(
                f"{self._deleted:,} of {documents:,} documents vanished from {self._source!r} since they were copied, "
                f"more than opensearch.refresh.max_delete_share = {self._settings.max_delete_share:.1%}: was that "
                f"meant? Nothing was deleted in {self._target!r} and the alias was not moved; raise the limit and run "
                "the same command again if so many are gone"
            )
        self._bulk([Document(id, "", "delete") for id in sorted(ids)])

    def _restore(self, ids: Sequence[str]) -> None:
        """Send documents again that others deleted in the target."""
        for some in changes.parts(ids, self._section.bulk.docs):
            self._send(self._of_source(some), before=0)

    def _of_source(self, ids: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
        """The documents of these ids that are still there."""
        found = changes.by_id(self._client, self._source, ids)  # a shard that is away may hold them, and is an error
        return [(doc["_id"], doc["_source"]) for doc in found if doc["found"]]

    def _point(self) -> None:
        try:
            point_alias(self._client, self._section.index, self._target)
        except TransportError:  # the response may have been lost, and the repeated request then finds nothing to move
            if not self._switched():
                raise

    def _back_out(self) -> None:
        """Let writers and clauses go on with the source, unless the alias has moved."""
        try:
            if not self._switched():
                indices.block_writes(self._client, self._source, False)
                indices.announce(self._client, self._source, None)
        except TransportError as error:
            self._context.progress.message(
                f"the cluster did not let {self._source!r} take writes again ({reason_of(error.info) or error.error}): "
                "it may still refuse them. Run the same command again to go on, or with --abandon to go back"
            )

    # --- finish

    def _finish(self) -> None:
        ends = time.monotonic() + self._settings.drain_timeout_s
        while (left := ends - time.monotonic()) > 0:
            self._repair()
            time.sleep(min(left, REPAIR_INTERVAL_S))
        indices.announce(self._client, self._source, None)
        self._repair()
        removed = indices.removable(self._client, self._lease.state, self._target, self._source, self._settings.keep)
        for index in removed:
            self._context.progress.message(
                f"deletes {index}, which served before; opensearch.refresh.keep = {self._settings.keep}"
            )
            indices.delete_index(self._client, index)
        self._lease.note(removed=removed, step="done")

    def _repair(self) -> None:
        """Reassign documents to which a pipeline gave a SID of the source's codebook just before the alias moved."""
        client, target = self._client, self._target
        client.indices.refresh(index=target)
        ours = {"prefix": {"sid": f"{self._lease.state['codebook']}/"}}
        body = {
            "query": {"bool": {"filter": [{"exists": {"field": "sid"}}], "must_not": [ours]}},
            "seq_no_primary_term": True,
            "size": changes.IDS_A_PAGE,
        }
        params = {"allow_partial_search_results": "false", "preference": "_primary"}
        hits = client.search(index=target, body=body, params=params)["hits"]["hits"]
        terms = self._context.sids.of([(hit["_id"], hit["_source"]) for hit in hits])
        made = [
            Document(hit["_id"], bulk.to_json({"sid": term}), "update", (hit["_seq_no"], hit["_primary_term"]))
            for hit, term in zip(hits, terms, strict=True)
        ]
        bulk.send(client, target, made, self._section.bulk)  # written in between is a conflict (409), and has its SID


def with_sid(id: str, source: Mapping[str, Any], term: str | None) -> Document:
    """The document with this SID in the place of the one it had."""
    rest = {name: value for name, value in source.items() if name != "sid"}
    made = rest if term is None else {**rest, "sid": term}
    return Document(id, bulk.to_json(made))
