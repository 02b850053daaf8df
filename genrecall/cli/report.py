"""`genrecall report`: what a run learned, as one page."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from genrecall.reports import Run

app = typer.Typer()


@app.command()
def report(
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings such as run.runs_dir=elsewhere.")] = None,
    config: Annotated[Path, typer.Option("--config", "-c", help="A file in configs/.")] = Path("configs/demo.yaml"),
    run: Annotated[str | None, typer.Option("--run", help="Name of the run; the same as run.name=NAME.")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Which training of the run, such as fold0; else the newest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was collected as JSON.")] = False,
) -> None:
    """Write what a run learned: data, codes, losses, rewards, held-out figures, configuration.

    Reads runs/NAME and writes report.md, report.html (one file, to be opened or sent anywhere) and report/*.png there.
    A run that is still under way is told as far as it is.

    Example: `genrecall report --run demo`
    """
    from genrecall.config import Config, load

    settings = load(Config, config, [*(overrides or []), *([f"run.name={run}"] if run is not None else [])])

    from genrecall.reports import collect, diagnose, write_run

    found = collect(settings.run, split)
    findings = diagnose(found)
    files = write_run(found, findings, settings.run.dir)
    if as_json:
        print(json.dumps(collected(found, findings, files), indent=2))
        return
    for what in found.missing:
        print(f"not there yet: {what}")
    for finding in findings:
        print(f"worth a look: {finding.replace('`', '')}")
    print("wrote " + ", ".join(map(str, files[:2])) + f" and {len(files) - 2} plots in {settings.run.dir / 'report'}")


def collected(run: "Run", findings: list[str], files: list[Path]) -> dict[str, Any]:
    """All that the page tells, for machines."""
    from dataclasses import asdict

    published = run.published
    return {
        "run": run.name,
        "training": run.folder.name,
        "others": list(run.others),
        "written": run.written,
        "simulated": run.simulated,
        "missing": run.missing,
        "findings": findings,
        "data": run.data,
        "candidates": {candidate.kind: asdict(candidate) for candidate in run.candidates},
        "chosen": run.chosen,
        "bundle": {"path": str(published.path), **published.manifest} if published else None,
        "evaluation": run.evaluation,
        "config": run.config,
        "files": [str(file) for file in files],
    }
