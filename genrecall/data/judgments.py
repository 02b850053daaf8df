"""Queries and judgments as tables, whatever they are given as: rows of (query, item, grade), lists of rated documents
by query, or counts of clicks.

Formats of lines belong to `genrecall.data.judgment_lines`. Grades are brought to 0 (irrelevant) to 1 (the best).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from genrecall.config.data import DataSection, JudgmentFields, JudgmentSource, QueryFields
from genrecall.data import columns as naming
from genrecall.data.field_mapping import Getter, getter
from genrecall.data.parse import Record, RowParser, parse_batches, parse_grade, parse_id, parse_number
from genrecall.data.rejects import Rejects
from genrecall.data.row import Row
from genrecall.data.rows import is_number
from genrecall.data.sources import has_source, read_rows
from genrecall.errors import BadRow, UserError
from genrecall.item_text import parse_text
from genrecall.records import JUDGMENTS, QUERIES

ESCI_LABELS = {
    **{"e": 100.0, "s": 10.0, "c": 1.0, "i": 0.0},
    **{"exact": 100.0, "substitute": 10.0, "complement": 1.0, "irrelevant": 0.0},
}
WORD_LABELS = {
    **{"perfect": 4.0, "excellent": 3.0, "good": 2.0, "fair": 1.0, "bad": 0.0, "poor": 0.0},
    **{"highly relevant": 2.0, "partially relevant": 1.0, "partial": 1.0, "not relevant": 0.0, "relevant": 1.0},
    **{"exact": 2.0, "irrelevant": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0},
}
PARTIAL = {"partial", "partially relevant"}  # words of a scale on which "exact" is no label of ESCI
PRIOR_IMPRESSIONS = 10.0  # added to those of an item, so that one click of one view is no certainty
MOST_GRADES = 1000  # distinct ones that are counted
LONE_SHARE = 0.001  # of the judgments: a largest grade of fewer may be a mistake
OUTLIER = 2.0  # times the second largest grade
_RATINGS = ("ratings", "judgements", "judgments", "relevant_documents", "relevantDocuments", "relevant_docs", "rated")
_CONTAINERS = ("judgmentRatings", "judgment_ratings", "judgmentScores")
_QUERY = ("query", "query_text", "queryText", "user_query", "userQuery", "search_term")
_ITEM = ("docId", "doc_id", "docid", "item_id", "document_id", "product_id", "_id", "id")
_GRADE = ("rating", "grade", "gain", "relevance", "score", "judgment", "judgement", "label")


def read_judged(
    section: DataSection, items: pa.Table, rejects: Rejects, places: dict[str, set[str]] | None = None
) -> tuple[pa.Table, pa.Table]:
    """QUERIES, unique by query_id, and JUDGMENTS about known items and queries. section: resolved.

    Judgments that carry the texts of their queries need no other source (a list of rated documents by query never uses
    one that is not named); queries without an id are named q001, q002, ... in the order in which they appear. Both
    tables are empty where there are neither queries nor judgments. Judgments of items that are not in the catalogue are
    counted and left out. places: gets, by query_id, the names of the files that judge it.
    """
    if not has_source(section, "queries") and not has_source(section, "judgments"):
        return QUERIES.empty_table(), JUDGMENTS.empty_table()
    queries, rows = Queries(), read_rows(section, "judgments")
    first = list(islice(rows, 1))
    named = section.queries.path or section.queries.index
    if has_source(section, "queries") and (named or not _brings_queries(first)):
        for _ in _queries(section, queries, rejects):
            pass
        rejects.check("queries", section.max_reject_share)
    judged = Judged(section.judgments, items, queries, rejects)
    judged.places = places
    table = pa.Table.from_batches(judged.batches(chain(first, rows)), schema=_RAW)
    judged.check(section.max_reject_share)
    return queries.table(), judged.normalized(table)


def raters_of(columns: Mapping[str, int], values: Sequence[Any]) -> list[str]:
    """The columns of a Quepid book: query, docid, then one of grades for each person; empty for other files."""
    first, rest = list(columns)[:2], list(columns)[2:]
    if first != ["query", "docid"]:
        return []
    cells = (value.get(column) for value in values if isinstance(value, dict) for column in rest)
    return rest if all(cell is None or is_number(str(cell)) for cell in cells) else []


def is_list_of_judgments(value: dict[str, Any]) -> bool:
    """Whether an object is a list of rated documents by query, in any of the shapes that are known."""
    return _listed(value) is not None


def _brings_queries(first: list[Row]) -> bool:
    """Whether judgments begin with a list of rated documents by the text of their query."""
    listed = [_listed(row.value) for row in first if not row.fault and isinstance(row.value, dict)]
    return any(found and "query" in found[0] and "query_id" not in found[0] for found in listed)


class Queries:
    """The queries that are known, by id and by text."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}  # id -> text
        self.ids: dict[str, str] = {}  # text -> its first id

    def add(self, query_id: str, text: str) -> None:
        self.texts[query_id] = text
        self.ids.setdefault(text, query_id)

    def id_of(self, text: str) -> str:
        """The id of a text; a new one where it has none."""
        if text not in self.ids:
            number = len(self.texts) + 1
            while f"q{number:03}" in self.texts:
                number += 1
            self.add(f"q{number:03}", text)
        return self.ids[text]

    def table(self) -> pa.Table:
        return pa.Table.from_pydict({"query_id": list(self.texts), "text": list(self.texts.values())}, schema=QUERIES)


