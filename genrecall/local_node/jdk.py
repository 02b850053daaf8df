"""Finds a Java that can run the node.

Owns the order of the search; the answer of `java -version` decides, so a folder with a broken or unreadable Java is
passed over.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from genrecall.errors import UserError

MINIMUM = 21
FOLDERS = (
    "/usr/lib/jvm/*",
    "/usr/java/*",
    "/opt/java/*",
    "/opt/jdk*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk*",
    "~/.sdkman/candidates/java/*",
    "~/.jdks/*",
)


def find_jdk(
    environ: Mapping[str, str],
    version_of: Callable[[Path], int | None],
    on_path: Path | None = None,
    folders: Sequence[str] = FOLDERS,
) -> Path:
    """The home of a Java of at least MINIMUM: JAVA_HOME, then the one on the path, then the newest in `folders`.

    Args:
        version_of: home -> major version, None where there is no Java that runs.
        on_path: home of the Java on the path.

    Raises UserError with what was found and how to get one.
    """
    seen: dict[Path, int | None] = {}
    for home in _stated(environ, on_path):
        seen[home] = version_of(home)
        if (seen[home] or 0) >= MINIMUM:
            return home
    installed = {home.resolve() for pattern in folders for home in _expand(pattern)} - seen.keys()
    seen |= {home: version_of(home) for home in sorted(installed)}
    best = max(seen, key=lambda home: (seen[home] or 0, str(home)), default=None)
    if best is not None and (seen[best] or 0) >= MINIMUM:
        return best
    found = ", ".join(f"{version} in {home}" for home, version in seen.items() if version) or "none"
    raise UserError(
        f"OpenSearch needs Java {MINIMUM} or later (found: {found}). Install one, such as `apt-get install "
        "openjdk-21-jdk-headless`, `brew install openjdk` or a Temurin archive, or name its folder in JAVA_HOME"
    )


def java_on_path() -> Path | None:
    """The home behind the `java` on the path, links followed."""
    java = shutil.which("java")
    return Path(java).resolve().parent.parent if java else None


def java_version(home: Path, run_as: Mapping[str, Any]) -> int | None:
    """Major version that `home/bin/java` states when run as the node's account (keyword arguments of subprocess)."""
    try:
        command = [str(home / "bin" / "java"), "-version"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, **run_as)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    return int(match.group(1)) if match else None


def _stated(environ: Mapping[str, str], on_path: Path | None) -> Iterator[Path]:
    if environ.get("JAVA_HOME"):
        yield Path(environ["JAVA_HOME"]).resolve()
    if on_path:
        yield on_path.resolve()


def _expand(pattern: str) -> Iterator[Path]:
    path = Path(pattern).expanduser()
    return (home for home in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if (home / "bin/java").exists())
