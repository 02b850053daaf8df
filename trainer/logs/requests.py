"""From logs of any size to requests: read, part by query, join, part by client, look back, merge.

    ubi_queries, ubi_events -> parted by query_id -> requests -> parted by client -> with a past -> one ordered file

Only one part is in memory at a time. Each step leaves a folder that appears when it is whole, so a build that was
killed goes on after the last step that finished; the result replaces an earlier one only when it is whole itself.
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

from genrecall.config.data import DataSection
from genrecall.config.logs import LogsSection
from genrecall.events import LOGGED_EVENTS, LOGGED_QUERIES, logged_events, logged_queries
from genrecall.readers import describe
from genrecall.records import REQUESTS
from genrecall.rejects import Rejects
from trainer.logs import fingerprint
from trainer.logs.filters import bots, sessions
from trainer.logs.join import join
from trainer.logs.leaks import check_recent
from trainer.logs.progress import Bars
from trainer.logs.recent import with_recent
from trainer.logs.report import facts
from trainer.logs.shuffle import merge, open_table, read_part, write_parted, write_requests, write_shuffle

BY_QUERY = pl.col("query_id").hash()
BY_CLIENT = pl.when(pl.col("client_id") == "").then("query_id").otherwise("client_id").hash()  # strangers anywhere
Step = Callable[[Path], dict[str, Any]]


def build_requests(
    data: DataSection, logs: LogsSection, items: pa.Table, folder: Path, rejects: Rejects, progress: bool = True
) -> Path:
    """Build `folder`/requests.arrow (REQUESTS, ordered by time, then query_id) and `folder`/report.json.

    A folder that was built from the same logs, settings and items is left as it is. `rejects` learns of every bad row
    either way; more of them than `data.max_reject_share` is a UserError.

    Args:
        data: names the logs.
        logs: limits and sizes.
        items: with a column `item_id`: what may be in a request.
        folder: made where it is missing; its own, since what else it holds of earlier builds is replaced.
        rejects: as of `readers.open_dataset`.
        progress: show bars on stderr.
    """
    section, simulated = describe(data)
    said = _read(folder / "report.json")
    files = fingerprint.of_logs(section, said.get("logs", {}))
    key = fingerprint.key(section, logs, items, files)
    if said.get("key") != key:
        parts = logs.partitions or fingerprint.partitions(section)
        work = folder / f"work-{key[:12]}-{parts}"
        for stale in set(folder.glob("work-*")) - {work}:
            shutil.rmtree(stale)
        counts = _build(section, logs, items, parts, work, progress)
        said = {"key": key, "simulated": simulated, "logs": files, **counts, **facts(work / "requests.arrow", items)}
        _publish(said, work, folder)
    _replay(folder / "rejects.jsonl", said["kept"], rejects)
    for source in ("ubi_queries", "ubi_events"):
        rejects.check(source, section.max_reject_share)
    return folder / "requests.arrow"


def _build(
    section: DataSection, logs: LogsSection, items: pa.Table, parts: int, work: Path, progress: bool
) -> dict[str, Any]:
    """The steps; their counts."""
    catalogue = pl.DataFrame(items.select(["item_id"]))
    logged, joined, past = work / "logged", work / "joined", work / "past"
    with Bars(progress) as bars:
        counts = _step(logged, lambda to: _read_logs(section, parts, to, bars))
        counts |= _step(joined, lambda to: _join_parts(logged, catalogue, parts, to, bars))
        counts |= _step(past, lambda to: _look_back(joined, logs, parts, to, bars))
        done = bars.start("merging", counts["requests"]["kept"])
        merge(sorted(past.glob("*.arrow")), work / "requests.arrow", done)
    return {**counts, "kept": dict(Counter(counts["kept"]) - Counter(counts["rejected_later"]))}


def _read_logs(section: DataSection, parts: int, to: Path, bars: Bars) -> dict[str, Any]:
    rejects = Rejects(to / "rejects.jsonl")
    for source, read, schema in (
        ("ubi_queries", logged_queries, LOGGED_QUERIES),
        ("ubi_events", logged_events, LOGGED_EVENTS),
    ):
        batches = _counted(read(section, rejects), bars.start(f"reading {source}"))
        write_shuffle(batches, schema, BY_QUERY % parts, parts, to / source)
    return {"kept": dict(rejects.kept)}


def _join_parts(logged: Path, catalogue: pl.DataFrame, parts: int, to: Path, bars: Bars) -> dict[str, Any]:
    rejects, dropped, rejected = Rejects(to / "rejects.jsonl"), Counter[str](), Counter[str]()
    done = bars.start("joining", parts)
    for part in range(parts):
        joined = join(read_part(logged / "ubi_queries", part), read_part(logged / "ubi_events", part), catalogue)
        write_parted(joined.requests, BY_CLIENT % parts, parts, to / f"{part:06}.arrow")
        dropped += joined.dropped
        for source, rows, reason in joined.rejects:
            rejected[source] += len(rows)
            for row in rows.iter_rows(named=True):
                rejects.add(source, row.pop("place"), row.pop("line"), reason, row)
        done(1)
    return {"dropped_events": dict(sorted(dropped.items())), "rejected_later": dict(rejected)}


def _look_back(joined: Path, logs: LogsSection, parts: int, to: Path, bars: Bars) -> dict[str, Any]:
    counts, reasons = Counter[str](), Counter[str]()
    found = {"clients": Counter[str](), "requests": Counter[str]()}
    done = bars.start("looking back", parts)
    for part in range(parts):
        requests = sessions(read_part(joined, part), logs.session_minutes)
        robots = bots(requests, logs)
        found["clients"].update(robots["reason"].to_list())
        theirs = requests.join(robots, on="client_id", how="inner")
        found["requests"].update(theirs["reason"].to_list())
        reasons["of a bot"] += len(theirs)
        counts["logged"] += len(requests)
        requests = requests.join(robots, on="client_id", how="anti")
        for reason, bad in _USELESS.items():
            reasons[reason] += len(requests.filter(bad))
            requests = requests.filter(~bad)
        requests = with_recent(requests, logs.recent)
        check_recent(requests)
        people = requests.filter(pl.col("client_id") != "").select("client_id", "session")
        counts["clients"] += people["client_id"].n_unique()
        counts["sessions"] += people.n_unique()
        counts["kept"] += len(requests)
        write_requests(requests.sort("timestamp", "query_id"), to / f"{part:06}.arrow")
        done(1)
    requests_ = {**counts, "dropped": {reason: count for reason, count in reasons.items() if count}}
    return {"requests": requests_, "bots": {name: dict(sorted(found[name].items())) for name in found}}


_USELESS = {
    "without a text": pl.col("text") == "",
    "without an item of the catalogue": pl.sum_horizontal(pl.col("exposed", "clicked", "purchased").list.len()) == 0,
}


def _step(folder: Path, make: Step) -> dict[str, Any]:
    """Make `folder` by `make`, unless it is there; what it counted. It appears when it is whole."""
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        (unfinished / "counts.json").write_text(json.dumps(make(unfinished)), encoding="utf-8")
        os.replace(unfinished, folder)
    return _read(folder / "counts.json")


def _publish(report: dict[str, Any], work: Path, folder: Path) -> None:
    """The report goes first and comes last: where there is one, it is that of the requests beside it."""
    (folder / "report.json").unlink(missing_ok=True)
    with (work / "rejects.jsonl").open("wb") as file:
        for path in (work / "logged" / "rejects.jsonl", work / "joined" / "rejects.jsonl"):
            file.write(path.read_bytes() if path.exists() else b"")
    (work / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name in ("requests.arrow", "rejects.jsonl", "report.json"):
        os.replace(work / name, folder / name)
    shutil.rmtree(work)


def _replay(path: Path, kept: dict[str, int], rejects: Rejects) -> None:
    rejects.kept.update(kept)
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            rejects.add(**row)


def _counted(batches: Iterator[pa.RecordBatch], done: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        done(len(batch))
        yield batch


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def open_requests(path: Path) -> pa.Table:
    """A requests.arrow as a REQUESTS table that stays on disk."""
    return open_table(path).cast(REQUESTS)
