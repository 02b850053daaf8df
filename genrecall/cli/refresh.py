"""`genrecall index refresh`, `rollback` and `sync`: the index follows bundle and catalogue while it serves."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from genrecall.cli.index_options import meta_of, opened
from genrecall.cli.options import DEMO, BundleName, ConfigFile, Json, Overrides

if TYPE_CHECKING:
    from genrecall.bundle import Bundle
    from genrecall.client import Client
    from genrecall.config import Config
    from index_mappings.migration.refresh import Report, Tools
    from index_mappings.sids import Sids

app = typer.Typer()

SERVER_TIMEOUT_S = 60.0  # of one call to place items: the first waits for the encoder to be loaded

QueryFile = Annotated[
    Path | None,
    typer.Option("--queries", help="A query a line, to compare both indices with. Default: the dataset's."),
]


@app.command()
def refresh(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    bundle: BundleName = "current",
    queries: QueryFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give an unfinished refresh or rollback up.")] = False,
    as_json: Json = False,
) -> None:
    """Build the index of a new bundle from the one that serves, verify it, and move the alias there in one step.

    Searches go on throughout. Writes made meanwhile are caught up; they are refused (403) for some tenths of a second
    at the end. Interrupted at any moment, the same command goes on. The index before is kept for `rollback`.

    Example: `genrecall index refresh --bundle v2`
    """
    from index_mappings.client import connect, explained
    from index_mappings.load import terms_of
    from index_mappings.migration import refresh as job

    console = Console(stderr=True, markup=False)
    if abandon:
        settings = _settings(config, overrides)
        with explained(settings.opensearch):
            line = job.abandon(connect(settings.opensearch, patient=True), settings.opensearch, _tell(console))
        print(json.dumps({"abandoned": line}) if as_json else line)
        return
    settings, of = opened(config, overrides, bundle)
    section = settings.opensearch
    with explained(section):
        client = connect(section, patient=True)
        if dry_run:
            planned = job.plan(client, section, meta_of(settings, of), terms_of(of.items(), of.codebook))
            print(json.dumps(planned) if as_json else _told(planned))
            return
        with _tools(settings, of, queries, client, console) as tools:
            report = job.refresh(client, section, meta_of(settings, of), tools)
    if report is None:
        done = {"index": section.index, "codebook": of.codebook, "sent": 0}
        print(json.dumps(done) if as_json else f"{section.index} serves codebook {of.codebook} already: nothing to do")
        return
    _show(report, section.index, as_json)


@app.command()
def rollback(
    overrides: Overrides = None, config: ConfigFile = DEMO, queries: QueryFile = None, as_json: Json = False
) -> None:
    """Move the alias back to the index before the last refresh, with all that was written since.

    Example: `genrecall index rollback`
    """
    from genrecall import bundle
    from index_mappings.client import connect, explained
    from index_mappings.migration import refresh as job

    settings = _settings(config, overrides)
    section = settings.opensearch
    console = Console(stderr=True, markup=False)
    with explained(section):
        client = connect(section, patient=True)
        codebook = job.previous(client, section, job.state_of(client, section)).codebook
        before = bundle.open(bundle.resolve(settings.run.bundles_dir, codebook))
        with _tools(settings, before, queries, client, console) as tools:
            report = job.rollback(client, section, tools)
    _show(report, section.index, as_json)


def _settings(config: Path, overrides: list[str] | None) -> "Config":
    from genrecall.config import Config, load

    return load(Config, config, overrides or [])


@contextmanager
def _tools(settings: "Config", of: "Bundle", queries: Path | None, client: Any, console: Console) -> "Iterator[Tools]":
    """What a move to the index of bundle `of` needs."""
    from index_mappings.migration.refresh import Tools, asking

    with _placing(settings, of) as (sids, server), _progress("documents") as advance:
        yield Tools(
            sids=sids,
            ask=asking(client, settings.opensearch, server),
            queries=_queries(settings, queries),
            folder=settings.run.dir / "index",
            tell=_tell(console),
            advance=advance,
        )


@contextmanager
def _placing(
    settings: "Config", of: "Bundle", assignments: Path | None = None
) -> "Iterator[tuple[Sids, Client | None]]":
    """The SIDs of bundle `of`, and the server for items that it does not know, if there is to be one."""
    from genrecall.client import Client
    from index_mappings.load import terms_of
    from index_mappings.sids import Sids, reassigned, server

    terms = terms_of(of.items(), of.codebook)
    if assignments is not None:
        terms |= reassigned(assignments, of)
    if not (endpoint := settings.opensearch.refresh.endpoint):
        yield Sids(terms, None), None
        return
    with Client(endpoint, timeout_s=SERVER_TIMEOUT_S) as client:
        yield Sids(terms, server(client, of.codebook)), client


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    from genrecall.progress import Bars

    with Bars() as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=max(done, total))


def _queries(settings: "Config", file: Path | None) -> list[str]:
    """`sample_queries` of them, spread evenly over the file or the dataset; titles, of a shop without queries."""
    from genrecall.data.readers import read_dataset
    from genrecall.errors import UserError

    wanted = settings.opensearch.refresh.sample_queries
    if not wanted:
        return []
    if file is None:
        dataset = read_dataset(settings.data)
        texts = dataset.queries["text"].to_pylist() or dataset.items["title"].to_pylist()
    else:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--queries {file} cannot be read: {error}") from None
        texts = [line.strip() for line in lines if line.strip()]
    step = max(1, len(texts) // wanted)
    return texts[::step][:wanted]


def _tell(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, highlight=False)


def _told(planned: dict[str, Any]) -> str:
    lines = [
        f"would build {planned['target']} from {planned['source']} and move the alias there",
        f"  {planned['documents']:,} documents, {planned['same_path']:,} of which keep their codes",
        f"  {planned['not_in_bundle']:,} are not in the bundle: "
        + (f"placed by the server at {planned['placed_by']}" if planned["placed_by"] else "they would go without SID"),
        f"  {planned['not_in_index']:,} items of the bundle are not in the index",
    ]
    if planned["step"] != "create":
        lines.append(f"  begun already: step {planned['step']}, {planned['copied']:,} documents copied")
    return "\n".join(lines)


def _show(report: "Report", alias: str, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print(json.dumps({**asdict(report), "per_second": round(report.per_second, 1)}))
        return
    drift, timing = report.drift, report.timing
    print(f"{alias} now points to {report.target}, before to {report.source}; back by `genrecall index rollback`")
    print(
        f"  {report.sent:,} documents sent in {report.seconds:.1f} s ({report.per_second:,.0f} a second), "
        f"writes were refused for {timing['blocked']:.2f} s"
    )
    print(
        f"  {drift['documents']:,} documents in {drift['sids']:,} SIDs, the largest of {drift['largest_sid']:,}; "
        f"{drift['without_sid']:,} without SID"
    )
    if drift["overlap"] is not None:
        print(
            f"  {drift['queries']} queries asked of both: {drift['overlap']:.0%} of the hits stay, without a hit "
            f"{drift['empty_before']} before and {drift['empty_after']} after"
        )
    for count, what in (
        (drift["not_in_bundle"], "documents are not in the bundle"),
        (drift["not_in_index"], "items of the bundle are not in the index"),
    ):
        if count:
            print(f"  {count:,} {what}")
    if report.removed:
        print(f"  deleted: {', '.join(report.removed)}")


@app.command()
def sync(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    bundle: BundleName = "current",
    assignments: Annotated[
        Path | None,
        typer.Option(help="Parquet of item_id and codes: SIDs of this codebook that go before the bundle's."),
    ] = None,
    every: Annotated[float | None, typer.Option(help="Seconds between runs; without it, one run.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Bring the serving index up to date with the catalogue: items added, changed, gone, and SIDs that moved.

    Writes only what differs, guarded against other writers. New items that the bundle does not know are placed by the
    inference server.

    Example: `genrecall index sync --every 600`
    """
    import time

    from genrecall.errors import UserError

    console = Console(stderr=True, markup=False)
    while True:
        began = time.monotonic()
        try:
            _sync_once(overrides, config, bundle, assignments, as_json, console)
        except UserError as error:
            if every is None:
                raise
            console.print(f"error: {error}", highlight=False)  # the next run may find it mended
        if every is None:
            return
        time.sleep(max(0.0, every - (time.monotonic() - began)))


