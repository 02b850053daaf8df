"""The node as it really runs."""

import json
import socket
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from genrecall.errors import UserError
from genrecall.local_node import node as local
from genrecall.local_node.distribution import assemble
from tests.conftest import CACHE, NODE, PORT

pytestmark = pytest.mark.node
QUIET = Console(quiet=True)


def test_node_answers_by_its_name_with_vector_and_hybrid_plugins(node: local.Node):
    with urllib.request.urlopen(f"{node.url}/_cat/plugins?format=json") as response:
        plugins = {(row["name"], row["component"], row["version"]) for row in json.load(response)}
    assert (f"genrecall-{PORT}", "opensearch-knn", "3.6.0.0") in plugins
    assert (f"genrecall-{PORT}", "opensearch-neural-search", "3.6.0.0") in plugins


def test_node_runs_as_a_plain_account(node: local.Node):
    status = Path(f"/proc/{node.pid}/status")
    if not status.exists():
        pytest.skip("this system has no /proc")
    uids = next(line for line in status.read_text().splitlines() if line.startswith("Uid:")).split()[1:]
    assert "0" not in uids


def test_node_listens_on_loopback_only(node: local.Node):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; tells the address that other machines see
        address = probe.getsockname()[0]
    with socket.socket() as client:
        assert client.connect_ex((address, node.port)) != 0


def test_starting_a_running_node_leaves_it_alone(node: local.Node, capsys: pytest.CaptureFixture[str]):
    assert local.start(NODE, CACHE, Console(soft_wrap=True)) == node
    assert f"runs already (process {node.pid})" in capsys.readouterr().out


def test_status_shows_what_runs(node: local.Node):
    root = local.node_root(NODE, CACHE, local.node_account("nobody"))
    assert node in local.nodes(root)
    assert node.running
    assert not replace(node, pid=1).running


def test_node_that_cannot_start_fails_with_the_end_of_its_log(node: local.Node):
    section = NODE.model_copy(update={"port": 9252, "heap": "1m"})
    try:
        with pytest.raises(UserError, match=r"the node ended while starting; the end of (.|\n)*heap"):
            local.start(section, CACHE, QUIET)
        assert not local.read(Path(node.folder).parent.parent, 9252).running
    finally:
        local.stop(section, CACHE, QUIET, purge=True)
    assert local.read(Path(node.folder).parent.parent, 9252) is None


def test_port_of_another_program_is_refused(node: local.Node):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 9253))
        taken.listen()
        with pytest.raises(UserError, match="port 9253 is not free"):
            local.start(NODE.model_copy(update={"port": 9253}), CACHE, QUIET)


@pytest.mark.slow
def test_plugin_built_for_another_version_is_refused(node: local.Node, tmp_path: Path):
    wrong = tmp_path / "wrong.zip"
    properties = [
        "name=wrong",
        "description=x",
        "version=1",
        "opensearch.version=2.0.0",
        "java.version=11",
        "classname=X",
    ]
    with zipfile.ZipFile(wrong, "w") as file:
        file.writestr("plugin-descriptor.properties", "\n".join(properties))
    root = Path(node.folder).parent.parent
    homes = set((root / "homes").iterdir())
    with pytest.raises(UserError, match=r"refused a plugin .*wrong.zip.*built for OpenSearch version 2.0.0"):
        assemble("3.6.0", [wrong], root, Path(node.java), QUIET)
    assert set((root / "homes").iterdir()) == homes
