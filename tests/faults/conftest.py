"""A real server process, and toxiproxy between it and a client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import go_tools
from genrecall.errors import UserError
from tests.faults import bundles as made
from tests.faults import process, toxiproxy

TOOLS = Path(__file__).parents[2] / ".cache" / "tools"
MAX_PENDING, MAX_REQUEST_BYTES = 8, 1 << 12

StartServer = Callable[..., process.Server]
Proxied = Callable[[process.Server], AbstractContextManager[toxiproxy.Proxy]]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one bundle. Never changed: a test that damages it takes a copy."""
    root = tmp_path_factory.mktemp("bundles")
    made.publish(root)
    return root


@pytest.fixture
def start_server(bundles: Path, tmp_path: Path) -> Iterator[StartServer]:
    """Starts processes that a test may do anything to: `start_server(*overrides, root=..., env=...)`."""
    started: list[process.Server] = []
    numbers = count()

    def start(*overrides: str, root: Path = bundles, **options: dict[str, str]) -> process.Server:
        settings = [f"server.max_pending={MAX_PENDING}", "server.shutdown_grace_s=30", *overrides]
        started.append(process.start(root, tmp_path / f"server-{next(numbers)}.log", *settings, **options))
        return started[-1]

    yield start
    for server in started:
        server.end()


@pytest.fixture(scope="session")
def shared_server(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[process.Server]:
    settings = {"max_pending": MAX_PENDING, "max_request_bytes": MAX_REQUEST_BYTES}
    overrides = [f"server.{key}={value}" for key, value in settings.items()]
    server = process.start(bundles, tmp_path_factory.mktemp("server") / "server.log", *overrides)
    yield server
    server.end()


@pytest.fixture
def server(shared_server: process.Server) -> Iterator[process.Server]:
    """One process for all tests that it must survive; after each it must answer, and have logged no traceback."""
    written = len(shared_server.stderr)
    yield shared_server
    assert len(shared_server.ask()) == 15
    assert "Traceback" not in shared_server.stderr[written:]


@pytest.fixture(scope="session")
def toxi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[toxiproxy.Toxiproxy]:
    """Toxiproxy, built when it is not there. Skipped, with the reason, only where there is no Go to build it."""
    try:
        program = go_tools.install(go_tools.TOXIPROXY, TOOLS, Console(stderr=True))
    except go_tools.NoGo as error:
        pytest.skip(str(error))
    except UserError as error:
        pytest.fail(str(error), pytrace=False)
    with toxiproxy.run(program, tmp_path_factory.mktemp("toxiproxy") / "toxiproxy.log") as running:
        yield running


@pytest.fixture
def proxied(toxi: toxiproxy.Toxiproxy) -> Proxied:
    return lambda server: toxi.to(server.endpoint)
