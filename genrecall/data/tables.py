"""Delimited text: which delimiter and quotes a file has, whether it begins with a header, and its rows.

What the columns mean belongs to `genrecall.data.columns`.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from genrecall.data.row import Row
from genrecall.data.text_files import DAMAGED, is_damaged, open_text, shown, unreadable
from genrecall.errors import UserError

DELIMITERS = ("\t", ",", ";", "|", "\x01", "^", "~")
SAMPLE_ROWS = 200
LONGEST_ROW = 4000  # lines; a row of more begins with a quote that is never closed
LARGEST_CELL = 1 << 24  # characters
MOST_ABOVE = 10  # lines above a table
_Reading = tuple[tuple[float, int], str, str, list[list[str]]]  # score, delimiter, quotes, rows
_QUOTED, _PLAIN, _ESCAPED = "quoted", "plain", "escaped"
_SEP = re.compile(r"\ufeff?\"?sep=(.)\"?\r?\n?", re.I)


@dataclass(frozen=True)
class Layout:
    """How a delimited file is laid out.

    Attributes:
        encoding: as Python names it.
        delimiter: one character.
        quotes: `quoted` ("a ""b"" c"), `escaped` ("a \\"b\\" c") or `plain` (a quote is a letter like any other).
        columns: their names; of a file without a header those of `default`, else numbers from 1.
        header: whether the first row names the columns.
        skipped: lines before the first row (Excel's `sep=;`, the title of a report).
    """

    encoding: str
    delimiter: str
    quotes: str
    columns: tuple[str, ...]
    header: bool
    skipped: int = 0


def layout_of(
    path: Path,
    encoding: str,
    is_header: Callable[[list[list[str]]], bool],
    default: Callable[[int], Sequence[str]],
    delimiter: str = "",
) -> Layout:
    """The layout that gives the most even rows.

    Args:
        path: of the file.
        encoding: of it.
        is_header: of a sample of rows, whether the first names columns.
        default: number of columns -> their names, where there is no header; an empty answer numbers them.
        delimiter: "" finds it.
    """
    with open_text(path, encoding) as file:
        try:
            text = list(islice(file, 2 * SAMPLE_ROWS))
        except (*DAMAGED, UnicodeError) as error:
            raise unreadable(path, 0, error) from None
    skipped = 0
    if text and (named := _SEP.fullmatch(text[0])):
        delimiter, skipped, text = delimiter or named[1], 1, text[1:]
    while text and text[0].isspace():
        skipped, text = skipped + 1, text[1:]
    if not text:
        raise UserError(f"{path} is empty")
    whole = len(text) < 2 * SAMPLE_ROWS - skipped
    delimiters = [delimiter] if delimiter else [*DELIMITERS]
    found = _best_delimiter(text, delimiters, whole)
    for above in range(1, 1 + _titles(found)):
        below = _best_delimiter(text[above:], delimiters, whole)
        if below and len(below[3][0]) > 2 and is_header(below[3]):
            found, skipped = below, skipped + above
            break
    if found:
        _, delimiter, quotes, rows = found
    else:  # one column
        delimiter, quotes = delimiter or "\t", _PLAIN
        rows = [[line.rstrip("\r\n")] for line in text]
    header = is_header(rows)
    width = Counter(map(len, rows)).most_common(1)[0][0]
    names = _unique(rows[0]) if header else default(width) or [str(number) for number in range(1, width + 1)]
    return Layout(encoding, delimiter, quotes, tuple(names), header, skipped)


def read_table(path: Path, layout: Layout) -> Iterator[Row]:
    """A row for each row of the file: {column: text}, None for an empty cell.

    A row of more cells than there are columns is a fault, as is one with bytes that the encoding does not have. A quote
    that is never closed is a fault of the row in which it stands; reading goes on with the next line.
    """
    names, width = layout.columns, len(layout.columns)
    first = layout.header
    for line, cells, fault in _rows(path, layout):
        if not any(cells) and not fault:
            continue
        if first:
            first = False
            continue
        if not fault and any(cells[width:]):
            yield Row(path.name, line, shown(layout.delimiter.join(cells)), f"more cells than the {width} columns")
        elif fault:
            yield Row(path.name, line, shown(layout.delimiter.join(cells)), fault)
        else:
            yield Row(path.name, line, dict(zip(names, [cell or None for cell in cells], strict=False)))


class _Lines:
    """The lines of a file, remembered since the last row was complete."""

    def __init__(self, path: Path, file: Iterator[str], line: int) -> None:
        self.path, self.line, self.pending, self.ended = path, line, list[str](), False
        self._file = file
        self._again: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self.pending) > LONGEST_ROW:
            self.ended = True
            raise StopIteration
        if self._again:
            text = self._again.pop()
        else:
            try:
                text = next(self._file)
            except StopIteration:
                self.ended = True
                raise
            except (*DAMAGED, UnicodeError) as error:
                raise unreadable(self.path, self.line, error) from None
        self.line += 1
        self.pending.append(text)
        return text.replace("\0", "")

    def reread(self) -> tuple[int, str]:
        """Go back to the line after the first one pending; (its number, the text of the first)."""
        first, *rest = self.pending
        at = self.line - len(rest)
        self._again.extend(reversed(rest))
        self.line, self.pending, self.ended = at, [], False
        return at, first


def _rows(path: Path, layout: Layout) -> Iterator[tuple[int, list[str], str]]:
    """(line where it begins, cells, fault) of each row."""
    csv.field_size_limit(LARGEST_CELL)
    with open_text(path, layout.encoding) as file:
        for _ in range(layout.skipped):
            next(file)
        lines = _Lines(path, file, layout.skipped)
        while True:
            reader = csv.reader(lines, **_format(layout.delimiter, layout.quotes))
            try:
                for cells in reader:
                    if lines.ended and lines.pending:
                        break  # the file, or the longest row, ended between quotes
                    pending = lines.pending
                    fault = "not " + layout.encoding if any(map(is_damaged, pending)) else ""
                    yield lines.line - len(pending) + 1, cells, fault
                    pending.clear()
                if not lines.pending:
                    return
                line, text = lines.reread()
                yield line, [text.rstrip("\r\n")], "a quote is never closed"
            except csv.Error as error:
                line, text = lines.reread()
                yield line, [text.rstrip("\r\n")[:1000]], f"not delimited text ({error})"


def _format(delimiter: str, quotes: str) -> dict[str, Any]:
    if quotes == _PLAIN:
        return {"delimiter": delimiter, "quoting": csv.QUOTE_NONE}
    # `a, "b, c"`: what stands behind the space is quoted
    return {"delimiter": delimiter, "escapechar": "\\" if quotes == _ESCAPED else None, "skipinitialspace": True}


def _sample(text: list[str], delimiter: str, quotes: str, whole: bool) -> list[list[str]]:
    csv.field_size_limit(LARGEST_CELL)
    try:
        rows = list(csv.reader([line.replace("\0", "") for line in text], **_format(delimiter, quotes)))
    except csv.Error:
        return []
    if not whole and len(rows) > 1:
        rows.pop()  # it may be cut off
    return [row for row in rows if any(row)]


def _best_delimiter(text: list[str], delimiters: Sequence[str], whole: bool) -> _Reading | None:
    return max((one for d in delimiters if (one := _best_quotes(text, d, whole))), key=lambda one: one[0], default=None)


def _titles(found: _Reading | None) -> int:
    """How many lines may stand above a table: those of at most one cell, or any where there is no table with them."""
    if found is None:
        return MOST_ABOVE
    filled = (sum(1 for cell in row if cell.strip()) for row in found[3])
    return min(MOST_ABOVE, sum(1 for _ in takewhile(lambda cells: cells <= 1, filled)))


def _best_quotes(text: list[str], delimiter: str, whole: bool) -> _Reading | None:
    """(score, delimiter, quotes, rows) of the most even reading with a delimiter; None where it makes no columns.

    Where every line is as wide as the first, quotes that join lines are letters: MS MARCO's queries begin with some.
    """
    plain = _sample(text, delimiter, _PLAIN, whole)
    even = len({len(row) for row in plain}) == 1
    readings = []
    for quotes in (_QUOTED, _ESCAPED, _PLAIN):
        rows = plain if quotes == _PLAIN else _sample(text, delimiter, quotes, whole)
        if quotes == _ESCAPED and not any('\\"' in line for line in text):
            continue
        if quotes != _PLAIN and even and len(rows) < len(plain):
            continue
        if rows and (score := _evenness(rows)):
            readings.append((score, delimiter, quotes, rows))
    return max(readings, key=lambda one: one[0], default=None)


def _evenness(rows: list[list[str]]) -> tuple[float, int] | None:
    """(share of the rows that are as wide as the first, in tenths; width); None for a single column.

    Empty cells behind the last column do not count. Rows that lack their last cells are nearly as good: some exports
    leave empty ones out.
    """
    width = len(rows[0])
    even = sum(len(row) == width or (len(row) > width and not any(row[width:])) for row in rows) / len(rows)
    short = sum(1 <= len(row) < width for row in rows) / len(rows)
    share = round(even + 0.8 * short, 1)
    return (share, width) if width > 1 and share >= 0.5 else None


def _unique(names: Sequence[str]) -> list[str]:
    """The names of the columns: numbered where they are empty or repeated."""
    seen: Counter[str] = Counter()
    result = []
    for number, raw in enumerate(names, 1):
        name = " ".join(raw.strip("\ufeff").split()) or f"column {number}"
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result
