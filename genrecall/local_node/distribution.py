"""What a node is made of, and how the parts become a folder that can be run.

Owns the table of artifacts with their checksums, and the assembled homes: `homes/<digest>`, one for each combination of
distribution and plugins, never changed once there. A changed plugin zip therefore is another home.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from genrecall.errors import UserError
from genrecall.files import sha256, sha256_of
from genrecall.local_node.maven import Artifact, fetch

_PLUGIN = "org.opensearch.plugin"
_WHOLE = "org.opensearch.distribution.integ-test-zip"

# Version -> the distribution (every module, no bundled Java) and the plugins that are installed with it. k-NN and
# neural-search exist as zips for 3.6.0 only; 3.8.0 is bare, to try the clause on it.
DISTRIBUTIONS: dict[str, tuple[Artifact, ...]] = {
    "3.6.0": (
        Artifact(
            _WHOLE, "opensearch", "3.6.0", "a91faa1dc1cadc78cb278b4f63847e19e1627a4e9de698e14e7efc14ee37b286", 162
        ),
        Artifact(
            _PLUGIN, "opensearch-knn", "3.6.0.0", "ac392ca28a39b3bf290648a422ef30cb149dda2963a9d7feb26060e932341c9a", 6
        ),
        Artifact(
            _PLUGIN, "neural-search", "3.6.0.0", "6ef1b206e79391e2e36268e32dc34d27fd8b8a59a8eb0a7393c97d53b038e433", 12
        ),
    ),
    "3.8.0": (
        Artifact(
            _WHOLE, "opensearch", "3.8.0", "196c3cf4602c394f2e40e6174ccbf2a924eae37246f08fa6bbb6b75f9fd5ff1f", 168
        ),
    ),
}


def assemble(version: str, plugins: Sequence[Path], root: Path, java: Path, console: Console) -> Path:
    """The home of `version` with its own plugins and `plugins` (zips) installed; built when it is not there.

    Raises UserError for an unknown version, a missing zip, and a plugin that does not fit.
    """
    home = home_of(version, plugins, root)
    if home.exists():
        return home
    distribution, *own = [fetch(artifact, root / "downloads", console) for artifact in DISTRIBUTIONS[version]]
    home.parent.mkdir(parents=True, exist_ok=True)
    names = ", ".join(p.stem for p in [*own, *plugins]) or "no plugin"
    with (
        tempfile.TemporaryDirectory(dir=home.parent, prefix=".") as temporary,
        console.status(f"assembling OpenSearch {version} with {names}"),
    ):
        _unpack(distribution, Path(temporary))
        built = Path(temporary) / f"opensearch-{version}"
        _install(built, [*own, *plugins], java)
        _make_readable(built)
        os.rename(built, home)
    return home


def home_of(version: str, plugins: Sequence[Path], root: Path) -> Path:
    """Where the home of this combination is: its name is a digest of what it is made of."""
    if version not in DISTRIBUTIONS:
        raise UserError(f"opensearch.node.version: {version!r} is not known; choose one of {', '.join(DISTRIBUTIONS)}")
    for plugin in plugins:
        if not plugin.is_file() or not zipfile.is_zipfile(plugin):
            raise UserError(f"plugin {plugin} is not a zip file: build it with `make plugin`, or name another")
    parts = [artifact.sha256 for artifact in DISTRIBUTIONS[version]] + [sha256(plugin) for plugin in plugins]
    return root / "homes" / sha256_of(parts)[:16]


def installed_plugins(home: Path) -> list[str]:
    """`name version` of each plugin in `home`."""
    return sorted(map(_describe, (home / "plugins").glob("*/plugin-descriptor.properties")))


def prune(root: Path, keep: Sequence[Path]) -> None:
    """Remove the homes that are not in `keep`."""
    for home in (root / "homes").glob("*"):
        if home not in keep:
            shutil.rmtree(home)


def _unpack(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)


def _install(home: Path, plugins: Sequence[Path], java: Path) -> None:
    for program in (home / "bin").iterdir():
        program.chmod(0o755)  # zipfile drops the mode
    if not plugins:
        return
    command = [str(home / "bin/opensearch-plugin"), "install", "--batch", *(p.resolve().as_uri() for p in plugins)]
    env = {"PATH": os.environ.get("PATH", os.defpath), "OPENSEARCH_JAVA_HOME": str(java)}
    answer = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if answer.returncode != 0:
        lines = (answer.stderr + answer.stdout).splitlines()
        reason = next((line for line in lines if "Exception" in line or "ERROR" in line), "\n".join(lines[-3:]))
        names = ", ".join(p.name for p in plugins)
        raise UserError(f"OpenSearch refused a plugin ({names}): {reason.strip()}")


def _make_readable(home: Path) -> None:
    """Readable by the node's account, whatever the caller's umask."""
    for path in (home, *home.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))


def _describe(descriptor: Path) -> str:
    lines = (line.partition("=") for line in descriptor.read_text(encoding="utf-8").splitlines())
    properties = {key.strip(): value.strip() for key, separator, value in lines if separator}
    return f"{properties['name']} {properties['version']}"
