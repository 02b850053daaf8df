"""Entry point: gathers the verbs and turns errors into exit codes (2: the user's mistake, 1: ours)."""

import sys
from importlib import import_module

import typer

from genrecall.errors import UserError

# verb (or verb group) -> module of genrecall.cli that defines `app`; a group with a single command is that command.
VERBS = ["demo", "data", "train", "evaluate", "report", "export", "serve", "generate", "bundle", "node", "index"]


def build() -> typer.Typer:
    app = typer.Typer(
        name="genrecall",
        help="Generative recall for OpenSearch: train semantic ids and a generator, serve them, query with them.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    for verb in VERBS:
        module = import_module(f"genrecall.cli.{verb}")
        commands = module.app.registered_commands
        if getattr(module, "GROUP", len(commands) > 1):
            app.add_typer(module.app, name=verb)
        else:
            app.registered_commands.extend(commands)
    return app


def main() -> None:
    try:
        build()()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
