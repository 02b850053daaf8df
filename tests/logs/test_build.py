"""A build is made once, survives being killed, and never leaves half a result."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pytest

from genrecall.config.data import DataSection
from genrecall.config.logs import LogsSection
from genrecall.data.rejects import Rejects
from genrecall.errors import UserError
from tests.logs.log import ITEMS, build, event, query, write
from trainer.logs import requests as module

LOGS = LogsSection(partitions=3)


@pytest.fixture
def section(tmp_path: Path) -> DataSection:
    queries = [query(f"q{n}", n, ["a", "b"], client=f"client{n % 5}") for n in range(40)]
    events = [event("click", f"q{n}", n + 0.5, "b", client=f"client{n % 5}") for n in range(0, 40, 2)]
    events += [event("click", "", 39.5, "a", client=f"client{n}") for n in range(5)]  # to be attributed
    twice = {**queries[3], "user_query": "another"}
    return write(tmp_path / "log", [*queries, twice], [*events, event("click", "gone", 1, "a")])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def killed_at(step: str, section: DataSection, folder: Path, logs: LogsSection = LOGS) -> None:
    """Build in another process, killed when it calls `step` for the second (or only) time."""
    script = f"""
        import os, signal
        from pathlib import Path
        from genrecall.config.data import DataSection
        from genrecall.config.logs import LogsSection
        from genrecall.data.rejects import Rejects
        from tests.logs.log import ITEMS
        from trainer.logs import requests as module

        calls = []
        real = module.{step}

        def counted(*arguments, **named):
            calls.append(1)
            if len(calls) == {1 if step in ("merge", "facts", "_publish") else 2}:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        module.{step} = counted
        data = DataSection(folder=Path({str(section.folder)!r}), max_reject_share=1)
        logs = LogsSection(**{logs.model_dump()!r})
        module.build_requests(data, logs, ITEMS, Path({str(folder)!r}), Rejects(), progress=False)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("step", ["write_shuffle", "attribute", "join", "with_recent", "merge", "facts", "_publish"])
def test_a_killed_build_goes_on_and_ends_as_if_nothing_had_been(
    step: str, section: DataSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(section, tmp_path / "whole")
    killed_at(step, section, tmp_path / "killed")
    assert not (tmp_path / "killed" / "requests.arrow").exists()
    assert not (tmp_path / "killed" / "report.json").exists()
    if step != "write_shuffle":  # the logs were read already, and are not read again
        monkeypatch.setattr(module, "logged_queries", None)
    rejects = Rejects(tmp_path / "rejects.jsonl")
    build(section, tmp_path / "killed", rejects=rejects)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert rejects.count("ubi_queries") == rejects.count("ubi_events") == 1


def test_a_finished_build_is_used_again_until_what_it_depends_on_changes(section: DataSection, tmp_path: Path) -> None:
    to = tmp_path / "to"

    def stamp(chosen: DataSection = section, logs: LogsSection = LOGS, items: pa.Table = ITEMS) -> int:
        module.build_requests(chosen, logs, items, to, Rejects(), progress=False)
        return (to / "report.json").stat().st_mtime_ns

    first = stamp()
    assert stamp(logs=LogsSection(partitions=7, split="time")) == first, "neither changes the requests"
    os.utime(section.folder / "ubi_events.jsonl")
    assert stamp() == first, "the same bytes, written again"
    settings = stamp(logs=LogsSection(session_minutes=5))
    items = stamp(logs=LogsSection(session_minutes=5), items=ITEMS.slice(1))
    mapping = stamp(section.model_copy(update={"actions": {"click": "purchase"}}))
    with (section.folder / "ubi_events.jsonl").open("a") as file:
        file.write(json.dumps(event("click", "q1", 20, "a", client="client1")) + "\n")
    assert first < settings < items < mapping < stamp()


def test_an_earlier_build_stays_whole_until_the_next_one_is(section: DataSection, tmp_path: Path) -> None:
    build(section, tmp_path / "to")
    before = contents(tmp_path / "to")
    killed_at("merge", section, tmp_path / "to", LogsSection(recent=1))
    assert contents(tmp_path / "to") == before
    build(section, tmp_path / "to")
    assert contents(tmp_path / "to") == before
    build(section, tmp_path / "to", LogsSection(recent=1))
    assert {path.name for path in (tmp_path / "to").iterdir()} == {"requests.arrow", "rejects.jsonl", "report.json"}


def test_bad_rows_stop_the_build_before_the_work_is_done(
    section: DataSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (section.folder / "ubi_queries.jsonl").open("a") as file:
        file.write("{}\n" * 5)
    monkeypatch.setattr(module, "join", None)
    rejects = Rejects(tmp_path / "rejects.jsonl")
    with pytest.raises(UserError, match=r"5 of 46 rows cannot be used.*query_id is missing.*rejects\.jsonl"):
        build(section.model_copy(update={"max_reject_share": 0.1}), tmp_path / "to", rejects=rejects)
    assert len((tmp_path / "rejects.jsonl").read_text().splitlines()) == 5


def test_logs_without_an_event_that_counts_give_requests_without_targets(tmp_path: Path) -> None:
    section = write(tmp_path / "log", [query("q1", 0, ["a"])], [event("scroll", "q1", 1, "a")])
    assert build(section, tmp_path / "to").select(["exposed", "clicked"]).to_pylist() == [
        {"exposed": ["a"], "clicked": []}
    ]
    section = write(tmp_path / "log2", [query("q1", 0, ["zz"])], [event("click", "q1", 1, "zz")])
    assert len(build(section, tmp_path / "to2")) == 0
