"""Logs written by hand: a query or an event a line, times in seconds after a fixed start."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from genrecall.config.data import DataSection
from genrecall.config.logs import LogsSection
from genrecall.data.rejects import Rejects
from genrecall.records import REQUESTS
from trainer.logs import build_requests, open_requests

START = datetime(2025, 3, 1, 10, tzinfo=UTC)
ITEMS = pa.table({"item_id": ["a", "b", "c", "d", "e"]})


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def query(
    name: str, seconds: float, hits: Sequence[str] = (), client: str = "ann", text: str = "pan", **more: Any
) -> dict:
    row = {"query_id": name, "client_id": client, "user_query": text, "timestamp": at(seconds).isoformat()}
    return {**row, "query_response_hit_ids": list(hits), **more}


def event(
    action: str, name: str, seconds: float, item: str, client: str = "ann", position: int | None = None
) -> dict[str, Any]:
    attributes = {"object": {"object_id": item}, "position": {"ordinal": position}}
    row = {"action_name": action, "query_id": name, "client_id": client, "timestamp": at(seconds).isoformat()}
    return {**row, "event_attributes": attributes}


def write(folder: Path, queries: list[dict], events: list[dict], **settings: Any) -> DataSection:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("ubi_queries.jsonl", queries), ("ubi_events.jsonl", events)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSection(folder=folder, **{"max_reject_share": 1, **settings})


def build(section: DataSection, to: Path, logs: LogsSection | None = None, rejects: Rejects | None = None) -> pa.Table:
    logs = logs or LogsSection(partitions=3)
    return open_requests(build_requests(section, logs, ITEMS, to, rejects or Rejects(), progress=False))


def requests(rows: list[dict[str, Any]]) -> pa.Table:
    """REQUESTS; what a row leaves out is empty, and its time is its number in seconds."""
    empty = {"client_id": "ann", "gender": "", "age_band": "", "recent": [], "exposed": [], "clicked": []}
    filled = [
        {**empty, "query_id": f"r{n}", "timestamp": at(n), "text": "pan", "purchased": [], **row}
        for n, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(filled, schema=REQUESTS)
