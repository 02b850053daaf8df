"""`genrecall index`: the index of a codebook in OpenSearch."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from genrecall.cli import refresh
from genrecall.cli.index_options import dimension_of, meta_of, opened
from genrecall.cli.options import DEMO, BundleName, ConfigFile, Json, Overrides

app = typer.Typer(help="Create, load, refresh and look at the index of a codebook.", no_args_is_help=True)

app.registered_commands.extend(refresh.app.registered_commands)


@app.command()
def create(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    bundle: BundleName = "current",
    replace: Annotated[bool, typer.Option(help="Delete the index of this codebook first, documents included.")] = False,
    as_json: Json = False,
) -> None:
    """Create index template, search pipelines and the empty index `<opensearch.index>-<codebook>`.

    Example: `genrecall index create --bundle v1`
    """
    from index_mappings import lifecycle
    from index_mappings.client import connect, explained

    settings, of = opened(config, overrides, bundle)
    section = settings.opensearch
    with explained(section):
        index, new = lifecycle.create(connect(section), section, meta_of(settings, of), dimension_of(settings), replace)
    if as_json:
        print(json.dumps({"index": index, "new": new}))
    else:
        print(f"{index}: {'created' if new else 'is there already, for the same bundle and vectors'}")


@app.command()
def load(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    bundle: BundleName = "current",
    switch: Annotated[bool, typer.Option(help="Move the alias here when done; the first load does so itself.")] = False,
    as_json: Json = False,
) -> None:
    """Index the catalogue, each item with its SID and its vector. Interrupted, the same command goes on from there.

    Example: `genrecall index load --bundle v1 --switch`
    """
    from genrecall.data.readers import read_items
    from genrecall.embeddings import embed
    from genrecall.item_text import item_text
    from genrecall.progress import Bars
    from index_mappings.client import connect, explained
    from index_mappings.load import fingerprint, terms_of
    from index_mappings.load import load as run

    settings, of = opened(config, overrides, bundle)
    section = settings.opensearch
    folder = settings.run.dir / "index"
    items = read_items(settings.data, folder / "items.rejects.jsonl")
    vectors = embed(item_text(items), settings.encoder, settings.run.cache_dir)
    with Bars() as bar, explained(section):
        task = bar.add_task(f"indexing into {section.url}", total=len(items))
        report = run(
            connect(section),
            section,
            meta_of(settings, of),
            items,
            terms_of(of.items(), of.codebook),
            vectors,
            {"items": fingerprint(items)},
            folder,
            switch,
            lambda done, rows: bar.update(task, completed=done, total=rows),
        )
    if as_json:
        print(json.dumps({**asdict(report), "per_second": round(report.per_second, 1)}))
        return
    sent = report.rows - report.resumed_at
    print(f"{report.index}: {report.documents:,} documents; {sent:,} sent in {report.seconds:.1f} s; {report.alias}")
    for count, what in (
        (report.resumed_at, "rows were done by an earlier load"),
        (report.rejected, f"were rejected, see {folder}/{report.index}.rejects.jsonl"),
        (
            report.without_sid,
            "items are not in the bundle: indexed without SID, the generative clause never finds them",
        ),
        (report.not_in_catalogue, "items of the bundle are not in the catalogue"),
    ):
        if count:
            print(f"  {count:,} {what}")


@app.command()
def status(overrides: Overrides = None, config: ConfigFile = DEMO, as_json: Json = False) -> None:
    """Show the indices of this alias: codebook, documents, how many have a SID.

    Example: `genrecall index status`
    """
    from genrecall.config import Config, load
    from index_mappings import lifecycle
    from index_mappings.client import connect, explained

    section = load(Config, config, overrides or []).opensearch
    with explained(section):
        found = lifecycle.status(connect(section), section)
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    for one in found:
        arrow = f"{section.index} -> " if one.aliased else ""
        print(
            f"{arrow}{one.index}: {one.documents:,} documents, {one.with_sid:,} with a SID of {one.codebook}, "
            f"vectors of {one.dimension} by {one.encoder}, {one.megabytes:.1f} MB, {one.health}"
            f"{'' if one.writable else ', takes no writes'}{f'; {one.job}' if one.job else ''}"
        )
    if not found:
        print(f"no index {section.index}-* at {section.url}; make one with `genrecall index load`")
