"""Behaviour logs: User Behavior Insights 1.3 (`ubi_queries`, `ubi_events`) as streams of record batches.

As the plugin, trackers and exports write it: other names of fields, several objects in an event, both kinds in one
file, events that carry the text of their query. A batch at a time is in memory, so a log may be of any size. What needs
the whole log (a query logged twice, an event of a query that was not logged) and what is derived from it (requests, a
client's recent items) belongs to `trainer.logs`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyarrow as pa

from genrecall.config.data import KNOWN_ACTIONS, DataSection, LoggedEventFields, LoggedQueryFields
from genrecall.data import columns as naming
from genrecall.data.columns import plain
from genrecall.data.field_mapping import getter
from genrecall.data.parse import Record, RowParser, parse_batches, parse_id, parse_position, parse_time
from genrecall.data.rejects import Rejects
from genrecall.data.row import Row
from genrecall.data.sources import has_source, read_rows, resolve_sources, source_files
from genrecall.errors import BadRow
from genrecall.item_text import decoded, parse_text

_TIME = pa.timestamp("ms", tz="UTC")
_WHERE = [pa.field("place", pa.string(), nullable=False), pa.field("line", pa.int64(), nullable=False)]

# A row of `ubi_queries`, and the file or index and the line where it was found.
LOGGED_QUERIES = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("client_id", pa.string(), nullable=False),  # "" where unknown, as are gender and age_band
        pa.field("timestamp", _TIME, nullable=False),
        pa.field("gender", pa.string(), nullable=False),
        pa.field("age_band", pa.string(), nullable=False),
        pa.field("hits", pa.list_(pa.string()), nullable=False),  # the items shown, best first
        *_WHERE,
    ]
)

# An object of a row of `ubi_events`, of an action that `data.actions` maps.
LOGGED_EVENTS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),  # "" where it was not logged
        pa.field("client_id", pa.string(), nullable=False),
        pa.field("timestamp", _TIME, nullable=False),
        pa.field("action", pa.string(), nullable=False),  # exposure | click | purchase
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),  # rank in the answer as logged, from 0 or 1; -1 where unknown
        *_WHERE,
    ]
)

LOOKS = 2000  # rows of a log in which a field that was not found is looked for
MOST_ACTIONS = 200  # names that are counted apart
SEARCH_MINUTES = 30  # events of one client and text so near to each other are of one search, where no query was logged
_IDS = (
    "object_id",
    "objectId",
    "item_id",
    "itemId",
    "product_id",
    "productId",
    "_id",
    "id",
    "sku",
    "doc_id",
    "docId",
    "internal_id",
)
_PLACES = ("position", "ordinal", "index", "rank")


def has_logs(section: DataSection) -> bool:
    """Whether the dataset that `section` names comes with logs."""
    section = resolve_sources(section)[0]
    return has_source(section, "ubi_queries") or has_source(section, "ubi_events")


def logged_queries(section: DataSection, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    """LOGGED_QUERIES, in the order of the log; bad rows go to `rejects`. section: resolved (`resolve_sources`).

    Where no queries were logged, one for each event that carries the text of its query: the same query many times, with
    nothing shown.
    """
    if has_source(section, "ubi_queries") or not has_source(section, "ubi_events"):
        rows = _unpacked(read_rows(section, "ubi_queries"))
        both = _places_of_both(section)
        rows = (row for row in rows if row.place not in both or not is_event(row))
        parse = _logged_query(section, rejects)
        yield from parse_batches(rows, LOGGED_QUERIES, parse, rejects, "ubi_queries", located=True)
    else:
        rows = _unpacked(read_rows(section, "ubi_events"))
        parse = _query_of_event(section, rejects)
        yield from parse_batches(rows, LOGGED_QUERIES, parse, rejects, "ubi_queries", located=True)


def logged_events(section: DataSection, rejects: Rejects, raw: bool = False) -> Iterator[pa.RecordBatch]:
    """LOGGED_EVENTS, in the order of the log, a record for each object of an event.

    An event of an action that is not mapped is left out and counted by name. raw: keep it, and the names of the actions
    as they were logged.
    """
    if has_source(section, "ubi_queries") and not has_source(section, "ubi_events"):
        return  # what was shown is known, and nothing of what was clicked: `action_notes` says so
    rows = _unpacked(read_rows(section, "ubi_events"))
    both = _places_of_both(section)
    rows = (row for row in rows if row.place not in both or is_event(row))
    parse = _logged_event(section, rejects, raw)
    yield from parse_batches(rows, LOGGED_EVENTS, parse, rejects, "ubi_events", located=True)


def actions_of(section: DataSection) -> dict[str, str]:
    """Plain name of an action -> exposure, click, purchase or none."""
    return {**KNOWN_ACTIONS, **{plain(name): action for name, action in section.actions.items()}}


def is_event(row: Row) -> bool:
    """Whether a row of a log of both kinds is an event: by its index, else by having an action."""
    if row.index:
        return "event" in row.index
    if not isinstance(row.value, dict):
        return False
    named = any(row.value.get(name) for name in ("action_name", "event_attributes", "actionName", "event_name"))
    return named or (isinstance(row.value.get("event"), str) and isinstance(row.value.get("properties"), dict))


NO_TEXT = "an event without the text of a query"


def text_note(section: DataSection, rejects: Rejects) -> str:
    """What is wrong where no query was logged and hardly any event carries the text of one; "" where nothing is."""
    without = rejects.left_out.get("ubi_queries", Counter())[NO_TEXT]
    if has_source(section, "ubi_queries") or without <= rejects.accepted["ubi_queries"] / 2:
        return ""
    return (
        f"NO QUERIES: no query was logged, and {without:,} of {rejects.accepted['ubi_queries']:,} events lack the text "
        "of one: bring ubi_queries too, or name the column of the text: --map ubi_events.user_query=COLUMN"
    )


def action_notes(counts: Mapping[str, int], section: DataSection) -> Iterator[str]:
    """What is wrong with the actions of a log: none of them is a click, some are not mapped. counts: rows by name."""
    known = actions_of(section)
    means = Counter[str]()
    for name, count in counts.items():
        means[known.get(plain(name), "")] += count
    listed = ", ".join(f"{name} {count:,}" for name, count in Counter(counts).most_common(10))
    if not counts:
        yield "NO CLICKS: the log has no events; bring ubi_events too"
    elif not means["click"] and not means["purchase"]:
        yield (
            f"NO CLICKS: none of {sum(counts.values()):,} events counts as a click or purchase. The actions are "
            f"{listed}; say which is one, as in data.actions.NAME=click"
        )
    unknown = Counter({name: count for name, count in counts.items() if plain(name) not in known})
    if unknown:
        names = ", ".join(f"{name} {count:,}" for name, count in unknown.most_common(10))
        name = unknown.most_common(1)[0][0]
        yield (
            f"actions that are not mapped: {names}. Their events are left out; to use one, set data.actions, as in "
            f"data.actions.{plain(name)}=click (or exposure, purchase; none says that it is meant)"
        )


class Finder:
    """The value of a field in a row of a log: at its path, else at a path of one of its other names.

    Args:
        path: as configured.
        standard: the path where nothing is configured; other names are looked for only then.
        names: other names (`columns`).
    """

    def __init__(self, path: str | list[str], standard: str, names: str) -> None:
        self.paths = [path]
        self._getters = [getter(path)]
        self._names = names if path == standard else ""
        self._looks = LOOKS

    def __call__(self, row: Any) -> Any:
        for get in self._getters:
            if (value := get(row)) not in (None, "", []):
                return value
        if self._names and self._looks:
            self._looks -= 1
            for path in naming.find(naming.columns_of([row]), self._names):
                if path not in self.paths:
                    self.paths.append(path)
                    self._getters.append(getter(path))
                if (value := getter(path)(row)) not in (None, "", []):
                    return value
        return None


def _finders(fields: LoggedQueryFields | LoggedEventFields, names: Mapping[str, str]) -> dict[str, Finder]:
    standard = type(fields).model_fields
    return {name: Finder(getattr(fields, name), standard[name].default, names.get(name, "")) for name in standard}


def _unpacked(rows: Iterator[Row]) -> Iterator[Row]:
    """Objects that a cell of a table holds as text, in place of the text; parameters of GA4's events by their names."""
    for row in rows:
        if isinstance(row.value, dict):
            if isinstance(row.value.get("event_params"), list):
                yield replace(row, value={**dict(_parameters(row.value["event_params"])), **row.value})
                continue
            for name in ("event_attributes", "query_attributes", "queryResponse"):
                if isinstance(row.value.get(name), str):
                    row.value[name] = decoded(row.value[name])
        yield row


