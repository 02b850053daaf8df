"""`genrecall index refresh`, `rollback` and `sync`: the index follows bundle and catalogue while it serves."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from genrecall.cli.index_options import DEMO, BundleName, ConfigFile, Json, Overrides, meta_of, opened

if TYPE_CHECKING:
    from genrecall.bundle import Bundle
    from genrecall.config import Config
    from index_mappings.refresh import Report, Tools

app = typer.Typer()

QueryFile = Annotated[
    Path | None,
    typer.Option("--queries", help="A query a line, to compare both indices with. Default: those of the dataset."),
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
    from index_mappings import refresh as job
    from index_mappings.client import connect, explained
    from index_mappings.load import terms_of

    console = Console(stderr=True)
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
    from index_mappings import refresh as job
    from index_mappings.client import connect, explained

    settings = _settings(config, overrides)
    section = settings.opensearch
    console = Console(stderr=True)
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
    """Server, sample queries and a progress bar for a move to the index of bundle `of`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from genrecall.rpc.client import Client
    from index_mappings.load import terms_of
    from index_mappings.refresh import Tools, asking
    from index_mappings.sids import Sids, server

    section = settings.opensearch
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        rpc: Client | None = None
        if section.refresh.endpoint:
            rpc = stack.enter_context(Client(section.refresh.endpoint, timeout_s=60))
        bar = stack.enter_context(Progress(*columns, console=console))
        task = bar.add_task("documents", total=None)
        yield Tools(
            sids=Sids(terms_of(of.items(), of.codebook), server(rpc, of.codebook) if rpc else None),
            ask=asking(client, section, rpc),
            queries=_queries(settings, queries),
            folder=settings.run.dir / "index",
            tell=_tell(console),
            advance=lambda done, documents: bar.update(task, completed=done, total=max(done, documents)),
        )


def _queries(settings: "Config", file: Path | None) -> list[str]:
    """`sample_queries` of them, spread evenly over the file or the dataset."""
    from genrecall.errors import UserError
    from genrecall.readers import describe, read_queries
    from genrecall.rejects import Rejects

    wanted = settings.opensearch.refresh.sample_queries
    if file is None:
        folder = settings.run.dir / "index"
        texts = read_queries(describe(settings.data)[0], Rejects(folder / "queries.rejects.jsonl"))["text"].to_pylist()
    else:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--queries {file} cannot be read: {error}") from None
        texts = [line.strip() for line in lines if line.strip()]
    step = max(1, len(texts) // wanted) if wanted else 1
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
