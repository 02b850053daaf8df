"""Entry point: gathers the verbs and turns errors into exit codes (2: the user's mistake, 1: ours)."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

import genrecall
from genrecall.cli.extras import explain
from genrecall.errors import UserError

# verb (or verb group) -> module of genrecall.cli that defines `app`; a group with a single command is that command.
VERBS = ["demo", "data", "train", "remember", "evaluate", "report", "export", "serve", "generate", "bundle", "node"]
VERBS += ["index"]


INTERRUPTED = 130  # what Typer makes of Ctrl-C

# What is said after it.
RESUMES = {
    "demo": "the same command goes on from the step that was interrupted",
    "train": "the same command resumes from the last finished stage or checkpoint; --fresh begins anew",
    "evaluate": "the same command takes the finished folds as they are",
    "export": "nothing was attached; run the same command again",
    "remember": "the memory is as it was; the same command resumes",
    "index load": "the same command resumes; nothing is searched before it is done",
    "index refresh": "the same command resumes, `genrecall index refresh --abandon` gives it up",
    "index rollback": "the same command resumes, `genrecall index refresh --abandon` gives it up",
    "index sync": "the same command does what is left",
}


def build() -> typer.Typer:
    app = typer.Typer(
        name="genrecall",
        help="Generative recall for OpenSearch: train semantic ids and a generator, serve them, query with them.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for verb in VERBS:
        module = import_module(f"genrecall.cli.{verb}")
        commands = module.app.registered_commands
        if len(commands) > 1:
            app.add_typer(module.app, name=verb)
        else:
            app.registered_commands.extend(commands)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"genrecall {genrecall.__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None: ...


def main() -> None:
    try:
        build()(prog_name="genrecall")
    except UserError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if (message := explain(error, sys.argv[1:])) is None:
            raise
        _fail(message)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        print(f"interrupted{go_on(sys.argv[1:])}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def go_on(words: Sequence[str]) -> str:
    """What the command line `words` does when it is run again, for those that keep what is done."""
    return next((f": {RESUMES[name]}" for name in (" ".join(words[:2]), *words[:1]) if name in RESUMES), "")


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2) from None


if __name__ == "__main__":
    main()
