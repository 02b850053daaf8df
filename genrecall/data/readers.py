"""Reading a dataset: items, queries and judgments as the tables of `genrecall.records`, bad rows set aside.

Owns which records of which file or index make a dataset. Formats belong to `genrecall.data.rows`, the checks of single
values to `genrecall.data.parse`, behaviour logs to `genrecall.data.events`. A row that cannot be used is counted by
reason, written to the reject file, and more than `data.max_reject_share` of them stops the run: rows in = rows kept +
rejects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from genrecall.config.data import (
    DataSection,
    Description,
    ItemFields,
    ItemSource,
    JudgmentFields,
    JudgmentSource,
    QueryFields,
    QuerySource,
    Source,
    Sources,
)
from genrecall.data.field_mapping import getter
from genrecall.data.parse import Parser, grade_of, id_of, table, texts_of
from genrecall.data.rejects import Rejects
from genrecall.data.rows import Row, is_judgment_list, judgment_list, paths, read, scan
from genrecall.errors import BadRow, UserError
from genrecall.item_text import categories_of, text_of
from genrecall.records import ITEMS, JUDGMENTS, QUERIES, Dataset

ITEM_FILES = ("items.jsonl", "items.jsonl.gz", "items.parquet")
QUERY_FILES = ("queries.tsv", "queries.jsonl", "queries.jsonl.gz", "queries.parquet")
JUDGMENT_FILES = ("qrels.txt", "judgments.json", "judgments.jsonl", "judgments.jsonl.gz", "judgments.parquet")


def open_dataset(section: DataSection, rejects: Path | Rejects | None = None) -> Dataset:
    """Read the dataset that `section` names.

    Args:
        section: the folder or index, and the mapping.
        rejects: the reject file, or a `Rejects` to look into afterwards; None counts bad rows without writing them.

    Raises:
        UserError: a missing or damaged file, too many bad rows, a mapped field that no row has.
    """
    section, simulated = describe(section)
    bad = rejects if isinstance(rejects, Rejects) else Rejects(rejects)
    items = read_items(section, bad)
    queries, judgments = read_judged(section, items, bad)
    prints = _fingerprints(section, {"items": items, "queries": queries, "judgments": judgments})
    return Dataset(section.name, items, queries, judgments, simulated, prints)


def describe(section: DataSection) -> tuple[DataSection, bool]:
    """`section` with what its folder's `dataset.json` says filled in, and whether the dataset was generated.

    A source whose path or index `section` names replaces the described one; otherwise the fields that `section` maps
    differently from the standard go before those described.
    """
    if not section.items.index and not section.folder.is_dir():
        raise UserError(
            f"data.folder {section.folder} does not exist: `genrecall data fetch esci` fills data/esci-us, "
            "`genrecall data synthesize --items 10000 --out DIR` makes a shop"
        )
    path = section.folder / "dataset.json"
    if not path.is_file():
        return section.model_copy(update={"name": section.name or section.folder.resolve().name}), False
    try:
        said = Description.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} does not describe a dataset: {error}") from None
    filled = {key: _filled(getattr(section, key), getattr(said, key)) for key in Sources.model_fields}
    return section.model_copy(update={**filled, "name": section.name or said.name}), said.simulated


def _filled(chosen: Source, said: Source) -> Source:
    if chosen.path or chosen.index:
        return chosen
    mapped = chosen.model_dump(include={"fields"}, exclude_defaults=True).get("fields", {})
    return said.model_copy(update={"fields": said.fields.model_copy(update=mapped)})


def read_items(section: DataSection, rejects: Rejects) -> pa.Table:
    """ITEMS, unique by item_id (the first row of an id is kept). A missing category or brand is allowed."""
    source: ItemSource = section.items
    fields = source.fields
    found = table(rows_of(section, source, ITEM_FILES, "items"), ITEMS, _item(fields), rejects, "items")
    rejects.check("items", section.max_reject_share)
    for name in ("category", "brand", "text"):
        empty = not any(pc.any(pc.greater(_lengths(chunk), 0)).as_py() for chunk in found[name].chunks)
        if empty and getattr(fields, name) != ItemFields.model_fields[name].default:
            raise UserError(
                f"data.items.fields.{name}: {getattr(fields, name)!r} is empty in all {len(found)} rows; name a field "
                "that the rows have, or leave the key out"
            )
    return found


def read_queries(section: DataSection, rejects: Rejects) -> pa.Table:
    """QUERIES, unique by query_id."""
    source: QuerySource = section.queries
    rows = rows_of(section, source, QUERY_FILES, "queries")
    found = table(rows, QUERIES, _query(source.fields), rejects, "queries")
    rejects.check("queries", section.max_reject_share)
    return found


def read_judgments(section: DataSection, items: pa.Table, queries: pa.Table, rejects: Rejects) -> pa.Table:
    """JUDGMENTS about known items and queries, grades divided by the largest that occurs."""
    source: JudgmentSource = section.judgments
    rows = rows_of(section, source, JUDGMENT_FILES, "judgments")
    return _judgments(rows, source.fields, items, queries, rejects, section.max_reject_share)


def read_judged(section: DataSection, items: pa.Table, rejects: Rejects) -> tuple[pa.Table, pa.Table]:
    """QUERIES and JUDGMENTS. A judgment list brings its own queries: they are named q001, q002, ... in its order.

    A folder of items alone, a shop without logs, has neither: both tables are empty.
    """
    kinds = ((section.queries, QUERY_FILES), (section.judgments, JUDGMENT_FILES))
    if not any(source.index or paths(section.folder, source, names) for source, names in kinds):
        return QUERIES.empty_table(), JUDGMENTS.empty_table()
    files = paths(section.folder, section.judgments, JUDGMENT_FILES)
    if section.judgments.index or not files or not is_judgment_list(files[0]):
        queries = read_queries(section, rejects)
        return queries, read_judgments(section, items, queries, rejects)
    listed = judgment_list(files[0])
    place = files[0].name
    rows = (Row(place, n, {"query_id": f"q{n:03}", "text": text}) for n, (text, _) in enumerate(listed, 1))
    queries = table(rows, QUERIES, _query(QueryFields()), rejects, "queries")
    rejects.check("queries", section.max_reject_share)
    ratings = ((f"q{n:03}", rating) for n, (_, given) in enumerate(listed, 1) for rating in given)
    rows = (
        Row(place, line, {"query_id": query_id, "rated": rated}) for line, (query_id, rated) in enumerate(ratings, 1)
    )
    fields = JudgmentFields(item_id="rated.docId", grade="rated.rating")
    return queries, _judgments(rows, fields, items, queries, rejects, section.max_reject_share)


def rows_of(section: DataSection, source: Source, names: tuple[str, ...], what: str) -> Iterator[Row]:
    """The raw rows of a source: its index, its files, or the first of the standard `names` in the dataset's folder."""
    if source.index:
        return scan(section, source.index)
    files = paths(section.folder, source, names)
    if not files:
        raise UserError(
            f"data.folder {section.folder} has none of {', '.join(names)}: name the file in data.{what}.path, or an "
            f"OpenSearch index in data.{what}.index"
        )
    return read(files)


