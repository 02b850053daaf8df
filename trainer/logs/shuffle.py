"""Rows of any number on disk: partitioned by a key so that each part fits in memory, and merged in order.

A *shuffle* is a folder of Arrow files, `000000.arrow` upwards, each with one record batch for each part: batch k of all
files, in the order of the files, is part k. Rows of one part keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from genrecall.records import REQUESTS

FLUSH = 65_536  # rows partitioned, or merged, at a time
BATCH = 16_384  # rows of a batch of the merged file
SAMPLE = 512  # every so many rows a time is sampled to cut the merged file into ranges of about FLUSH rows


def write_shuffle(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, part: pl.Expr, parts: int, folder: Path
) -> None:
    """Partition a stream of batches of `schema`. part: from a row to its part, 0 to `parts` - 1."""
    folder.mkdir(parents=True)
    number = -1
    for number, rows in enumerate(_flushes(batches)):
        write_parted(pl.DataFrame(rows), part, parts, folder / f"{number:06}.arrow")
    if number < 0:
        write_parted(pl.DataFrame(schema.empty_table()), part, parts, folder / "000000.arrow")


def write_parted(rows: pl.DataFrame, part: pl.Expr, parts: int, path: Path) -> None:
    """One file of a shuffle."""
    ordered = rows.with_columns(part.alias("_part")).sort("_part", maintain_order=True)
    ends = np.searchsorted(ordered["_part"].to_numpy(), np.arange(parts), side="right").tolist()
    table = ordered.drop("_part").rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    empty = pa.RecordBatch.from_pylist([], schema=table.schema)
    with pa.ipc.new_file(path, table.schema) as file:
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            file.write_batch(table.slice(start, end - start).to_batches()[0] if end > start else empty)


def read_part(folder: Path, part: int) -> pl.DataFrame:
    """Part `part` of a shuffle."""
    batches = []
    for path in sorted(folder.glob("*.arrow")):
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
            batches.append(file.get_batch(part))
    return pl.DataFrame(pa.Table.from_batches(batches))


def open_table(path: Path) -> pa.Table:
    """An Arrow file as a table that stays on disk: pages come into memory as they are read."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
        return file.read_all()


def merge(paths: Sequence[Path], to: Path, done: Callable[[int], None]) -> None:
    """Merge REQUESTS files, each in the order of time, into one. done: called with the number of rows written.

    It is ordered by (timestamp, query_id).

    The span of time is cut into ranges of about FLUSH rows; one range is in memory at a time.
    """
    tables = [open_table(path) for path in paths]
    seen = np.sort(np.concatenate([_times(table)[::SAMPLE] for table in tables]))
    cuts = np.unique(seen[:: FLUSH // SAMPLE][1:])
    starts = [np.concatenate([[0], np.searchsorted(_times(table), cuts), [len(table)]]) for table in tables]
    with pa.ipc.new_file(to, REQUESTS) as file:
        for number in range(len(cuts) + 1):
            cut = [
                table.slice(at[number], at[number + 1] - at[number]) for table, at in zip(tables, starts, strict=True)
            ]
            rows = pa.concat_tables([REQUESTS.empty_table(), *cut])
            rows = rows.sort_by([("timestamp", "ascending"), ("query_id", "ascending")])
            file.write_table(rows, max_chunksize=BATCH)
            done(len(rows))


def write_requests(rows: pl.DataFrame, path: Path) -> None:
    """REQUESTS columns to one Arrow file."""
    with pa.ipc.new_file(path, REQUESTS) as file:
        for cut in rows.select(REQUESTS.names).iter_slices(BATCH):
            file.write_table(cut.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(REQUESTS))


def _times(requests: pa.Table) -> np.ndarray:
    return requests["timestamp"].to_numpy().astype("datetime64[ms]")


def _flushes(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= FLUSH:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)
