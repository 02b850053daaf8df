"""Feeds in XML: RSS and Atom of Google Merchant, and files that repeat one element for each product.

Parsed as a stream by expat. A document that declares entities of its own is refused: feeds have none, attacks do.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from genrecall.data.row import Row
from genrecall.data.text_files import DAMAGED, open_bytes, shown, unreadable
from genrecall.errors import UserError

CHUNK = 1 << 16
NO_ELEMENTS = expat.errors.codes[expat.errors.XML_ERROR_NO_ELEMENTS]
DEEPEST = 20  # category; deeper ones are loops
RECORDS = {"item", "entry", "product", "offer", "row", "record", "doc", "document", "article", "shopitem"}


def read_xml(path: Path) -> Iterator[Row]:
    """A row for each record: {name of the element, without its namespace: text, object or list of these}.

    A record is an element of one of the names RECORDS; where there is none, of the name that is repeated below the
    root. An element of one text is that text; the attributes of a record, and of elements without a text, stand beside
    as `@name`. A `categoryId` that names one of the categories before the records (YML: `<category id parentId>`) adds
    the `category`, as a path.
    """
    reader = _Reader(path, RECORDS)
    yield from reader.rows()
    if not reader.count and (name := reader.repeated):
        reader = _Reader(path, {name})
        yield from reader.rows()
    if not reader.count:
        names = ", ".join(sorted(RECORDS))
        raise UserError(f"{path} has no product: expected elements named {names}; found {reader.seen or 'none'}")


class _Reader:
    """Rows of the elements named `records` (in lower case).

    Attributes:
        count: rows so far.
        seen: the name of the root.
    """

    def __init__(self, path: Path, records: Collection[str]) -> None:
        self.path, self.count, self.seen = path, 0, ""
        self._records = records
        self._depth, self._names = 0, (Counter[str](), Counter[str]())  # of elements one and two levels below the root
        self._done: list[Row] = []
        self._stack: list[tuple[str, dict[str, Any], list[str]]] = []  # of the record that is open
        self._begins = 0
        self._categories: dict[str, tuple[str, str]] = {}  # id -> (name, id of its parent)
        self._category: tuple[str, str, list[str]] | None = None  # that is open
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._entity
        # &nbsp; and other entities of HTML, which feeds use without declaring them, are skipped by expat and told to us
        parser.UseForeignDTD(True)
        parser.ExternalEntityRefHandler = lambda *_: 1
        parser.SkippedEntityHandler = lambda name, _: self._text(html.unescape(f"&{name};"))

    def rows(self) -> Iterator[Row]:
        line = 0
        try:
            with open_bytes(self.path) as file:
                while chunk := file.read(CHUNK):
                    self.feed(chunk)
                    line = self.line
                    yield from self.take()
                self.close()
        except DAMAGED as error:
            raise unreadable(self.path, line, error) from None
        yield from self.take()

    @property
    def repeated(self) -> str:
        """The name of most elements below the root, or below its only child; "" where none is repeated."""
        for names in self._names:
            for name, count in names.most_common(1):
                if count > 1:
                    return name
        return ""

    @property
    def line(self) -> int:
        return self._parser.CurrentLineNumber

    def feed(self, chunk: bytes) -> None:
        self._parse(chunk, False)

    def close(self) -> None:
        self._parse(b"", True)

    def take(self) -> list[Row]:
        done, self._done = self._done, []
        return done

    def _parse(self, chunk: bytes, final: bool) -> None:
        try:
            self._parser.Parse(chunk, final)
        except expat.ExpatError as error:
            if error.code == NO_ELEMENTS:
                remedy = "it ends too early: fetch or write it again"
            else:
                remedy = "write it again, with & as &amp; and < as &lt; in texts, in the encoding that it names"
            raise UserError(
                f"{self.path} line {error.lineno}: not XML ({expat.ErrorString(error.code)}); {remedy}"
            ) from None
        except (ValueError, LookupError) as error:
            raise UserError(f"{self.path}: its encoding is not known ({error}); save it as UTF-8") from None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(" ")[2]
        self._depth += 1
        if not self._stack:
            if name.casefold() not in self._records:
                if 2 <= self._depth <= 3:
                    self._names[self._depth - 2][name.casefold()] += 1
                self.seen = self.seen or name
                if name.casefold() == "category" and "id" in attributes:
                    self._category = attributes["id"], attributes.get("parentId", ""), []
                return
            self._begins = self.line
        self._stack.append((name, {f"@{key.rpartition(' ')[2]}": value for key, value in attributes.items()}, []))

    def _text(self, text: str) -> None:
        if self._stack:
            self._stack[-1][2].append(text)
        elif self._category:
            self._category[2].append(text)

    def _end(self, _: str) -> None:
        self._depth -= 1
        if not self._stack:
            if self._category:
                number, above, texts = self._category
                self._categories[number] = "".join(texts).strip(), above
                self._category = None
            return
        name, fields, parts = self._stack.pop()
        text = "".join(parts).strip()
        value: Any = fields
        if not any(not key.startswith("@") for key in fields) and (self._stack or not fields):
            value = text or (fields.get("@term") or fields.get("@href") if fields else None)
        elif text:
            fields["#text"] = text
        if text and "@domain" in fields:  # <category domain="product_cat">
            value = {**fields, "#text": text}
        if self._stack:
            parent = self._stack[-1][1]
            if name in parent:
                held = parent[name]
                parent[name] = [*held, value] if isinstance(held, list) else [held, value]
            else:
                parent[name] = value
            return
        self.count += 1
        if isinstance(value, dict):
            if self._categories and "category" not in value and (path := self._path(value.get("categoryId"))):
                value["category"] = path
            self._done.append(Row(self.path.name, self._begins, value))
        else:
            self._done.append(Row(self.path.name, self._begins, shown(str(value or "")), "an element without fields"))

    def _path(self, number: Any) -> list[str]:
        """The names of a category and those above it, from general to specific."""
        names: list[str] = []
        while isinstance(number, str) and number in self._categories and len(names) < DEEPEST:
            name, number = self._categories[number]
            names.append(name)
        return names[::-1]

    def _entity(self, *_: Any) -> None:
        raise UserError(
            f"{self.path} line {self.line}: it declares entities of its own, as no feed does; remove its DOCTYPE"
        )
