"""`genrecall index refresh`, `rollback` and `sync`: the index follows bundle and catalogue while it serves."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrecall.cli.options import (
    DEMO,
    BundleName,
    ConfigFile,
    Endpoint,
    Json,
    Overrides,
    Quiet,
    Url,
    open_bundle,
    print_json,
    read_config,
)

if TYPE_CHECKING:
    from index_mappings.load import LoadReport
    from index_mappings.migration.refresh import MigrationReport, RefreshPlan
    from index_mappings.progress import Progress
    from index_mappings.sync import SyncReport

app = typer.Typer()

ENDPOINT = "opensearch.refresh.endpoint"

QueryFile = Annotated[
    Path | None,
    typer.Option(
        "--queries",
        metavar="FILE",
        help="Queries to compare both indices with, one a line.",
        show_default="those of the dataset",
    ),
]


@app.command()
def refresh(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    bundle: BundleName = "current",
    queries: QueryFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give an unfinished refresh or rollback up.")] = False,
    url: Url = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Build the index of a new bundle from the one that serves, verify it, and move the alias there atomically.

    Searches go on throughout. Writes made meanwhile are copied too; they are refused (403) for some tenths of a second
    at the end. Interrupted at any moment, the same command goes on. The previous index is kept for `rollback`.

    Example: `genrecall index refresh --bundle v2`
    """
    from index_mappings import operations

    settings = read_config(config, overrides, {"opensearch.url": url, ENDPOINT: endpoint})
    if abandon:
        with job_progress() as progress:
            line = operations.abandon(settings, progress)
        show({"abandoned": line}, line, as_json)
        return
    opened = open_bundle(settings.run.bundles_dir, bundle)
    if dry_run:
        plan = operations.plan_refresh(settings, opened)
        show(asdict(plan), _plan(plan), as_json)
        return
    with job_progress() as progress:
        report = operations.refresh(settings, opened, queries, progress)
    alias = settings.opensearch.index
    if report:
        show(as_dict(report), _migration(report, alias), as_json)
    else:
        unchanged = {"index": alias, "codebook": opened.codebook, "sent": 0}
        show(unchanged, f"{alias} serves codebook {opened.codebook} already: nothing to do", as_json)


@app.command()
def rollback(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    queries: QueryFile = None,
    url: Url = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Move the alias back to the index before the last refresh, with all that was written since.

    Example: `genrecall index rollback`
    """
    from index_mappings import operations

    settings = read_config(config, overrides, {"opensearch.url": url, ENDPOINT: endpoint})
    with job_progress() as progress:
        report = operations.rollback(settings, queries, progress)
    show(as_dict(report), _migration(report, settings.opensearch.index), as_json)


@app.command()
def sync(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    bundle: BundleName = "current",
    assignments: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Parquet of item_id and codes: SIDs of this codebook that go before the bundle's."
        ),
    ] = None,
    every: Annotated[float | None, typer.Option(help="Seconds between runs; without it, one run.", min=1)] = None,
    url: Url = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Update the serving index from the catalogue: items added, changed, removed, and SIDs that moved.

    Writes only what differs, and never over a concurrent write. The inference server assigns SIDs to new items that the
    bundle lacks.

    Example: `genrecall index sync --every 600`
    """
    from genrecall.errors import UserError
    from genrecall.progress import console
    from index_mappings import operations

    settings = read_config(config, overrides, {"opensearch.url": url, ENDPOINT: endpoint})

    def run() -> "SyncReport":
        opened = open_bundle(settings.run.bundles_dir, bundle)  # `current` may be another one in the next run
        with job_progress() as progress:
            return operations.sync(settings, opened, assignments, progress)

    for report in operations.repeat(run, every) if every else (run(),):
        if isinstance(report, UserError):
            console.print(f"error: {report}")
        elif as_json:
            print_json(asdict(report), indent=None)  # a line a run
        else:
            print(_sync(report, operations.sync_rejects(settings)), flush=True)


@contextmanager
def job_progress(description: str = "documents") -> "Iterator[Progress]":
    """Messages and a bar on standard error."""
    from genrecall.progress import Bars, console
    from index_mappings.progress import Progress

    with Bars() as bars:
        task = bars.add_task(description, total=None)
        yield Progress(console.print, lambda done, total: bars.update(task, completed=done, total=max(done, total)))


def show(value: Any, text: str, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        print(text, flush=True)


def as_dict(report: "LoadReport | MigrationReport") -> dict[str, Any]:
    return {**asdict(report), "per_second": round(report.per_second, 1)}


def counted(*lines: tuple[int, str]) -> list[str]:
    """Indented lines `COUNT TEXT`, those with a count of zero left out."""
    return [f"  {count:,} {text}" for count, text in lines if count]


def _plan(plan: "RefreshPlan") -> str:
    lines = [
        f"would build {plan.target} from {plan.source} and move the alias there",
        f"  {plan.documents:,} documents, {plan.same_path:,} of which keep their codes",
        f"  {plan.not_in_bundle:,} are not in the bundle: "
        + (f"the server at {plan.endpoint} would assign their SIDs" if plan.endpoint else "they would get no SID"),
        f"  {plan.not_in_index:,} items of the bundle are not in the index",
    ]
    if plan.step != "create":
        lines.append(f"  begun already: step {plan.step}, {plan.copied:,} documents copied")
    return "\n".join(lines)


def _migration(report: "MigrationReport", alias: str) -> str:
    drift = report.drift
    lines = [
        f"{alias} now points to {report.target}, before to {report.source}; back by `genrecall index rollback`",
        f"  {report.sent:,} documents sent in {report.seconds:.1f} s ({report.per_second:,.0f} a second), writes were "
        f"refused for {report.timing['blocked']:.2f} s",
        f"  {drift['documents']:,} documents in {drift['sids']:,} SIDs, the largest of {drift['largest_sid']:,}; "
        f"{drift['without_sid']:,} without SID",
    ]
    if drift["overlap"] is not None:
        lines.append(
            f"  {drift['queries']} queries sent to both: {drift['overlap']:.0%} of the hits stay, without a hit "
            f"{drift['empty_before']} before and {drift['empty_after']} after"
        )
    lines += counted(
        (drift["not_in_bundle"], "documents are not in the bundle"),
        (drift["not_in_index"], "items of the bundle are not in the index"),
    )
    if report.removed:
        lines.append(f"  deleted: {', '.join(report.removed)}")
    return "\n".join(lines)


def _sync(report: "SyncReport", rejects: Path) -> str:
    lines = [
        f"{report.index}: {report.compared:,} documents compared in {report.seconds:.1f} s; {report.added:,} added, "
        f"{report.changed:,} changed, {report.moved:,} with another SID, {report.deleted:,} deleted",
        *counted(
            (report.conflicts, "were written by others meanwhile and compared again"),
            (report.rejected, f"were rejected, see {rejects}"),
        ),
    ]
    return "\n".join(lines)