def _parameters(listed: list[Any]) -> Iterator[tuple[str, Any]]:
    """(key, value) of GA4's `[{"key": "search_term", "value": {"string_value": "shoe"}}]`."""
    for one in listed:
        if isinstance(one, dict) and isinstance(one.get("key"), str) and isinstance(one.get("value"), dict):
            found = (value for value in one["value"].values() if value not in (None, ""))
            if (value := next(found, None)) is not None:
                yield one["key"], value


def _places_of_both(section: DataSection) -> set[str]:
    """The files, or the index, that hold queries and events."""
    queries, events = section.ubi_queries, section.ubi_events
    if queries.index or events.index:
        return {queries.index} & {events.index}
    both = {*source_files(section, "ubi_queries")} & {*source_files(section, "ubi_events")}
    return {path.name for path in both}


def _logged_query(section: DataSection, rejects: Rejects) -> RowParser:
    find = _finders(section.ubi_queries.fields, naming.LOGGED_QUERY)
    rejects.facts.setdefault("ubi_queries", {})["columns"] = {name: one.paths for name, one in find.items()}

    def parse(row: Any) -> Record:
        hits, empty = _hits(find["hits"](row))
        if empty:
            rejects.leave_out("ubi_queries", "an empty id among the items shown", empty)
        return (
            parse_id(find["query_id"](row), "query_id"),
            _query_text(find["user_query"](row)),
            parse_text(find["client_id"](row), "client_id"),
            parse_time(find["timestamp"](row)),
            parse_text(find["gender"](row), "gender"),
            parse_text(find["age_band"](row), "age_band"),
            hits,
        )

    return parse


