"""Virtual environments with genrecall's wheel and the distributions of some extras, and nothing else.

Nothing is downloaded: the distributions that the extras and their dependencies name are linked from the environment
that runs the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@dataclass(frozen=True)
class Environment:
    python: Path

    def genrecall(self, *words: object, cwd: Path, code: int = 0, **environment: str) -> tuple[str, str]:
        """Run the installed script in `cwd`; returns its standard output and error."""
        return self.run(self.python.parent / "genrecall", *words, cwd=cwd, code=code, **environment)

    def run(self, *words: object, cwd: Path, code: int = 0, **environment: str) -> tuple[str, str]:
        done = subprocess.run(
            list(map(str, words)), capture_output=True, text=True, check=False, cwd=cwd, env=self.variables(environment)
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout, done.stderr

    @staticmethod
    def variables(more: dict[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        return {**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "120", **more}


def create(folder: Path, wheel: Path, extras: Iterable[str]) -> Environment:
    """An environment in `folder` with `wheel` and what `extras` of it need."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (unpacked,) = Distribution.discover(name="genrecall", path=[str(site)])
    for needed in closure(unpacked, extras):
        for top in {PurePath(file).parts[0] for file in needed.files or ()} - {"..", "__pycache__"}:
            link = site / top
            if not link.exists():  # a namespace such as `google` is shared by several
                link.symlink_to(Path(str(needed.locate_file(top))))
    return Environment(python)


def closure(package: Distribution, extras: Iterable[str]) -> list[Distribution]:
    """The installed distributions that `package` with these extras requires, directly or not."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(package, extra) for extra in ("", *extras)]
    while waiting:
        current, extra = waiting.pop()
        if (key := (canonicalize_name(current.name), extra)) in seen:
            continue
        seen.add(key)
        for text in current.requires or ():
            needed = Requirement(text)
            if needed.marker and not needed.marker.evaluate({"extra": extra}):
                continue
            try:
                other = package if canonicalize_name(needed.name) == "genrecall" else distribution(needed.name)
            except PackageNotFoundError:
                raise AssertionError(f"{current.name} needs {text}, which is not in requirements.lock") from None
            found[canonicalize_name(other.name)] = other
            waiting += [(other, of) for of in ("", *needed.extras)]
    found.pop("genrecall", None)
    return list(found.values())
