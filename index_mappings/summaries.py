"""What a job did, as text for people: the lines that `genrecall index` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from index_mappings.attach import AttachReport
from index_mappings.load import LoadReport
from index_mappings.migration.refresh import MigrationReport, RefreshPlan
from index_mappings.status import IndexStatus
from index_mappings.sync import SyncReport


def load_summary(report: LoadReport, folder: Path) -> str:
    """folder: of the reject file."""
    sent = report.rows - report.resumed_at
    return _lines(
        f"{report.index}: {report.documents:,} documents; {sent:,} sent in {report.seconds:.1f} s; {report.alias}",
        (report.resumed_at, "rows were done by an earlier load"),
        (report.rejected, f"were rejected, see {folder / f'{report.index}.rejects.jsonl'}"),
        (report.without_sid, "items are not in the bundle: without SID, the generative clause never finds them"),
        (report.not_in_catalogue, "items of the bundle are not in the catalogue"),
    )


def status_summary(found: Sequence[IndexStatus], alias: str) -> str:
    return "\n".join(
        f"{f'{alias} -> ' if one.aliased else ''}{one.index}: {one.documents:,} documents, {one.with_sid:,} with a SID "
        f"of {one.codebook}, vectors of {one.dimension} by {one.encoder}, {one.megabytes:.1f} MB, {one.health}"
        f"{'' if one.writable else ', takes no writes'}{f'; {one.job}' if one.job else ''}"
        for one in found
    )


def plan_summary(plan: RefreshPlan) -> str:
    unknown = f"the server at {plan.endpoint} would assign their SIDs" if plan.endpoint else "they would get no SID"
    return _lines(
        f"would build {plan.target} from {plan.source} and move the alias there",
        f"  {plan.documents:,} documents, {plan.same_path:,} of which keep their codes",
        f"  {plan.not_in_bundle:,} are not in the bundle: {unknown}",
        f"  {plan.not_in_index:,} items of the bundle are not in the index",
        f"  would delete {', '.join(plan.removes)}, which served before" if plan.removes else "",
        "" if plan.step == "create" else f"  begun already: step {plan.step}, {plan.copied:,} documents copied",
    )


def migration_summary(report: MigrationReport, alias: str) -> str:
    drift, overlap = report.drift, ""
    if drift["overlap"] is not None:
        overlap = (
            f"  {drift['queries']} queries sent to both: {drift['overlap']:.0%} of the hits stay, without a hit "
            f"{drift['empty_before']} before and {drift['empty_after']} after"
        )
    return _lines(
        f"{alias} now points to {report.target}, before to {report.source}; back by `genrecall index rollback`",
        f"  {report.sent:,} documents sent in {report.seconds:.1f} s ({report.per_second:,.0f} a second), writes were "
        f"refused for {report.timing['blocked']:.2f} s",
        f"  {drift['documents']:,} documents in {drift['sids']:,} SIDs, the largest of {drift['largest_sid']:,}; "
        f"{drift['without_sid']:,} without SID",
        overlap,
        (drift["not_in_bundle"], "documents are not in the bundle"),
        (drift["not_in_index"], "items of the bundle are not in the index"),
        f"  deleted: {', '.join(report.removed)}" if report.removed else "",
    )


def attach_summary(report: AttachReport, name: str, field: str, rejects: Path) -> str:
    clause = {"generative": {field: {"query_text": "...", "k": 50}}}
    return _lines(
        f"{report.index}: {report.compared:,} documents compared in {report.seconds:.1f} s, {report.written:,} got "
        f"their SID in {field!r}; search {name} with {json.dumps(clause)}",
        (report.unknown, "are not in the bundle and have none: the generative clause never finds them"),
        (report.conflicts, "were written by others meanwhile and looked at again"),
        (report.rejected, f"were rejected, see {rejects}"),
    )


def sync_summary(report: SyncReport, rejects: Path) -> str:
    return _lines(
        f"{report.index}: {report.compared:,} documents compared in {report.seconds:.1f} s; {report.added:,} added, "
        f"{report.changed:,} changed, {report.moved:,} with another SID, {report.deleted:,} deleted",
        (report.conflicts, "were written by others meanwhile and compared again"),
        (report.rejected, f"were rejected, see {rejects}"),
    )


def _lines(*parts: str | tuple[int, str]) -> str:
    """The parts as lines; empty ones and counts of zero are left out."""
    lines = (part if isinstance(part, str) else f"  {part[0]:,} {part[1]}" if part[0] else "" for part in parts)
    return "\n".join(line for line in lines if line)
