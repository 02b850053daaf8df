"""Tools are built once, and what is missing is reported. The Go here is a script that notes each of its builds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.go_tools import NoGo, Tool, install
from genrecall.errors import UserError

TOOL = Tool("proxy", "example.org/proxy/cmd/server", "v1.2.3", 1)
BUILD = 'mkdir -p "$GOBIN" && touch "$GOBIN/server"'


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole path; `write_go` puts a Go there."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin" / "go"


def write_go(go: Path, version: str = "go1.26.1", build: str = BUILD) -> None:
    go.write_text(
        f'#!/bin/sh\nPATH=/usr/bin:/bin\n[ "$1" = env ] && exec echo {version}\necho "$2" >> {go}.builds\n{build}\n'
    )
    go.chmod(0o755)


def test_many_at_the_same_time_build_once_and_later_ones_need_no_go(go: Path, tmp_path: Path) -> None:
    write_go(go, build=f"sleep 0.2 && {BUILD}")
    with ThreadPoolExecutor(4) as pool:
        programs = set(pool.map(lambda _: install(TOOL, tmp_path / "tools", Console(quiet=True)), range(4)))
    go.unlink()
    programs.add(install(TOOL, tmp_path / "tools", Console(quiet=True)))
    assert programs == {tmp_path / "tools" / "proxy-v1.2.3" / "server"}
    assert Path(f"{go}.builds").read_text() == "example.org/proxy/cmd/server@v1.2.3\n"


def test_no_go_and_an_old_go_are_named(go: Path, tmp_path: Path) -> None:
    with pytest.raises(NoGo, match=r"Go 1\.23 or later .* not on the path"):
        install(TOOL, tmp_path, Console(quiet=True))
    write_go(go, version="go1.9.2")
    with pytest.raises(NoGo, match=r"bin/go is go1\.9\.2: install a newer one"):
        install(TOOL, tmp_path, Console(quiet=True))


def test_a_failed_build_leaves_nothing_and_tells_what_go_said(go: Path, tmp_path: Path) -> None:
    write_go(go, build="echo 'no such module' >&2; exit 1")
    with pytest.raises(UserError, match=r"could not build example\.org/proxy/cmd/server@v1\.2\.3(.|\n)*no such module"):
        install(TOOL, tmp_path / "tools", Console(quiet=True))
    assert [path.name for path in (tmp_path / "tools").iterdir()] == ["proxy-v1.2.3.lock"]
    write_go(go)
    assert install(TOOL, tmp_path / "tools", Console(quiet=True)).exists()
