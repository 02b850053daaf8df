"""`genrecall remember`: renew what a bundle remembers of its queries, without training."""

from typing import Annotated

import typer

from genrecall.cli.options import BundleName, Json, Overrides, OwnConfig, Quiet, open_bundle, print_json, read_config

app = typer.Typer()


@app.command()
def remember(
    overrides: Overrides = None,
    config: OwnConfig = None,
    bundle: BundleName = "current",
    least: Annotated[
        int | None, typer.Option(help="Clients that must have wanted something for a query.", min=1)
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the bundle's memory instead.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be remembered.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Renew what a bundle remembers of its queries from newer logs, without training.

    For a query that is asked again, the items that people clicked and bought for it say where to look. Reads the logs
    of the configuration (ubi_queries, ubi_events); the memory is replaced in one step, codebook and SIDs stay, and a
    running server takes it up at its next look. A query is kept as a hash of its stems, with SIDs and shares: no text,
    no person. Queries that too few clients asked are left out.

    Example: `genrecall remember -c configs/demo.yaml data.folder=data/logs-of-may --least 5`
    """
    from dataclasses import asdict

    from genrecall import bundle as bundles
    from trainer.remember import remember as renew

    settings = read_config(config, overrides, {"generator.memory.least": least})
    opened = open_bundle(settings.run.bundles_dir, bundle, check=False)  # a damaged memory is replaced, too
    if forget:
        removed = not dry_run and bundles.detach(opened, bundles.MEMORY)
        line = f"{opened.codebook}: {'the memory is removed' if removed else 'nothing was removed'}"
        print_json({"codebook": opened.codebook, "removed": removed}) if as_json else print(line)
        return
    about = renew(settings, opened, dry_run)
    if as_json:
        print_json({"codebook": opened.codebook, "dry_run": dry_run, **asdict(about)})
        return
    period = f"{about.first[:10]} to {about.last[:10]}"
    print(
        f"{opened.codebook}: {'would remember' if dry_run else 'remembers'} {about.queries:,} queries with "
        f"{about.sids:,} SIDs, of {about.requests:,} requests, {period}{' (simulated)' if about.simulated else ''}; "
        f"left out: {about.left_out:,} queries that fewer than {about.least} clients wanted something for"
    )
