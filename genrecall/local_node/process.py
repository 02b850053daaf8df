"""One OpenSearch process: its folder of settings, starting it, whether it is alive, stopping it and no other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from genrecall.errors import UserError
from genrecall.local_node.account import Account

HOST = "127.0.0.1"
JVM_OVERHEAD_MB = 400  # memory needed beside the heap
MIN_DISK_MB = 1500  # free space below this is an error

# Loopback only and without security: for trials and tests. Disk watermarks are off, because on a developer's nearly
# full disk they would make every index read-only; `check_resources` asks for free space instead.
SETTINGS = """\
cluster.name: {cluster}
node.name: {name}
network.host: {host}
http.port: {port}
transport.port: {transport}
{discovery}
path.data: {data}
cluster.routing.allocation.disk.threshold_enabled: false
"""


def transport_port(port: int) -> int:
    return port + 100


def configure(
    folder: Path, home: Path, port: int, jvm_options: Sequence[str], data: Path, cluster: Sequence[int] = ()
) -> None:
    """Write `folder/config` (settings, JVM options, logging) and make the folders that the process writes to.

    `cluster`: HTTP ports of all its nodes.
    """
    config, logs = folder / "config", folder / "logs"
    for path in (config / "jvm.options.d", logs, folder / "tmp", data):
        path.mkdir(parents=True, exist_ok=True)
    for source in (home / "config").rglob("*"):
        if source.is_file():
            target = config / source.relative_to(home / "config")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    settings = SETTINGS.format(
        cluster=_name(cluster[0] if cluster else port),
        name=_name(port),
        host=HOST,
        port=port,
        transport=transport_port(port),
        discovery=_discovery(cluster),
        data=data,
    )
    (config / "opensearch.yml").write_text(settings, encoding="utf-8")
    options = (home / "config/jvm.options").read_text(encoding="utf-8")
    options = options.replace("logs/", f"{logs}/").replace("HeapDumpPath=data", f"HeapDumpPath={logs}")
    (config / "jvm.options").write_text(options, encoding="utf-8")
    (config / "jvm.options.d/node.options").write_text("\n".join(jvm_options) + "\n", encoding="utf-8")


def _name(port: int) -> str:
    return f"genrecall-{port}"


def _discovery(cluster: Sequence[int]) -> str:
    """How a node finds the others of its cluster, and which of them elect its first manager."""
    if not cluster:
        return "discovery.type: single-node"
    hosts = [f"{HOST}:{transport_port(port)}" for port in cluster]
    managers = [_name(port) for port in cluster]
    return f"discovery.seed_hosts: {json.dumps(hosts)}\ncluster.initial_cluster_manager_nodes: {json.dumps(managers)}"


def launch(folder: Path, home: Path, java: Path, account: Account) -> int:
    """Start the configured node in a session of its own, as `account`; its process id."""
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "OPENSEARCH_JAVA_HOME": str(java),
        "OPENSEARCH_PATH_CONF": str(folder / "config"),
        "OPENSEARCH_TMPDIR": str(folder / "tmp"),
    }
    with console_log(folder).open("wb") as log:
        process = subprocess.Popen(
            [str(home / "bin/opensearch"), _mark(folder)],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **account.run_as,
        )
    return process.pid


def console_log(folder: Path) -> Path:
    return folder / "logs" / "console.log"


def tail(folder: Path, lines: int = 20) -> str:
    """The end of what the process wrote."""
    with contextlib.suppress(FileNotFoundError):
        return "\n".join(console_log(folder).read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    return "(no log)"


def alive(pid: int, folder: Path) -> bool:
    """Whether `pid` is the node of `folder`: a number that another program got meanwhile does not count."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # collects it where it is our own child and has ended
    return _mark(folder) in _command_line(pid)


def end(pid: int, folder: Path, timeout_s: float) -> None:
    """Ask the node of `folder` to exit, and kill it when it has not after `timeout_s`."""
    for sign, limit_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 10.0)):
        if not alive(pid, folder):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        deadline = time.monotonic() + limit_s
        while alive(pid, folder) and time.monotonic() < deadline:
            time.sleep(0.1)
    if alive(pid, folder):
        raise RuntimeError(f"process {pid} of {folder} does not end")


def check_ports(port: int) -> None:
    """UserError when the HTTP or the transport port is taken."""
    for number in (port, transport_port(port)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, number))
            except OSError as error:
                raise UserError(
                    f"port {number} is not free ({error.strerror}), and no node of genrecall holds it: end the program "
                    "that does, or choose another with --port"
                ) from None


def check_resources(needed_mb: Mapping[str, float], folder: Path) -> None:
    """UserError when there is less `memory` or `disk` (MiB, at `folder`) than needed."""
    memory, space = free_memory_mb(), os.statvfs(folder)
    disk = space.f_bavail * space.f_frsize / 2**20
    if memory is not None and memory < needed_mb["memory"]:
        raise UserError(
            f"the node needs {needed_mb['memory']:.0f} MiB of memory and {memory:.0f} MiB are free: end some program, "
            "or give it a smaller heap with --heap 512m"
        )
    if disk < needed_mb["disk"]:
        raise UserError(
            f"the node needs {needed_mb['disk']:.0f} MiB of disk and {disk:.0f} MiB are free at {folder}: make room, "
            "or choose another folder with opensearch.node.dir=DIR"
        )


def free_memory_mb(meminfo: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Available memory, within the container's limit; None where the system does not say."""
    found = []
    with contextlib.suppress(OSError):
        found.append(_numbers(meminfo)["MemAvailable:"] / 2**10)
    with contextlib.suppress(OSError, ValueError):
        limit = int((group / "memory.max").read_text(encoding="ascii"))  # "max": no limit
        used = int((group / "memory.current").read_text(encoding="ascii"))
        cached = _numbers(group / "memory.stat").get("inactive_file", 0)  # reclaimable
        found.append((limit - used + cached) / 2**20)
    return min(found, default=None)


def _numbers(file: Path) -> dict[str, int]:
    """Lines such as `name 12 kB` as a dictionary."""
    rows = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1}


def _mark(folder: Path) -> str:
    """An argument that both the starting script and Java have: it tells a node from any other process."""
    return f"-Epath.logs={folder / 'logs'}"


def _command_line(pid: int) -> str:
    """The command of a living process; "" for one that has ended."""
    if not Path("/proc/self/cmdline").exists():
        command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    with contextlib.suppress(OSError):
        for _ in range(20):
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if line or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return line.replace(b"\0", b" ").decode(errors="replace")
            time.sleep(0.05)  # during exec a process has no command for a moment
    return ""
