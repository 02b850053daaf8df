"""From one codebook to the next without losing a query or a write: what `genrecall index refresh` and `rollback` run.

Owns when a move may begin, what is taken up and what is refused. How it goes is in `move`, how one job keeps out the
next in `job`, and what must hold before the switch in `verify`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch

from genrecall.client import Client
from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from index_mappings import lifecycle, search
from index_mappings.compose.composer import Composer
from index_mappings.lifecycle import Meta
from index_mappings.migration import changes, verify
from index_mappings.migration.alias_migration import Move
from index_mappings.migration.lease import Job, unfinished
from index_mappings.sids import Sids

TIMEOUT = "30s"  # of a sample query: a slow moment must not look like a bad index
PLUGIN = "genrecall"


@dataclass(frozen=True)
class Report:
    """What a move did. `resumed`: an earlier run had begun it; `sent`: documents written by this run."""

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
class Tools:
    """What both moves need beside the cluster.

    Attributes:
        queries: asked of both indices before the switch.
        folder: where the file of refused documents goes.
    """

    sids: Sids
    ask: verify.Ask | None
    queries: Sequence[str]
    folder: Path
    tell: Callable[[str], None] = lambda line: None
    advance: Callable[[int, int], None] = lambda done, documents: None


def refresh(client: OpenSearch, section: OpenSearchSection, meta: Meta, tools: Tools) -> Report | None:
    """Build the index of `meta.codebook` from the one that serves, and move the alias there; None if it serves already.

    Raises UserError while another job runs or another move is unfinished, where the new index must not serve, and for
    whatever stopped it on the way. Then the alias is where it was, and the same call goes on.
    """
    lifecycle.check_plugins(client, section)
    with Job.take(client, section.index, section.refresh.lease_s, tools.tell) as job:
        target = lifecycle.index_name(section, meta.codebook)
        resumed = unfinished(job.state)
        if resumed:
            _check_same(client, job, "refresh", target, meta)
        elif not _begin(client, section, job, target, meta):
            return None
        if job.state["step"] == "create":
            _create(client, job, meta)
        return _run(client, section, job, tools, resumed)


def rollback(client: OpenSearch, section: OpenSearchSection, tools: Tools) -> Report:
    """Move the alias back to the index before, with what was written since, in the SIDs of that one's codebook.

    `tools.sids` are of the codebook that `previous` names. Raises as `refresh`.
    """
    with Job.take(client, section.index, section.refresh.lease_s, tools.tell) as job:
        resumed = unfinished(job.state)
        if resumed and job.state["kind"] != "rollback":
            raise UserError(_unfinished(job))
        if not resumed:
            before = job.state
            back = previous(client, section, before)
            job.note(
                kind="rollback",
                source=before["target"],
                target=before["source"],
                uuids={
                    before["source"]: _uuid(client, before["source"]),
                    before["target"]: before["uuids"][before["target"]],
                },
                codebook=back.codebook,
                assignments=back.assignments,
                position=before["since"],
                copied=0,
                rejected=[],
                step="copy",
            )
        else:
            _check_there(client, job)
        return _run(client, section, job, tools, resumed)


def previous(client: OpenSearch, section: OpenSearchSection, state: Mapping[str, Any]) -> Meta:
    """Of the index that a rollback goes to: the target of one that is unfinished, else the source of the last move.

    Raises UserError where no move is on record, or its indices are no longer those.
    """
    if unfinished(state) and state["kind"] == "rollback":
        return lifecycle.read_meta(client, state["target"])
    aliased = lifecycle.aliased(client, section)
    if state.get("step") != "done" or aliased != [state["target"]]:
        if unfinished(state):
            raise UserError(
                f"{state['kind']} to {state['target']!r} is unfinished: run it again, or give it up by --abandon"
            )
        raise UserError(
            f"no refresh led to {', '.join(aliased) or 'the alias'}: there is nothing to roll back to. "
            f"`genrecall index load --bundle NAME --switch` moves the alias to the index of any bundle"
        )
    if not client.indices.exists(index=state["source"]):
        raise UserError(f"the index before, {state['source']!r}, was deleted: `genrecall index refresh` builds it anew")
    return lifecycle.read_meta(client, state["source"])


def state_of(client: OpenSearch, section: OpenSearchSection) -> dict[str, Any]:
    """What the last job of this alias noted; empty where there was none. Takes nothing."""
    return Job.peek(client, section.index)


def abandon(client: OpenSearch, section: OpenSearchSection, tell: Callable[[str], None]) -> str:
    """Give an unfinished move up: the serving index takes writes again, a half-built one is deleted. What was done."""
    with Job.take(client, section.index, section.refresh.lease_s, tell) as job:
        state = job.state
        if not unfinished(state):
            return f"no move of {section.index!r} is unfinished"
        source, target = str(state["source"]), str(state["target"])
        if lifecycle.aliased(client, section) == [target]:
            raise UserError(
                f"{section.index} points to {target} already: run the same command again to finish, or roll back"
            )
        if client.indices.exists(index=source):
            lifecycle.block_writes(client, source, False)
            lifecycle.announce(client, source, None)
        if state["kind"] == "refresh":
            lifecycle.drop(client, target)
        job.forget()
        return f"gave up the {state['kind']} to {target}; {section.index} points to {source} as before"


def plan(client: OpenSearch, section: OpenSearchSection, meta: Meta, terms: Mapping[str, str]) -> dict[str, Any]:
    """What a refresh would do, without doing it: reads the ids and SIDs of the index that serves.

    Raises UserError for what would stop it at its beginning.
    """
    source = lifecycle.serving(client, section)
    target = lifecycle.index_name(section, meta.codebook)
    state = state_of(client, section)
    _check_fits(client, source, target, meta, state)
    documents = known = same = 0
    stream = changes.pages(
        client, source, changes.start(client, source), changes.now(client, source), changes.IDS_A_PAGE, ["sid"]
    )
    for _, page in stream:
        for document in page:
            documents += 1
            if term := terms.get(document.id):
                known += 1
                same += verify.path_of((document.source or {}).get("sid")) == verify.path_of(term)
    begun = unfinished(state)
    return {
        "source": source,
        "target": target,
        "step": state["step"] if begun else "create",
        "copied": state.get("copied", 0) if begun else 0,
        "documents": documents,
        "not_in_bundle": documents - known,
        "not_in_index": len(terms) - known,
        "same_path": same,
        "placed_by": section.refresh.endpoint,
    }


def asking(client: OpenSearch, section: OpenSearchSection, server: Client | None) -> verify.Ask | None:
    """Asks the generative clause of the plugin, or composes it where the cluster has none; None without either."""
    rows = client.cat.plugins(format="json", h="component")
    size = section.refresh.sample_hits
    with_plugin = any(row["component"] == PLUGIN for row in rows)
    if not with_plugin and server is None:
        return None

    def ask(index: str, queries: Sequence[str]) -> list[search.Hits]:
        bodies = [search.body(search.generative(text, timeout=TIMEOUT), size) for text in queries]
        if not with_plugin and server is not None:
            composer = Composer(client, server)
            bodies = [composer.compose(body, index=index) for body in bodies]
        return search.search_all(client, index, bodies)

    return ask


def _begin(client: OpenSearch, section: OpenSearchSection, job: Job, target: str, meta: Meta) -> bool:
    """Note a new move, before anything of it is there; False where the alias is at its end already."""
    source = lifecycle.serving(client, section)
    if source == target:
        lifecycle.check(client, target, meta, lifecycle.dimension_of(client, target))
        return False
    _check_fits(client, source, target, meta, job.state)
    position = changes.start(client, source)
    job.note(
        kind="refresh",
        source=source,
        target=target,
        uuids={source: _uuid(client, source)},
        codebook=meta.codebook,
        assignments=meta.assignments,
        position=position,
        copied=0,
        rejected=[],
        step="create",
    )
    return True


def _create(client: OpenSearch, job: Job, meta: Meta) -> None:
    """Killed in here, the target may be there already, and empty."""
    source, target = job.state["source"], job.state["target"]
    lifecycle.drop(client, target)
    lifecycle.twin(client, source, target, meta)
    job.note(uuids={**job.state["uuids"], target: _uuid(client, target)}, step="copy")


def _run(client: OpenSearch, section: OpenSearchSection, job: Job, tools: Tools, resumed: bool) -> Report:
    began = time.monotonic()
    codebook = str(job.state["codebook"])

    def check(source: str, target: str) -> Mapping[str, Any]:
        made = job.state["kind"] == "refresh"
        return verify.check(client, section, source, target, codebook, tools.sids, tools.queries, tools.ask, made)

    rejects = tools.folder / f"{job.state['target']}.rejects.jsonl"
    move = Move(client, section, job, tools.sids, rejects, check, tools.tell, tools.advance)
    move.run()
    return Report(
        kind=job.state["kind"],
        source=job.state["source"],
        target=job.state["target"],
        resumed=resumed,
        sent=move.sent,
        seconds=time.monotonic() - began,
        timing=vars(move.timing),
        drift=job.state["verified"],
        removed=job.state["removed"],
    )


def _check_fits(client: OpenSearch, source: str, target: str, meta: Meta, state: Mapping[str, Any]) -> None:
    found = lifecycle.read_meta(client, source)
    if found.encoder != meta.encoder:
        raise UserError(
            f"index {source!r} holds vectors by {found.encoder!r}, but the bundle's are by {meta.encoder!r}: vectors "
            "are not made anew by a refresh; `genrecall index load --switch` builds the index from the catalogue"
        )
    begun = unfinished(state) and state.get("target") == target
    if client.indices.exists(index=target) and not begun and source != target:
        raise UserError(
            f"index {target!r} is there already: go back to it by `genrecall index rollback`, or publish the bundle "
            "under another codebook name; if it is not needed, delete it"
        )


def _check_same(client: OpenSearch, job: Job, kind: str, target: str, meta: Meta) -> None:
    """UserError where the move that is unfinished is another one."""
    state = job.state
    if (state["kind"], state["target"], state["assignments"]) != (kind, target, meta.assignments):
        raise UserError(_unfinished(job))
    _check_there(client, job)


def _check_there(client: OpenSearch, job: Job) -> None:
    """UserError where an index of the move was deleted or made anew meanwhile."""
    for index, uuid in job.state["uuids"].items():
        if not client.indices.exists(index=index) or _uuid(client, index) != uuid:
            raise UserError(
                f"index {index!r} was deleted or made anew since the {job.state['kind']} began: give it up by "
                "`genrecall index refresh --abandon` and begin again"
            )


def _unfinished(job: Job) -> str:
    return (
        f"the {job.state['kind']} to {job.state['target']!r} is unfinished (step {job.state['step']}): finish it by "
        "the command that began it, or give it up by `genrecall index refresh --abandon`"
    )


def _uuid(client: OpenSearch, index: str) -> str:
    return str(lifecycle.settings_of(client, index)["uuid"])
