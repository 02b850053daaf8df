"""Moves an alias from one index to another that comes to hold the same documents with SIDs of another codebook.

A refresh and a rollback are both such a move; they differ in where the reading begins. Its steps, noted in the job:

    copy      read the source in the order of its writes and send each document with its new SID, until few are behind
    verify    SIDs, counts and answers of the target, while the source still serves and takes writes
    switch    clauses ask in both codebooks; writes are stopped; the last ones are read; the alias moves in one step
    finish    clauses ask in one codebook again; indices beyond those to keep are deleted

Killed at any of them, the same call goes on from the last note. Writers are refused (403, `cluster_block_exception`)
from the stop to the move, some tenths of a second: it is what makes "nothing is lost" exact. A document's `_version`
begins anew in the target.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from index_mappings import bulk, lifecycle
from index_mappings.bulk import Document, Reject
from index_mappings.client import reason_of
from index_mappings.migration import changes
from index_mappings.migration.lease import Job
from index_mappings.sids import Sids

MAX_REJECTED = 1000  # documents set aside before a move gives up
MEND_S = 0.5  # between two looks for documents that a pipeline placed in the old codebook
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


class Move:
    """One move, described by `job.state`: source, target, codebook, position (see `begin`).

    Args:
        rejects: file for documents that the target refused, with their reasons.
        verify: called before the switch; raises UserError where the target must not serve.
        advance: called with (documents sent, documents of the source).
    """

    def __init__(
        self,
        client: OpenSearch,
        section: OpenSearchSection,
        job: Job,
        sids: Sids,
        rejects: Path,
        verify: Callable[[str, str], Mapping[str, Any]],
        tell: Callable[[str], None] = lambda line: None,
        advance: Callable[[int, int], None] = lambda done, documents: None,
    ) -> None:
        self._client, self._section, self._settings = client, section, section.refresh
        self._job, self._sids, self._rejects = job, sids, rejects
        self._check, self._tell, self._advance = verify, tell, advance
        self._source, self._target = str(job.state["source"]), str(job.state["target"])
        self.timing = Timing()
        self.sent = 0

    def run(self) -> None:
        """Raises UserError where the target must not serve; the alias is then untouched and writes go on."""
        if self._job.state["step"] == "switch" and lifecycle.aliased(self._client, self._section) != [self._target]:
            self._back_out()  # an earlier run ended in it: servers and documents may have changed since
            self._job.note(step="verify")
        steps = {"copy": self._copy, "verify": self._verify, "switch": self._switch, "finish": self._finish}
        for name, step in steps.items():
            if self._job.state["step"] == name:
                with self.timing.of(name):
                    step()

    # --- copy

    def _copy(self) -> None:
        client, source, target = self._client, self._source, self._target
        lifecycle.block_writes(client, target, False)  # of an earlier move, in which it was the source
        lifecycle.put_settings(client, target, {"refresh_interval": "-1", "number_of_replicas": 0})
        while True:
            until = changes.now(client, source)
            self._catch_up(until)
            if changes.pending(client, source, until) <= self._settings.settled:
                break
        settings = lifecycle.settings_of(client, source)
        lifecycle.put_settings(
            client,
            target,
            {
                "refresh_interval": settings.get("refresh_interval"),
                "number_of_replicas": settings["number_of_replicas"],
            },
        )
        client.indices.refresh(index=target)
        lifecycle.await_health(client, source, target, self._settings.replicas_s, self._tell)
        self._job.note(step="verify")

    def _catch_up(self, until: changes.Position) -> None:
        """Send what was written to the source up to `until`, and once more what the target refused before."""
        lifecycle.follow_fields(self._client, self._source, self._target)
        rejected = list(self._job.state.get("rejected", []))
        if rejected:
            self._rejects.unlink(missing_ok=True)
            self._job.note(rejected=self._send(self._of_source(rejected)))
        position = changes.from_json(self._job.state["position"])
        page_size = min(self._settings.docs * self._settings.slices, changes.IDS_A_PAGE)
        stream = changes.pages(self._client, self._source, position, until, page_size)
        total = self._client.count(index=self._source)["count"]
        began, sent = time.monotonic(), 0
        while True:
            with self.timing.of("read"):
                shard, page = next(stream, (0, []))
            if not page:
                break
            refused = self._send([(document.id, document.source or {}) for document in page])
            position[shard] = page[-1].seq_no
            self._job.note(
                position=dict(position),
                copied=self._job.state.get("copied", 0) + len(page),
                rejected=[*self._job.state.get("rejected", []), *refused],
            )
            self._advance(self._job.state["copied"], total)
            sent += len(page)
            if self._settings.docs_per_s:
                time.sleep(max(0.0, sent / self._settings.docs_per_s - (time.monotonic() - began)))
        self._job.note(position=until)

    def _send(self, documents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Write documents of the source to the target with their SIDs there; ids of those that it refused."""
        with self.timing.of("place"):
            terms = self._sids.of(documents)
            made = [with_sid(id, source, term) for (id, source), term in zip(documents, terms, strict=True)]
        with self.timing.of("send"):
            rejects = self._bulk(made)
        self.sent += len(documents)
        bulk.append_rejects(self._rejects, rejects)
        if len(self._job.state.get("rejected", [])) + len(rejects) > MAX_REJECTED:
            raise UserError(f"more than {MAX_REJECTED} documents were refused by {self._target!r}; {self._remedy()}")
        return [reject.item_id for reject in rejects]

    def _bulk(self, documents: Sequence[Document]) -> list[Reject]:
        section = self._section.bulk
        parts = list(bulk.batches(documents, self._settings.docs, section.megabytes * 1e6))
        with ThreadPoolExecutor(self._settings.slices) as pool:
            answers = pool.map(lambda part: bulk.send(self._client, self._target, part, section), parts)
            rejects = [reject for some in answers for reject in some]
        for reject in rejects:
            if reject.status == FORBIDDEN:
                raise UserError(
                    f"index {self._target!r} takes no writes: {reject.reason}. Nothing is lost: mend that and run the "
                    "same command again"
                )
        return rejects

    def _remedy(self) -> str:
        return (
            f"reasons are in {self._rejects}. The alias was not moved; mend the documents in {self._source!r} or the "
            f"mapping of {self._target!r} and run the same command again, which sends them once more"
        )

    # --- verify

    def _verify(self) -> None:
        self._catch_up(changes.now(self._client, self._source))
        self._client.indices.refresh(index=self._target)
        self._none_rejected()
        self._job.note(verified=dict(self._check(self._source, self._target)), step="switch")

    def _none_rejected(self) -> None:
        if rejected := self._job.state.get("rejected"):
            raise UserError(f"{len(rejected)} documents were refused by {self._target!r}; {self._remedy()}")

    # --- switch

    def _switch(self) -> None:
        client, source, target = self._client, self._source, self._target
        if lifecycle.aliased(client, self._section) != [target]:
            try:
                lifecycle.announce(client, source, self._job.state["codebook"])
                time.sleep(self._settings.drain_s)
                self._catch_up(changes.now(client, source))
                with self.timing.of("blocked"):
                    lifecycle.block_writes(client, source, True)
                    self._catch_up(changes.now(client, source))
                    self._none_rejected()
                    self._reconcile()
                    self._job.note(since=changes.now(client, target))
                    self._point()
            except BaseException:
                self._back_out()
                raise
        self._job.note(step="finish")

    def _reconcile(self) -> None:
        """Make the target hold exactly the documents of the source, which takes no writes now."""
        client, source, target = self._client, self._source, self._target
        client.indices.refresh(index=target)
        if changes.count(client, source) == changes.count(client, target):
            return  # all of the source is in the target: nothing was deleted
        wanted = set(changes.ids(client, source))
        have = set(changes.ids(client, target))
        self._bulk([Document(id, "", "delete") for id in sorted(have - wanted)])
        missing = sorted(wanted - have)  # somebody deleted in the target
        for first in range(0, len(missing), self._settings.docs):
            self._send(self._of_source(missing[first : first + self._settings.docs]))
        client.indices.refresh(index=target)
        ours, theirs = changes.count(client, target), changes.count(client, source)
        if ours != theirs:
            raise UserError(
                f"{target!r} holds {ours} documents and {source!r} {theirs}, though writes stand still: does another "
                "program write to it? The alias was not moved; run this again"
            )

    def _of_source(self, ids: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
        """The documents of these ids that are still there."""
        found = self._client.mget(index=self._source, body={"ids": list(ids)})["docs"]
        if failed := [doc["error"] for doc in found if "error" in doc]:  # a shard that is away; it may hold them
            raise UserError(
                f"{len(failed)} documents of {self._source!r} cannot be read: {reason_of(failed[0])}. Nothing is lost: "
                "run the same command again"
            )
        return [(doc["_id"], doc["_source"]) for doc in found if doc.get("found")]

    def _point(self) -> None:
        try:
            lifecycle.point_alias(self._client, self._section, self._target)
        except TransportError:  # the answer may have been lost, and the repetition then finds nothing to move
            if lifecycle.aliased(self._client, self._section) != [self._target]:
                raise

    def _back_out(self) -> None:
        """Let writers and clauses go on with the source, unless the alias has moved."""
        try:
            if lifecycle.aliased(self._client, self._section) != [self._target]:
                lifecycle.block_writes(self._client, self._source, False)
                lifecycle.announce(self._client, self._source, None)
        except TransportError as error:
            self._tell(
                f"the cluster did not let {self._source!r} take writes again ({reason_of(error.info) or error.error}): "
                "it may still refuse them. Run the same command again to go on, or with --abandon to go back"
            )

    # --- finish

    def _finish(self) -> None:
        ends = time.monotonic() + self._settings.drain_s
        while (left := ends - time.monotonic()) > 0:
            self._mend()
            time.sleep(min(left, MEND_S))
        lifecycle.announce(self._client, self._source, None)
        self._mend()
        self._job.note(removed=lifecycle.retire(self._client, self._section, self._source), step="done")

    def _mend(self) -> None:
        """Place documents anew that a pipeline gave a SID of the source's codebook just before the alias moved."""
        client, target = self._client, self._target
        client.indices.refresh(index=target)
        ours = {"prefix": {"sid": f"{self._job.state['codebook']}/"}}
        body = {
            "query": {"bool": {"filter": [{"exists": {"field": "sid"}}], "must_not": [ours]}},
            "seq_no_primary_term": True,
            "size": changes.IDS_A_PAGE,
        }
        params = {"allow_partial_search_results": "false"}
        hits = client.search(index=target, body=body, params=params)["hits"]["hits"]
        terms = self._sids.of([(hit["_id"], hit["_source"]) for hit in hits])
        made = [
            Document(hit["_id"], bulk.to_json({"sid": term}), "update", (hit["_seq_no"], hit["_primary_term"]))
            for hit, term in zip(hits, terms, strict=True)
        ]
        self._bulk(made)  # what was written in between is refused (409), and has its SID


def with_sid(id: str, source: Mapping[str, Any], term: str | None) -> Document:
    """The document with this SID in the place of the one it had."""
    rest = {name: value for name, value in source.items() if name != "sid"}
    made = rest if term is None else {**rest, "sid": term}
    return Document(id, bulk.to_json(made))
