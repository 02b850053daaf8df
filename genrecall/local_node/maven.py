"""Fetches an artifact by its Maven coordinates with the installed `mvn`, checked by sha256."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from genrecall.errors import UserError
from genrecall.files import sha256

COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"


@dataclass(frozen=True)
class Artifact:
    """A zip in a Maven repository."""

    group: str
    name: str
    version: str
    sha256: str
    megabytes: int

    @property
    def coordinates(self) -> str:
        return f"{self.group}:{self.name}:{self.version}:zip"

    @property
    def file(self) -> str:
        return f"{self.name}-{self.version}.zip"


def fetch(artifact: Artifact, folder: Path, console: Console) -> Path:
    """`folder/<file>` with the recorded sha256, downloaded when it is not there.

    A file put there by hand is used too, for machines without Maven or network. Raises UserError when
    Maven is missing or fails, or the sha256 differs (the file is then not kept).
    """
    target = folder / artifact.file
    if target.exists() and sha256(target) == artifact.sha256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder) as temporary,
        console.status(f"fetching {artifact.coordinates} ({artifact.megabytes} MB)"),
    ):
        copied = _copy(artifact, Path(temporary), target)
        found = sha256(copied)
        if found != artifact.sha256:
            raise UserError(
                f"{artifact.coordinates} has sha256 {found}, but {artifact.sha256} was expected: remove it from "
                "Maven's local repository and try again; if it stays, the repository serves another file"
            )
        os.replace(copied, target)
    return target


def _copy(artifact: Artifact, folder: Path, target: Path) -> Path:
    by_hand = f"or put the file there by hand: {target} (sha256 {artifact.sha256})"
    maven = shutil.which("mvn")
    if maven is None:
        raise UserError(
            f"Maven fetches {artifact.coordinates}, and `mvn` is not on the path: install it, such as `apt-get install "
            f"maven`, {by_hand}"
        )
    command = [maven, "-q", "-B", COPY, f"-Dartifact={artifact.coordinates}", f"-DoutputDirectory={folder.resolve()}"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if answer.returncode != 0:
        reason = "\n".join([line for line in answer.stdout.splitlines() if "[ERROR]" in line][:3])
        raise UserError(f"Maven could not fetch {artifact.coordinates}; check the network, {by_hand}\n{reason}")
    return folder / artifact.file
