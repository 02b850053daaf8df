"""Writing a dataset folder: it appears whole or not at all, and the same records give the same bytes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from genrecall import files
from genrecall.errors import UserError

COMPRESSION = 3


@contextmanager
def new_dataset(out: Path, option: str = "--out") -> Iterator[Path]:
    """A folder to fill, which becomes `out` when the block ends well and is removed when it does not.

    UserError, naming the `option` that `out` comes from, where `out` is not empty.
    """
    if files.occupied(out):
        raise UserError(f"{option} {out} is not empty: move it away, or give another folder")
    with files.new_folder(out) as folder:
        yield folder


@contextmanager
def json_lines(path: Path) -> Iterator[Callable[[Any], None]]:
    """A function that writes a record; the lines are gzipped, without a name or time in the header."""
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    with path.open("wb") as raw, gzip.GzipFile("", "wb", COMPRESSION, raw, mtime=0) as file:

        def write(record: Any) -> None:
            file.write(encode(record).encode() + b"\n")

        yield write


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Write `dataset.json` (genrecall.config.data.Description)."""
    files.write_text(folder / "dataset.json", json.dumps(description, indent=1) + "\n")


def timestamp(time: datetime) -> str:
    """A time in UTC as the logs write it: to the millisecond."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
