"""JSON as files have it: a value a line, one array, an object that wraps an array, values over several lines, and the
bulk requests, dumps and search answers of OpenSearch. In bounded memory: one value at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from genrecall.data.row import Row
from genrecall.data.text_files import DAMAGED, is_damaged, lines_of, open_text, shown, unreadable
from genrecall.errors import UserError
from genrecall.item_text import decoded

CHUNK = 1 << 16
LARGEST_VALUE = 1 << 28  # characters of one value of an array
_ACTIONS = {"index", "create", "update", "delete"}
_ABOUT = {
    "_index",
    "_id",
    "_type",
    "routing",
    "_routing",
    "require_alias",
    "pipeline",
    "retry_on_conflict",
    "dynamic_templates",
}
_ABOUT |= {"version", "version_type", "if_seq_no", "if_primary_term"}
_WRAPPERS = {
    "products",
    "items",
    "data",
    "docs",
    "documents",
    "results",
    "records",
    "rows",
    "entries",
    "catalog",
    "feed",
}
_TITLES = {"title", "name", "product_name", "product_title"}
_SPACE = re.compile(r"[\s\ufeff\x1e]*")


def read_json(path: Path, encoding: str) -> Iterator[Row]:
    """A row for each value. A line that is not JSON is a fault; an array that is damaged stops the run.

    The rows of an object that holds nothing but one array of objects beside plain values ({"products": [...]}), and the
    hits of a search answer, are the rows of that array. Documents of a bulk request or a dump have `_id` added.
    """
    rows = _lines(path, encoding) if _a_value_a_line(path, encoding) else _values(path, encoding)
    yield from _documents(rows)


def _a_value_a_line(path: Path, encoding: str) -> bool:
    """Whether the first line is a whole JSON value other than an array, or is none at all."""
    _, first = next(lines_of(path, encoding), (0, ""))
    first = first.lstrip("\ufeff \t\x1e")
    if first.startswith("["):
        return False
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return first.rstrip()[-1:] not in ("{", "[", ",", ":")  # a line that is cut off, not the first of a value
    return not (isinstance(value, dict) and _wrapped(value))


def _lines(path: Path, encoding: str) -> Iterator[Row]:
    for line, text in lines_of(path, encoding):
        if is_damaged(text):
            yield Row(path.name, line, shown(text), f"not {encoding}")
            continue
        try:
            value = json.loads(text.lstrip("\ufeff\x1e"))
        except (ValueError, RecursionError):
            value = decoded(text.strip())  # as Python prints it
            if not isinstance(value, dict):
                yield Row(path.name, line, text, "not JSON")
                continue
        yield Row(path.name, line, value, "" if isinstance(value, dict) else "not a JSON object")


def _values(path: Path, encoding: str) -> Iterator[Row]:
    """The values of an array, or of a file that has one after another, each over any number of lines."""
    try:
        with open_text(path, encoding) as file:
            yield from _Stream(path, file).rows()
    except (*DAMAGED, UnicodeError) as error:
        raise unreadable(path, 0, error) from None


class _Stream:
    """A text that is decoded value by value."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path, self.file, self.line = path, file, 1
        self.text, self.at, self.ended = "", 0, False
        self._decode = json.JSONDecoder().raw_decode

    def rows(self) -> Iterator[Row]:
        while self._peek():
            if self._peek() == "[":
                self._move(1)
                yield from self._array()
            else:
                yield from self._rows_of(self._value())

    def _array(self) -> Iterator[Row]:
        if self._peek() == "]":
            self._move(1)
            return
        while True:
            line = self.line
            value = self._value()
            fault = "" if isinstance(value, dict) else "not a JSON object"
            yield Row(self.path.name, line, value, fault)
            mark = self._peek()
            if mark not in (",", "]"):
                raise self._wrong("',' or ']'")
            self._move(1)
            if mark == "]":
                return
            if self._peek() == "]":  # after a comma too
                self._move(1)
                return

    def _rows_of(self, value: Any) -> Iterator[Row]:
        line = self.line
        if isinstance(value, dict) and (rows := _wrapped(value)):
            for number, row in enumerate(rows, 1):
                yield Row(self.path.name, number, row, "" if isinstance(row, dict) else "not a JSON object")
        else:
            yield Row(self.path.name, line, value, "" if isinstance(value, dict) else "not a JSON object")

    def _value(self) -> Any:
        self._peek()
        wanted = CHUNK
        while True:
            try:
                value, end = self._decode(self.text, self.at)
            except RecursionError:
                raise self._wrong("less than a thousand lists inside one another") from None
            except ValueError as error:
                if self.ended or len(self.text) - self.at > LARGEST_VALUE:
                    raise self._wrong("a JSON value", error) from None
            else:
                if end < len(self.text) or self.ended:  # a number may go on behind the end of what was read
                    self._move(end - self.at)
                    return value
            self._more(wanted)
            wanted *= 2

    def _peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self._move(match.end() - self.at if match else 0)
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._more(CHUNK)

    def _more(self, count: int) -> None:
        chunk = self.file.read(count)
        self.ended = not chunk
        self.text, self.at = self.text[self.at :] + chunk, 0

    def _move(self, count: int) -> None:
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count

    def _wrong(self, expected: str, error: Exception | None = None) -> UserError:
        at = error.pos - self.at if isinstance(error, json.JSONDecodeError) else 0
        line = self.line + self.text.count("\n", self.at, self.at + at)
        found = shown(self.text[self.at + at : self.at + at + 30]) or "the end of the file"
        what = f": {error.msg}" if isinstance(error, json.JSONDecodeError) else ""
        return UserError(
            f"{self.path} line {line}: not JSON{what}; found {found!r}, expected {expected}. Write it again, or write "
            "one object a line (.jsonl), of which single ones may be damaged"
        )


