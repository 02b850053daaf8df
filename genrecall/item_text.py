"""The text of an item that is embedded, and the checks of its fields, shared by training and serving.

Imports no reader of datasets, so that a server can use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from genrecall.errors import BadRow

TEXT_CATEGORIES = 2  # how many names of the category path, from its specific end, are embedded with the title


def item_text(items: pa.Table) -> list[str]:
    """The text of each item that is embedded. items: ITEMS."""
    columns = (items[name].to_pylist() for name in ("title", "brand", "category"))
    return [embedded_text(*parts) for parts in zip(*columns, strict=True)]


def embedded_text(title: str, brand: str, category: Sequence[str]) -> str:
    """The text of one item that is embedded: "title . brand . last categories", absent parts left out."""
    return " . ".join(part for part in (title, brand, " ".join(category[-TEXT_CATEGORIES:])) if part)


def parse_text(value: Any, name: str) -> str:
    """A string or None as one trimmed line; BadRow for another type or text that cannot be stored."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRow(f"{name} is {_kind(value)}, not text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{name} is not valid Unicode") from None
    return " ".join(value.split())


def parse_categories(value: Any, separator: str) -> list[str]:
    """A list of names, from general to specific; a string is split at `separator`; empty names are left out."""
    if isinstance(value, str):
        value = value.split(separator)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRow(f"category is {_kind(value)}, not a list")
    return [name for name in (parse_text(part, "category") for part in value) if name]


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")
