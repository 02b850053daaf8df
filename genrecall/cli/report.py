"""`genrecall report`: what a run learned, as one page."""

from typing import Annotated

import typer

from genrecall.cli.options import Json, Overrides, OwnConfig, Quiet, RunName, print_json, read_config

app = typer.Typer()


@app.command()
def report(
    overrides: Overrides = None,
    config: OwnConfig = None,
    run: RunName = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Which training of the run, such as fold0; else the newest.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write what a run learned: data, codes, losses, rewards, held-out figures, configuration.

    Reads runs/NAME and writes report.md, report.html (one file, to open or to send) and report/*.png there. A run that
    is still under way is reported as far as it got.

    Example: `genrecall report -c demo`
    """
    from genrecall.reports import collect, diagnose, write_run

    settings = read_config(config, overrides, {"run.name": run})
    found = collect(settings.run, split)
    findings = diagnose(found)
    files = write_run(found, findings, settings.run.dir)
    if as_json:
        print_json({**found.facts(), "findings": findings, "files": [str(file) for file in files]})
        return
    for what in found.missing:
        print(f"still missing: {what}")
    for finding in findings:
        print(f"worth a look: {finding.replace('`', '')}")
    print("wrote " + ", ".join(map(str, files[:2])) + f" and {len(files) - 2} plots in {settings.run.dir / 'report'}")
