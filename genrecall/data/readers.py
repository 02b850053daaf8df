"""Reading a dataset: items, queries and judgments as the tables of `genrecall.records`, bad rows set aside.

Owns what an item must have, and what a dataset is. Where the rows are belongs to `genrecall.data.sources`, formats to
`genrecall.data.rows`, the checks of single values to `genrecall.data.parse` and `genrecall.item_text`, judgments to
`genrecall.data.judgments`, behaviour logs to `genrecall.data.events`. A row that cannot be used is counted by reason
and written to the reject file; more than `data.max_reject_share` of them stops the run: rows in = rows kept + rejects +
rows left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from genrecall import files
from genrecall.config.data import DataSection, ItemFields, Source
from genrecall.data import columns as naming
from genrecall.data import extra_fields
from genrecall.data.extra_fields import ReadExtra
from genrecall.data.field_mapping import Getter, getter
from genrecall.data.judgments import read_judged
from genrecall.data.parse import Record, RowParser, parse_batches, parse_item_id
from genrecall.data.rejects import Rejects, open_rejects
from genrecall.data.row import Row
from genrecall.data.shops import Shop, shop_of
from genrecall.data.sources import read_rows, resolve_sources, source_files
from genrecall.errors import BadRow, UserError
from genrecall.item_text import clean_text, is_absent, parse_paths, parse_texts, separator_of
from genrecall.records import EXTRA, ITEMS, Dataset


def read_dataset(section: DataSection, rejects: Path | Rejects | None = None) -> Dataset:
    """Read the dataset that `section` names.

    Args:
        section: the folder or index, and the mapping.
        rejects: the reject file, or a `Rejects` of the caller; None counts bad rows without writing them.

    Raises:
        UserError: a missing or damaged file, too many bad rows, a mapped field that no row has.
    """
    section, simulated = resolve_sources(section)
    with open_rejects(rejects) as bad:
        items = _read_items(section, bad)
        queries, judgments = read_judged(section, items, bad)
    prints = _fingerprints(section, {"items": items, "queries": queries, "judgments": judgments})
    return Dataset(section.name, items, queries, judgments, simulated, prints)


def read_items(section: DataSection, rejects: Path | Rejects | None = None) -> pa.Table:
    """The items of a dataset alone, with what an index is filled with beside them.

    ITEMS, and EXTRA where `data.items.fields.extra` names further columns. Args and errors as of `read_dataset`.
    """
    with open_rejects(rejects) as bad:
        return _read_items(resolve_sources(section)[0], bad, extra=True)


def item_schema(section: DataSection) -> pa.Schema:
    """ITEMS, with EXTRA where further columns are asked for. section: resolved."""
    return ITEMS.append(EXTRA) if section.items.fields.extra_paths else ITEMS


def _read_items(section: DataSection, rejects: Rejects, extra: bool = False) -> pa.Table:
    schema = item_schema(section) if extra else ITEMS
    items = pa.Table.from_batches(item_batches(section, rejects, extra), schema=schema)
    rejects.check("items", section.max_reject_share)
    fields = section.items.fields
    for name in ("category", "brand", "text"):
        empty = not any(pc.any(pc.greater(_lengths(chunk), 0)).as_py() for chunk in items[name].chunks)
        if empty and getattr(fields, name) != ItemFields.model_fields[name].default:
            raise UserError(
                f"data.items.fields.{name}: {getattr(fields, name)!r} is empty in all {len(items)} rows; name a field "
                "that the rows have, or leave the key out"
            )
    return items


def item_batches(section: DataSection, rejects: Rejects, extra: bool = False) -> Iterator[pa.RecordBatch]:
    """ITEMS in batches, unique by item_id (the first row of an id is kept). section: resolved.

    extra: read further columns as well (`item_schema`). A missing category or brand is allowed. Each file has columns
    of its own.
    """
    seen: set[str] = set()
    found: set[str] = set()
    schema, there = item_schema(section) if extra else ITEMS, dict[str, int]()
    for place, group in groupby(read_rows(section, "items"), key=lambda row: row.place):
        rows = iter(group)
        first = list(islice(rows, naming.SAMPLE_ROWS))
        values = [row.value for row in first if not row.fault]
        columns = naming.columns_of(values)
        there |= columns
        shop = shop_of(columns, values)
        fields = found_fields(section.items.fields, columns, values, shop[0] if shop else None, place)
        standard = ItemFields().model_dump()
        facts = {
            name: value
            for name, value in fields.model_dump().items()
            if value and (value != standard[name] or value in columns)  # of the others there is none
        }
        if shop:
            facts["export"] = shop[0].name
        rejects.facts.setdefault("items", {})[place] = facts
        if rounded := _rounded_ids(getter(fields.id), values):
            rejects.note(
                "items",
                f"{place}: ids such as {rounded} were rounded by a spreadsheet: export them again, as text",
            )
        if twice := _twice_encoded(getter(fields.title), values):
            rejects.note(
                "items",
                f"{place}: titles such as {twice[0]!r} were encoded twice ({twice[1]!r} is meant): write it again",
            )
        if lacking := extra_fields.lacking(fields, values):
            rejects.note(
                "items",
                f"{place}: none of the first {len(values)} rows has a value of {', '.join(map(repr, lacking))}, which "
                f"data.items.fields.extra names; the columns are {', '.join(list(columns)[: extra_fields.SHOWN])}",
            )
        whole: Iterable[Row] = chain(first, rows)
        products = shop[0].fold(whole, shop[1], rejects) if shop else whole
        left_out = partial(rejects.leave_out, "items")
        read_extra = extra_fields.extra_reader(fields, place, found, left_out) if extra else None
        yield from parse_batches(products, schema, _item_parser(fields, seen, read_extra), rejects, "items")
    if extra and seen:
        extra_fields.check_found(section.items.fields, found, there)


def found_fields(
    fields: ItemFields, columns: dict[str, int], values: list[Any], shop: Shop | None, place: str
) -> ItemFields:
    """`fields` with what is left at its standard, and no row has, looked for among the columns.

    Args:
        fields: as configured.
        columns: `columns_of` the first rows.
        values: those rows.
        shop: whose export it is.
        place: of the rows, for the message.

    Raises:
        UserError: there is no column for the id or the title.
    """
    for name in ("id", "title"):
        path = getattr(fields, name)
        if path != ItemFields.model_fields[name].default and values and not _any(path, values):
            raise UserError(
                f"{place}: data.items.fields.{name} is {path!r}, which none of the first {len(values)} rows has; the "
                f"columns are {', '.join(list(columns)[:30]) or 'none'}"
            )
    chosen: dict[str, Any] = {}
    names = {**naming.ITEM, **(shop.fields if shop else {})}
    for name in ("id", "title", "category", "brand"):
        standard = ItemFields.model_fields[name].default
        if getattr(fields, name) != standard or standard in columns:
            continue
        if found := naming.find_one(columns, names[name]):
            chosen[name] = found
        elif name in ("id", "title") and values:
            numbered = all(column.isdigit() for column in columns)
            hint = (
                "the first row is no header: name columns by their number, from 1" if numbered else "name one of them"
            )
            raise UserError(
                f"{place}: no column for the {name} of an item among {', '.join(list(columns)[:30]) or 'none'}; {hint} "
                f"with --map {name}=COLUMN or data.items.fields.{name}=COLUMN. If these are not items: --kind"
            )
    fields = fields.model_copy(update=chosen)
    if fields.text == "text" and "text" not in columns:
        taken = {str(getattr(fields, name)) for name in ("id", "title", "category", "brand")}
        if texts := naming.find_texts(columns, taken):
            fields = fields.model_copy(update={"text": texts})
    if fields.separator == "auto":
        get = getter(fields.category)
        separator = shop.separator if shop else separator_of([get(value) for value in values])
        fields = fields.model_copy(update={"separator": separator})
    return fields


def _any(path: str | list[str], values: list[Any]) -> bool:
    get = getter(path)
    return any(get(value) not in (None, "", []) for value in values)


def _item_parser(fields: ItemFields, seen: set[str], read_extra: ReadExtra | None = None) -> RowParser:
    get_id, get_title, get_category = getter(fields.id), getter(fields.title), getter(fields.category)
    get_brand, get_text = getter(fields.brand), getter(fields.text)
    keep = fields.keep_html

    def category_of(value: Any) -> tuple[list[str], list[str]]:
        paths = parse_paths(value, fields.separator, keep)
        category = max(paths, key=len, default=[])
        return category, [" > ".join(path) for path in paths if path != category[: len(path)]]

    def brand_of(value: Any) -> str:
        brand = clean_text(value, "brand", ", ", keep)
        return "" if is_absent(brand) else brand

    category_of_text, brand_of_text = lru_cache(REMEMBERED)(category_of), lru_cache(REMEMBERED)(brand_of)

    def parse(row: Any) -> Record:
        item_id = parse_item_id(get_id(row), "id")
        title = clean_text(get_title(row), "title", " ", keep)
        if not title or title in _NO_TITLE:
            raise BadRow("title is empty")
        path, name = get_category(row), get_brand(row)
        category, others = category_of_text(path) if isinstance(path, str) else category_of(path)
        brand = brand_of_text(name) if isinstance(name, str) else brand_of(name)
        texts = [*parse_texts(get_text(row), keep), *others]
        if item_id in seen:
            raise BadRow("id is a duplicate")
        extra = (read_extra(row),) if read_extra else ()
        seen.add(item_id)
        return item_id, title, category, brand, "\n".join(texts), *extra

    return parse


REMEMBERED = 1 << 16  # categories and brands, which repeat: a third of the time
_NO_TITLE = {"NaN", "nan", "null", "NULL", "None", "\\N"}  # a "Nan" is bread


def _rounded_ids(get: Getter, values: Sequence[Any]) -> str:
    """An id such as `4.00638E+12`, where most are like it; else ""."""
    found = [str(value) for row in values if _ROUNDED.fullmatch(str(value := get(row)))]
    return found[0] if found and len(found) * 2 > len(values) else ""


def _twice_encoded(get: Getter, values: Sequence[Any]) -> tuple[str, str] | None:
    """A title in UTF-8 that was taken for cp1252 (`CafÃ©`), and what it was, where most beyond ASCII are such."""
    titles = [title for row in values if isinstance(title := get(row), str) and not title.isascii()]
    found = []
    for title in titles:
        with suppress(UnicodeError):
            found.append((title, title.encode("cp1252").decode()))
    return found[0] if found and len(found) * 2 > len(titles) else None


_ROUNDED = re.compile(r"\d[.,]\d+E\+\d+")


def _lengths(chunk: pa.Array) -> pa.Array:
    is_list = pa.types.is_list(chunk.type)
    return pc.list_value_length(chunk) if is_list else pc.binary_length(chunk)


def _fingerprints(section: DataSection, tables: dict[str, pa.Table]) -> dict[str, str]:
    """sha256 of each file; of the records themselves where they come from an index."""
    prints = {}
    for name, table in tables.items():
        source: Source = getattr(section, name)
        if source.index:
            records = (json.dumps(batch.to_pylist(), ensure_ascii=False) for batch in table.to_batches())
            prints[f"index {source.index}"] = files.sha256_of(records)
        prints |= {path.name: files.sha256(path) for path in source_files(section, name)}
    return prints
