"""`genrecall bundle`: look at published bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from genrecall.cli.options import BundlesFolder, Json, Quiet, print_json, stdout

if TYPE_CHECKING:
    from genrecall.bundle import Bundle

app = typer.Typer(help="List, show, verify, choose and remove published bundles.", no_args_is_help=True)

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
    table = Table("codebook", "", "model", "items", "SIDs", "exports", "memory", "size", "created")
    for row in rows:
        exports, memory = ", ".join(row["exports"]), "yes" if row["memory"] else ""
        counts = f"{row['items']:,}", f"{row['sids']:,}", exports, memory, f"{row['bytes'] / 1e6:.1f} MB"
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


@app.command()
def use(
    name: Annotated[str, typer.Argument(help="A codebook such as v1, or `previous`.")],
    bundles: BundlesFolder = Path("bundles"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a bundle `current`, once its files are verified; the one that was current becomes `previous`.

    A running server loads it at its next look. The index is switched by `genrecall index refresh`.

    Example: `genrecall bundle use v1`
    """
    from genrecall import bundle

    before = bundle.pointer(bundles, "current")
    chosen = bundle.open(bundle.resolve(bundles, name)).codebook
    bundle.point(bundles, chosen)
    if as_json:
        print_json({"current": chosen, "before": before})
    else:
        print(f"current -> {chosen}" + (f" (before: {before})" if before else ""))


@app.command()
def prune(
    bundles: BundlesFolder = Path("bundles"),
    keep: Annotated[int, typer.Option(help="The newest bundles that stay in any case.", min=0)] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be removed.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove old bundles. `current` and `previous` stay, whatever their age.

    An index of a removed codebook cannot be served or rolled back to any more: `genrecall index status` lists them.

    Example: `genrecall bundle prune --keep 3 --dry-run`
    """
    from genrecall import bundle

    doomed = bundle.unused(bundles, keep)
    removed = [_row(opened, None) for opened in doomed]
    if not dry_run:
        for opened in doomed:
            bundle.remove(opened)
    if as_json:
        print_json(removed)
        return
    for row in removed:
        print(f"{'would remove' if dry_run else 'removed'} {row['path']} ({row['bytes'] / 1e6:.1f} MB)")
    if not removed:
        print(f"nothing to remove in {bundles}: `current`, `previous` and the newest {keep} stay")


def _row(opened: Bundle, pointer: str | None) -> dict[str, Any]:
    """bytes: with all that is attached."""
    from genrecall.bundle import MEMORY, attachments

    facts = {key: opened.manifest.get(key) for key in ("model", "kind", "items", "sids", "created")}
    attached = attachments(opened)
    size = opened.size + sum(attached.values())
    where = {"codebook": opened.codebook, "pointer": pointer, "path": str(opened.path)}
    exports = [name for name in attached if name != MEMORY]
    return {**where, **facts, "exports": exports, "memory": MEMORY in attached, "bytes": size}
