"""`genrecall data`: fetch a public dataset, make a shop, simulate logs, check what a configuration reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from genrecall.cli.options import DEMO, ConfigFile, Json, Overrides, Quiet, print_json, read_config, stdout
from genrecall.progress import Bars, console

app = typer.Typer(help="Fetch, synthesize, simulate and check datasets.", no_args_is_help=True)

NewFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder to make; must not hold anything yet.")]
OtherSettings = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Such as clicks.noise=2.", show_default=False)
]
Seed = Annotated[int, typer.Option("--seed", "-s", help="The same seed gives the same bytes.")]


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="The dataset: esci.")],
    source: Annotated[Path | None, typer.Option("--from", help="Folder that holds its files.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to fill.", show_default="data/esci-us")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a public dataset, checked by sha256: from --from, else ../shared/data where it is, else over the network.

    esci: products, queries, human judgments.

    Example: `genrecall data fetch esci`
    """
    from genrecall.data import fetch as fetching
    from genrecall.data.esci import ESCI
    from genrecall.errors import UserError

    if name != "esci":
        raise UserError(f"dataset {name!r} is not known: `genrecall data fetch` brings esci")
    folder = to or Path("data") / ESCI.name
    with Bars(transient=True) as bars:
        sources = fetching.source_folders(ESCI.name, ESCI.files, source)
        origin = fetching.fetch(ESCI, folder, sources, bars.show)
    if as_json:
        print_json({"dataset": ESCI.name, "folder": str(folder), "source": origin})
    else:
        print(f"{ESCI.name} is in {folder} (source: {origin}); look at it with `genrecall data check`")


@app.command()
def synthesize(
    out: NewFolder,
    items: Annotated[int, typer.Option("--items", "-n", help="1,000 to 20,000,000.")] = 10_000,
    seed: Seed = 13,
    overrides: OtherSettings = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a shop: items, queries with graded relevance, behaviour logs. Everything in it is simulated.

    Example: `genrecall data synthesize --items 10000 --seed 7 --out data/shop`
    """
    import simulation
    from genrecall.config import load
    from simulation.config import ShopSection

    section = load(ShopSection, None, [f"items={items}", f"seed={seed}", *(overrides or [])])
    with Bars(transient=True) as bars:
        description = simulation.synthesize(section, out, bars.show)
    _show_simulated(description, out, ("items", "queries", "judgments", "sessions", "clicks"), as_json)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="A dataset with judgments, such as data/esci-us.")],
    out: NewFolder,
    sessions: Annotated[int, typer.Option("--sessions", "-n", help="Logged searches of each judged query.")] = 100,
    seed: Seed = 13,
    overrides: OtherSettings = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a judged dataset and add behaviour logs: searches, clicks and purchases simulated from its judgments.

    Example: `genrecall data simulate data/esci-us --out data/esci-logs`
    """
    import simulation
    from genrecall.config import load
    from simulation.config import SimulationSection

    section = load(SimulationSection, None, [f"sessions={sessions}", f"seed={seed}", *(overrides or [])])
    with Bars(transient=True) as bars:
        description = simulation.simulate(section, folder, out, bars.show)
    _show_simulated(description, out, ("queries", "sessions", "clicks", "purchases"), as_json)


@app.command()
def check(overrides: Overrides = None, config: ConfigFile = DEMO, as_json: Json = False, quiet: Quiet = False) -> None:
    """Read the dataset of a configuration; print its counts, what was rejected and how it is split.

    Bad rows are listed in runs/NAME/rejects.jsonl; exit code 2 when there are more than data.max_reject_share. Logs
    become requests, as for training; their report is written to runs/NAME/logs as well.

    Example: `genrecall data check data.folder=data/esci-us`
    """
    from genrecall.data.events import has_logs
    from genrecall.data.readers import read_dataset
    from genrecall.data.rejects import Rejects
    from genrecall.data.splits import training_split
    from genrecall.data.summary import summarize

    settings = read_config(config, overrides)
    logs = None
    with Rejects(settings.run.dir / "rejects.jsonl") as rejects:
        with console.status(f"reading {settings.data.folder}"):
            dataset = read_dataset(settings.data, rejects)
        if settings.logs.use == "auto" and has_logs(settings.data):
            from trainer.logs import prepare

            split, folder = training_split(dataset, settings), settings.run.dir / "logs"
            _, logs = prepare(settings.data, settings.logs, dataset, split, folder, rejects)
    facts = summarize(dataset, settings, rejects)
    if as_json:
        print_json(facts if logs is None else {**facts, "logs": logs})
        return
    _show_facts(facts)
    if rejects.count():
        print(f"rejected rows are listed in {rejects.path}")
    if logs is not None:
        from trainer.logs.report import rows

        _show_table(f"logs ({_origin(facts)})", rows(logs))
        print(f"the report is in {folder}: logs.md, logs.png, logs.json")


def _show_simulated(description: dict[str, Any], out: Path, counts: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json(description)
        return
    about = description["about"]
    counted = ", ".join(f"{about[name]:,} {name}" for name in counts)
    seed = about["settings"]["seed"]
    print(f"{out}: {counted} (simulated, seed {seed}); look at it with `genrecall data check data.folder={out}`")


def _show_facts(facts: dict[str, Any]) -> None:
    rows = {}
    for name, value in facts.items():
        if name not in ("name", "simulated", "rejects", "splits"):
            many = isinstance(value, dict)
            rows[name.replace("_", " ")] = ", ".join(f"{k} {v:,g}" for k, v in value.items()) if many else f"{value:,}"
    for name, parts in facts["splits"].items():
        sizes = ", ".join(f"{part} {size['queries']:,} ({size['judgments']:,})" for part, size in parts.items())
        rows[f"split {name}: queries (judgments)"] = sizes
    for source, reasons in facts["rejects"].items():
        rows[f"rejected {source}"] = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.items())
    _show_table(f"{facts['name']} ({_origin(facts)})", rows)


def _show_table(title: str, rows: dict[str, str]) -> None:
    table = Table(title=title, show_header=False)
    for row in rows.items():
        table.add_row(*row)
    stdout.print(table)


def _origin(facts: dict[str, Any]) -> str:
    return "simulated" if facts["simulated"] else "observed"
