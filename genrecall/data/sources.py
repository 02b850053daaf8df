"""Where the records of a dataset are: in an OpenSearch index, in files that the configuration or `dataset.json` names,
or in files of the standard names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from genrecall.config.data import DataSection, Description, Source, Sources
from genrecall.data.index_rows import scan_index
from genrecall.data.row import Row
from genrecall.data.rows import read_files
from genrecall.errors import UserError

_TABLES = ("ndjson", "json", "csv", "csv.gz", "tsv")


def _named(stem: str, *suffixes: str) -> tuple[str, ...]:
    return tuple(f"{stem}.{suffix}" for suffix in suffixes)


_BOTH = "ubi_queries_events.ndjson", "ubi_queries_events.ndjson.gz"  # as OpenSearch's samples name a bulk request
STANDARD_FILES = {
    "items": (*_named("items", "jsonl", "jsonl.gz", "parquet", *_TABLES, "xml"), "corpus.jsonl"),
    "queries": _named("queries", "tsv", "jsonl", "jsonl.gz", "parquet", "csv", "json"),
    "judgments": (
        *("qrels.txt", "judgments.json", "judgments.jsonl", "judgments.jsonl.gz", "judgments.parquet"),
        *("judgments.csv", "judgments.tsv", "qrels.tsv", "qrels.qrels", "qrels/test.tsv"),
    ),
    "ubi_queries": (*_named("ubi_queries", "jsonl", "jsonl.gz", "parquet", *_TABLES), *_BOTH),
    "ubi_events": (*_named("ubi_events", "jsonl", "jsonl.gz", "parquet", *_TABLES), *_BOTH),
}


def resolve_sources(section: DataSection) -> tuple[DataSection, bool]:
    """`section` completed by its folder's `dataset.json`, and whether the dataset is simulated.

    A source whose path or index `section` names replaces the described one; otherwise its fields override the described
    ones where they differ from the standard. Resolving twice changes nothing.
    """
    if not section.items.index and not section.folder.is_dir():
        raise UserError(
            f"data.folder {section.folder} does not exist: `genrecall data fetch esci` fills data/esci-us, "
            "`genrecall data import FILE --out DIR` reads your own files, `genrecall data synthesize --items 10000 "
            "--out DIR` makes a shop"
        )
    path = section.folder / "dataset.json"
    if not path.is_file():
        return section.model_copy(update={"name": section.name or section.folder.resolve().name}), False
    try:
        description = Description.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} does not describe a dataset: {error}") from None
    merged = {key: _merge(getattr(section, key), getattr(description, key)) for key in Sources.model_fields}
    return section.model_copy(update={**merged, "name": section.name or description.name}), description.simulated


def _merge(chosen: Source, described: Source) -> Source:
    if chosen.path or chosen.index:
        return chosen
    mapped = chosen.model_dump(exclude_defaults=True)
    fields = described.fields.model_copy(update=mapped.pop("fields", {}))
    return described.model_copy(update={**mapped, "fields": fields})


def has_source(section: DataSection, name: str) -> bool:
    """Whether the source `name` (a key of STANDARD_FILES) has an index or a file. section: resolved."""
    return bool(getattr(section, name).index or source_files(section, name))


def source_files(section: DataSection, name: str) -> list[Path]:
    """The files of the source `name`: those of its path (or glob), else the first standard name that exists.

    Empty for an index, and where there is no file. UserError where a path is configured and no such file exists.
    """
    source: Source = getattr(section, name)
    folder = section.folder
    if source.index:
        return []
    if not source.path:
        return next(([folder / file] for file in STANDARD_FILES[name] if (folder / file).is_file()), [])
    paths = [source.path] if isinstance(source.path, str) else source.path
    return [file for path in paths for file in _matching(folder, path, name)]


def _matching(folder: Path, chosen: str, name: str) -> list[Path]:
    path = folder / chosen  # an absolute path stays itself
    single = path.is_file() or Path(chosen).is_absolute()
    files = [file for file in ([path] if single else sorted(folder.glob(chosen))) if file.is_file()]
    if not files:
        raise UserError(f"{path} does not exist: correct data.folder, or data.{name}.path")
    return files


def read_rows(section: DataSection, name: str) -> Iterator[Row]:
    """The raw rows of the source `name`, out of its index or files. section: resolved."""
    source: Source = getattr(section, name)
    if source.index:
        return scan_index(section, source.index)
    files = source_files(section, name)
    if not files:
        raise UserError(
            f"data.folder {section.folder} has none of {', '.join(STANDARD_FILES[name])}: name the file in "
            f"data.{name}.path, or an OpenSearch index in data.{name}.index"
        )
    return read_files(files, name, source)
