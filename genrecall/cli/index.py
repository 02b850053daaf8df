"""`genrecall index`: the index of a codebook in OpenSearch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrecall.cli.options import (
    BundleName,
    CaCert,
    Cert,
    Endpoint,
    Json,
    Key,
    Overrides,
    OwnConfig,
    Quiet,
    Url,
    open_bundle,
    print_json,
    read_config,
)

if TYPE_CHECKING:
    from index_mappings.load import LoadReport
    from index_mappings.migration.refresh import MigrationReport
    from index_mappings.progress import Progress
    from index_mappings.sync import SyncReport

app = typer.Typer(help="Create, load, refresh and inspect the index of a codebook.", no_args_is_help=True)

URL, ENDPOINT = "opensearch.url", "opensearch.refresh.endpoint"
CA_CERT, CERT, KEY = (f"opensearch.refresh.tls.{key}" for key in ("ca_certs", "client_cert", "client_key"))

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
def create(
    overrides: Overrides = None,
    config: OwnConfig = None,
    bundle: BundleName = "current",
    replace: Annotated[bool, typer.Option(help="Delete the index of this codebook first, documents included.")] = False,
    url: Url = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Create index template, search pipelines and the empty index `<opensearch.index>-<codebook>`.

    Example: `genrecall index create --bundle v1`
    """
    from index_mappings import operations

    settings = read_config(config, overrides, {URL: url})
    with _progress() as progress:
        index, new = operations.create(settings, open_bundle(settings.run.bundles_dir, bundle), replace, progress)
    line = f"{index}: {'created' if new else 'is there already, for the same bundle and vectors'}"
    _show({"index": index, "new": new}, line, as_json)


