"""Reading a dataset: items, queries and judgments as the tables of `genrecall.records`, bad rows set aside.

Owns what a record of each kind must have. Where the rows are belongs to `genrecall.data.sources`, formats to
`genrecall.data.rows`, the checks of single values to `genrecall.data.parse`, behaviour logs to `genrecall.data.events`.
A row that cannot be used is counted by reason and written to the reject file; more than `data.max_reject_share` of them
stops the run: rows in = rows kept + rejects.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from genrecall import files
from genrecall.config.data import DataSection, ItemFields, JudgmentFields, QueryFields, Source
from genrecall.data.field_mapping import getter
from genrecall.data.parse import Record, RowParser, parse_grade, parse_id, parse_table, parse_texts
from genrecall.data.rejects import Rejects, open_rejects
from genrecall.data.rows import Row, is_judgment_list, read_judgment_list
from genrecall.data.sources import has_source, read_rows, resolve_sources, source_files
from genrecall.errors import BadRow, UserError
from genrecall.item_text import parse_categories, parse_text
from genrecall.records import ITEMS, JUDGMENTS, QUERIES, Dataset


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
        queries, judgments = _read_judged(section, items, bad)
    prints = _fingerprints(section, {"items": items, "queries": queries, "judgments": judgments})
    return Dataset(section.name, items, queries, judgments, simulated, prints)


def read_items(section: DataSection, rejects: Path | Rejects | None = None) -> pa.Table:
    """The items of a dataset alone (ITEMS). Args and errors as of `read_dataset`."""
    with open_rejects(rejects) as bad:
        return _read_items(resolve_sources(section)[0], bad)


def _read_items(section: DataSection, rejects: Rejects) -> pa.Table:
    """ITEMS, unique by item_id (the first row of an id is kept). A missing category or brand is allowed."""
    fields = section.items.fields
    items = parse_table(read_rows(section, "items"), ITEMS, _item_parser(fields), rejects, "items")
    rejects.check("items", section.max_reject_share)
    for name in ("category", "brand", "text"):
        empty = not any(pc.any(pc.greater(_lengths(chunk), 0)).as_py() for chunk in items[name].chunks)
        if empty and getattr(fields, name) != ItemFields.model_fields[name].default:
            raise UserError(
                f"data.items.fields.{name}: {getattr(fields, name)!r} is empty in all {len(items)} rows; name a field "
                "that the rows have, or leave the key out"
            )
    return items


def _read_judged(section: DataSection, items: pa.Table, rejects: Rejects) -> tuple[pa.Table, pa.Table]:
    """QUERIES, unique by query_id, and JUDGMENTS about known items and queries.

    A judgment list brings its own queries: they are named q001, q002, ... in its order. Both tables are empty where
    there are neither queries nor judgments.
    """
    if not has_source(section, "queries") and not has_source(section, "judgments"):
        return QUERIES.empty_table(), JUDGMENTS.empty_table()
    listed = source_files(section, "judgments")
    if listed and is_judgment_list(listed[0]):
        query_rows, judgment_rows = _judgment_list_rows(listed[0])
        query_fields, judgment_fields = QueryFields(), JudgmentFields(item_id="rated.docId", grade="rated.rating")
    else:
        query_rows, judgment_rows = read_rows(section, "queries"), read_rows(section, "judgments")
        query_fields, judgment_fields = section.queries.fields, section.judgments.fields
    queries = parse_table(query_rows, QUERIES, _query_parser(query_fields), rejects, "queries")
    rejects.check("queries", section.max_reject_share)
    parser = _judgment_parser(judgment_fields, items, queries)
    judgments = parse_table(judgment_rows, JUDGMENTS, parser, rejects, "judgments")
    rejects.check("judgments", section.max_reject_share)
    return queries, _normalize(judgments)


def _judgment_list_rows(path: Path) -> tuple[Iterable[Row], Iterable[Row]]:
    """The rows of queries, and of judgments, which are located by their number in the list."""
    listed = [(f"q{number:03}", text, ratings) for number, (text, ratings) in enumerate(read_judgment_list(path), 1)]
    queries = ({"query_id": query_id, "text": text} for query_id, text, _ in listed)
    judgments = ({"query_id": query_id, "rated": rating} for query_id, _, ratings in listed for rating in ratings)
    query_rows, judgment_rows = (
        (Row(path.name, line, value) for line, value in enumerate(values, 1)) for values in (queries, judgments)
    )
    return query_rows, judgment_rows


def _normalize(judgments: pa.Table) -> pa.Table:
    """Grades divided by the largest that occurs."""
    largest = pc.max(judgments["grade"]).as_py()
    if not largest:
        raise UserError("data.judgments: every grade is 0, so nothing is relevant; check data.judgments.fields.grade")
    grades = pc.divide(judgments["grade"], pa.scalar(largest, pa.float32()))
    return judgments.set_column(2, JUDGMENTS.field("grade"), grades)


def _item_parser(fields: ItemFields) -> RowParser:
    get_id, get_title, get_category = getter(fields.id), getter(fields.title), getter(fields.category)
    get_brand, get_text = getter(fields.brand), getter(fields.text)
    seen: set[str] = set()

    def parse(row: Any) -> Record:
        item_id = parse_id(get_id(row), "id")
        title = parse_text(get_title(row), "title")
        if not title:
            raise BadRow("title is empty")
        category = parse_categories(get_category(row), fields.separator)
        brand, text = parse_text(get_brand(row), "brand"), "\n".join(parse_texts(get_text(row)))
        if item_id in seen:
            raise BadRow("id is a duplicate")
        seen.add(item_id)
        return item_id, title, category, brand, text

    return parse


def _query_parser(fields: QueryFields) -> RowParser:
    get_id, get_text = getter(fields.id), getter(fields.text)
    seen: set[str] = set()

    def parse(row: Any) -> Record:
        query_id, text = parse_id(get_id(row), "query_id"), parse_text(get_text(row), "text")
        if not text:
            raise BadRow("text is empty")
        if query_id in seen:
            raise BadRow("query_id is a duplicate")
        seen.add(query_id)
        return query_id, text

    return parse


def _judgment_parser(fields: JudgmentFields, items: pa.Table, queries: pa.Table) -> RowParser:
    get_query, get_item, get_grade = getter(fields.query_id), getter(fields.item_id), getter(fields.grade)
    known_items, known_queries = set(items["item_id"].to_pylist()), set(queries["query_id"].to_pylist())
    seen: set[tuple[str, str]] = set()

    def parse(row: Any) -> Record:
        pair = parse_id(get_query(row), "query_id"), parse_id(get_item(row), "item_id")
        grade = parse_grade(get_grade(row))
        if pair[0] not in known_queries:
            raise BadRow("no such query")
        if pair[1] not in known_items:
            raise BadRow("no such item")
        if pair in seen:
            raise BadRow("judged twice")
        seen.add(pair)
        return *pair, grade

    return parse


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
