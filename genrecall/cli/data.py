"""`genrecall data`: bring a public dataset, make a shop, simulate logs, look at what a configuration reads."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import TaskID
from rich.table import Table

app = typer.Typer(help="Fetch, synthesize, simulate and check datasets.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="The dataset: esci.")],
    source: Annotated[Path | None, typer.Option("--from", help="Folder that holds its files.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to fill.  [default: data/esci-us]")] = None,
    as_json: Json = False,
) -> None:
    """Bring a public dataset, checked by sha256: from --from, else ../shared/data where it is, else over the network.

    esci: products, queries, human judgments.

    Example: `genrecall data fetch esci`
    """
    from genrecall.data.esci import ESCI
    from genrecall.data.fetch import fetch as bring
    from genrecall.errors import UserError

    if name != "esci":
        raise UserError(f"dataset {name!r} is not known: `genrecall data fetch` brings esci")
    if source and not all((source / file.name).is_file() for file in ESCI.files):
        raise UserError(f"--from {source} must hold {' and '.join(file.name for file in ESCI.files)}")
    folder = to or Path("data") / ESCI.name
    with _stages() as progress:
        origin = bring(ESCI, folder, [source] if source else [Path("../shared/data") / ESCI.name], progress)
    if as_json:
        print(json.dumps({"dataset": ESCI.name, "folder": str(folder), "source": origin}))
    else:
        print(f"{ESCI.name} is in {folder} (source: {origin}); look at it with `genrecall data check`")


@app.command()
def synthesize(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make; must not hold anything yet.")],
    items: Annotated[int, typer.Option("--items", "-n", help="1,000 to 20,000,000.")] = 10_000,
    seed: Annotated[int, typer.Option("--seed", "-s", help="The same seed gives the same bytes.")] = 13,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Any other setting, such as queries=500 or clicks.noise=2.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a shop: items, queries with graded relevance, behaviour logs. Everything in it is simulated.

    Example: `genrecall data synthesize --items 10000 --seed 7 --out data/shop`
    """
    from genrecall.config import load
    from simulation import synthesize as make
    from simulation.config import ShopSection

    section = load(ShopSection, None, [f"items={items}", f"seed={seed}", *(overrides or [])])
    with _stages() as progress:
        described = make(section, out, progress)
    if as_json:
        print(json.dumps(described, indent=1))
        return
    about = described["about"]
    counts = ", ".join(f"{about[name]:,} {name}" for name in ("items", "queries", "judgments", "sessions", "clicks"))
    print(f"{out}: {counts} (simulated, seed {seed}); look at it with `genrecall data check data.folder={out}`")


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="A dataset with judgments, such as data/esci-us.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make; must not hold anything yet.")],
    sessions: Annotated[int, typer.Option("--sessions", "-n", help="Logged searches of each judged query.")] = 100,
    seed: Annotated[int, typer.Option("--seed", "-s", help="The same seed gives the same bytes.")] = 13,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Any other setting, such as clicks.noise=2 or days=7.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy a judged dataset and add behaviour logs: searches, clicks and purchases simulated from its judgments.

    Example: `genrecall data simulate data/esci-us --out data/esci-logs`
    """
    from genrecall.config import load
    from simulation import simulate as make
    from simulation.config import SimulationSection

    section = load(SimulationSection, None, [f"sessions={sessions}", f"seed={seed}", *(overrides or [])])
    with _stages() as progress:
        described = make(section, folder, out, progress)
    if as_json:
        print(json.dumps(described, indent=1))
        return
    about = described["about"]
    counts = ", ".join(f"{about[name]:,} {name}" for name in ("queries", "sessions", "clicks", "purchases"))
    print(f"{out}: {counts} (simulated, seed {seed}); look at it with `genrecall data check data.folder={out}`")


@contextmanager
def _stages() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage of long work; what is yielded takes the stage, how much is done, and how much there is."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield show


@app.command()
def check(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of the configuration, such as data.folder=data/shop.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A configuration; its data section counts.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read the dataset of a configuration and say what is in it, what was rejected and how it splits.

    Bad rows are listed in runs/NAME/rejects.jsonl; exit code 2 when there are more than data.max_reject_share. Logs
    become requests, as for training; their report is written to runs/NAME/logs as well.

    Example: `genrecall data check data.folder=data/esci-us`
    """
    from genrecall.config import Config, load
    from genrecall.data.events import has_logs
    from genrecall.data.readers import open_dataset
    from genrecall.data.rejects import Rejects
    from genrecall.data.splits import split_of
    from genrecall.data.summary import summary

    chosen = load(Config, config, overrides or [])
    rejects = Rejects(chosen.run.dir / "rejects.jsonl")
    with Console(stderr=True).status(f"reading {chosen.data.folder}"):
        dataset = open_dataset(chosen.data, rejects)
    found = {}
    if chosen.logs.use == "auto" and has_logs(chosen.data):
        from trainer.logs import prepare

        split, folder = split_of(dataset, chosen), chosen.run.dir / "logs"
        _, found["logs"] = prepare(chosen.data, chosen.logs, dataset, split, folder, rejects, progress=not as_json)
    facts = summary(dataset, chosen.data, rejects, chosen.evaluation.folds, chosen.run.seed) | found
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        _show(facts, rejects.path if rejects.count() else None)
        if "logs" in facts:
            from genrecall.reports.logs import rows

            table = Table(title=f"logs ({'simulated' if facts['simulated'] else 'observed'})", show_header=False)
            for row in rows(facts["logs"]).items():
                table.add_row(*row)
            Console().print(table)
            print(f"the report is in {chosen.run.dir / 'logs'}: logs.md, logs.png, logs.json")


def _show(facts: dict[str, Any], rejected: Path | None) -> None:
    table = Table(title=f"{facts['name']} ({'simulated' if facts['simulated'] else 'observed'})", show_header=False)
    for key, value in facts.items():
        if key in ("name", "simulated", "rejects", "splits", "logs"):
            continue
        said = ", ".join(f"{k} {v:,g}" for k, v in value.items()) if isinstance(value, dict) else f"{value:,}"
        table.add_row(key.replace("_", " "), said)
    for name, parts in facts["splits"].items():
        said = ", ".join(f"{part} {size['queries']:,} ({size['judgments']:,})" for part, size in parts.items())
        table.add_row(f"split {name}: queries (judgments)", said)
    for source, reasons in facts["rejects"].items():
        table.add_row(f"rejected {source}", ", ".join(f"{reason}: {count:,}" for reason, count in reasons.items()))
    Console().print(table)
    if rejected:
        print(f"rejected rows are listed in {rejected}")
