"""A shop's own files become a dataset folder: what each file is, is found in it; everything that was found is told.

The readers are those of the configuration (`genrecall.data.readers`, `judgments`, `events`): an import only writes what
they return. It owns which kind a file is of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genrecall import files
from genrecall.config.data import ALL_COLUMNS, DataSection, ItemSource
from genrecall.data import columns as naming
from genrecall.data import judgment_lines
from genrecall.data.columns import find, plain
from genrecall.data.events import (
    LOGGED_EVENTS,
    LOGGED_QUERIES,
    action_notes,
    is_event,
    logged_events,
    logged_queries,
    text_note,
)
from genrecall.data.index_rows import scan_index
from genrecall.data.judgments import is_list_of_judgments, raters_of, read_judged
from genrecall.data.readers import item_batches, item_schema
from genrecall.data.rejects import Rejects
from genrecall.data.row import Row
from genrecall.data.rows import format_of, is_number
from genrecall.data.splits import part_of_file, split_by_files
from genrecall.data.text_files import PARQUET, encoding_of, head
from genrecall.data.writers import new_dataset, write_description
from genrecall.errors import UserError
from genrecall.records import EXTRA, ITEMS

KINDS = ("catalogue", "queries", "judgments", "logs")
SAMPLE_ROWS = 50
LOG_ROWS = 100_000  # of a log, in which queries and events are looked for
PREVIEW_ROWS = 3
SPLIT_SEED = 13
SOURCES = {"catalogue": "items", "queries": "queries", "judgments": "judgments"}
MOST_GONE = 0.5  # share of the items in a log that are in the catalogue, below which something is wrong
_STORED = {  # column of LOGGED_QUERIES, LOGGED_EVENTS -> how it is stored
    "ubi_queries": {
        "query_id": pa.field("query_id", pa.string()),
        "text": pa.field("user_query", pa.string()),
        "client_id": pa.field("client_id", pa.string()),
        "timestamp": LOGGED_QUERIES.field("timestamp"),
        "gender": pa.field("query_attributes.gender", pa.string()),
        "age_band": pa.field("query_attributes.age_band", pa.string()),
        "hits": pa.field("query_response_hit_ids", pa.list_(pa.string())),
    },
    "ubi_events": {
        "action": pa.field("action_name", pa.string()),
        "query_id": pa.field("query_id", pa.string()),
        "client_id": pa.field("client_id", pa.string()),
        "timestamp": LOGGED_EVENTS.field("timestamp"),
        "item_id": pa.field("event_attributes.object.object_id", pa.string()),
        "position": pa.field("event_attributes.position.ordinal", pa.int32()),
    },
}
_HINTS = (("judgments", ("qrel", "judg", "rating")), ("logs", ("ubi", "event", "click", "log")), ("queries", ("quer",)))


@dataclass
class Imported:
    """What an import found and wrote.

    Attributes:
        files: a row for each file: `file`, `kind`, `format`.
        counts: records written, by what they are.
        rejects: of the readers: what was rejected and left out, which columns were found, what may be wrong.
        preview: source -> its first records.
    """

    files: list[dict[str, str]]
    counts: dict[str, int]
    rejects: Rejects
    preview: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """JSON-ready."""
        bad = self.rejects
        return {
            "files": self.files,
            "counts": self.counts,
            "columns": bad.facts,
            "rejects": {source: dict(reasons.most_common()) for source, reasons in bad.reasons.items()},
            "left_out": {source: dict(reasons.most_common()) for source, reasons in bad.left_out.items()},
            "notes": bad.notes,
        }


def import_files(
    files: Sequence[str],
    out: Path,
    section: DataSection,
    mapping: Mapping[str, str],
    kind: str = "",
    preview_only: bool = False,
    done: Callable[[str, int], None] = lambda *_: None,
) -> Imported:
    """Write the dataset folder `out`, whole or not at all.

    Args:
        files: paths, or addresses of indices (`http://host:9200/products`).
        out: a folder that is new or empty.
        section: settings of `data`: actions, scale of the judgments, share of rejects.
        mapping: field -> column, such as {"title": "Name", "judgments.grade": "points"}.
        kind: of KINDS, for all files; "" finds it for each.
        preview_only: write nothing.
        done: called with a source and a number of records as they are read.

    Raises:
        UserError: a file that cannot be read, a kind or column that is not found, too many bad rows.
    """
    found = [Found.of(file, section, kind, mapping) for file in files]
    section = _sources(found, section.model_copy(update={"folder": out}), mapping)  # where no other file is
    beside = out.with_name(f"{out.name}.rejects.jsonl")
    with Rejects(None if preview_only else beside) as rejects:
        result = Imported([{"file": one.name, "kind": one.kind, "format": one.format} for one in found], {}, rejects)
        if preview_only:
            return _preview(found, section, result)
        with new_dataset(out) as folder:
            description = _write(found, section, folder, result, done)
            rejects.close()
            if beside.exists():
                os.replace(beside, folder / "rejects.jsonl")
            write_description(folder, {"name": section.name or out.resolve().name, **description})
    if beside.exists():
        beside.unlink()
    if (out / "rejects.jsonl").exists():
        rejects.path = out / "rejects.jsonl"
    return result


@dataclass(frozen=True)
class Found:
    """A file or index to import, and what it is."""

    name: str
    kind: str
    format: str
    path: Path | None
    index: str = ""
    url: str = ""
    sources: tuple[str, ...] = ()  # of a log: ubi_queries, ubi_events, or both

    @classmethod
    def of(cls, file: str, section: DataSection, kind: str, mapping: Mapping[str, str] = {}) -> Found:
        """UserError where the file cannot be read, or nobody can tell what it is."""
        plain_mapping = {field.rpartition(".")[2]: column for field, column in mapping.items()}
        if file.startswith(("http://", "https://")):
            address = urlsplit(file)
            index = address.path.strip("/")
            if not index:
                raise UserError(f"{file} names no index: write it as http://127.0.0.1:9200/products")
            url = f"{address.scheme}://{address.netloc}"
            cluster = section.cluster.model_copy(update={"url": url})
            rows = list(islice(scan_index(section.model_copy(update={"cluster": cluster}), index), SAMPLE_ROWS))
            of = kind or kind_of(file, rows, plain_mapping)
            sources = _logs_in(rows) if of == "logs" else ()
            return cls(file, of, "OpenSearch index", None, index, url, sources)
        path = Path(file)
        if not path.is_file():
            what = f"a folder: name its files, as {path}/*" if path.is_dir() else "not a file"
            raise UserError(f"{file} is {what}; or name an index as http://127.0.0.1:9200/products")
        source = ItemSource(encoding=section.items.encoding, delimiter=section.items.delimiter)
        of = kind or _kind_of_file(path, source, plain_mapping)
        source_name = SOURCES.get(of, "ubi_events")
        form, rows_of = format_of(path, source_name, source)
        sources = _logs_in(rows_of()) if of == "logs" else ()
        return cls(file, of, form, path.resolve(), sources=sources)


def _logs_in(rows: Iterable[Row]) -> tuple[str, ...]:
    """What a log has: queries, events, or both. A table of clicks without actions is one of events."""
    found = set()
    for row in islice(rows, LOG_ROWS):
        if not row.fault and isinstance(row.value, dict):
            names = naming.columns_of([row.value])
            asked = find(names, naming.LOGGED_QUERY["hits"]) or not find(names, naming.LOGGED_EVENT["item_id"])
            found.add("ubi_events" if is_event(row) or not asked else "ubi_queries")
        if len(found) == 2:
            break
    return tuple(sorted(found, reverse=True)) or ("ubi_queries", "ubi_events")


def _kind_of_file(path: Path, source: ItemSource, mapping: Mapping[str, str]) -> str:
    if head(path, 4) != PARQUET and not path.name.endswith(".parquet"):
        encoding = source.encoding or encoding_of(path)
        if judgment_lines.reader_of(path, encoding):
            return "judgments"
    samples = []
    for name in ("items", "ubi_events"):  # what a header is depends on what it may name
        samples.append(list(islice(format_of(path, name, source)[1](), SAMPLE_ROWS)))
        if kind := _kind(samples[-1], mapping):
            return kind
    return kind_of(path.name, samples[0], mapping)


def kind_of(name: str, rows: Sequence[Row], mapping: Mapping[str, str]) -> str:
    """What a file or index holds, by the columns of its first rows, else by its name; UserError for neither."""
    if kind := _kind(rows, mapping):
        return kind
    for kind, parts in _HINTS:
        if any(part in name.casefold() for part in parts):
            return kind
    columns = naming.columns_of([row.value for row in rows])
    if not rows:
        raise UserError(f"{name} has no rows")
    faults = {row.fault for row in rows if row.fault}
    told = ("columns", list(columns)[:30]) if columns else ("rows", sorted(faults))
    raise UserError(
        f"{name}: nobody can tell whether it is a catalogue, queries, judgments or logs: its {told[0]} are "
        f"{', '.join(told[1]) or 'none'}. Say it with --kind, and which column holds what with --map FIELD=COLUMN"
    )


def _kind(rows: Sequence[Row], mapping: Mapping[str, str]) -> str:
    values = [row.value for row in rows if not row.fault and isinstance(row.value, dict)]
    if any(is_list_of_judgments(value) for value in values[:5]):
        return "judgments"
    columns = naming.columns_of(values)
    names = {plain(column) for column in columns}
    event, judgment, item = naming.LOGGED_EVENT, naming.JUDGMENT, naming.ITEM
    by_query, grades = bool(find(columns, judgment["query_id"])), judgment["grade"].split()
    titles = [column for column in find(columns, item["title"]) if not (by_query and plain(column) in grades)]
    title = bool(titles) and bool(find(columns, item["id"]))
    text = {"query", "query_text", "querytext", "search_term", "search_query", "user_query", "search_phrase", "keyword"}
    asked = bool(text & names) or (by_query and not title)
    graded = bool(find(columns, judgment["grade"])) or bool(
        names & {*judgment["clicks"].split(), *judgment["impressions"].split()} or raters_of(columns, values)
    )
    timed = bool(find(columns, event["timestamp"]))
    acted = names & {"action_name", "actionname", "event_name", "eventname", "event_type", "eventtype", "action"}
    if acted and (timed or find(columns, event["query_id"])):
        return "logs"
    shown = set(find(columns, naming.LOGGED_QUERY["hits"])) - {"hits", "results"}
    if shown or (asked and timed and not graded):
        return "logs"
    if asked and graded and find(columns, judgment["item_id"]):
        return "judgments"
    if title:
        return "catalogue"
    if titles and mapping.get("id") in columns:
        return "catalogue"
    for telling, kind in (("title", "catalogue"), ("grade", "judgments"), ("action", "logs")):
        if mapping.get(telling) in columns:
            return kind
    if columns and all(column.isdigit() for column in columns):  # no header
        last = str(len(columns))
        graded = all(is_number(str(value.get(last))) for value in values)
        return "queries" if len(columns) == 2 else "judgments" if graded and len(columns) > 2 else ""
    if find(columns, naming.QUERY["text"]) and (find(columns, naming.QUERY["id"]) or len(columns) <= 2):
        return "queries"
    return ""


def _sources(found: Sequence[Found], section: DataSection, mapping: Mapping[str, str]) -> DataSection:
    """`section` with the files and the mapping in place."""
    clusters = {one.url for one in found if one.url}
    if len(clusters) > 1:
        raise UserError(f"indices of one cluster at a time can be imported, not of {' and '.join(sorted(clusters))}")
    kinds = {one.kind for one in found}
    names = [SOURCES[kind] for kind in KINDS if kind in kinds and kind in SOURCES]
    names += ["ubi_queries", "ubi_events"] if "logs" in kinds else []
    update: dict[str, Any] = {}
    for name in names:
        mine = [one for one in found if SOURCES.get(one.kind, name) == name and name in (one.sources or (name,))]
        if not mine:
            continue
        indices, paths = [one.index for one in mine if one.index], [str(one.path) for one in mine if one.path]
        if (indices and paths) or (len(indices) > 1 and name in SOURCES.values()):
            raise UserError(f"{name}: several files, or one index: found {', '.join(one.name for one in mine)}")
        source = getattr(section, name)
        update[name] = source.model_copy(update={"path": paths, "index": ",".join(indices)})
    used = set()
    for target, column in mapping.items():
        source_name, _, name = target.rpartition(".")
        for key, source in update.items():
            fields = source.fields
            if name in type(fields).model_fields and source_name in ("", key):
                known = {**fields.model_dump(), name: column.split("+") if "+" in column else column}
                update[key] = source.model_copy(update={"fields": type(fields).model_validate(known)})
                used.add(target)
    if wrong := set(mapping) - used:
        there = (f"{key}.{name}" for key, source in update.items() for name in type(source.fields).model_fields)
        raise UserError(f"--map {', '.join(sorted(wrong))}: no such field; there are {', '.join(there)}")
    if clusters:
        update["cluster"] = section.cluster.model_copy(update={"url": clusters.pop()})
    return section.model_copy(update=update)


def _write(
    found: Sequence[Found], section: DataSection, folder: Path, result: Imported, done: Callable[[str, int], None]
) -> dict[str, Any]:
    """Write the records of every kind; the description of the folder."""
    kinds, rejects, share = {one.kind for one in found}, result.rejects, section.max_reject_share
    described: dict[str, Any] = {"about": {"imported": result.files}}
    ids = pa.table({"item_id": pa.array([], pa.string())})
    if "catalogue" in kinds:
        ids = _write_items(section, folder, result, done)
        rejects.check("items", share)
        fields: dict[str, Any] = {"separator": "", "keep_html": True}
        if section.items.fields.extra_paths:
            fields["extra"] = {ALL_COLUMNS: EXTRA.name}
        described["items"] = {"path": "items.parquet", "fields": fields}
    elif kinds & {"judgments"}:
        raise UserError("judgments are of items: import the catalogue with them, in one command")
    if kinds & {"queries", "judgments"}:
        if "judgments" not in kinds:
            queries = ", ".join(one.name for one in found if one.kind == "queries")
            raise UserError(
                f"{queries}: taken for queries, which alone teach nothing: import the judgments of them, or logs, in "
                "one command. If it holds something else, say so with --kind and --map"
            )
        places: dict[str, set[str]] = {}
        queries, judgments = read_judged(section, ids, rejects, places)
        for name, table in (("queries", queries), ("judgments", judgments)):
            _write_table(table, folder / f"{name}.parquet", result, name)
            described[name] = {"path": f"{name}.parquet"}
        _write_split(places, queries, folder, result)
    if "logs" in kinds:
        described |= _write_logs(section, folder, result, done, ids)
    return described


def _write_split(places: dict[str, set[str]], queries: pa.Table, folder: Path, result: Imported) -> None:
    """Write splits.json where the files of judgments are named by its parts."""
    parts = {part_of_file(name) for names in places.values() for name in names}
    if "train" not in parts or "" in parts or len(parts) == 1:
        return
    split, left = split_by_files(places, queries, SPLIT_SEED)
    files.write_json(folder / "splits.json", split)
    result.counts |= {f"{name} queries": len(ids) for name, ids in split.items()}
    if left:
        result.rejects.note(
            "judgments",
            f"{left:,} queries have the words of another that is held out: they are in no part of splits.json",
        )
    if "dev" not in parts or "test" not in parts:
        result.rejects.note(
            "judgments",
            f"no file of judgments is named {'dev' if 'test' in parts else 'test'}: splits.json takes "
            f"{'dev' if 'test' in parts else 'test from dev, and dev'} out of train",
        )


def _write_logs(
    section: DataSection, folder: Path, result: Imported, done: Callable[[str, int], None], ids: pa.Table
) -> dict[str, Any]:
    """Write ubi_queries.parquet and ubi_events.parquet under the names of User Behavior Insights, actions as logged."""
    rejects, known = result.rejects, ids["item_id"].combine_chunks()
    logged, here, examples = 0, 0, list[str]()
    described = {}
    streams: dict[str, Callable[[DataSection, Rejects], Iterator[pa.RecordBatch]]]
    streams = {"ubi_queries": logged_queries, "ubi_events": partial(logged_events, raw=True)}
    for name, read in streams.items():
        path, count = folder / f"{name}.parquet", 0
        with pq.ParquetWriter(path, pa.schema(_STORED[name].values()), compression="zstd") as file:
            for batch in read(section, rejects):
                columns = [batch.column(column) for column in _STORED[name]]
                file.write_batch(pa.record_batch(columns, schema=pa.schema(_STORED[name].values())))
                items = batch.column("hits").flatten() if name == "ubi_queries" else batch.column("item_id")
                items = items.filter(pc.not_equal(items, ""))
                found = pc.is_in(items, known)
                logged, here, count = logged + len(items), here + (pc.sum(found).as_py() or 0), count + len(batch)
                examples = examples or items.slice(0, PREVIEW_ROWS).to_pylist()
                _preview_rows(result, name, batch)
                done(name, len(batch))
        if rejects.count(name):
            rejects.check(name, section.max_reject_share)
        if count:
            described[name] = {"path": path.name}
            result.counts[name] = count
        else:
            path.unlink()
    for note in (
        *action_notes(rejects.facts.get("ubi_events", {}).get("actions", {}), section),
        text_note(section, rejects),
    ):
        if note:
            rejects.note("logs", note)
    if len(known) and logged and here < MOST_GONE * logged:
        ours, theirs = ", ".join(known.slice(0, 3).to_pylist()), ", ".join(examples)
        rejects.note(
            "logs",
            f"{logged - here:,} of {logged:,} items in the log are not in the catalogue: the log has {theirs}, the "
            f"catalogue {ours}. Name the column of these ids: --map items.id=COLUMN",
        )
    if section.actions:
        rejects.note("logs", "data.actions is a setting of the runs too: put it into their configuration")
    return described


def _write_items(section: DataSection, folder: Path, result: Imported, done: Callable[[str, int], None]) -> pa.Table:
    """Write items.parquet; a table of the ids."""
    ids = []
    with pq.ParquetWriter(folder / "items.parquet", item_schema(section), compression="zstd") as file:
        for batch in item_batches(section, result.rejects, extra=True):
            file.write_batch(batch)
            ids.append(batch.select(["item_id"]))
            _preview_rows(result, "items", batch)
            done("items", len(batch))
    result.counts["items"] = sum(map(len, ids))
    return pa.Table.from_batches(ids, schema=pa.schema([ITEMS.field("item_id")]))


def _write_table(table: pa.Table, path: Path, result: Imported, name: str) -> None:
    pq.write_table(table, path, compression="zstd")
    result.counts[name] = len(table)
    for batch in table.to_batches():
        _preview_rows(result, name, batch)


def _preview_rows(result: Imported, name: str, batch: pa.RecordBatch) -> None:
    rows = result.preview.setdefault(name, [])
    rows += batch.slice(0, PREVIEW_ROWS - len(rows)).to_pylist()


def _preview(found: Sequence[Found], section: DataSection, result: Imported) -> Imported:
    """The columns and first records of a catalogue; of other kinds, what the files are."""
    if any(one.kind == "catalogue" for one in found):
        for batch in islice(item_batches(section, result.rejects, extra=True), 1):
            _preview_rows(result, "items", batch)
    return result
