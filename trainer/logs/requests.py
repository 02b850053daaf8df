"""From logs of any size to requests: read, partition by query, join, partition by client, add history, merge.

    ubi_queries, ubi_events -> partitioned by query_id -> events without a query attributed to one -> requests
    -> partitioned by client -> with history -> one file

Only one partition is in memory at a time. Each step leaves a folder that appears when it is complete, so a build that
was killed resumes after the last finished step; the result replaces an earlier one only when it is complete itself.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from genrecall import files
from genrecall.config.data import DataSection
from genrecall.config.logs import LogsSection
from genrecall.data.columns import plain
from genrecall.data.events import (
    LOGGED_EVENTS,
    LOGGED_QUERIES,
    action_notes,
    actions_of,
    logged_events,
    logged_queries,
)
from genrecall.data.rejects import Rejects
from genrecall.data.sources import has_source, resolve_sources
from genrecall.progress import Bars
from genrecall.records import REQUESTS
from trainer.logs import fingerprint
from trainer.logs.attribution import attribute
from trainer.logs.facts import facts
from trainer.logs.filters import KNOWN, bots, sessions
from trainer.logs.join import ACTIONS, join
from trainer.logs.leaks import check_recent
from trainer.logs.recent import with_recent
from trainer.logs.shuffle import merge, open_table, read_part, write_parted, write_requests, write_shuffle

# events without a query are spread by client, so that they can be attributed
BY_QUERY = pl.when(pl.col("query_id") == "").then("client_id").otherwise("query_id").hash()
BY_CLIENT = (
    pl.when(pl.col("client_id") == "").then("query_id").otherwise("client_id").hash()
)  # clients without an id anywhere
EXAMPLES = 3  # ids of items that are told
MOST_GONE = 0.5  # share of the items in a log that are not in the catalogue, above which something is wrong
Step = Callable[[Path], dict[str, Any]]


def build_requests(
    data: DataSection, logs: LogsSection, items: pa.Table, folder: Path, rejects: Rejects, progress: bool = True
) -> Path:
    """Build `folder`/requests.arrow (REQUESTS, ordered by time, then query_id) and `folder`/report.json.

    A folder that was built from the same logs, settings and items is left as it is. `rejects` receives every bad row
    either way; more of them than `data.max_reject_share` is a UserError.

    Args:
        data: names the logs.
        logs: limits and sizes.
        items: with a column `item_id`: what may be in a request.
        folder: made where it is missing; of this build alone, as results of earlier builds in it are replaced.
        rejects: of the caller; not its file `folder`/rejects.jsonl, the build's own.
        progress: show bars on stderr.
    """
    section, simulated = resolve_sources(data)
    earlier = _read(folder / "report.json")
    contents = fingerprint.of_logs(section, earlier.get("logs", {}))
    key = fingerprint.key(section, simulated, logs, items, contents)
    if earlier.get("key") != key:
        parts = logs.partitions or fingerprint.partitions(section)
        work = folder / f"work-{key[:12]}-{parts}"
        for stale in set(folder.glob("work-*")) - {work}:
            shutil.rmtree(stale)
        with Bars(progress, transient=True) as bars:
            counts = _build(section, logs, items, parts, work, rejects, bars)
        about = {"key": key, "simulated": simulated, "catalogue": len(items), "leaks": 0, "logs": contents}
        _publish({**about, **counts}, work, folder)
    else:
        _replay(folder / "rejects.jsonl", earlier["rows"], rejects, section)
    return folder / "requests.arrow"


def _build(
    section: DataSection, logs: LogsSection, items: pa.Table, parts: int, work: Path, rejects: Rejects, bars: Bars
) -> dict[str, Any]:
    """The steps, each skipped where it is done already; their counts and the facts of the result."""
    catalogue = pl.DataFrame(items.select(["item_id"]))
    logged, joined, past, merged = work / "logged", work / "joined", work / "past", work / "requests.arrow"
    attributed = work / "attributed"
    counts = _step(logged, lambda to: _read_logs(section, parts, to, bars))
    _replay(logged / "rejects.jsonl", counts["rows"], rejects, section)
    counts |= _step(attributed, lambda to: _attribute(logged, logs, parts, to, bars))
    counts |= _step(joined, lambda to: _join_parts(logged, attributed, catalogue, parts, to, bars))
    _replay(joined / "rejects.jsonl", {of: -n for of, n in counts["rejected_later"].items()}, rejects, section)
    counts |= _step(past, lambda to: _add_history(joined, logs, parts, to, bars))
    kept = counts["requests"]["kept"]
    merge(sorted(past.glob("*.arrow")), merged, bars.counter("logs: merging", kept))
    counts |= facts(open_table(merged), bars.counter("logs: counting", kept))
    return {
        **counts,
        "notes": [
            *action_notes(counts["actions"], section),
            *_id_notes(counts["events"], items, counts["items_logged"]),
        ],
    }


def _read_logs(section: DataSection, parts: int, to: Path, bars: Bars) -> dict[str, Any]:
    examples: dict[str, None] = {}
    with Rejects(to / "rejects.jsonl") as rejects:
        for source, read, schema in (
            ("ubi_queries", logged_queries, LOGGED_QUERIES),
            ("ubi_events", logged_events, LOGGED_EVENTS),
        ):
            batches = _counted(read(section, rejects), bars.counter(f"logs: reading {source}"), examples)
            write_shuffle(batches, schema, BY_QUERY % parts, parts, to / source)
    actions = dict(rejects.facts.get("ubi_events", {}).pop("actions", {}))
    known = actions_of(section)
    return {
        "rows": dict(rejects.accepted),
        "actions": actions,
        "other_actions": {name: n for name, n in actions.items() if known.get(plain(name), "none") == "none"},
        "left_out": {source: dict(reasons) for source, reasons in rejects.left_out.items()},
        "columns": {source: found.get("columns", {}) for source, found in rejects.facts.items()},
        "items_logged": list(examples),
    }


def _attribute(logged: Path, logs: LogsSection, parts: int, to: Path, bars: Bars) -> dict[str, Any]:
    """Events without a query, with that which their client asked last; partitioned as the others."""
    attributed, unattributed = 0, Counter[str]()
    without = pl.col("query_id") == ""
    orphans = [part for part in range(parts) if read_part(logged / "ubi_events", part).filter(without).height]
    done = bars.counter("logs: attributing events", len(orphans))
    if orphans:
        for part in range(parts):
            (to / "asked").mkdir(exist_ok=True)
            asked = read_part(logged / "ubi_queries", part).select("query_id", "client_id", "timestamp")
            write_parted(asked, pl.col("client_id").hash() % parts, parts, to / "asked" / f"{part:06}.arrow")
    for part in orphans:
        events = read_part(logged / "ubi_events", part).filter(without)
        found = attribute(events, read_part(to / "asked", part), logs.session_minutes)
        lost = found.filter(without)
        attributed += len(found) - len(lost)
        unattributed.update(dict(lost["action"].value_counts().iter_rows()))
        (to / "events").mkdir(exist_ok=True)
        write_parted(found.filter(~without), BY_QUERY % parts, parts, to / "events" / f"{part:06}.arrow")
        done(1)
    shutil.rmtree(to / "asked", ignore_errors=True)
    return {"events_attributed": attributed, "events_without_query": dict(unattributed)}


def _events_of(logged: Path, attributed: Path, part: int) -> pl.DataFrame:
    events = read_part(logged / "ubi_events", part).filter(pl.col("query_id") != "")
    if not (attributed / "events").is_dir():
        return events
    return pl.concat([events, read_part(attributed / "events", part)])


def _join_parts(
    logged: Path, attributed: Path, catalogue: pl.DataFrame, parts: int, to: Path, bars: Bars
) -> dict[str, Any]:
    events = Counter[tuple[str, str]]()
    pages = 0
    done = bars.counter("logs: joining", parts)
    with Rejects(to / "rejects.jsonl") as rejects:
        for part in range(parts):
            joined = join(read_part(logged / "ubi_queries", part), _events_of(logged, attributed, part), catalogue)
            pages += joined.pages
            write_parted(joined.requests, BY_CLIENT % parts, parts, to / f"{part:06}.arrow")
            events += joined.logged + joined.dropped
            for source, rows, reason in joined.rejects:
                for row in rows.iter_rows(named=True):
                    rejects.reject(source, row.pop("place"), row.pop("line"), reason, row)
            done(1)
    rows = _read(logged / "counts.json")["rows"]
    later = {source: rejects.count(source) for source in rows}
    for action, count in _read(attributed / "counts.json")["events_without_query"].items():
        events[action, "without a query"] = count
    return {
        "pages": pages,
        "rows": {source: rows[source] - later[source] for source in rows},
        "rejected_later": later,
        "events": {
            action: {reason: n for (of, reason), n in sorted(events.items()) if of == action} for action in ACTIONS
        },
    }


def _add_history(joined: Path, logs: LogsSection, parts: int, to: Path, bars: Bars) -> dict[str, Any]:
    counts, reasons = Counter[str](), Counter[str]()
    lost, robots_by = Counter[str](), Counter[str]()
    done = bars.counter("logs: adding history", parts)
    for part in range(parts):
        requests = sessions(read_part(joined, part), logs.session_minutes)
        robots = bots(requests, logs)
        counts["logged"] += len(requests)
        robots_by.update(robots["reason"].to_list())
        for reason, bad in _dropped(robots["client_id"]):
            gone = requests.filter(bad)
            reasons[reason] += len(gone)
            lost.update({action: int(gone[column].list.len().sum()) for action, column in ACTIONS.items()})
            requests = requests.filter(~bad)
        requests = with_recent(requests, logs.recent)
        check_recent(requests)
        people = requests.filter(KNOWN).select("client_id", "session")
        counts["clients"] += people["client_id"].n_unique()
        counts["sessions"] += people.n_unique()
        counts["kept"] += len(requests)
        write_requests(requests.sort("timestamp", "query_id"), to / f"{part:06}.arrow")
        done(1)
    return {
        "requests": {**counts, "dropped": dict(reasons)},
        "events_of_dropped_requests": dict(lost),
        "bots": dict(sorted(robots_by.items())),
    }


def _dropped(robots: pl.Series) -> Iterator[tuple[str, pl.Expr]]:
    yield "of a bot", pl.col("client_id").is_in(robots.implode())
    yield "without a text", pl.col("text") == ""
    yield "without an item", pl.sum_horizontal(pl.col(*ACTIONS.values()).list.len()) == 0


def _step(folder: Path, make: Step) -> dict[str, Any]:
    """Make `folder` by `make`, unless it is there; the counts. It appears when it is complete."""
    if not folder.exists():
        with files.new_folder(folder) as partial:
            files.write_json(partial / "counts.json", make(partial))
    return _read(folder / "counts.json")


def _publish(report: dict[str, Any], work: Path, folder: Path) -> None:
    """The report is removed first and written last: where there is one, it is that of the requests beside it."""
    (folder / "report.json").unlink(missing_ok=True)
    with (work / "rejects.jsonl").open("wb") as file:
        for path in (work / "logged" / "rejects.jsonl", work / "joined" / "rejects.jsonl"):
            file.write(path.read_bytes() if path.exists() else b"")
    reasons: dict[str, Counter[str]] = {}
    for row in _rows(work / "rejects.jsonl"):
        reasons.setdefault(row["source"], Counter())[row["reason"]] += 1
    report["rejects"] = {source: dict(count.most_common()) for source, count in reasons.items()}
    files.write_json(work / "report.json", report, indent=1)
    for name in ("requests.arrow", "rejects.jsonl", "report.json"):
        os.replace(work / name, folder / name)
    shutil.rmtree(work)


def _replay(path: Path, kept: dict[str, int], rejects: Rejects, section: DataSection) -> None:
    """Add the rows that a step rejected, in this process or an earlier one, to `rejects`; UserError for too many."""
    rejects.accepted.update(kept)
    for row in _rows(path):
        rejects.reject(**row)
    for source in ("ubi_queries", "ubi_events"):
        if has_source(section, source) or rejects.accepted[source]:  # else one was not logged, or is derived
            rejects.check(source, section.max_reject_share)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def _counted(
    batches: Iterator[pa.RecordBatch], done: Callable[[int], None], examples: dict[str, None]
) -> Iterator[pa.RecordBatch]:
    """The batches. done: called with their sizes; examples: takes a few ids of items."""
    for batch in batches:
        done(len(batch))
        if len(examples) < EXAMPLES:
            hits = batch.column("hits").flatten() if "hits" in batch.schema.names else batch.column("item_id")
            examples.update(dict.fromkeys(hits.slice(0, EXAMPLES).to_pylist()))
        yield batch


def _id_notes(events: dict[str, dict[str, int]], items: pa.Table, examples: list[str]) -> Iterator[str]:
    """Ids in the log that are hardly ever those of the catalogue."""
    logged = sum(of.get("logged", 0) for of in events.values())
    gone = sum(of.get("not in the catalogue", 0) for of in events.values())
    for reason, what in (("by another client", "client ids"), ("before its query", "clocks")):
        lost = sum(of.get(reason, 0) for of in events.values())
        acted = sum(of.get("logged", 0) for action, of in events.items() if action != "exposure")
        if lost > MOST_GONE * acted:
            yield f"{lost:,} events are left out as {reason}: the {what} of ubi_queries and ubi_events do not agree"
    if logged and gone > MOST_GONE * logged:
        ours = ", ".join(items["item_id"].slice(0, 3).to_pylist())
        yield (
            f"{gone:,} of {logged:,} items in the log are not in the catalogue ({gone / logged:.0%}): the log has "
            f"{', '.join(examples[:3])}, the catalogue {ours}. Name the column of these ids: data.items.fields.id"
        )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def open_requests(path: Path) -> pa.Table:
    """A requests.arrow as a REQUESTS table that stays on disk."""
    return open_table(path).cast(REQUESTS)