def _wrapped(value: dict[str, Any]) -> list[Any] | None:
    """The rows of an object that only wraps them; None for an object that is a row itself."""
    hits = value.get("hits")
    if isinstance(hits, dict) and isinstance(hits.get("hits"), list):
        return hits["hits"]
    if len(value) == 1 and isinstance(inner := next(iter(value.values())), dict) and value.keys() & _WRAPPERS:
        return _wrapped(inner)  # {"data": {"products": {"edges": [{"node": ...}]}}}
    if isinstance(value.get("edges"), list):
        return [edge["node"] if isinstance(edge, dict) and "node" in edge else edge for edge in value["edges"]]
    if len(value) > 1 and all(map(_is_item, value.values())):  # {"B01": {"title": ...}, ...}
        return [{"_id": key, **item} for key, item in value.items()]
    if len(value) > 1 and value.keys() & _TITLES and _is_columns(value):  # {"id": {"0": ...}, "title": {"0": ...}}
        first = next(iter(value.values()))
        return [{name: column.get(row) for name, column in value.items()} for row in first]
    lists = [part for part in value.values() if isinstance(part, list) and part and isinstance(part[0], dict)]
    known = [part for key, part in value.items() if key.casefold() in _WRAPPERS and isinstance(part, list)]
    if len(known) == 1 and (len(lists) == 1 or not known[0]) and not {"title", "name", "id", "query_id"} & value.keys():
        return known[0]
    return None


def _is_item(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(name), str) for name in _TITLES)


def _is_columns(value: dict[str, Any]) -> bool:
    """Whether an object holds columns, as pandas writes a table."""
    columns = list(value.values())
    return all(isinstance(column, dict) and column.keys() == columns[0].keys() for column in columns)


def _documents(rows: Iterator[Row]) -> Iterator[Row]:
    """Documents of bulk requests, dumps and search answers in place of what is around them."""
    about: dict[str, Any] | None = None
    for row in rows:
        value = row.value
        if row.fault or not isinstance(value, dict):
            yield row
            about = None
            continue
        if about is None and len(value) == 1 and (action := _action(value)) is not None:
            about = None if "delete" in value else action
            continue
        if about is not None:
            if isinstance(value.get("doc"), dict) and value.keys() <= {"doc", "doc_as_upsert", "upsert", "detect_noop"}:
                value = value["doc"]
            yield _document(row, about, value)
            about = None
        elif isinstance(value.get("_source"), dict):
            yield _document(row, value, value["_source"])
        else:
            yield row


def _document(row: Row, about: dict[str, Any], source: dict[str, Any]) -> Row:
    value = {"_id": about["_id"], **source} if about.get("_id") is not None else source
    return Row(row.place, row.line, value, row.fault, str(about.get("_index") or ""))


def _action(value: dict[str, Any]) -> dict[str, Any] | None:
    ((name, about),) = value.items()
    return about if name in _ACTIONS and isinstance(about, dict) and about.keys() <= _ABOUT else None
