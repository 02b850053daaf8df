"""`genrecall index`: the index of a codebook in OpenSearch."""

from dataclasses import asdict
from typing import Annotated

import typer

from genrecall.cli import refresh
from genrecall.cli.options import DEMO, BundleName, ConfigFile, Json, Overrides, Quiet, Url, open_bundle, read_config
from genrecall.cli.refresh import as_dict, counted, job_progress, show

app = typer.Typer(help="Create, load, refresh and inspect the index of a codebook.", no_args_is_help=True)

app.registered_commands.extend(refresh.app.registered_commands)


@app.command()
def create(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
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

    settings = read_config(config, overrides, {"opensearch.url": url})
    index, new = operations.create(settings, open_bundle(settings.run.bundles_dir, bundle), replace)
    line = f"{index}: {'created' if new else 'is there already, for the same bundle and vectors'}"
    show({"index": index, "new": new}, line, as_json)


@app.command()
def load(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    bundle: BundleName = "current",
    switch: Annotated[bool, typer.Option(help="Move the alias here when done; the first load does so itself.")] = False,
    url: Url = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Index the catalogue, each item with its SID and its vector. Interrupted, the same command goes on from there.

    Example: `genrecall index load --bundle v1 --switch`
    """
    from index_mappings import operations

    settings = read_config(config, overrides, {"opensearch.url": url})
    opened = open_bundle(settings.run.bundles_dir, bundle)
    with job_progress(f"indexing into {settings.opensearch.url}") as progress:
        report = operations.load(settings, opened, switch, progress)
    sent = report.rows - report.resumed_at
    rejects = operations.folder_of(settings) / f"{report.index}.rejects.jsonl"
    lines = [
        f"{report.index}: {report.documents:,} documents; {sent:,} sent in {report.seconds:.1f} s; {report.alias}",
        *counted(
            (report.resumed_at, "rows were done by an earlier load"),
            (report.rejected, f"were rejected, see {rejects}"),
            (report.without_sid, "items are not in the bundle: without SID, the generative clause never finds them"),
            (report.not_in_catalogue, "items of the bundle are not in the catalogue"),
        ),
    ]
    show(as_dict(report), "\n".join(lines), as_json)


@app.command()
def status(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    url: Url = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the indices of this alias: codebook, documents, how many have a SID.

    Example: `genrecall index status`
    """
    from index_mappings import operations

    settings = read_config(config, overrides, {"opensearch.url": url})
    found = operations.status(settings)
    alias = settings.opensearch.index
    lines = [
        f"{f'{alias} -> ' if one.aliased else ''}{one.index}: {one.documents:,} documents, {one.with_sid:,} with a SID "
        f"of {one.codebook}, vectors of {one.dimension} by {one.encoder}, {one.megabytes:.1f} MB, {one.health}"
        f"{'' if one.writable else ', takes no writes'}{f'; {one.job}' if one.job else ''}"
        for one in found
    ]
    nothing = f"no index {alias}-* at {settings.opensearch.url}; make one with `genrecall index load`"
    show([asdict(one) for one in found], "\n".join(lines) or nothing, as_json)
