"""`genrecall bundle`: look at published bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from genrecall.cli.options import BundlesFolder, Json, Quiet, print_json, stdout

if TYPE_CHECKING:
    from genrecall.bundle import Bundle

app = typer.Typer(help="List, show and verify published bundles.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A codebook such as v1, `current` or `previous`.")]


@app.command("list")
def list_(bundles: BundlesFolder = Path("bundles"), as_json: Json = False, quiet: Quiet = False) -> None:
    """List bundles, newest first.

    Example: `genrecall bundle list`
    """
    from genrecall import bundle

    pointers = {bundle.pointer(bundles, name): name for name in ("previous", "current")}
    rows = [_row(opened, pointers.get(opened.codebook)) for opened in bundle.list_bundles(bundles)]
    if as_json:
        print_json(rows)
        return
    table = Table("codebook", "", "model", "items", "SIDs", "size", "created")
    for row in rows:
        counts = f"{row['items']:,}", f"{row['sids']:,}", f"{row['bytes'] / 1e6:.1f} MB"
        table.add_row(row["codebook"], row["pointer"] or "", row["model"], *counts, row["created"])
    if rows:
        stdout.print(table)
    else:
        print(f"no bundles in {bundles}; train one with `genrecall train`")


@app.command()
def show(
    name: Name = "current", bundles: BundlesFolder = Path("bundles"), as_json: Json = False, quiet: Quiet = False
) -> None:
    """Print the manifest: configuration, data fingerprints, versions, metrics, files.

    Example: `genrecall bundle show v1`
    """
    from genrecall import bundle

    print_json(bundle.open(bundle.resolve(bundles, name), check=False).manifest)  # with and without --json


@app.command()
def verify(
    name: Name = "current", bundles: BundlesFolder = Path("bundles"), as_json: Json = False, quiet: Quiet = False
) -> None:
    """Compare every file with the checksums of the manifest; exit code 2 when one differs.

    Example: `genrecall bundle verify v1`
    """
    from genrecall import bundle

    path = bundle.resolve(bundles, name)
    faults = list(bundle.verify(path))
    if as_json:
        print_json({"path": str(path), "valid": not faults, "faults": faults})
    else:
        print("\n".join(faults) if faults else f"{path}: every file is as published")
    if faults:
        raise typer.Exit(2)


def _row(opened: Bundle, pointer: str | None) -> dict[str, Any]:
    facts = {key: opened.manifest.get(key) for key in ("model", "kind", "items", "sids", "created")}
    return {"codebook": opened.codebook, "pointer": pointer, "path": str(opened.path), **facts, "bytes": opened.size}