def _queries(section: DataSection, queries: Queries, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    for place, rows in groupby(read_rows(section, "queries"), key=lambda row: row.place):
        listed = chain.from_iterable(map(_query_rows, rows))
        first = list(islice(listed, naming.SAMPLE_ROWS))
        columns = naming.columns_of([row.value for row in first])
        fields = _found(section.queries.fields, QueryFields, columns, naming.QUERY, {"id": "id", "text": "text"})
        rejects.facts.setdefault("queries", {})[place] = fields.model_dump()
        if not section.queries.fields.model_fields_set and not any(getter(fields.text)(row.value) for row in first):
            _refuse(place, "queries", "text", columns, first)
        yield from parse_batches(
            chain(first, listed), QUERIES, _query_parser(fields, columns, queries), rejects, "queries"
        )


def _query_rows(row: Row) -> Iterator[Row]:
    """A set of queries in one object (`querySetQueries`) is one row each."""
    lists = [v for v in row.value.values() if isinstance(v, list) and v] if isinstance(row.value, dict) else []
    if len(lists) == 1 and not row.fault and not naming.find(naming.columns_of([row.value]), naming.QUERY["text"]):
        for number, value in enumerate(lists[0], 1):
            yield Row(row.place, number, value if isinstance(value, dict) else {"text": value})
    else:
        yield row


def _query_parser(fields: QueryFields, columns: dict[str, int], queries: Queries) -> RowParser:
    get_id, get_text = getter(fields.id), getter(fields.text)
    has_id = str(fields.id) in columns or not isinstance(fields.id, str)

    def parse(row: Any) -> Record:
        query_id = parse_id(get_id(row), "query_id") if has_id else ""
        text = parse_text(get_text(row), "text")
        if not text:
            raise BadRow("text is empty")
        if not has_id:
            return queries.id_of(text), text
        if query_id in queries.texts:
            raise BadRow("query_id is a duplicate")
        queries.add(query_id, text)
        return query_id, text

    return parse


def _found(fields: Any, model: Any, columns: dict[str, int], aliases: dict[str, str], names: dict[str, str]) -> Any:
    """`fields` with those left at their standard, and absent from `columns`, looked for. names: field -> alias."""
    chosen = {}
    for name, alias in names.items():
        standard = model.model_fields[name].default
        absent = getattr(fields, name) == standard and standard not in columns
        if absent and (found := naming.find_one(columns, aliases[alias])):
            chosen[name] = found
    return fields.model_copy(update=chosen)


def _refuse(place: str, source: str, field: str, columns: dict[str, int], first: list[Row]) -> None:
    if any(not row.fault for row in first):
        raise UserError(
            f"{place}: no column for the {field.replace('_', ' ')} among {', '.join(list(columns)[:30]) or 'none'}; "
            f"name one with --map {field}=COLUMN or data.{source}.fields.{field}=COLUMN"
        )


_RAW = JUDGMENTS.append(pa.field("clicks", pa.bool_(), nullable=False))


class Judged:
    """Turns rows into judgments, and counts what they are.

    Args:
        source: settings of the judgments.
        items: with a column `item_id`.
        queries: known ones; those that the judgments bring are added.
        rejects: of the caller.
    """

    def __init__(self, source: JudgmentSource, items: pa.Table, queries: Queries, rejects: Rejects) -> None:
        self.source, self.queries, self.rejects = source, queries, rejects
        self.items = set(items["item_id"].to_pylist())
        self.grades: Counter[float] = Counter()
        self.gone: list[str] = []  # a few ids that are not in the catalogue
        self.counted = False  # whether grades are rates of clicks
        self.brought = not queries.texts  # whether the queries come with the judgments
        self.places: dict[str, set[str]] | None = None  # of each query, where they are asked for
        self._seen: dict[tuple[str, str], float] = {}
        self._own_labels = {key.casefold(): value for key, value in source.labels.items()}

    def batches(self, rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
        """Records of _RAW: JUDGMENTS with grades as given, less the offset, and whether they count clicks."""
        for place, several in groupby(rows, key=lambda row: row.place):
            listed = _numbered(several)
            first = list(islice(listed, naming.SAMPLE_ROWS))
            values = [row.value for row in first if not row.fault]
            columns = naming.columns_of(values)
            names = ("query_id", "query", "item_id", "grade", "impressions", "clicks", "purchases")
            fields = _found(
                self.source.fields, JudgmentFields, columns, naming.JUDGMENT, {name: name for name in names}
            )
            if fields.grade == JudgmentFields.model_fields["grade"].default and (raters := raters_of(columns, values)):
                fields = fields.model_copy(update={"grade": raters})
            self._require(place, fields, columns, first)
            facts = {
                name: value
                for name, value in fields.model_dump().items()
                if isinstance(value, list) or value in columns
            }
            self.rejects.facts.setdefault("judgments", {})[place] = facts
            parser = self._parser(fields, columns, values, place)
            yield from parse_batches(chain(first, listed), _RAW, parser, self.rejects, "judgments")

    def _require(self, place: str, fields: JudgmentFields, columns: dict[str, int], first: list[Row]) -> None:
        have = {name: bool(_value(getattr(fields, name), columns)) for name in JudgmentFields.model_fields}
        if not (have["query_id"] or have["query"]):
            _refuse(place, "judgments", "query_id", columns, first)
        if not have["item_id"]:
            _refuse(place, "judgments", "item_id", columns, first)
        if not (have["grade"] or have["clicks"] or have["purchases"]):
            _refuse(place, "judgments", "grade", columns, first)

    def _parser(self, fields: JudgmentFields, columns: dict[str, int], values: list[Any], place: str) -> RowParser:
        get = {name: getter(getattr(fields, name)) for name in JudgmentFields.model_fields}
        has = {name: bool(_value(getattr(fields, name), columns)) for name in JudgmentFields.model_fields}
        counted = not has["grade"]
        self.counted |= counted
        known = self.queries.texts
        words = {str(get["grade"](value)).strip().casefold() for value in values}
        labels = {**WORD_LABELS, **({} if words & PARTIAL else ESCI_LABELS), **self._own_labels}
        query_is_id = not has["query_id"] and any(_plain(get["query"](value)) in known for value in values)

        def left(reason: str) -> Record | None:
            self.rejects.leave_out("judgments", reason)
            return None

        def parse(row: Any) -> Record | None:
            query_id = self._query(row, get, has, query_is_id)
            item, grade = get["item_id"](row), None if counted else get["grade"](row)
            if isinstance(fields.grade, list) and isinstance(grade, list):  # by several people
                grade = sum(parse_grade(one, labels) for one in grade) / len(grade) if grade else None
            if item in (None, ""):
                if grade in (None, ""):
                    return left("a query without a judgment")
                raise BadRow("item_id is missing")
            item_id = parse_id(item, "item_id")
            if counted:
                value = _rate(
                    *(get[name](row) if has[name] else None for name in ("impressions", "clicks", "purchases"))
                )
            elif grade in (None, "") or (isinstance(grade, float) and math.isnan(grade)):
                return left("not rated")
            else:
                value = parse_grade(grade, labels)
                if len(self.grades) < MOST_GRADES or value in self.grades:
                    self.grades[value] += 1
            if query_id not in known:
                raise BadRow("no such query")
            if item_id not in self.items:
                if len(self.gone) < 3:
                    self.gone.append(item_id)
                return left("the item is not in the catalogue")
            if self.places is not None:
                self.places.setdefault(query_id, set()).add(place)
            pair = query_id, item_id
            if pair in self._seen:
                if self._seen[pair] == value:
                    return left("the same judgment again")
                raise BadRow("judged twice, with different grades")
            self._seen[pair] = value
            value = max(0.0, value - self.source.offset)
            return *pair, value if self.source.clip is None else min(value, self.source.clip), counted

        return parse

    def _query(self, row: Any, get: dict[str, Getter], has: dict[str, bool], query_is_id: bool) -> str:
        text = parse_text(get["query"](row), "query") if has["query"] and not query_is_id else ""
        if has["query_id"] or query_is_id:
            query_id = parse_id(get["query_id" if has["query_id"] else "query"](row), "query_id")
            if text and query_id not in self.queries.texts and self.brought:
                self.queries.add(query_id, text)
            return query_id
        if not text:
            raise BadRow("query is empty")
        return self.queries.id_of(text)

    def check(self, max_share: float) -> None:
        """UserError where the rows cannot be used; notes about what may be wrong with the grades."""
        rejects, left = self.rejects, self.rejects.left_out.get("judgments", Counter())
        if not self.queries.texts and rejects.reasons.get("judgments", Counter())["no such query"]:
            raise UserError(
                "data.judgments: they name queries by id, and no file has the texts of these: bring queries.tsv "
                "(query_id, tab, text), or name it in data.queries.path"
            )
        gone, kept = left["the item is not in the catalogue"], len(self._seen)
        if gone and not kept:
            ours = ", ".join(sorted(self.items)[:3])
            raise UserError(
                f"data.judgments: none of the {gone:,} judged items is in the catalogue, where ids are such as {ours}; "
                f"the judgments have {', '.join(self.gone)}. Name the column of these ids: data.items.fields.id"
            )
        rejects.check("judgments", max_share)
        if gone > kept:
            rejects.note(
                "judgments",
                f"{gone:,} of {gone + kept:,} judgments are of items that are not in the catalogue, such as "
                f"{', '.join(self.gone)}",
            )
        rejects.facts.setdefault("judgments", {})["grades"] = {
            f"{grade:g}": count for grade, count in sorted(self.grades.items())[:50]
        }
        for note in scale_notes(self.grades, self.source):
            rejects.note("judgments", note)
        if self.counted:
            rejects.note(
                "judgments",
                "the grades are rates of clicks and purchases, the best item of a query 1: set data.relevant, the "
                "least grade that counts as relevant, such as 0.5",
            )

    def normalized(self, table: pa.Table) -> pa.Table:
        """JUDGMENTS: grades divided by the largest of the dataset, or of their query."""
        largest = pc.max(table["grade"]).as_py()
        if not largest:
            below = "; data.judgments.offset is subtracted" if self.source.offset else ""
            raise UserError(
                f"data.judgments: every grade is 0, so nothing is relevant; check data.judgments.fields.grade{below}"
            )
        if self.source.scale == "query" or self.counted:
            best = table.group_by("query_id").aggregate([("grade", "max")])
            by_query = dict(zip(best["query_id"].to_pylist(), best["grade_max"].to_pylist(), strict=True))
            divisors = pa.array([by_query[query] or 1.0 for query in table["query_id"].to_pylist()], pa.float32())
        else:
            divisors = pa.scalar(largest, pa.float32())
        grades = pc.divide(table["grade"], divisors)
        return table.select(JUDGMENTS.names).set_column(2, JUDGMENTS.field("grade"), grades)


def scale_notes(grades: Counter[float], source: JudgmentSource) -> Iterator[str]:
    """What a histogram of grades, as given, says about their scale."""
    values, total = sorted(grades), grades.total()
    if not values:
        return
    if values[0] < 0 and source.offset == 0:
        negative = sum(count for grade, count in grades.items() if grade < 0)
        yield f"{negative:,} judgments have a grade below 0 and count as irrelevant"
    if len(values) > 2 and values[0] >= 1 and source.offset == 0:
        yield (
            f"the grades begin at {values[0]:g}: if {values[0]:g} means irrelevant, set "
            f"data.judgments.offset={values[0]:g}"
        )
    elif len(values) == 1 and values[0] > 0:
        yield f"every judgment has the grade {values[0]:g}: nothing is known to be irrelevant"
    if len(values) > 1 and source.clip is None and not set(values) <= set(ESCI_LABELS.values()):
        last, before = values[-1], values[-2]
        if grades[last] <= max(1, LONE_SHARE * total) and last > OUTLIER * max(before, 1.0) and total > len(values):
            yield (
                f"the grade {last:g} occurs {grades[last]:,} times in {total:,} and all others are at most {before:g}: "
                f"every grade is divided by the largest; if it is a mistake, set data.judgments.clip={before:g}"
            )


def _value(path: str | list[str], columns: dict[str, int]) -> bool:
    """Whether rows have something at a path: it is a column, or is no plain name."""
    return isinstance(path, list) or path in columns or "[" in path


def _plain(value: Any) -> str:
    return str(value).strip() if isinstance(value, str | int) else ""


def _rate(impressions: Any, clicks: Any, purchases: Any) -> float:
    """How often an item was clicked and bought, of how often it was shown."""
    shown, clicked, bought = (
        parse_number(value, name) if value not in (None, "") else 0.0
        for value, name in ((impressions, "impressions"), (clicks, "clicks"), (purchases, "purchases"))
    )
    if min(shown, clicked, bought) < 0:
        raise BadRow("a count is negative")
    acted = clicked + bought
    return acted / (max(shown, acted) + PRIOR_IMPRESSIONS) if impressions not in (None, "") else acted


def _numbered(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of one judgment each; the judgments of a list are numbered from 1 through the whole file."""
    number = 0
    for row in rows:
        listed = None if row.fault or not isinstance(row.value, dict) else _listed(row.value)
        if listed is None:
            yield row
            continue
        for value in listed:
            number += 1
            yield Row(row.place, number, value)


def _listed(value: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The judgments inside an object: [{"query", "item_id", "grade"}]; None where it is a judgment itself."""
    found = list(_inside(value))
    return found if found and found != [value] else None


def _inside(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for part in value:
            if isinstance(part, dict | list):
                yield from _inside(part, depth + 1)
        return
    if not isinstance(value, dict) or depth > 12:
        return
    for key in _CONTAINERS:
        if isinstance(value.get(key), dict):
            for query, ratings in value[key].items():
                yield from _rated({"query": query}, ratings)
            return
    query, ratings = _first(value, _QUERY), _first(value, _RATINGS)
    if query is None and isinstance(value.get("placeholders"), dict):
        query = value["placeholders"].get("$query") or next(iter(value["placeholders"].values()), None)
    if isinstance(query, str | int) and isinstance(ratings, dict | list):
        about = {"query": query}
        if _first(value, ("query_id", "qid")) is not None:
            about["query_id"] = _first(value, ("query_id", "qid"))
        pair = _first(value, _ITEM) if isinstance(ratings, list) and "doc_id" in value else None
        yield from _rated(about, ratings, pair)
        return
    parts = [part for part in value.values() if isinstance(part, dict | list)]
    if depth == 0 and parts and len(parts) == len(value) and all(_is_qrels(part) for part in parts):
        for query_id, ratings in value.items():  # {"q1": {"B01": 2}}
            yield from _rated({"query_id": query_id}, ratings)
        return
    flat = _first(value, _ITEM) is not None and query is not None
    if not flat:
        for part in parts:
            yield from _inside(part, depth + 1)


def _is_qrels(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(type(grade) in (int, float) for grade in value.values())


def _rated(about: dict[str, Any], ratings: Any, pair: Any = None) -> Iterator[dict[str, Any]]:
    """The judgments of one query: a list of rated documents, {document: grade}, or {grade: [documents]}."""
    empty = True
    if isinstance(ratings, dict):
        for key, value in ratings.items():
            if isinstance(value, list):
                for item in value:
                    empty = False
                    yield {**about, "item_id": _first(item, _ITEM) if isinstance(item, dict) else item, "grade": key}
            else:
                empty = False
                yield {**about, "item_id": key, "grade": _first(value, _GRADE) if isinstance(value, dict) else value}
    elif isinstance(ratings, list):
        if pair is not None:
            given = [_first(one, _GRADE) for one in ratings if isinstance(one, dict)]
            numbers = [float(grade) for grade in given if isinstance(grade, int | float)]
            yield {**about, "item_id": pair, "grade": sum(numbers) / len(numbers) if numbers else None}
            return
        for one in ratings:
            empty = False
            if isinstance(one, dict):
                yield {**about, "item_id": _first(one, _ITEM), "grade": _first(one, _GRADE)}
            else:
                yield {**about, "item_id": one, "grade": None}
    if empty:
        yield about


def _first(value: dict[str, Any], keys: Iterable[str]) -> Any:
    return next((value[key] for key in keys if value.get(key) is not None), None)
