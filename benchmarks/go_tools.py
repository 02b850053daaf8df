"""Third-party Go programs that load a server (ghz) or disturb its network (toxiproxy), built by `go install` on demand.

Owns the table of their versions and the folder `<name>-<version>/` of each, never changed once there. Go checks what it
downloads against its checksum database.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from genrecall.errors import UserError

MINIMUM = (1, 23)  # Go version that both modules require


@dataclass(frozen=True)
class Tool:
    """A Go program: `package` is what `go install` builds, its last part names the file."""

    name: str
    package: str
    version: str
    seconds: int  # of a first build, downloads included

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def file(self) -> str:
        return self.package.rpartition("/")[2]


GHZ = Tool("ghz", "github.com/bojand/ghz/cmd/ghz", "v0.121.0", 70)
TOXIPROXY = Tool("toxiproxy", "github.com/Shopify/toxiproxy/v2/cmd/server", "v2.12.0", 20)


class NoGo(UserError):
    """Go is missing or too old."""


def install(tool: Tool, root: Path, console: Console) -> Path:
    """The program `root/<name>-<version>/<file>`, built when it is not there; one process at a time builds.

    Raises NoGo, or UserError with the end of the output of Go when the build fails.
    """
    program = root / tool.folder / tool.file
    if program.exists():
        return program
    go = find_go()
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f"{tool.folder}.lock"):
        if not program.exists():  # another process may have built it while this one waited
            with console.status(f"building {tool.name} {tool.version} (once: about {tool.seconds} s)"):
                _build(tool, go, program.parent)
    return program


def find_go() -> Path:
    """The `go` on the path; NoGo, with the remedy, when there is none of at least MINIMUM."""
    minimum = ".".join(map(str, MINIMUM))
    go = shutil.which("go")
    if go is None:
        raise NoGo(f"Go {minimum} or later builds this tool, and `go` is not on the path: install it (apt, brew, dnf)")
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    version = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    if version is None or tuple(map(int, version.groups())) < MINIMUM:
        stated = answer.stdout.strip() or answer.stderr.strip() or f"exit code {answer.returncode}"
        raise NoGo(f"Go {minimum} or later builds this tool, and {go} is {stated}: install a newer one")
    return Path(go)


def _build(tool: Tool, go: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        built = Path(temporary) / "bin"
        env = {**os.environ, "GOBIN": str(built.absolute()), "CGO_ENABLED": "0"}  # no C compiler needed
        env["GOFLAGS"] = f"{os.environ.get('GOFLAGS', '')} -ldflags=-s".strip()  # a third smaller without symbols
        command = [str(go), "install", f"{tool.package}@{tool.version}"]
        answer = subprocess.run(command, capture_output=True, text=True, env=env, cwd=temporary, check=False)
        if answer.returncode != 0:
            reason = "\n".join(answer.stderr.splitlines()[-3:])
            raise UserError(
                f"Go could not build {tool.package}@{tool.version}; check the network and try again\n{reason}"
            )
        built.rename(folder)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
