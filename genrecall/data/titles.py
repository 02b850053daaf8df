"""The titles of a few items, for people: out of the dataset that a bundle was trained on, where it is still there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genrecall.config.data import DataSection
from genrecall.data.readers import item_batches
from genrecall.data.rejects import Rejects
from genrecall.data.sources import resolve_sources, source_files
from genrecall.errors import UserError


def titles_of(section: DataSection, wanted: Collection[str]) -> dict[str, str]:
    """Item id -> title, of those `wanted` that the dataset has. Reads no further than the last of them.

    UserError where the dataset cannot be read.
    """
    section = resolve_sources(section)[0]
    ids, found = pa.array(list(wanted), pa.string()), dict[str, str]()
    files = source_files(section, "items")
    if len(files) == 1 and files[0].suffix == ".parquet" and {"item_id", "title"} <= {*_columns(files[0])}:
        batches = pq.ParquetFile(files[0]).iter_batches(columns=["item_id", "title"])
    else:
        batches = item_batches(section, Rejects())
    for batch in batches:
        here = batch.filter(pc.is_in(batch.column("item_id"), value_set=ids))
        found |= zip(here.column("item_id").to_pylist(), here.column("title").to_pylist(), strict=True)
        if len(found) == len(ids):
            break
    return found


def _columns(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
