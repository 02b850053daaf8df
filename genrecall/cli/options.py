"""Options that verbs share: one name, one help text and one environment variable for each thing.

The conventions: a configuration is `-c` everywhere, never an argument; arguments are overrides; `--json` prints pure
JSON on standard output; everything that is not the result goes to standard error.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from genrecall.bundle import Bundle
    from genrecall.config import Config

HERE = Path("genrecall.yaml")  # read without -c, by verbs that change or measure a shop
DEMO = Path("demo")  # the packaged configuration that a verb reads unless -c names another
ENDPOINT = "127.0.0.1:50051"  # where `genrecall serve` listens

# Results that are not JSON; text is printed as it is, square brackets too. Messages go to genrecall.progress.console.
stdout = Console(highlight=False, markup=False)


def _be_quiet(wanted: bool) -> None:
    from genrecall.progress import console

    console.quiet = wanted


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="SECTION.KEY=VALUE", help="Settings that override the configuration's.", show_default=False),
]
ConfigFile = Annotated[
    Path,
    typer.Option(
        "--config", "-c", metavar="FILE", help="YAML file, or a configuration of the package: demo, tiny, paper."
    ),
]
OwnConfig = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="YAML file, or a configuration of the package: demo, tiny, paper.",
        show_default="genrecall.yaml in the working directory",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="No progress bars or messages: results and errors only.",
        callback=_be_quiet,
        expose_value=False,
    ),
]
RunName = Annotated[
    str | None, typer.Option("--run", metavar="NAME", help="Name of the run; the same as run.name=NAME.")
]
BundleName = Annotated[
    str, typer.Option("--bundle", metavar="NAME", help="A codebook such as v1, `current` or `previous`, or a folder.")
]
BUNDLES = typer.Option("--bundles", metavar="DIR", help="Folder that holds the bundles.", show_default="bundles")
BundlesFolder = Annotated[Path, BUNDLES]
Endpoint = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="The inference server.", envvar="GENRECALL_ENDPOINT", show_default=ENDPOINT),
]
Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The OpenSearch cluster, its nodes separated by commas; the same as opensearch.url=URL. Credentials: "
        "GENRECALL_OPENSEARCH_USER and GENRECALL_OPENSEARCH_PASSWORD in the environment.",
        envvar="GENRECALL_OPENSEARCH_URL",
        show_default="opensearch.url of the configuration",
    ),
]
CaCert = Annotated[
    Path | None, typer.Option(metavar="PEM", help="Certificates that the server's is checked with; turns TLS on.")
]
Cert = Annotated[Path | None, typer.Option(metavar="PEM", help="Client certificate, for mutual TLS.")]
Key = Annotated[Path | None, typer.Option(metavar="PEM", help="Private key of --cert.")]


def read_config(config: Path | None, overrides: list[str] | None, options: Mapping[str, Any] | None = None) -> "Config":
    """The configuration of a verb. options: dotted key -> value of the option that sets it, None where it was not used.

    An override takes precedence over an option, and an option over the file. Without a file it is HERE; UserError where
    that is not there, since the demo's would be another shop's.
    """
    from genrecall.config import Config, load
    from genrecall.errors import UserError

    if config is None and not HERE.exists():
        raise UserError(
            f"no configuration: name yours by -c FILE, or call it {HERE} in the working directory; -c demo is that of "
            "`genrecall demo`"
        )
    config = config or HERE
    chosen = [f"{key}={json.dumps(value, default=str)}" for key, value in (options or {}).items() if value is not None]
    return load(Config, config, [*chosen, *(overrides or [])])


def open_bundle(root: Path, name: str, check: bool = True) -> "Bundle":
    """The bundle that `--bundle` names: one in `root`, or a folder."""
    from genrecall import bundle

    return bundle.open(Path(name) if "/" in name else bundle.resolve(root, name), check=check)


def print_json(value: Any, indent: int | None = 2) -> None:
    print(json.dumps(value, indent=indent, default=str), flush=True)