def _sync_once(
    overrides: list[str] | None, config: Path, bundle: str, assignments: Path | None, as_json: bool, console: Console
) -> None:
    from dataclasses import asdict

    from genrecall.data.readers import read_items
    from genrecall.embeddings import embed
    from genrecall.item_text import item_text
    from index_mappings import sync as job
    from index_mappings.client import connect, explained

    settings, of = opened(config, overrides, bundle)
    section, folder = settings.opensearch, settings.run.dir / "index"
    items = read_items(settings.data, folder / "items.rejects.jsonl")
    texts = item_text(items)
    rejects = folder / f"{section.index}.sync.rejects.jsonl"
    with (
        explained(section),
        _placing(settings, of, assignments) as (sids, _),
        _progress("documents") as advance,
    ):
        report = job.sync(
            connect(section, patient=True),
            section,
            meta_of(settings, of),
            items,
            lambda rows: embed([texts[row] for row in rows], settings.encoder, settings.run.cache_dir, progress=False),
            sids,
            rejects,
            _tell(console),
            advance,
        )
    if as_json:
        print(json.dumps(asdict(report)), flush=True)
        return
    print(
        f"{report.index}: {report.compared:,} documents compared in {report.seconds:.1f} s; {report.added:,} added, "
        f"{report.changed:,} changed, {report.moved:,} with another SID, {report.deleted:,} deleted",
        flush=True,
    )
    if report.conflicts:
        print(f"  {report.conflicts:,} were written by others meanwhile and compared again")
    if report.rejected:
        print(f"  {report.rejected:,} were refused, see {rejects}")
