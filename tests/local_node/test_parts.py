"""The parts of a node that need no node: fetching, checking, choosing plugins and accounts, telling processes apart."""

import os
import shutil
import socket
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from rich.console import Console

from genrecall.config.opensearch import NodeSection
from genrecall.errors import UserError
from genrecall.files import sha256
from genrecall.local_node import node as local
from genrecall.local_node import process
from genrecall.local_node.account import node_account
from genrecall.local_node.distribution import assemble, home_of, prune
from genrecall.local_node.maven import Artifact, fetch
from genrecall.local_node.node import configured_plugins, node_root, plugin_zips

QUIET = Console(quiet=True)
HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # sha256 of "hello"


def artifact(digest: str = HELLO) -> Artifact:
    return Artifact("org.example", "thing", "1.0", digest, 1)


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program named `mvn` on the path."""

    def install(script: str) -> None:
        program = tmp_path / "bin" / "mvn"
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return install


WRITES_HELLO = 'for a; do case $a in -DoutputDirectory=*) printf hello > "${a#*=}/thing-1.0.zip";; esac; done\n'


def test_fetched_file_is_kept_and_not_fetched_again(tmp_path: Path, maven):
    maven(WRITES_HELLO)
    file = fetch(artifact(), tmp_path / "downloads", QUIET)
    assert sha256(file) == HELLO
    maven("exit 1\n")
    assert fetch(artifact(), tmp_path / "downloads", QUIET) == file


def test_file_with_another_checksum_is_refused_and_not_kept(tmp_path: Path, maven):
    maven(WRITES_HELLO)
    with pytest.raises(UserError, match=f"sha256 {HELLO}, but 000 was expected"):
        fetch(artifact("000"), tmp_path / "downloads", QUIET)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_failure_of_maven_is_reported_with_its_reason(tmp_path: Path, maven):
    maven('echo "[ERROR] Could not resolve host"; exit 1\n')
    with pytest.raises(UserError, match=r"could not fetch org.example:thing:1.0:zip(.|\n)*Could not resolve host"):
        fetch(artifact(), tmp_path, QUIET)


def test_without_maven_the_error_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=rf"{tmp_path}/thing-1.0.zip \(sha256 {HELLO}\)"):
        fetch(artifact(), tmp_path, QUIET)


def test_unknown_version_names_those_that_are_known(tmp_path: Path):
    with pytest.raises(UserError, match=r"'1.2.3' is not known; choose one of 3.6.0"):
        assemble("1.2.3", [], tmp_path, tmp_path, QUIET)


def test_plugin_that_is_no_zip_is_named(tmp_path: Path):
    (tmp_path / "plugin.zip").write_text("no zip")
    for name in ("plugin.zip", "absent.zip"):
        with pytest.raises(UserError, match=f"{name} is not a zip file"):
            assemble("3.6.0", [tmp_path / name], tmp_path, tmp_path, QUIET)


def test_a_changed_plugin_is_another_home(tmp_path: Path):
    def home(content: str) -> Path:
        with zipfile.ZipFile(tmp_path / "plugin.zip", "w") as file:
            file.writestr("plugin-descriptor.properties", content)
        return home_of("3.6.0", [tmp_path / "plugin.zip"], tmp_path)

    assert home("version=1") != home("version=2")
    assert home("version=2") == home("version=2")
    assert home_of("3.6.0", [], tmp_path) != home_of("3.8.0", [], tmp_path)


def test_homes_that_no_node_uses_are_removed(tmp_path: Path):
    for name in ("used", "unused"):
        (tmp_path / "homes" / name).mkdir(parents=True)
    prune(tmp_path, [tmp_path / "homes" / "used"])
    assert [home.name for home in (tmp_path / "homes").iterdir()] == ["used"]


def test_the_newest_zip_of_a_pattern_is_chosen(tmp_path: Path):
    for age, name in enumerate(["genrecall-0.2.zip", "genrecall-0.1.zip"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert plugin_zips([f"{tmp_path}/genrecall-*.zip"]) == [tmp_path / "genrecall-0.2.zip"]
    assert plugin_zips([f"{tmp_path}/other-*.zip", "named.zip"]) == [Path("named.zip")]


def test_a_node_that_would_lack_the_clause_is_refused_unless_that_is_wanted(tmp_path: Path):
    with pytest.raises(UserError, match=r"no plugin zip matches .*make plugin.*--plugin ZIP.*--without-plugin"):
        configured_plugins(NodeSection(plugins=(f"{tmp_path}/genrecall-*.zip",)))
    assert configured_plugins(NodeSection(plugins=())) == []


def test_root_hands_the_node_to_a_plain_account(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    account = node_account("nobody")
    assert account.uid != 0
    assert account.run_as["user"] == account.uid
    assert account.run_as["extra_groups"] == []


@pytest.mark.parametrize(("name", "reason"), [("root", "'root' is root"), ("no-such-user", "there is no account")])
def test_root_and_unknown_accounts_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, reason: str):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UserError, match=reason):
        node_account(name)


def test_plain_caller_runs_the_node_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert node_account("nobody").run_as == {}


def test_folder_with_a_space_is_refused(tmp_path: Path):
    section = NodeSection(dir=tmp_path / "my nodes")
    with pytest.raises(UserError, match="space"):
        node_root(section, tmp_path, node_account("nobody"))


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that only its owner may enter."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the node as someone else")
def test_folder_that_the_account_may_not_enter_is_refused_when_asked_for(closed: Path):
    with pytest.raises(UserError, match=r"must .* be open to account 'nobody': choose another"):
        node_root(NodeSection(dir=closed / "node"), closed, node_account("nobody"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the node as someone else")
def test_checkout_that_the_account_may_not_enter_keeps_its_nodes_elsewhere(closed: Path, monkeypatch):
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o755)
        monkeypatch.setattr(local, "SHARED", Path(shared) / "node")
        assert node_root(NodeSection(), closed / "cache", node_account("nobody")) == Path(shared) / "node"


def test_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind((process.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is not free"):
            process.check_ports(port)
        with pytest.raises(UserError, match=f"port {port} is not free"):
            process.check_ports(port - 100)  # as the transport port


def test_too_little_room_is_reported_with_the_remedy(tmp_path: Path):
    with pytest.raises(UserError, match=r"MiB of disk .*opensearch.node.dir"):
        process.check_resources({"memory": 0, "disk": 1e12}, tmp_path)
    if process.free_memory_mb() is not None:
        with pytest.raises(UserError, match=r"MiB of memory .*--heap"):
            process.check_resources({"memory": 1e12, "disk": 0}, tmp_path)


@pytest.mark.parametrize(
    ("limit", "free"), [("max", 4096.0), (f"{1 << 30}", 1024.0 - 600 + 100), (f"{64 << 30}", 4096.0)]
)
def test_free_memory_is_the_smaller_of_machine_and_container(tmp_path: Path, limit: str, free: float):
    (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:    {4 << 20} kB\n")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{600 << 20}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {100 << 20}\n")
    assert process.free_memory_mb(tmp_path / "meminfo", tmp_path) == free


def test_free_memory_is_unknown_where_the_system_tells_nothing(tmp_path: Path):
    assert process.free_memory_mb(tmp_path / "meminfo", tmp_path) is None


def test_process_that_got_the_number_of_a_node_is_not_ended(tmp_path: Path):
    with subprocess.Popen(["sleep", "60"]) as stranger:
        process.end(stranger.pid, tmp_path, 1.0)
        assert stranger.poll() is None
        stranger.kill()


def test_node_that_does_not_leave_in_time_is_killed(tmp_path: Path):
    stubborn = ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done", "sh", f"-Epath.logs={tmp_path / 'logs'}"]
    with subprocess.Popen(stubborn) as node:
        try:
            assert process.alive(node.pid, tmp_path)
            process.end(node.pid, tmp_path, 0.3)
            assert not process.alive(node.pid, tmp_path)
        finally:
            node.kill()


def test_a_node_is_alone_unless_its_cluster_is_named(tmp_path: Path):
    home = tmp_path / "home"
    (home / "config").mkdir(parents=True)
    (home / "config/jvm.options").write_text("")

    def settings(cluster: tuple[int, ...]) -> dict[str, Any]:
        section = NodeSection(port=9302, cluster=cluster)
        process.configure(tmp_path / "node", home, section.port, [], tmp_path / "data", section.cluster)
        found: dict[str, Any] = yaml.safe_load((tmp_path / "node/config/opensearch.yml").read_text())
        return found

    alone, among = settings(()), settings((9301, 9302))
    assert (alone["cluster.name"], alone["discovery.type"]) == ("genrecall-9302", "single-node")
    assert "discovery.type" not in among
    assert among["cluster.name"] == "genrecall-9301", "one name for all"
    assert among["node.name"] == "genrecall-9302"
    assert among["discovery.seed_hosts"] == ["127.0.0.1:9401", "127.0.0.1:9402"], "their transport ports"
    assert among["cluster.initial_cluster_manager_nodes"] == ["genrecall-9301", "genrecall-9302"]
    with pytest.raises(ValidationError, match="own port, 9302"):
        NodeSection(port=9302, cluster=(9301, 9303))
