"""What requests depend on, as one hash: the same key means that building again would give the same file."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import polars as pl
import pyarrow as pa

import genrecall
from genrecall.config.data import DataSection
from genrecall.config.logs import LogsSection
from genrecall.events import log_files

PART_BYTES = 128 << 20  # of JSON lines in a part; a part takes a few times as much memory while it is joined
SWELL = {".gz": 8, ".parquet": 4}  # JSON lines of the same rows are about so much larger
PARTS_OF_INDEX = 64
MOST_PARTS = 4096
SETTINGS = (
    "recent",
    "session_minutes",
    "max_session_requests",
    "max_day_requests",
    "max_click_rate",
    "min_bot_exposures",
)
SOURCES = "ubi_queries", "ubi_events"


def of_logs(section: DataSection, known: dict[str, Any]) -> dict[str, Any]:
    """Each file of the logs: size, time of its last change, sha256.

    The sha256 is taken from `known`, an earlier result, for files that have not changed since.
    """
    found = {}
    for path in (path for source in SOURCES for path in log_files(section, source)):
        about = {"size": path.stat().st_size, "changed_ns": path.stat().st_mtime_ns}
        before = known.get(path.name, {})
        if before.items() >= about.items():
            found[path.name] = before
            continue
        with path.open("rb") as file:
            found[path.name] = {**about, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    return found


def key(section: DataSection, logs: LogsSection, items: pa.Table, files: dict[str, Any]) -> str:
    """sha256 over the logs, the mapping, the limits and the ids of the items."""
    mapping = section.model_dump(mode="json", include={*SOURCES, "actions"})
    contents = {name: about["sha256"] for name, about in files.items()}
    # polars' hash, which parts the rows, is the same for one version of it only
    versions = genrecall.__version__, pl.__version__
    about = [versions, mapping, logs.model_dump(mode="json", include={*SETTINGS}), contents]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for chunk in items["item_id"].chunks:
        digest.update(json.dumps(chunk.to_pylist()).encode())
    return digest.hexdigest()


def partitions(section: DataSection) -> int:
    """As many parts as bring each to about PART_BYTES."""
    if any(getattr(section, source).index for source in SOURCES):
        return PARTS_OF_INDEX
    files = [path for source in SOURCES for path in log_files(section, source)]
    size = sum(path.stat().st_size * SWELL.get(path.suffix, 1) for path in files)
    return min(MOST_PARTS, 1 + size // PART_BYTES)
