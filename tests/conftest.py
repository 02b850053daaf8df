"""What the suites share: one real OpenSearch node for all tests marked `node`."""

import fcntl
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from rich.console import Console

from genrecall.config.opensearch import NodeSection
from genrecall.errors import UserError
from genrecall.local_node import node as local

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".cache" / "genrecall"

# Speed is measured in benchmarks/, not here; and a run that passed passes again.
settings.register_profile("genrecall", deadline=None, derandomize=True)
settings.load_profile("genrecall")
PORT = 9250 + zlib.crc32(str(ROOT).encode()) % 600  # of this checkout: another one may test at the same time
ZIPS = str(ROOT / "plugin/target/releases/genrecall-*.zip")
NODE = NodeSection(
    port=PORT,
    heap="512m",
    jvm_options=("-XX:TieredStopAtLevel=1",),  # halves the processor time of a start; a session is too short for more
    plugins=(ZIPS,) if local.plugin_zips([ZIPS]) else (),  # `plugin_node` fails without it
)


# Fixtures that train, export or serve: what uses one is no part of `make test-fast`.
TRAINED = {"train", "trained_encoder", "trained_lm", "policy", "lm_bundle", "encoder_bundle", "exported", "reported"}
TRAINED |= {"bundles", "shared_server", "many", "toxi"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what uses a trained artifact, before `-m` reads the marks; refuse a test of the node outside its group."""
    if TRAINED & set(getattr(item, "fixturenames", ())):
        item.add_marker("trained")
    path = item.path.relative_to(ROOT / "tests").as_posix()
    if item.get_closest_marker("node") and _group(path) != "node":
        raise pytest.UsageError(f"tests/{path} uses the node: add it to ON_NODE in tests/conftest.py")


def _group(path: str) -> str:
    """The tests that share a process with those of a file; path: below tests/."""
    folder = path.partition("/")[0]
    return "node" if {path, folder} & ON_NODE else RUN_WITH.get(folder, folder)


# Folders and files whose tests share a process: they share the node, whose cluster settings are one.
ON_NODE = {"cluster", "e2e", "index", "local_node", "data/test_index_source.py", "evaluation/test_command.py"}
# Folders of a few long tests run with one of many tests: xdist starts the largest group first.
RUN_WITH = {
    "packaging": "inference_server",
    "trainer": "inference_server",
    "reports": "generator",
    "alignment": "generator",
}


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A folder's tests run in one process, with what the folder trains once a session.

    Marks cannot say so: the groups of `--dist loadgroup` have no effect under pytest 9.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid.partition("::")[0].removeprefix("tests/"))

    return ByFolder(config, log)


@pytest.fixture(scope="session")
def node() -> Iterator[local.Node]:
    """A node with k-NN, neural-search and, where it was built, our plugin; started once a session.

    It fails, with the reason, where a node cannot be had: a test of the real thing is never skipped silently. Sessions
    that run at the same time share the node (a shared lock on a file), and the last to leave removes it.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "test-node.lock").open("w") as lock:
        alone = _try_lock(lock.fileno())
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            if alone:  # removes what a killed session may have left
                local.stop(NODE, CACHE, Console(quiet=True), purge=True)
            yield local.start(NODE, CACHE, Console(stderr=True, soft_wrap=True))
        except UserError as error:
            pytest.fail(f"no node to test with: {error}", pytrace=False)
        if _try_lock(lock.fileno()):
            local.stop(NODE, CACHE, Console(quiet=True), purge=True)


@pytest.fixture(scope="session")
def plugin_node(node: local.Node) -> local.Node:
    """The node, when it has the `generative` clause."""
    if not any(plugin.startswith("genrecall ") for plugin in node.plugins):
        pytest.fail("the node has no genrecall plugin: build it with `make plugin`", pytrace=False)
    return node


def _try_lock(descriptor: int) -> bool:
    """Whether the exclusive lock was free; taken if so. A failed try gives up a shared lock that was held."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
