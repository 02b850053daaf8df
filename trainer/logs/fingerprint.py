"""What requests depend on, as one hash: the same key means that building again would give the same file."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import polars as pl
import pyarrow as pa

import genrecall
from genrecall import files
from genrecall.config.data import DataSection
from genrecall.config.logs import LogsSection
from genrecall.data.events import actions_of
from genrecall.data.index_rows import index_state
from genrecall.data.sources import source_files

PART_BYTES = 32 << 20  # of JSON lines in a part; a part takes about eight times as much memory while it is joined
SWELL = {".gz": 8, ".parquet": 4}  # JSON lines of the same rows are about so much larger
PARTS_OF_INDEX = 64
MOST_PARTS = 4096
SETTINGS = {
    "recent",
    "session_minutes",
    "max_session_requests",
    "max_day_requests",
    "max_click_rate",
    "min_bot_exposures",
}
SOURCES = "ubi_queries", "ubi_events"


def of_logs(section: DataSection, known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the logs hold, by file or index: `content`, a sha256, and of a file its size and the time of its change.

    The content is taken from `known`, an earlier result, for files that have not changed since. That of an index is its
    state in the cluster.
    """
    contents: dict[str, dict[str, Any]] = {}
    for source in SOURCES:
        if index := getattr(section, source).index:
            content = files.sha256_of([json.dumps(index_state(section, index))])
            contents[f"index {index}"] = {"content": content}
        for path in source_files(section, source):
            about: dict[str, Any] = {"size": path.stat().st_size, "changed_ns": path.stat().st_mtime_ns}
            before = known.get(path.name, {})
            if before.items() >= about.items():
                contents[path.name] = before
                continue
            contents[path.name] = {**about, "content": files.sha256(path)}
    return contents


def key(
    section: DataSection, simulated: bool, logs: LogsSection, items: pa.Table, contents: dict[str, dict[str, Any]]
) -> str:
    """sha256 over the logs, the mapping, the limits and the ids of the items. contents: as `of_logs` gives them."""
    mapping = section.model_dump(mode="json", include={*SOURCES, "actions"})
    # polars' hash, which parts the rows, is the same for one version of it only
    versions = genrecall.__version__, pl.__version__
    digests = sorted((name, about["content"]) for name, about in contents.items())
    about = [versions, mapping, actions_of(section), simulated, logs.model_dump(mode="json", include=SETTINGS), digests]
    item_ids = (f"{item}\n" for chunk in items["item_id"].chunks for item in chunk.to_pylist())
    return files.sha256_of(chain([json.dumps(about, sort_keys=True)], item_ids))


def partitions(section: DataSection) -> int:
    """As many parts as bring each to about PART_BYTES."""
    if any(getattr(section, source).index for source in SOURCES):
        return PARTS_OF_INDEX
    files = [path for source in SOURCES for path in source_files(section, source)]
    size = sum(path.stat().st_size * SWELL.get(path.suffix, 1) for path in files)
    return min(MOST_PARTS, 1 + size // PART_BYTES)
