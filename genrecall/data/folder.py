"""Writing a dataset folder: it appears whole or not at all, and the same records give the same bytes."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from genrecall.errors import UserError

COMPRESSION = 3


@contextmanager
def new_folder(out: Path, option: str = "--out") -> Iterator[Path]:
    """A folder to write to, which becomes `out` when the block ends well, and vanishes when it does not.

    UserError, naming the `option` that `out` was given by, where `out` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{option} {out} is not empty: move it away, or give another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as made:
        folder = Path(made) / out.name
        folder.mkdir()
        yield folder
        if out.exists():
            out.rmdir()
        folder.rename(out)


@contextmanager
def json_lines(path: Path) -> Iterator[Callable[[Any], None]]:
    """Write JSON lines, gzipped; the same records give the same bytes (no name, no time in the header)."""
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    with path.open("wb") as raw, gzip.GzipFile("", "wb", COMPRESSION, raw, mtime=0) as file:

        def write(record: Any) -> None:
            file.write(encode(record).encode() + b"\n")

        yield write


def write_description(folder: Path, said: dict[str, Any]) -> None:
    """Write `dataset.json` (genrecall.config.data.Description)."""
    new = folder / "dataset.json.new"
    new.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    new.replace(folder / "dataset.json")


def timestamp(time: datetime) -> str:
    """A time in UTC as the logs write it: to the millisecond."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
