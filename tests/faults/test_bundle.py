"""The bundle on disk is damaged before a start, or gone while it is served."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import process
from tests.faults.conftest import StartServer


@pytest.fixture
def own(bundles: Path, tmp_path: Path) -> Path:
    """A copy of the bundles that a test may damage."""
    return Path(shutil.copytree(bundles, tmp_path / "bundles", symlinks=True))


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("generator/model.safetensors", _flip, "was altered"),
        ("items.parquet", _cut, "truncated copy?"),
        ("manifest.json", _cut, "is not JSON"),
    ],
)
def test_a_damaged_bundle_is_refused_at_the_start_by_the_name_of_the_file(
    own: Path, file: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(own / "v1" / file)
    done = process.refused(own)
    assert done.returncode == 2
    assert file in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_server_goes_on_when_its_bundle_is_removed_from_disk(start_server: StartServer, own: Path) -> None:
    server = start_server(root=own)
    before = server.ask()
    shutil.rmtree(own)
    assert server.ask() == before
    assert "Traceback" not in server.stderr
