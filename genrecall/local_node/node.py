"""Start, stop and inspect real OpenSearch nodes on this machine, without containers.

Owns the folder of a node, `nodes/<port>` (settings, logs, data, and `node.json`: what runs, from what), and the order
of the steps. Several nodes live side by side, one a port. What a node is made of belongs to `distribution`, the process
to `process`.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from genrecall.config.opensearch import NodeSection
from genrecall.errors import UserError
from genrecall.files import write_json
from genrecall.local_node import distribution, process
from genrecall.local_node.account import Account, node_account
from genrecall.local_node.jdk import find_jdk, java_on_path, java_version
from genrecall.resources import ROOT

SHARED = Path("/var/tmp/genrecall/node")


@dataclass(frozen=True)
class Node:
    """A node as `node.json` keeps it. `home` holds distribution and plugins; `pid` is None when it was stopped."""

    port: int
    version: str
    heap: str
    jvm_options: str
    home: str
    data: str
    java: str
    folder: str
    cluster: str = ""
    pid: int | None = None

    @property
    def url(self) -> str:
        return f"http://{process.HOST}:{self.port}"

    @property
    def running(self) -> bool:
        return self.pid is not None and process.alive(self.pid, Path(self.folder))

    @property
    def plugins(self) -> list[str]:
        return distribution.installed_plugins(Path(self.home))

    def same_as(self, other: Node) -> bool:
        return replace(self, pid=None) == replace(other, pid=None)


def start(section: NodeSection, cache_dir: Path, console: Console) -> Node:
    """Run the node that `section` describes and wait until it answers.

    A node that runs already is left alone; when it was started from something else (another plugin zip, heap, version,
    data) it is stopped and started anew. Raises UserError, with the end of the log, when it does not come up.
    """
    account = node_account(section.user)
    root = node_root(section, cache_dir, account)
    with _locked(root):  # one start at a time: two would assemble the same home and race for the port
        wanted = _describe(section, root, account, console)
        current = read(root, section.port)
        if current and current.running and not current.same_as(wanted):
            console.print(f"{current.url}: {_difference(current, wanted)}; starting it anew")
            _end(current, section)
        if current and current.running:
            console.print(f"{current.url}: runs already (process {current.pid}); {', '.join(current.plugins)}")
            node = current
        else:
            node = _launch(wanted, section, account)
        distribution.prune(root, [Path(known.home) for known in nodes(root)])
    _wait(node, section, console)
    return node


def stop(section: NodeSection, cache_dir: Path, console: Console, purge: bool = False) -> Node | None:
    """Stop the node of `section.port`; with `purge` also remove its folder, data included. None when there was none.

    Only a process that `start` began is stopped. A data folder elsewhere is left alone.
    """
    root = node_root(section, cache_dir, node_account(section.user))
    with _locked(root):
        node = read(root, section.port)
        if node is None:
            return None
        with console.status(f"{node.url}: stopping"):
            node = _end(node, section)
        if purge:
            shutil.rmtree(node.folder)
    return node


def nodes(root: Path) -> list[Node]:
    """Every node of this machine, running or not, by port."""
    found = (read(root, int(folder.name)) for folder in (root / "nodes").glob("[0-9]*"))
    return sorted((node for node in found if node), key=lambda node: node.port)


def answer(node: Node, path: str = "/") -> dict[str, Any] | None:
    """What the node answers at `path`; None when it does not."""
    try:
        with urllib.request.urlopen(node.url + path, timeout=5) as response:
            body: dict[str, Any] = json.load(response)
            return body
    except (urllib.error.URLError, OSError, ValueError):
        return None


def node_root(section: NodeSection, cache_dir: Path, account: Account) -> Path:
    """Where downloads, homes and nodes are kept: `section.dir`, or `<cache_dir>/node`.

    Run as root, a checkout is often below a folder that the node's account may not enter (such as /root); without a
    `section.dir` they are then kept in SHARED.
    """
    root = (section.dir or cache_dir / "node").absolute()
    if section.dir is None and not _can_enter(root, account):
        root = SHARED
    if " " in str(root):
        raise UserError(
            f"OpenSearch cannot run from a folder with a space: {root}; choose one with opensearch.node.dir=DIR"
        )
    root.mkdir(parents=True, exist_ok=True, mode=0o755)
    if root.stat().st_uid != os.geteuid() or not _can_enter(root, account):
        raise UserError(
            f"{root} must belong to you and be open to account {account.name!r}: choose another with "
            "opensearch.node.dir=DIR"
        )
    return root


def read(root: Path, port: int) -> Node | None:
    """The node of `port` as last written; None when there is none."""
    try:
        return Node(**json.loads((root / "nodes" / str(port) / "node.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def plugin_zips(patterns: Sequence[str]) -> list[Path]:
    """The zip of each entry: the path itself, or the newest file that matches the pattern, if any does.

    A relative pattern is looked up in the working directory, then where genrecall is installed.
    """
    matches = [
        [Path(p)] if not glob.has_magic(p) else [Path(m) for m in glob.glob(p) or glob.glob(str(ROOT / p))]
        for p in patterns
    ]
    return [max(files, key=lambda file: file.stat().st_mtime if file.exists() else 0) for files in matches if files]


def configured_plugins(section: NodeSection) -> list[Path]:
    """The zips to install. UserError where plugins are configured and none is there: the clause would be missing."""
    plugins = plugin_zips(section.plugins)
    if section.plugins and not plugins:
        raise UserError(
            f"no plugin zip matches {', '.join(section.plugins)}: build it with `make plugin`, name one by --plugin "
            "ZIP, or start a node without the `generative` clause by --without-plugin"
        )
    return plugins


def _describe(section: NodeSection, root: Path, account: Account, console: Console) -> Node:
    java = find_jdk(os.environ, partial(java_version, run_as=account.run_as), java_on_path())
    home = distribution.assemble(section.version, configured_plugins(section), root, java, console)
    folder = root / "nodes" / str(section.port)
    data = section.data.absolute() if section.data else folder / "data"
    return Node(
        port=section.port,
        version=section.version,
        heap=section.heap,
        jvm_options=" ".join(section.jvm_options),
        home=str(home),
        data=str(data),
        java=str(java),
        folder=str(folder),
        cluster=" ".join(map(str, section.cluster)),
    )


def _launch(node: Node, section: NodeSection, account: Account) -> Node:
    folder, data = Path(node.folder), Path(node.data)
    process.check_ports(node.port)
    folder.mkdir(parents=True, exist_ok=True)
    size = int(node.heap[:-1]) * (1024 if node.heap.endswith("g") else 1)
    process.check_resources({"memory": size + process.JVM_OVERHEAD_MB, "disk": process.MIN_DISK_MB}, folder)
    fresh = not data.exists()
    options = [f"-Xms{node.heap}", f"-Xmx{node.heap}", *node.jvm_options.split()]
    process.configure(folder, Path(node.home), node.port, options, data, section.cluster)
    account.own(folder)
    if fresh:
        account.own(data)
    if not account.can("w", data):
        raise UserError(
            f"account {account.name!r}, which runs the node, cannot write to --data {data}: let it, or choose another"
        )
    node = replace(node, pid=process.launch(folder, Path(node.home), Path(node.java), account))
    _write(node)
    return node


def _wait(node: Node, section: NodeSection, console: Console) -> None:
    """Until the node answers by its own name and its cluster is ready; UserError with the log's end otherwise."""
    began = time.monotonic()
    with console.status(f"{node.url}: starting") as status:
        while (seconds := time.monotonic() - began) < section.start_timeout_s:
            status.update(f"{node.url}: starting, {seconds:.0f} s")
            health = answer(node, "/_cluster/health?wait_for_status=yellow&timeout=1s")
            if health and not health["timed_out"]:
                console.print(
                    f"{node.url}: OpenSearch {node.version} answers after {seconds:.0f} s; {', '.join(node.plugins)}"
                )
                return
            if not node.running:
                log = process.console_log(Path(node.folder))
                raise UserError(f"the node ended while starting; the end of {log}:\n{process.tail(Path(node.folder))}")
            time.sleep(0.3)
    _end(node, section)
    raise UserError(
        f"the node did not answer within opensearch.node.start_timeout_s = {section.start_timeout_s:.0f} s and was "
        f"stopped; the end of {process.console_log(Path(node.folder))}:\n{process.tail(Path(node.folder))}"
    )


def _end(node: Node, section: NodeSection) -> Node:
    if node.pid is not None:
        process.end(node.pid, Path(node.folder), section.stop_timeout_s)
    node = replace(node, pid=None)
    _write(node)
    return node


def _write(node: Node) -> None:
    write_json(Path(node.folder) / "node.json", asdict(node))


def _difference(current: Node, wanted: Node) -> str:
    if current.home != wanted.home and current.version == wanted.version:
        return "its plugins changed"
    names = [
        key
        for key in ("version", "heap", "jvm_options", "cluster", "data", "java")
        if getattr(current, key) != getattr(wanted, key)
    ]
    return "; ".join(f"{key} changes from {getattr(current, key)} to {getattr(wanted, key)}" for key in names)


def _can_enter(folder: Path, account: Account) -> bool:
    """Whether the account can reach `folder`, or what exists of the way to it."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return account.can("x", existing)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    with (root / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
