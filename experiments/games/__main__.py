"""`python -m experiments.games [--from FOLDER] [--users N]`: fills data/amazon-games and prints what it holds."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.games.dataset import NAME, fetch_games
from experiments.games.raw_files import FILES
from genrecall.data.fetch import source_folders
from genrecall.errors import UserError
from genrecall.progress import Bars


def main(
    source: Annotated[Path | None, typer.Option("--from", help="Folder that holds its files.")] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder to fill.")] = Path("data") / NAME,
    users: Annotated[int | None, typer.Option(min=1, help="Size of a sample of users.  [default: all]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample and the derived queries.")] = 13,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fetch real purchase histories, checked by sha256: from --from, else ../shared/data where it is, else the network.

    Queries are derived from titles, since none were logged.
    """
    with Bars(transient=True) as bars:
        origin, description = fetch_games(to, source_folders(NAME, FILES, source), users, seed, bars.show)
    if as_json:
        print(json.dumps({"dataset": NAME, "folder": str(to), "source": origin, **description}))
        return
    show(description["about"])
    print(f"{NAME} is in {to} (source: {origin}); look at it with `genrecall data check data.folder={to}`")


def show(about: dict[str, Any]) -> None:
    """Print the counts, how ambiguous the derived queries are, and the settings of the leave-one-out split."""
    matches, requests = about["items_with_all_words_of_a_request"]["all"], about["requests"]
    print(
        f"{about['users']:,} users, {sum(requests.values()):,} purchases of {about['items']:,} items; "
        f"{about['queries']:,} different queries\n"
        f"a query's words are all in {matches['lower_quartile']:,} / {matches['median']:,} / "
        f"{matches['upper_quartile']:,} titles (quartiles), in just one for {matches['share_with_1']:.1%} of them\n"
        f"{about['note']}\n"
        f"leave-one-out: logs.split=time logs.dev_share={about['split']['dev_share']} "
        f"logs.test_share={about['split']['test_share']}"
    )


def run() -> None:
    try:
        typer.run(main)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    run()
