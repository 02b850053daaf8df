"""A raw row, before anything is known of what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """A raw row: its place (file or index), 1-based line or row number there, value, and why it cannot be parsed.

    `index` is the index that a line of a bulk request names, else "".
    """

    place: str
    line: int
    value: Any
    fault: str = ""
    index: str = ""
