"""The packages, built once a session, and environments that have the wheel."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packaging.environments import Environment, create

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sdist and wheel, built by the backend of the lock: no network, no isolation."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "--directory", folder], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def environment(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Environment]:
    """`environment("train")`: one with this extra; without an argument, one with the core dependencies alone."""
    made: dict[tuple[str, ...], Environment] = {}

    def of(*extras: str) -> Environment:
        if extras not in made:
            (wheel,) = dist.glob("*.whl")
            made[extras] = create(tmp_path_factory.mktemp("-".join(("env", *extras))), wheel, extras)
        return made[extras]

    return of
