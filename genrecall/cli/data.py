"""`genrecall data`: import your files, fetch a public dataset, make a shop, simulate logs, check what is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from genrecall.cli.options import DEMO, ConfigFile, Json, Overrides, Quiet, print_json, read_config, stdout
from genrecall.progress import Bars, console

if TYPE_CHECKING:
    from genrecall.config import Config
    from genrecall.data.importing import Imported
    from genrecall.data.rejects import Rejects
    from genrecall.records import Dataset

TOKENIZED = 1000  # titles, and queries, of which the tokens are looked at

app = typer.Typer(help="Import, fetch, synthesize, simulate and check datasets.", no_args_is_help=True)

NewFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder to make; must not hold anything yet.")]
OtherSettings = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Such as clicks.noise=2.", show_default=False)
]
Seed = Annotated[int, typer.Option("--seed", "-s", help="The same seed gives the same bytes.")]


@app.command("import")
def import_(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files, or indices as http://127.0.0.1:9200/products.")
    ],
    out: NewFolder,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="Which column holds what: title=Name, text=Intro+Body."),
    ] = None,
    kind: Annotated[str, typer.Option(help="catalogue, queries, judgments or logs; found in the files.")] = "",
    encoding: Annotated[str, typer.Option(help="Such as cp1252; found in the files.")] = "",
    delimiter: Annotated[str, typer.Option(help="Of tables, such as ';' or tab; found in the files.")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Settings of `data`: judgments.offset=1, max_reject_share=.1."),
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Show what was found; write nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read a shop's own files, whatever they are, and write a dataset folder.

    **Catalogues**: CSV and TSV of any delimiter and encoding (Shopify, WooCommerce, Magento, Google Merchant), feeds in
    XML, JSON lines, JSON arrays, bulk requests, Parquet, OpenSearch indices. **Judgments**: TREC qrels, BEIR, MS MARCO,
    CSV, Quepid, the Search Relevance Workbench, feature files, click counts. **Logs**: User Behavior Insights,
    tables of clicks.

    Format, encoding, columns and kind are found in each file and shown; `--map` names a column that was not found or is
    another. Rows that cannot be used are listed in rejects.jsonl and counted; too many of them stop the import.

    Example: `genrecall data import products_export.csv --out data/my-shop`
    """
    from genrecall.config import load
    from genrecall.config.data import DataSection
    from genrecall.data.importing import KINDS, import_files
    from genrecall.errors import UserError

    if kind and kind not in KINDS:
        raise UserError(f"--kind {kind!r} is not known: one of {', '.join(KINDS)}")
    columns = dict(entry.partition("=")[::2] for entry in mapping or [])
    if wrong := [field for field, column in columns.items() if not column]:
        raise UserError(f"--map {wrong[0]!r} must look like FIELD=COLUMN, such as title=Name")
    told = {"encoding": encoding, "delimiter": {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)}
    sources = ("items", "queries", "judgments", "ubi_queries", "ubi_events")
    formats = [f"{source}.{name}={json.dumps(value)}" for source in sources for name, value in told.items() if value]
    section = load(DataSection, None, [*formats, *(settings or [])])
    with Bars(transient=True) as bars:
        counters: dict[str, Callable[[int], None]] = {}

        def done(source: str, number: int) -> None:
            if source not in counters:
                counters[source] = bars.counter(f"importing {source}")
            counters[source](number)

        found = import_files(files, out, section, columns, kind, preview, done)
    if as_json:
        print_json({"folder": None if preview else str(out), **found.facts(), "preview": found.preview})
        return
    _show_imported(found)
    if preview:
        print("nothing was written: leave --preview out")
    else:
        print(f"{out}: look at it with `genrecall data check data.folder={out}`")


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
def judge(
    out: NewFolder,
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    share: Annotated[float, typer.Option(help="Of the clicks of a query's best item: from here on relevant.")] = 0.1,
    least: Annotated[int, typer.Option(help="Requests with a click or purchase that a query must have.", min=1)] = 2,
    propensity: Annotated[
        float, typer.Option(help="Weight a click by rank ** this: assumes that rank r is looked at like 1 / r ** this.")
    ] = 0.0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make judgments out of a dataset's logs: what people clicked and bought for a query is relevant to it.

    For a shop that has nobody who judges. The folder names the items and logs where they are, and can be trained on,
    evaluated and reported like any other: unseen queries by folds over the logged queries, whose requests are held out
    with them. Its name says what judged it, since clicks are not relevance: what was never shown was never clicked, and
    what was shown high was clicked more.

    Example: `genrecall data judge data.folder=data/esci-logs --least 1 --out data/esci-clicks`
    """
    from trainer.logs.judge import judge as judge_by_logs

    description = judge_by_logs(read_config(config, overrides), out, share, least, propensity)
    if as_json:
        print_json(description)
        return
    about = description["about"]
    counted = f"{about['queries']:,} queries, {about['judgments']:,} judgments by clicks and purchases"
    bias = f"position bias is {about['position_bias']}"
    found = about["queries_to_find_more_for"]
    when = (
        f"{found:,} recurring queries, parted at {about['cut']}" if found else "no query recurs with other items later"
    )
    print(f"{out}: {counted}; {when}; {bias}; next: `genrecall train -c demo data.folder={out}`")


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
    if note := _encoder_note(settings, dataset):
        rejects.note("encoder", note)
    facts = summarize(dataset, settings, rejects)
    if as_json:
        print_json(facts if logs is None else {**facts, "logs": logs})
        return
    _show_facts(facts, rejects)
    if logs is not None:
        from genrecall.reports.logs import rows

        _show_table(f"logs ({_origin(facts)})", rows(logs))
        print(f"the report is in {folder}: logs.md, logs.png, logs.json")
    _show_notes(rejects)


def _encoder_note(settings: Config, dataset: Dataset) -> str:
    """A warning where the encoder does not know the script of the titles or queries, or cannot be asked."""
    from genrecall.checkpoints import resolve
    from genrecall.errors import UserError

    sample = {"the titles": dataset.items["title"], "the queries": dataset.queries["text"]}
    try:
        from genrecall.decoding.request_tokenizer import unknown_note

        folder = resolve(settings.encoder.checkpoint)
        notes = (unknown_note(folder, texts.slice(0, TOKENIZED).to_pylist(), what) for what, texts in sample.items())
        return next(filter(None, notes), "")
    except (ImportError, UserError) as error:
        return f"whether the encoder knows these texts was not looked at: {error}"


def _show_simulated(description: dict[str, Any], out: Path, counts: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json(description)
        return
    about = description["about"]
    counted = ", ".join(f"{about[name]:,} {name}" for name in counts)
    seed = about["settings"]["seed"]
    print(f"{out}: {counted} (simulated, seed {seed}); look at it with `genrecall data check data.folder={out}`")


def _show_imported(found: Imported) -> None:
    rows = {Path(one["file"]).name: f"{one['kind']} ({one['format']})" for one in found.files}
    rows |= _of_columns(found.rejects.facts)
    rows |= {f"{name} written": f"{count:,}" for name, count in found.counts.items()}
    _show_table("found", {**rows, **_of_rejects(found.rejects)})
    for source, records in found.preview.items():
        _show_table(f"first {source}", {str(number): _record(row) for number, row in enumerate(records, 1)})
    _show_notes(found.rejects)


def _of_columns(facts: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Which column of each file holds what, and the grades of the judgments."""
    rows = {}
    for source, places in facts.items():
        for place, fields in places.items():
            name = place if place in ("grades", "actions") else source if place == "columns" else f"{source} of {place}"
            rows[name] = ", ".join(f"{field}: {_column(value)}" for field, value in fields.items())
    return rows


def _of_rejects(rejects: Rejects) -> dict[str, str]:
    rows = {}
    for what, counted in (("rejected", rejects.reasons), ("left out of", rejects.left_out)):
        for source, reasons in counted.items():
            rows[f"{what} {source}"] = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common())
    if rejects.count() and rejects.path:
        rows["rejected rows"] = f"listed in {rejects.path}"
    return rows