def _logged_event(section: DataSection, rejects: Rejects, raw: bool) -> RowParser:
    find, actions = _finders(section.ubi_events.fields, naming.LOGGED_EVENT), actions_of(section)
    facts = rejects.facts.setdefault("ubi_events", {})
    facts["columns"] = {name: one.paths for name, one in find.items()}
    counts: Counter[str] = facts.setdefault("actions", Counter())
    derive = not has_source(section, "ubi_queries")

    def parse(row: Any) -> list[Record]:
        name = parse_text(find["action"](row), "action_name") or ("click" if derive else "")
        if not name:
            raise BadRow("action_name is missing")
        if len(counts) < MOST_ACTIONS or name in counts:
            counts[name] += 1
        action = actions.get(plain(name), "none")
        if action == "none" and not raw:
            rejects.leave_out("ubi_events", f"action {name}" if name in counts else "other actions")
            return []
        client, time = parse_text(find["client_id"](row), "client_id"), parse_time(find["timestamp"](row))
        query_id = _event_query_id(find, row, client, time, derive)
        objects = objects_of(find["item_id"](row))
        if not objects and action != "none":
            raise BadRow("item_id is missing")
        place = find["position"](row) if len(objects) == 1 else None
        act = name if raw else action
        try:
            records: list[Record] = [
                (query_id, client, time, act, parse_id(item, "item_id"), parse_position(place if own is None else own))
                for item, own in objects
            ]
        except BadRow:
            if action != "none":
                raise
            records = []
        return records or [(query_id, client, time, name, "", -1)]  # raw: it may be mapped later, its object aside

    return parse


