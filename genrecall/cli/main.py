"""Entry point: gathers the verbs and turns errors into exit codes (2: the user's mistake, 1: ours)."""

import sys
from importlib import import_module
from typing import Annotated

import typer

import genrecall
from genrecall.cli.extras import explain
from genrecall.errors import UserError

# verb (or verb group) -> module of genrecall.cli that defines `app`; a group with a single command is that command.
VERBS = ["demo", "data", "train", "evaluate", "report", "export", "serve", "generate", "bundle", "node", "index"]


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
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2) from None


if __name__ == "__main__":
    main()