@app.command()
def load(
    overrides: Overrides = None,
    config: OwnConfig = None,
    bundle: BundleName = "current",
    switch: Annotated[bool, typer.Option(help="Move the alias here when done; the first load does so itself.")] = False,
    url: Url = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Index the catalogue, each item with its SID and its vector. Interrupted, the same command resumes.

    Example: `genrecall index load --bundle v1 --switch`
    """
    from index_mappings import operations, summaries

    settings = read_config(config, overrides, {URL: url})
    opened = open_bundle(settings.run.bundles_dir, bundle)
    with _progress(f"indexing into {settings.opensearch.url}") as progress:
        report = operations.load(settings, opened, switch, progress)
    _show(_with_rate(report), summaries.load_summary(report, operations.folder_of(settings)), as_json)


@app.command()
def status(
    overrides: Overrides = None,
    config: OwnConfig = None,
    url: Url = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the indices of this alias: codebook, documents, how many have a SID.

    Example: `genrecall index status`
    """
    from index_mappings import operations, summaries

    settings = read_config(config, overrides, {URL: url})
    found, alias = operations.status(settings), settings.opensearch.index
    nothing = f"no index {alias}-* at {settings.opensearch.url}; make one with `genrecall index load`"
    _show([asdict(one) for one in found], summaries.status_summary(found, alias) or nothing, as_json)


@app.command()
def refresh(
    overrides: Overrides = None,
    config: OwnConfig = None,
    bundle: BundleName = "current",
    queries: QueryFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give an unfinished refresh or rollback up.")] = False,
    url: Url = None,
    endpoint: Endpoint = None,
    ca_cert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Build the index of a new bundle from the one that serves, verify it, and move the alias there atomically.

    Searches go on throughout. Writes made meanwhile are copied too; they are refused (403) for some tenths of a second
    at the end. Interrupted at any moment, the same command goes on. The previous index is kept for `rollback`.

    Example: `genrecall index refresh --bundle v2`
    """
    from index_mappings import operations, summaries

    settings = read_config(config, overrides, _options(url, endpoint, ca_cert, cert, key))
    if abandon:
        with _progress() as progress:
            line = operations.abandon(settings, progress)
        _show({"abandoned": line}, line, as_json)
        return
    opened = open_bundle(settings.run.bundles_dir, bundle)
    if dry_run:
        plan = operations.plan_refresh(settings, opened)
        _show(asdict(plan), summaries.plan_summary(plan), as_json)
        return
    with _progress() as progress:
        report = operations.refresh(settings, opened, queries, progress)
    alias = settings.opensearch.index
    if report:
        _show(_with_rate(report), summaries.migration_summary(report, alias), as_json)
    else:
        unchanged = {"index": alias, "codebook": opened.codebook, "sent": 0}
        _show(unchanged, f"{alias} serves codebook {opened.codebook} already: nothing to do", as_json)


@app.command()
def rollback(
    overrides: Overrides = None,
    config: OwnConfig = None,
    queries: QueryFile = None,
    url: Url = None,
    endpoint: Endpoint = None,
    ca_cert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Move the alias back to the index before the last refresh, with all that was written since.

    Example: `genrecall index rollback`
    """
    from index_mappings import operations, summaries

    settings = read_config(config, overrides, _options(url, endpoint, ca_cert, cert, key))
    with _progress() as progress:
        report = operations.rollback(settings, queries, progress)
    _show(_with_rate(report), summaries.migration_summary(report, settings.opensearch.index), as_json)


@app.command()
def sync(
    overrides: Overrides = None,
    config: OwnConfig = None,
    bundle: BundleName = "current",
    assignments: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Parquet of item_id and codes: SIDs of this codebook that replace the bundle's."
        ),
    ] = None,
    every: Annotated[float | None, typer.Option(help="Seconds between runs; without it, one run.", min=1)] = None,
    url: Url = None,
    endpoint: Endpoint = None,
    ca_cert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
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
    from index_mappings import operations, summaries

    settings = read_config(config, overrides, _options(url, endpoint, ca_cert, cert, key))

    def run() -> "SyncReport":
        opened = open_bundle(settings.run.bundles_dir, bundle)  # `current` may be another one in the next run
        with _progress() as progress:
            return operations.sync(settings, opened, assignments, progress)

    for report in operations.repeat(run, every) if every else (run(),):
        if isinstance(report, UserError):
            console.print(f"error: {report}")
        elif as_json:
            print_json(asdict(report), indent=None)  # a line a run
        else:
            print(summaries.sync_summary(report, operations.sync_rejects(settings)), flush=True)


def _options(
    url: str | None, endpoint: str | None, ca_cert: Path | None, cert: Path | None, key: Path | None
) -> dict[str, Any]:
    """The setting that each option stands for."""
    return {URL: url, ENDPOINT: endpoint, CA_CERT: ca_cert, CERT: cert, KEY: key}


@app.command()
def attach(
    index: Annotated[str, typer.Argument(help="The index, or an alias of one.")],
    overrides: Overrides = None,
    config: OwnConfig = None,
    bundle: BundleName = "current",
    field: Annotated[str, typer.Option(help="Keyword field for SIDs; added where it is not there.")] = "sid",
    id_field: Annotated[str, typer.Option(help="Field of item ids; _id for the ids of documents.")] = "_id",
    title: Annotated[str, typer.Option(help="Field of titles, for items that the bundle lacks.")] = "title",
    category: Annotated[str, typer.Option(help="The same of categories.")] = "category",
    brand: Annotated[str, typer.Option(help="The same of brands.")] = "brand",
    url: Url = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give SIDs to an index that you have already, in place: one more keyword field, filled by partial updates.

    Nothing else of it changes. Run again, it writes what differs: after an interruption, or for documents added since.
    The inference server assigns SIDs to documents that the bundle lacks.

    Example: `genrecall index attach my-shop --id-field sku --title name`
    """
    from index_mappings import operations, summaries
    from index_mappings.attach import OwnFields

    settings = read_config(config, overrides, {URL: url, ENDPOINT: endpoint})
    fields = OwnFields(field, id_field, title, category, brand)
    with _progress() as progress:
        report = operations.attach(settings, open_bundle(settings.run.bundles_dir, bundle), index, fields, progress)
    rejects = operations.attach_rejects(settings, index)
    _show(asdict(report), summaries.attach_summary(report, index, field, rejects), as_json)


@contextmanager
def _progress(description: str = "documents") -> "Iterator[Progress]":
    """Messages and a bar on standard error."""
    from genrecall.progress import Bars, console
    from index_mappings.progress import Progress

    with Bars() as bars:
        task = bars.add_task(description, total=None)
        yield Progress(console.print, lambda done, total: bars.update(task, completed=done, total=max(done, total)))


def _show(value: Any, text: str, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        print(text, flush=True)


def _with_rate(report: "LoadReport | MigrationReport") -> dict[str, Any]:
    return {**asdict(report), "per_second": round(report.per_second, 1)}