def _query_of_event(section: DataSection, rejects: Rejects) -> RowParser:
    find = _finders(section.ubi_events.fields, naming.LOGGED_EVENT)

    def parse(row: Any) -> Record | None:
        text = _query_text(find["user_query"](row))
        if not text:
            rejects.leave_out("ubi_queries", NO_TEXT)
            return None
        client, time = parse_text(find["client_id"](row), "client_id"), parse_time(find["timestamp"](row))
        return _event_query_id(find, row, client, time, True), text, client, time, "", "", []

    return parse


def _event_query_id(find: Mapping[str, Finder], row: Any, client: str, time: Any, derive: bool) -> str:
    """The id of an event's query, "" where it has none. derive: make one of client, text and time."""
    query_id = find["query_id"](row)
    if query_id is not None and (query_id := parse_text(query_id, "query_id")):
        return parse_id(query_id, "query_id")
    text = _query_text(find["user_query"](row)) if derive else ""
    if not text:
        return ""
    key = "\0".join((client, text, str(int(time.timestamp()) // (60 * SEARCH_MINUTES))))
    return "e" + hashlib.sha256(key.encode()).hexdigest()[:24]


def _hits(value: Any) -> tuple[list[str], int]:
    """The ids of the items shown, and how many were empty."""
    if type(value) is list:
        with suppress(BadRow):  # nearly every logged query is a list of plain ids
            return [parse_id(hit, "item_id") for hit in value], 0
    found, empty = ids_of(value)
    return [parse_id(hit, "item_id") for hit in found], empty


def ids_of(value: Any) -> tuple[list[Any], int]:
    """The ids in a list of any depth, of objects with an id, or in a text; how many entries of lists were empty."""
    if isinstance(value := decoded(value), str):
        value = value.strip().removeprefix("[").removesuffix("]")
        mark = next((mark for mark in ",|;" if mark in value), None)
        value = [part.strip() for part in value.split(mark)] if mark else value
    found, empty = _ids(value)
    return found, empty if isinstance(value, list | tuple) else 0


def _ids(value: Any) -> tuple[list[Any], int]:
    if isinstance(value, list | tuple):
        parts = [_ids(part) for part in value]
        return [one for ids, _ in parts for one in ids], sum(empty for _, empty in parts)
    if isinstance(value, dict):
        value = next((value[name] for name in _IDS if value.get(name) not in (None, "")), None)
    return ([], 1) if _is_empty(value) else ([value], 0)


def objects_of(value: Any) -> list[tuple[Any, Any]]:
    """(id, position or None) of the objects of an event: an id, an object, a list of either, or a text of JSON."""
    value = decoded(value)
    if isinstance(value, list | tuple):
        return [one for part in value for one in objects_of(part)]
    if isinstance(value, dict):
        item = next((value[name] for name in _IDS if value.get(name) not in (None, "")), None)
        place = next((value[name] for name in _PLACES if value.get(name) is not None), None)
        inner = value.get("object") or value.get("objects")
        return objects_of(inner) if item is None and inner is not None else [(item, place)] if item is not None else []
    return [] if _is_empty(value) else [(value, None)]


def _is_empty(value: Any) -> bool:
    return value in (None, "") or (isinstance(value, float) and math.isnan(value))


def _query_text(value: Any) -> str:
    """The text that a user typed: as it is, or the first text inside a request in JSON."""
    value = decoded(value)
    if isinstance(value, dict):
        return next((text for part in _texts(value) if (text := parse_text(part, "user_query"))), "")
    return parse_text(value, "user_query")


def _texts(value: dict[Any, Any], depth: int = 0) -> Iterator[str]:
    for name in ("user_query", "query_text", "query", "text", "q", "value"):
        if isinstance(value.get(name), str):
            yield value[name]
    for part in value.values():
        if isinstance(part, dict) and depth < 8:
            yield from _texts(part, depth + 1)
