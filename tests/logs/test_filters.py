"""Sessions end with a pause; a client beyond a limit is a bot, and leaves no trace."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from genrecall.config.logs import LogsSection
from tests.logs.log import at, build, event, query, write
from trainer.logs.filters import bots, sessions

MINUTE, DAY = 60, 86_400


def frame(*rows: tuple[str, float, int, int]) -> pl.DataFrame:
    """Client, seconds, items shown, items clicked."""
    return pl.DataFrame(
        [
            {"client_id": client, "timestamp": at(time), "exposed": ["a"] * shown, "clicked": ["a"] * clicked}
            for client, time, shown, clicked in rows
        ],
        {
            "client_id": pl.String,
            "timestamp": pl.Datetime("ms", "UTC"),
            "exposed": pl.List(pl.String),
            "clicked": pl.List(pl.String),
        },
    )


def test_a_session_ends_with_a_pause_longer_than_the_limit() -> None:
    times = [0, 30 * MINUTE, 61 * MINUTE, 62 * MINUTE, 200 * MINUTE]
    rows = [("ann", time, 0, 0) for time in times] + [("bob", 31 * MINUTE, 0, 0), ("", 0, 0, 0), ("", DAY, 0, 0)]
    found = sessions(frame(*reversed(rows)), 30)
    assert found.select("client_id", "session").rows() == [
        ("", None),
        ("", None),
        *(("ann", session) for session in (0, 0, 1, 1, 2)),
        ("bob", 0),
    ]


@pytest.mark.parametrize(
    ("limits", "rows", "reason"),
    [
        ({"max_session_requests": 2}, [("ann", n, 0, 0) for n in range(3)], "more than 2 requests in a session"),
        ({"max_session_requests": 3}, [("ann", n, 0, 0) for n in range(3)], None),
        ({"max_session_requests": 2}, [("ann", n * DAY / 2, 0, 0) for n in range(9)], None),
        ({"max_day_requests": 2}, [("ann", n * 3600, 0, 0) for n in range(3)], "more than 2 requests in a day"),
        ({"max_day_requests": 2}, [("ann", n * DAY / 2, 0, 0) for n in range(9)], None),
        ({"max_click_rate": 0.5, "min_bot_exposures": 4}, [("ann", n, 2, 2) for n in range(2)], "clicks more than 50%"),
        ({"max_click_rate": 0.5, "min_bot_exposures": 5}, [("ann", n, 2, 2) for n in range(2)], None),
        ({"max_click_rate": 0.5, "min_bot_exposures": 4}, [("ann", n, 4, 2) for n in range(2)], None),
        ({"max_session_requests": 1, "max_day_requests": 1}, [("", n, 2, 2) for n in range(9)], None),
    ],
)
def test_a_client_is_a_bot_only_beyond_a_limit(limits: dict[str, Any], rows: list[tuple], reason: str | None) -> None:
    people = [("bob", 0, 1, 1)]
    found = bots(sessions(frame(*rows, *people), 30), LogsSection(**limits)).rows()
    assert [client for client, _ in found] == (["ann"] if reason else [])
    assert not reason or found[0][1].startswith(reason)


def test_a_client_beyond_two_limits_is_counted_once() -> None:
    rows = [("ann", n, 0, 0) for n in range(5)]
    found = bots(sessions(frame(*rows), 30), LogsSection(max_session_requests=1, max_day_requests=1))
    assert found.rows() == [("ann", "more than 1 requests in a session")]


def test_requests_of_a_bot_are_gone(tmp_path: Path) -> None:
    queries = [query(f"bot{n}", n, ["a"], client="bot") for n in range(5)] + [query("q", 9, ["a"])]
    events = [event("click", "bot0", 1, "a", client="bot"), event("click", "q", 10, "a")]
    found = build(write(tmp_path / "log", queries, events), tmp_path / "to", LogsSection(max_session_requests=4))
    assert found["query_id"].to_pylist() == ["q"]
    report = json.loads((tmp_path / "to" / "report.json").read_text())
    assert report["bots"] == {"more than 4 requests in a session": 1}
    assert report["requests"]["dropped"]["of a bot"] == 5
    assert report["events_of_dropped_requests"] == {"exposure": 5, "click": 1, "purchase": 0}
