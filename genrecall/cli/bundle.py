"""`genrecall bundle`: look at published bundles."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(help="List, show and verify published bundles.", no_args_is_help=True)

Root = Annotated[Path, typer.Option("--bundles", help="Folder that holds the bundles.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Name = Annotated[str, typer.Argument(help="A codebook such as v1, or `current`, or `previous`.")]


@app.command("list")
def list_(root: Root = Path("bundles"), as_json: Json = False) -> None:
    """List bundles, newest first.

    Example: `genrecall bundle list`
    """
    from genrecall import bundle

    bundles = bundle.list_bundles(root)
    pointers = {bundle.pointer(root, name): name for name in ("previous", "current")}
    if as_json:
        rows = [
            {"codebook": b.codebook, "pointer": pointers.get(b.codebook), "path": str(b.path), **_facts(b)}
            for b in bundles
        ]
        print(json.dumps(rows, indent=2))
        return
    table = Table("codebook", "", "model", "items", "SIDs", "size", "created")
    for b in bundles:
        facts = _facts(b)
        size = f"{facts['bytes'] / 1e6:.1f} MB"
        table.add_row(
            b.codebook,
            pointers.get(b.codebook, ""),
            b.model,
            f"{facts['items']:,}",
            f"{facts['sids']:,}",
            size,
            facts["created"],
        )
    Console().print(table if bundles else f"no bundles in {root}; train one with `genrecall train`")


@app.command()
def show(name: Name = "current", root: Root = Path("bundles")) -> None:
    """Print the manifest: configuration, data fingerprints, versions, metrics, files.

    Example: `genrecall bundle show v1`
    """
    from genrecall import bundle

    print(json.dumps(bundle.open(bundle.resolve(root, name), check=False).manifest, indent=2))


@app.command()
def verify(name: Name = "current", root: Root = Path("bundles"), as_json: Json = False) -> None:
    """Compare every file with the checksums of the manifest; exit code 2 when one differs.

    Example: `genrecall bundle verify v1`
    """
    from genrecall import bundle

    path = bundle.resolve(root, name)
    faults = list(bundle.verify(path))
    if as_json:
        print(json.dumps({"path": str(path), "valid": not faults, "faults": faults}, indent=2))
    else:
        print("\n".join(faults) if faults else f"{path}: every file is as published")
    if faults:
        raise typer.Exit(2)


def _facts(b) -> dict:  # type: ignore[no-untyped-def]  # Bundle is imported lazily
    keys = ("model", "kind", "items", "sids", "created")
    return {**{key: b.manifest.get(key) for key in keys}, "bytes": b.size}
