"""`genrecall data`: bring a public dataset, make a shop, look at what a configuration reads."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(help="Fetch, synthesize and check datasets.", no_args_is_help=True)
GROUP = True

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="The dataset: esci.")],
    source: Annotated[Path | None, typer.Option("--from", help="Folder that holds its files.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to fill.  [default: data/esci-us]")] = None,
    as_json: Json = False,
) -> None:
    """Bring a public dataset, checked by sha256: from --from, else ../shared/data where it is, else over the network.

    Example: `genrecall data fetch esci`
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from genrecall.datasets.esci import ESCI
    from genrecall.datasets.fetch import fetch as bring
    from genrecall.errors import UserError

    if name != "esci":
        raise UserError(f"dataset {name!r} is not known: `genrecall data fetch esci` is the one there is")
    folder = to or Path("data") / ESCI.name
    sources = [source] if source else [Path("../shared/data") / ESCI.name]
    if source and not all((source / file.name).is_file() for file in ESCI.files):
        raise UserError(f"--from {source} must hold {' and '.join(file.name for file in ESCI.files)}")
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {file.name: bar.add_task(file.name, total=file.size, visible=False) for file in ESCI.files}
        origin = bring(
            ESCI, folder, sources, lambda file, done, _: bar.update(tasks[file], completed=done, visible=True)
        )
    if as_json:
        print(json.dumps({"dataset": ESCI.name, "folder": str(folder), "source": origin}))
    else:
        print(f"{ESCI.name} is in {folder} (source: {origin}); look at it with `genrecall data check`")
