"""Further columns of a catalogue that the index gets as they are: price, stock, colour, the address of a picture.

They teach the models nothing, so that only an import and the jobs of an index read them. A field of the index gets the
value of a column with its JSON type; what a table holds is text, of which `data.items.fields.numbers` makes numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from genrecall.config.data import ALL_COLUMNS, INDEX_FIELDS, ItemFields, refused_name
from genrecall.data.field_mapping import getter
from genrecall.errors import BadRow, UserError
from genrecall.item_text import decoded, is_absent
from genrecall.records import EXTRA

SHOWN = 60  # columns in a message
ReadExtra = Callable[[Any], str]
"""the value of a row -> its further fields, as the text of a JSON object without absent ones."""


def extra_reader(
    fields: ItemFields, place: str, found: set[str], leave_out: Callable[[str], None] = lambda reason: None
) -> ReadExtra | None:
    """What reads the further fields of the rows of `place`; None where none are asked for.

    found: gets the names, in the index, of the fields that a row has; leave_out: is told of values of
    `data.items.fields.numbers` that are none, and are left out. The reader raises BadRow for a value that is
    not JSON, and UserError for a column, of all, whose name is that of a field of ours.
    """
    wanted = fields.extra_paths
    if not wanted:
        return None
    named = [(name, getter(path)) for name, path in wanted.items() if name != ALL_COLUMNS]
    whole = wanted.get(ALL_COLUMNS)
    inside = None if whole in (None, ALL_COLUMNS) else getter(whole)
    used, numbers = _used(fields), set(fields.numbers)

    def read(row: Any) -> str:
        row = row if inside else _opened(row)
        values = {name: get(row) for name, get in named}
        if inside:
            values = _object(inside(row), str(whole)) | values
        elif whole:
            rest = {name: value for name, value in row.items() if name not in used and not name.startswith("_")}
            values = rest | values
        kept = {}
        for name, found_there in values.items():
            value = _json_value(found_there, name)
            if value is None:
                continue
            if whole and name not in found and (reason := refused_name(name)):
                raise UserError(
                    f"{place}: column {name!r} cannot be a field of the index under its name ({reason}): leave it out "
                    "by naming the others in data.items.fields.extra, or give it another name there: "
                    f"{{other_name: {name!r}}}"
                )
            found.add(name)
            if name in numbers and (value := _numbers(value)) is None:
                leave_out(f"{name} is not a number")
            else:
                kept[name] = value
        text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise BadRow("a further field is not valid Unicode") from None
        return text

    return read


def lacking(fields: ItemFields, values: Sequence[Any]) -> list[str]:
    """The columns that are asked for and that none of `values` (of rows) has."""
    paths = [path for path in fields.extra_paths.values() if path != ALL_COLUMNS]
    gets = [(_shown(path), getter(path)) for path in paths]
    rows = [value if ALL_COLUMNS in fields.extra_paths else _opened(value) for value in values]
    return [path for path, get in gets if all(get(row) in (None, "", []) for row in rows)]


def check_found(fields: ItemFields, found: set[str], columns: Iterable[str]) -> None:
    """UserError where a column that is asked for is empty in every row.

    found: as `extra_reader` filled it; columns: those that there are.
    """
    empty = [
        _shown(path)
        for name, path in fields.extra_paths.items()
        if path != ALL_COLUMNS and (not found if name == ALL_COLUMNS else name not in found)
    ]
    if empty:
        raise UserError(
            f"data.items.fields.extra: no row has a value of {', '.join(map(repr, empty))}; the columns are "
            f"{', '.join(list(columns)[:SHOWN]) or 'none'}. Name one of them, or leave it out"
        )


def _opened(row: Any) -> Any:
    """A row of an imported folder with the further fields that the import kept in place of the column of them."""
    stored = row.get(EXTRA.name) if isinstance(row, dict) else None
    if isinstance(stored, str) and isinstance(kept := decoded(stored), dict):
        return {**kept, **{name: value for name, value in row.items() if name != EXTRA.name}}
    return row


def _used(fields: ItemFields) -> set[str]:
    """Columns that a field of ours is made from alone, or under its own name."""
    paths = [getattr(fields, name) for name in ("id", "title", "category", "brand", "text")]
    single = {path.partition("[")[0] for path in paths if isinstance(path, str)}
    return single | {path for several in paths if isinstance(several, list) for path in several if path in INDEX_FIELDS}


def _shown(path: str | list[str]) -> str:
    return path if isinstance(path, str) else " + ".join(path)


def _object(value: Any, path: str) -> dict[str, Any]:
    value = decoded(value)
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise BadRow(f"{path} is not an object")
    return value


def _numbers(value: Any) -> Any:
    """The number that a text holds, whatever its currency, or those of a list of such; None where there is none.

    Of two marks the last is that of decimals; one alone is, save for a comma before three digits.
    """
    if isinstance(value, list):
        return [number for part in value if (number := _numbers(part)) is not None] or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    digits = _DIGITS.search(value) if isinstance(value, str) else None
    if digits is None or any(letter.isdigit() for letter in value.replace(digits[0], "", 1)):
        return None
    text = re.sub(r"[^\d.,-]", "", digits[0])
    if len(text) > LONGEST_NUMBER:
        return None
    marks = re.findall("[.,]", text)
    last = marks[-1] if marks else ""
    if len(set(marks)) == 1 and (len(marks) > 1 or (last == "," and len(text) - text.index(",") == 4)):
        last = ""  # it divides thousands
    whole, _, part = text.rpartition(last) if last else (text, "", "")
    whole = re.sub("[.,]", "", whole)
    return float(f"{whole}.{part}") if last else int(whole)


_DIGITS = re.compile(r"(?:(?<!\S)-?[.,]|-?)\d(?:[\d.,\s'’]*\d)?")  # noqa: RUF001 - of Swiss thousands
LONGEST_NUMBER = 20  # characters


def _json_value(value: Any, name: str) -> Any:
    """`value` as JSON has it, None where it is absent."""
    if isinstance(value, str):
        return None if not value or is_absent(value) else value
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return None if not value.is_finite() else int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [part for one in value if (part := _json_value(one, name)) is not None] or None
    if isinstance(value, Mapping):
        parts = ((str(key), _json_value(part, name)) for key, part in value.items())
        return {key: part for key, part in parts if part is not None} or None
    raise BadRow(f"{name} is {type(value).__name__}, which JSON does not have")