def _show_notes(rejects: Rejects) -> None:
    for source, notes in rejects.notes.items():
        for note in notes:
            console.print(f"warning: {source}: {note}", style="yellow", markup=False)


def _column(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)


def _record(row: dict[str, Any]) -> str:
    shown = {name: value for name, value in row.items() if value not in ("", []) and name not in ("place", "line")}
    return "; ".join(f"{name} {value if name == 'timestamp' else repr(value)}"[:100] for name, value in shown.items())


def _show_facts(facts: dict[str, Any], rejects: Rejects) -> None:
    rows: dict[str, str] = {}
    for name, value in facts.items():
        if name not in ("name", "simulated", "rejects", "splits", "most_common", "columns", "left_out", "notes"):
            many = isinstance(value, dict)
            rows[name.replace("_", " ")] = ", ".join(f"{k} {v:,g}" for k, v in value.items()) if many else f"{value:,}"
    for name, parts in facts["splits"].items():
        sizes = ", ".join(f"{part} {size['queries']:,} ({size['judgments']:,})" for part, size in parts.items())
        rows[f"split {name}: queries (judgments)"] = sizes
    for name, values in facts["most_common"].items():
        if values:
            rows[f"most common {name}"] = ", ".join(f"{value} {count:,}" for value, count in values.items())
    rows |= _of_columns(facts["columns"])
    _show_table(f"{facts['name']} ({_origin(facts)})", {**rows, **_of_rejects(rejects)})


def _show_table(title: str, rows: dict[str, str]) -> None:
    table = Table(title=title, show_header=False)
    for row in rows.items():
        table.add_row(*row)
    stdout.print(table)


def _origin(facts: dict[str, Any]) -> str:
    return "simulated" if facts["simulated"] else "observed"