def _item(fields: ItemFields) -> Parser:
    get_id, get_title, get_category = getter(fields.id), getter(fields.title), getter(fields.category)
    get_brand, get_text = getter(fields.brand), getter(fields.text)
    seen: set[str] = set()

    def parse(row: Any) -> list[tuple[Any, ...]]:
        item_id = id_of(get_id(row), "id")
        title = text_of(get_title(row), "title")
        if not title:
            raise BadRow("title is empty")
        category = categories_of(get_category(row), fields.separator)
        record = (item_id, title, category, text_of(get_brand(row), "brand"), "\n".join(texts_of(get_text(row))))
        if item_id in seen:
            raise BadRow("id is a duplicate")
        seen.add(item_id)
        return [record]

    return parse


def _query(fields: QueryFields) -> Parser:
    get_id, get_text = getter(fields.id), getter(fields.text)
    seen: set[str] = set()

    def parse(row: Any) -> list[tuple[Any, ...]]:
        query_id, text = id_of(get_id(row), "query_id"), text_of(get_text(row), "text")
        if not text:
            raise BadRow("text is empty")
        if query_id in seen:
            raise BadRow("query_id is a duplicate")
        seen.add(query_id)
        return [(query_id, text)]

    return parse


def _judgments(
    rows: Iterable[Row], fields: JudgmentFields, items: pa.Table, queries: pa.Table, rejects: Rejects, max_share: float
) -> pa.Table:
    get_query, get_item, get_grade = getter(fields.query_id), getter(fields.item_id), getter(fields.grade)
    known_items, known_queries = set(items["item_id"].to_pylist()), set(queries["query_id"].to_pylist())
    seen: set[tuple[str, str]] = set()

    def parse(row: Any) -> list[tuple[Any, ...]]:
        pair = id_of(get_query(row), "query_id"), id_of(get_item(row), "item_id")
        grade = grade_of(get_grade(row))
        if pair[0] not in known_queries:
            raise BadRow("no such query")
        if pair[1] not in known_items:
            raise BadRow("no such item")
        if pair in seen:
            raise BadRow("judged twice")
        seen.add(pair)
        return [(*pair, grade)]

    found = table(rows, JUDGMENTS, parse, rejects, "judgments")
    rejects.check("judgments", max_share)
    largest = pc.max(found["grade"]).as_py()
    if not largest:
        raise UserError("data.judgments: every grade is 0, so nothing is relevant; check data.judgments.fields.grade")
    grades = pc.divide(found["grade"], pa.scalar(largest, pa.float32()))
    return found.set_column(2, JUDGMENTS.field("grade"), grades)


def _lengths(chunk: pa.Array) -> pa.Array:
    is_list = pa.types.is_list(chunk.type)
    return pc.list_value_length(chunk) if is_list else pc.binary_length(chunk)


def _fingerprints(section: DataSection, tables: dict[str, pa.Table]) -> dict[str, str]:
    """sha256 of each file; of the records themselves where they come from an index."""
    prints = {}
    for name, standard in (("items", ITEM_FILES), ("queries", QUERY_FILES), ("judgments", JUDGMENT_FILES)):
        source: Source = getattr(section, name)
        if source.index:
            prints[f"index {source.index}"] = _sha256_of_records(tables[name])
            continue
        for path in paths(section.folder, source, standard):
            with path.open("rb") as file:
                prints[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return prints


def _sha256_of_records(records: pa.Table) -> str:
    digest = hashlib.sha256()
    for batch in records.to_batches():
        digest.update(json.dumps(batch.to_pylist(), ensure_ascii=False).encode())
    return digest.hexdigest()
